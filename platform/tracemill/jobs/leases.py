"""Which requests a worker is at: known by a lock that lives exactly as long as its process.

A worker has a folder with a file that it holds locked, and beside it a file for each ticket that it
took, in which it notes what it begins and ends. What lies in a folder that nobody holds was lost.
"""

import fcntl
import os
import shutil
import threading
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tracemill.events import new_id
from tracemill.jobs.files import hold
from tracemill.jobs.queued import Ticket

_HELD = "held"


class Lost(NamedTuple):
    """A ticket that a process has taken; it is lost where the process is gone."""

    process: str
    ticket: Ticket
    begun: frozenset[int]
    """Requests that the process was at."""
    open: tuple[int, ...]
    """Requests that it had taken and not ended."""


class Lease:
    """One ticket that this process has taken."""

    def __init__(self, path: Path, ticket: Ticket, todo: Collection[int]) -> None:
        """`todo` are those of its requests that are to be done."""
        self.ticket = ticket
        self._path = path
        self._lock = threading.Lock()
        self._left = set(todo)
        self._file = path.open("ab", buffering=0)
        self._file.write(b"".join(b"+%d\n" % index for index in todo))

    def begin(self, index: int) -> None:
        """This process is at it now: should it die, that is counted."""
        self._file.write(b">%d\n" % index)

    def end(self, index: int) -> bool:
        """It is no concern of this process any more; True with the last one."""
        with self._lock:
            self._file.write(b"<%d\n" % index)
            self._left.discard(index)
            if self._left:
                return False
            self._file.close()
            self._path.unlink(missing_ok=True)
            return True

    @property
    def left(self) -> list[int]:
        """What has not ended."""
        with self._lock:
            return sorted(self._left)


class Leases:
    """The leases of one warehouse, and those of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = new_id()
        self._descriptor = -1

    def announce(self) -> None:
        """Take the lock of this process; it is let go when the process ends."""
        # Under another name until it is locked: nobody must find it free.
        aside = self.folder / f".{self.process}"
        aside.mkdir(parents=True)
        self._descriptor = os.open(aside / _HELD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        hold(self._descriptor)
        aside.rename(self.folder / self.process)

    def take(self, ticket: Ticket, todo: Collection[int]) -> Lease:
        """Hold requests of a ticket. Call it while the queue is locked."""
        name = f"{ticket}.{new_id()}"
        return Lease(self.folder / self.process / name, ticket, todo)

    def leave(self) -> None:
        """An orderly end: nothing is held any more."""
        if self._descriptor >= 0:
            shutil.rmtree(self.folder / self.process, ignore_errors=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def any(self, job_id: str) -> bool:
        """Whether some process holds anything of a job."""
        return next(self.folder.glob(f"*/{job_id}.*"), None) is not None

    def held(self, job_id: str, round_: int) -> set[int]:
        """Requests of a job that some process holds, living or not."""
        return {
            index for path in self.folder.glob(f"*/{job_id}.{round_}.*") for index in _read(path)[1]
        }

    def taken(self) -> list[Lost]:
        """What all processes have taken, living or not."""
        found: list[Lost] = []
        for folder in self._others():
            with suppress(FileNotFoundError):  # it has just left
                found += _tickets(folder)
        return found

    def is_anybody_there(self) -> bool:
        """Whether a process that works is alive; looks without taking anything."""
        return any(_is_held(folder / _HELD) for folder in self._others())

    @contextmanager
    def lost(self) -> Generator[list[Lost]]:
        """What processes that are gone have held. Forgotten after; call it while the queue is locked."""
        taken: list[int] = []
        try:
            folders = [folder for folder in self._others() if (got := _take(folder, taken)) and got]
            yield [each for folder in folders for each in _tickets(folder)]
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            for descriptor in taken:
                os.close(descriptor)

    def _others(self) -> list[Path]:
        with suppress(FileNotFoundError):
            return sorted(
                path
                for path in self.folder.iterdir()
                if path.name != self.process and not path.name.startswith(".")
            )
        return []


def _take(folder: Path, taken: list[int]) -> bool:
    try:
        descriptor = os.open(folder / _HELD, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        # A folder that was being removed when its remover was killed.
        return not (folder / _HELD).exists()
    if hold(descriptor):
        taken.append(descriptor)
        return True
    os.close(descriptor)
    return False


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared: two that look at once do not take each other for a worker.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _tickets(folder: Path) -> Iterator[Lost]:
    for path in sorted(folder.iterdir()):
        if path.name != _HELD:
            with suppress(ValueError):
                ticket = Ticket.read(path.name.rpartition(".")[0])
                begun, left = _read(path)
                yield Lost(folder.name, ticket, frozenset(begun), tuple(sorted(left)))


def _read(path: Path) -> tuple[set[int], set[int]]:
    """What was begun and not ended, and what was not ended at all."""
    begun: set[int] = set()
    left: set[int] = set()
    with suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            mark, index = line[:1], line[1:]
            if not index.isdigit():
                continue
            match mark:
                case b"+":
                    left.add(int(index))
                case b">":
                    begun.add(int(index))
                case _:
                    begun.discard(int(index))
                    left.discard(int(index))
    return begun, left
