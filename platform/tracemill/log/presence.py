"""Which processes have calls in flight, so that those of a process that died can be closed.

A process that starts a call holds a lock on a file of its own in `live/` for as long as it lives.
A file there that nobody holds is of a process that is gone: what it began and did not end has
crashed. Locks, unlike process ids, also tell the truth across containers and reboots.
"""

import atexit
import fcntl
import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tracemill.errors import LogNotWritable
from tracemill.events import new_id


class Gone(NamedTuple):
    """A process that is no more."""

    process: str
    """As its events name it."""
    position: int
    """Where the log ended before its first call."""


class _Held(NamedTuple):
    path: Path
    descriptor: int


_held: dict[Path, _Held] = {}
_in_flight: set[str] = set()
_lock = threading.Lock()


def announce(folder: Path, position: Callable[[], int]) -> str:
    """This process's name in its events; the first time it takes the lock.

    Args:
        folder: `live/` of the log; it is made if need be.
        position: asked once for the end of the log, before the first call.
    """
    if held := _held.get(folder):
        return held.path.name
    with _lock:
        if folder not in _held:
            end = position()
            try:
                _held[folder] = _hold(folder, end)
            except OSError as error:
                raise LogNotWritable(
                    f"cannot write to {folder}, where calls in flight are kept: {error.strerror}"
                ) from error
        return _held[folder].path.name


def began(call_id: str) -> None:
    """This process has a call in flight."""
    _in_flight.add(call_id)


def ended(call_id: str) -> None:
    """The call has its end in the log."""
    _in_flight.discard(call_id)


def in_flight() -> int:
    """How many calls this process has in flight."""
    return len(_in_flight)


def lives(folder: Path, process: str) -> bool:
    """Whether the process of this name is still there; whoever is closing its calls counts as it."""
    try:
        descriptor = os.open(folder / process, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def gone(folder: Path) -> Generator[list[Gone]]:
    """The processes that left calls behind. Theirs alone to whoever asks first; forgotten after."""
    taken: list[_Held] = []
    try:
        for path in _files(folder):
            if held := _take(path):
                taken.append(held)
        yield [Gone(held.path.name, _position(held)) for held in taken]
        for held in taken:
            held.path.unlink(missing_ok=True)
    finally:
        for held in taken:
            os.close(held.descriptor)


def _hold(folder: Path, position: int) -> _Held:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / new_id()
    # Under another name until it is locked: nobody must find it free.
    aside = path.with_name(f".{path.name}")
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, str(position).encode())
    aside.rename(path)
    return _Held(path, descriptor)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _take(path: Path) -> _Held | None:
    """The file, locked; None where its process lives or somebody else is at it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            return _Held(path, descriptor)
    except OSError:
        pass
    os.close(descriptor)
    return None


def _position(held: _Held) -> int:
    text = os.pread(held.descriptor, 32, 0)
    return int(text) if text.isdigit() else 0


def _leave() -> None:
    """An orderly end: with nothing in flight there is nothing to find."""
    if not _in_flight:
        for held in _held.values():
            with suppress(OSError):
                held.path.unlink(missing_ok=True)


def _forget() -> None:
    """A forked child is a process of its own; closing its copies leaves the parent's locks alone."""
    global _lock
    _lock = threading.Lock()
    for held in _held.values():
        with suppress(OSError):
            os.close(held.descriptor)
    _held.clear()
    _in_flight.clear()


atexit.register(_leave)
os.register_at_fork(after_in_child=_forget)
