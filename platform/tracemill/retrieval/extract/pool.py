"""Workers that read files, watched from here: one that is late, dead or too large is replaced.

A worker is a fresh Python, started as a command, so that it shares neither threads nor locks with
the process that asks, and it serves many files, so that its start is paid once.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from tracemill.errors import TracemillError
from tracemill.retrieval.extract import Extracted, Page
from tracemill.retrieval.extract.files import Read, refused

MOST_WORKERS = 4
START_S = 60
WATCH_S = 0.05
MOST_AHEAD = 64 << 20
"""Bytes of files whose texts may wait here to be taken."""
ENDED = "the process that read it was ended from outside: it is read again next time"
_OUT_OF_MEMORY = re.compile(
    r"memory allocation of|MemoryError|bad_alloc|cannot allocate|out of memory", re.IGNORECASE
)
KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "VIRTUAL_ENV")
KEPT_BEGINNINGS = ("LC_", "LD_", "DYLD_", "PYTHON")


class Limits(NamedTuple):
    """What one file may take."""

    max_bytes: int = 100_000_000
    timeout_s: float = 30
    memory_bytes: int = 1_000_000_000


class Unopened(NamedTuple):
    """A file that could not be opened: nothing is known of what is in it."""

    reason: str


class Pool:
    """Some workers, as many as there are cores, each started when there is work for it."""

    def __init__(self, limits: Limits, workers: int | None = None) -> None:
        count = workers or max(1, min(MOST_WORKERS, os.cpu_count() or 1))
        self._threads = ThreadPoolExecutor(count, "extract")
        self._workers = [Worker(limits) for _ in range(count)]
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def read(self, paths: Iterable[Path]) -> Iterator[Read | Unopened]:
        """What came of each file, in order. Two files a worker are read ahead, large ones fewer."""
        waiting: deque[tuple[int, Future[Read | Unopened]]] = deque()
        ahead = 0
        for path in paths:
            size = _size(path)
            while waiting and (len(waiting) > 2 * len(self._workers) or ahead + size > MOST_AHEAD):
                done, future = waiting.popleft()
                ahead -= done
                yield future.result()
            waiting.append((size, self._threads.submit(self._read, path)))
            ahead += size
        for _, future in waiting:
            yield future.result()

    def _read(self, path: Path) -> Read | Unopened:
        worker = self._idle.get()
        try:
            return worker.read(path)
        finally:
            self._idle.put(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=kind is None, cancel_futures=True)
        for worker in self._workers:
            worker.stop()
        self._threads.shutdown(wait=True)
        for worker in self._workers:
            worker.stop()  # A thread may have started one again in between.


class Worker:
    """One process, started when first asked and again after it had to be ended."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._said: IO[bytes] | None = None

    def read(self, path: Path) -> Read | Unopened:
        """What came of one file, within the limits; nothing that a file does raises here."""
        for _ in range(2):  # That someone else ended the process says nothing of the file.
            try:
                reason = self._asked(path)
                if isinstance(reason, Read | Unopened):
                    return reason
            except (EOFError, OSError):
                reason = self._why_it_died()
            self.stop()
            if reason:
                return _failed(path, reason)
        return Unopened(ENDED)

    def _asked(self, path: Path) -> Read | Unopened | str:
        """The answer, or why the process must be ended."""
        connection, limits = self._connection or self._start(), self._limits
        request = {"path": str(path), "max_bytes": limits.max_bytes, "timeout_s": limits.timeout_s}
        connection.send_bytes(json.dumps(request).encode())
        if reason := self._watched(connection):
            return reason
        answer, text = json.loads(connection.recv_bytes()), connection.recv_bytes().decode()
        self._renew_if_large()
        return _read(answer, text)

    def stop(self) -> None:
        """End the process, whatever it does, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for each in (self._connection, self._said):
            if each is not None:
                each.close()
        self._process = self._connection = self._said = None

    def _start(self) -> "Connection[Any, Any]":
        ours, theirs = Pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        command = [sys.executable, "-P", "-m", "tracemill.retrieval.extract.worker"]
        kept = {name: said for name, said in os.environ.items() if _is_kept(name)}
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(self._limits.memory_bytes)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                env=kept | {"RAYON_NUM_THREADS": "1"},
            )
        self._connection = ours
        try:
            if ours.poll(START_S):
                ours.recv_bytes()
                return ours
            said = f"not ready after {START_S} s"
        except EOFError:
            said = self._last_words() or f"it ended with {self._process.wait()}"
        self.stop()
        raise TracemillError(f"the process that reads documents does not start: {said}")

    def _watched(self, connection: "Connection[Any, Any]") -> str:
        """Nothing once there is an answer, or why the process must be ended."""
        limits = self._limits
        deadline = time.monotonic() + limits.timeout_s
        while not connection.poll(WATCH_S):
            if time.monotonic() > deadline:
                return f"reading took over {limits.timeout_s:g} s: split it, or raise timeout_s"
            if self._memory_bytes() > limits.memory_bytes:
                return _over(limits)
        return ""

    def _memory_bytes(self) -> int:
        import psutil

        try:
            return psutil.Process(self._process.pid).memory_info().rss if self._process else 0
        except psutil.Error:
            return 0

    def _renew_if_large(self) -> None:
        """What one file left behind must not be held against the next."""
        if self._memory_bytes() > self._limits.memory_bytes // 2:
            self.stop()

    def _why_it_died(self) -> str:
        code = self._process.wait() if self._process else 0
        said = self._last_words()
        if _OUT_OF_MEMORY.search(said):
            return _over(self._limits)
        if code == -signal.SIGKILL:
            return ""
        return f"broken: reading it crashed the process ({_signal(code)}): open it and save it anew"

    def _last_words(self) -> str:
        if self._said is None:
            return ""
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - 4096))
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_kept(name: str) -> bool:
    """No key of a provider is where bytes from outside are read."""
    return name in KEPT or name.startswith(KEPT_BEGINNINGS)


def _signal(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _over(limits: Limits) -> str:
    most = f"{limits.memory_bytes:,} bytes of memory"
    return f"reading it took over {most}: split it, or raise memory_bytes"


def _failed(path: Path, reason: str) -> Read | Unopened:
    try:
        return refused(path, reason)
    except OSError as error:
        return Unopened(f"cannot be opened: {error.strerror or error}")


def _read(answer: dict[str, Any], text: str) -> Read | Unopened:
    if "unopened" in answer:
        return Unopened(answer["unopened"])
    found = answer["extracted"]
    if found is not None:
        pages = tuple(Page(*each) for each in found["pages"])
        answer["extracted"] = Extracted(**found | {"pages": pages, "text": text})
    return Read(**answer)
