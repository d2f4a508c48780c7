"""Whose turn it is to write: a fair lock between processes, and the high-water mark in its file.

A `flock` queues writers in order of arrival, which SQLite's own waiting does not. Its file keeps the
last acknowledged position, so that a journal that has lost events is caught instead of continued.
"""

import fcntl
import os
import struct
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tracemill.errors import LogNotWritable, NotLocal

_MARK = struct.Struct("<q16s")
_CLOCK_STEP_NS = 50_000_000  # generous: 10 ms is the longest in use
_WHOLE_SECONDS_NS = 2_000_000_000  # where a file system keeps no fractions of a second
_SHARED_SYSTEMS = {
    *("9p", "afpfs", "afs", "ceph", "cifs", "davfs", "glusterfs", "lustre", "nfs", "nfs4"),
    *("prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs"),
    *("fuse.gcsfuse", "fuse.grpcfuse", "fuse.osxfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
}


class Mark(NamedTuple):
    """The last position that was acknowledged, and the boot of the machine in which it was."""

    position: int
    boot: bytes


class Names:
    """Names in one folder, and which files they stood for when that was last set.

    A folder's change time moves whenever one of its names comes, goes or is replaced. So after one
    full look, a look at the folder is enough until then, and an append takes three.
    """

    def __init__(self, folder: Path, *names: str) -> None:
        self._folder = str(folder)
        self._names = tuple(str(folder / name) for name in names)
        self._unmoved: tuple[int, int] | None = None
        self.inodes: tuple[int | None, ...] = ()

    def now(self) -> tuple[int | None, ...]:
        """Which files the names stand for at this moment."""
        return tuple([_inode(name) for name in self._names])

    def set(self, inodes: tuple[int | None, ...]) -> None:
        """From here on these are the right files."""
        self.inodes, self._unmoved = inodes, None

    def same(self) -> bool:
        """Do the names still stand for the files that were set?"""
        try:
            folder = os.stat(self._folder)
        except FileNotFoundError:
            return False
        state = (folder.st_ino, folder.st_ctime_ns)
        if state == self._unmoved:
            return True
        if self.now() != self.inodes:
            return False
        # The clock of a file system moves in steps: a second change may show the time of the first.
        fractions = folder.st_ctime_ns % 1_000_000_000
        step = _CLOCK_STEP_NS if fractions else _WHOLE_SECONDS_NS
        if time.time_ns() - folder.st_ctime_ns > step:
            self._unmoved = state
        return True


class Turn:
    """The lock file of one journal. Not shared between forks: each process opens its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names = Names(path.parent, path.name)
        self._descriptor = -1

    @contextmanager
    def taken(self) -> Generator[None]:
        """Wait for our turn, and hold it for the body.

        Raises `LogNotWritable` when the lock file cannot be opened.
        """
        self._lock()
        try:
            yield
        finally:
            # Explicitly: a child that is just being started may still share the descriptor.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _lock(self) -> None:
        while True:
            if self._descriptor < 0:
                self._descriptor = _open(self.path)
                self._names.set((os.fstat(self._descriptor).st_ino,))
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            # A lock on a file that was deleted or replaced locks nobody else out.
            if self._names.same():
                return
            self.close()

    def close(self) -> None:
        """Give up the file, and with it the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()

    def mark(self) -> Mark:
        """The high-water mark; position 0 when there is none yet."""
        if self._descriptor >= 0:
            raw = os.pread(self._descriptor, _MARK.size, 0)
        else:
            raw = self.path.read_bytes()[: _MARK.size] if self.path.exists() else b""
        return Mark(*_MARK.unpack(raw)) if len(raw) == _MARK.size else Mark(0, this_boot())

    def set_mark(self, position: int) -> None:
        """Remember that everything up to `position` was committed. Call it holding the turn."""
        os.pwrite(self._descriptor, _MARK.pack(position, this_boot()), 0)


@contextmanager
def only_one(path: Path, *, wait: bool) -> Generator[bool]:
    """Be the only one who holds `path`; without waiting for that, yields whether we are."""
    descriptor = _open(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        # Explicitly, as above: a child that was forked meanwhile shares the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LogNotWritable(
            f"cannot write to {path}: {error.strerror}; "
            "make the log's folder writable, or point TRACEMILL_WAREHOUSE elsewhere"
        ) from error


def _inode(name: str) -> int | None:
    try:
        return os.stat(name).st_ino
    except FileNotFoundError:
        return None


@cache
def this_boot() -> bytes:
    """16 bytes that change when the machine starts anew."""
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    if boot_id.exists():
        return bytes.fromhex(boot_id.read_text().strip().replace("-", ""))
    import psutil

    # The clock may be set while the machine runs, which moves this figure a little.
    return int(psutil.boot_time() // 600).to_bytes(16, "little")


def refuse_shared_file_system(folder: Path) -> None:
    """Raise `NotLocal` when `folder` lies where locks between processes cannot be trusted."""
    import psutil

    real = folder.resolve()
    mounts = {Path(p.mountpoint): p.fstype for p in psutil.disk_partitions(all=True)}
    nearest = next((path for path in (real, *real.parents) if path in mounts), None)
    if nearest is not None and mounts[nearest] in _SHARED_SYSTEMS:
        raise NotLocal(
            f"{folder} is on {mounts[nearest]} ({nearest}), where locks between processes cannot be "
            "trusted: set TRACEMILL_WAREHOUSE to a folder on a local disk"
        )
