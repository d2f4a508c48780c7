"""The files of a job: its requests, one a line in their order, and the answers of each worker.

Lines never move: events say at which byte an answer begins. Whoever is forgotten is overwritten with
blanks, in place, while others append.
"""

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic_core import from_json, to_json

from tracemill.errors import InputError, UsageError
from tracemill.files import sync
from tracemill.llm.options import Options
from tracemill.messages import Request, Response

if TYPE_CHECKING:
    import numpy as np

MOST_REQUESTS = 100_000
"""In one job."""
REQUESTS = "requests.jsonl"
ERASED = b'{"erased":true}'
"""Stands for a line that was overwritten, with blanks behind it."""
_BLOCK = 1 << 20


class Item(NamedTuple):
    """One request of a job, with what else its call is given."""

    request: Request
    options: Options = {}  # noqa: RUF012 (read, never changed)
    """`fallback`, `cache`, `cache_ttl_s`, `timeout_s` and `actor`; the others are the worker's."""


class Written(NamedTuple):
    """What a file of requests holds."""

    total: int
    size_bytes: int
    sha256: str


class Place(NamedTuple):
    """Where an answer is."""

    file: str
    offset: int
    size_bytes: int


_SAYABLE = ("fallback", "cache", "cache_ttl_s", "timeout_s", "actor")


def write(path: Path, requests: Iterable[Request | Item]) -> Written:
    """Write requests to a new file and wait until they are on the disk; one is in memory at a time.

    Raises `UsageError`: there are none, or more than `MOST_REQUESTS`, or one cannot be sent.
    """
    digest, total, size = hashlib.sha256(), 0, 0
    with path.open("xb") as file:
        for each in requests:
            if total == MOST_REQUESTS:
                raise UsageError(f"a job has at most {MOST_REQUESTS:,} requests: make several")
            line = _line(each, total)
            file.write(line)
            digest.update(line)
            total, size = total + 1, size + len(line)
        if not total:
            raise UsageError("a job has at least one request: this one has none")
        file.flush()
        os.fsync(file.fileno())
    return Written(total, size, digest.hexdigest())


def _line(each: Request | Item, index: int) -> bytes:
    item = each if isinstance(each, Item) else Item(each)
    if not isinstance(item.request, Request):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"request {index} is no Request: write Request.of('...', model='...')")
    if unknown := sorted(item.options.keys() - {*_SAYABLE}):
        raise UsageError(
            f"request {index}: a job has no option {unknown[0]}; it has {', '.join(_SAYABLE)}"
        )
    fields: dict[str, Any] = {
        "request": item.request.model_dump(mode="json", exclude_defaults=True)
    }
    if item.options:
        fields["options"] = item.options
    try:
        return to_json(fields) + b"\n"
    except ValueError as error:
        raise UsageError(f"request {index} cannot be written as JSON: {error}") from None


class Requests:
    """The requests of one job. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        """Raises `InputError`: they are not there."""
        self._path = folder / REQUESTS
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"{self._path} cannot be read: {error.strerror}") from None

    def __del__(self) -> None:
        if descriptor := getattr(self, "_descriptor", None):
            os.close(descriptor)

    @cached_property
    def _ends(self) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """Behind the last byte of each line: 8 bytes a request."""
        import numpy as np

        found: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        offset = 0
        while block := os.pread(self._descriptor, _BLOCK, offset):
            here = np.frombuffer(block, np.uint8)
            found.append(np.flatnonzero(here == ord("\n")).astype(np.int64) + (offset + 1))
            offset += len(block)
        return np.concatenate(found)

    def item(self, index: int) -> Item | None:
        """A request, counted from 0; None where it was erased. Raises `InputError`: it is damaged."""
        begin = int(self._ends[index - 1]) if index else 0
        line = os.pread(self._descriptor, int(self._ends[index]) - begin, begin)
        try:
            fields = cast("dict[str, Any]", from_json(line))
            if fields.get("erased") is True:
                return None
            return Item(Request.model_validate(fields["request"]), fields.get("options", {}))
        except (ValueError, KeyError, UsageError) as error:
            raise InputError(f"{self._path}, line {index + 1}: {error}") from None


class Answers:
    """The answers that one process writes for one job."""

    def __init__(self, folder: Path, process: str) -> None:
        self.name = f"answers-{process}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(folder / self.name, flags, 0o600)
        self._lock = threading.Lock()
        self._end = os.fstat(self._descriptor).st_size

    def __del__(self) -> None:
        if descriptor := getattr(self, "_descriptor", None):
            os.close(descriptor)

    def append(self, index: int, response: Response) -> Place:
        """Write an answer down; the kernel has it when this returns. Raises `OSError`."""
        line = b'{"index":%d,"response":%b}\n' % (index, response.model_dump_json().encode())
        with self._lock:
            begin = self._end
            try:
                written = os.write(self._descriptor, line)
                if written < len(line):
                    raise OSError(28, "the disk is full")
            except OSError:
                os.ftruncate(self._descriptor, begin)
                raise
            self._end += len(line)
        return Place(self.name, begin, len(line))


def answer(folder: Path, place: Place) -> Response | None:
    """An answer; None where it was erased. Raises `InputError`: it is not there any more."""
    try:
        with (folder / place.file).open("rb") as file:
            fields = cast("dict[str, Any]", from_json(os.pread(file.fileno(), place[2], place[1])))
            if fields.get("erased") is True:
                return None
            return Response.model_validate(fields["response"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder / place.file}, byte {place.offset}: {error}") from None


def sync_answers(folder: Path) -> None:
    """Wait until all answers of a job are on the disk."""
    for path in folder.glob("answers-*.jsonl"):
        sync(path)


def blank(path: Path, which: Callable[[Sequence[str]], Iterable[bool]]) -> int:
    """Overwrite the lines of a file that `which` chooses; returns how many. For `tracemill forget`.

    Every other line stays at its byte, so that workers may append meanwhile.
    """
    blanked = 0
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for lines in _pages(descriptor):
            texts = [line.decode("utf-8", "replace") for _, line in lines]
            for (offset, line), chosen in zip(lines, which(texts), strict=True):
                if chosen:
                    empty = ERASED.ljust(len(line) - 1)[: len(line) - 1]
                    os.pwrite(descriptor, empty, offset)
                    blanked += 1
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return blanked


def _pages(descriptor: int) -> Iterator[list[tuple[int, bytes]]]:
    """Whole lines with their offsets, some megabytes at a time."""
    offset, rest = 0, b""
    while block := os.pread(descriptor, _BLOCK, offset + len(rest)):
        *whole, rest_after = (rest + block).split(b"\n")
        page: list[tuple[int, bytes]] = []
        for line in whole:
            page.append((offset, line + b"\n"))
            offset += len(line) + 1
        rest = rest_after
        yield page


def hold(descriptor: int) -> bool:
    """Take the lock of a file for as long as it is open; False where somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
