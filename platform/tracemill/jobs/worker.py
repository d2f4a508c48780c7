"""`tracemill worker`: processes that take requests from the queue, make the calls, record the results.

One process watches: it starts the others anew when they die, puts back what they held, records the
ends of jobs and tells callbacks. It makes no call itself.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from tracemill.errors import TracemillError, UsageError
from tracemill.jobs import recovery
from tracemill.jobs.callbacks import Callbacks
from tracemill.jobs.elsewhere import Lender
from tracemill.jobs.item import Admission, Terms
from tracemill.jobs.jobs import Jobs
from tracemill.jobs.leases import Leases
from tracemill.jobs.taking import LEAVE, work
from tracemill.log import EventLog
from tracemill.settings import Settings

logger = logging.getLogger("tracemill.jobs")

_LOOK_S = 0.5
_BETWEEN_STARTS_S = 1.0


def run(
    settings: Settings,
    processes: int = 4,
    *,
    threads: int = 4,
    admission: Admission | None = None,
    terms: Terms | None = None,
    until_idle: bool = False,
    elsewhere: bool = False,
) -> None:
    """Work until SIGTERM or SIGINT: what runs is finished first; a second signal stops at once.

    Args:
        processes: that make calls.
        threads: calls of one process at a time.
        admission: may refuse a call, such as for a budget.
        until_idle: return once no job is open and every callback has been tried.
        elsewhere: have the calls made by other machines, where `help_out` runs.

    Raises `UsageError`: there is nothing to work with.
    """
    if processes < 1 or threads < 1:
        raise UsageError("a worker has at least one process and one thread")
    with closing(EventLog.open(settings)) as log, closing(Jobs(log, settings)) as jobs:
        lender = Lender(log, settings.queue, jobs.queue.name) if elsewhere else None
        how = (threads, admission, terms or Terms(), elsewhere)
        watch = _Watch(settings, jobs, how, lender)
        with watch.signals():
            watch.run(processes, until_idle=until_idle)


@dataclass
class _Child:
    process: SpawnProcess
    hints: Connection
    """Ids of jobs that may have ended."""
    started_s: float = field(default_factory=time.monotonic)


class _Watch:
    """The process that looks after the others."""

    def __init__(
        self,
        settings: Settings,
        jobs: Jobs,
        how: tuple[int, Admission | None, Terms, bool],
        lender: Lender | None,
    ) -> None:
        """`how` is what `work` is told: threads, admission, terms, elsewhere."""
        self._settings, self._jobs, self._how = settings, jobs, how
        self._terms, self._lender = how[2], lender
        self._leases = Leases(settings.jobs / "leases")
        self._children: list[_Child] = []
        self._stops = 0
        self._news = threading.Event()
        self._callbacks = Callbacks(jobs.log, settings, jobs.known)
        self._untold = True
        self._next_mend_s = 0.0

    def signals(self) -> "_Signals":
        """SIGTERM and SIGINT ask to stop."""
        return _Signals(self._asked_to_stop)

    def _asked_to_stop(self, *_: object) -> None:
        self._stops += 1
        # Whoever presses Ctrl-C sends it to the others too, which heed these two alone. Two of one
        # kind may become one on their way.
        number = signal.SIGTERM if self._stops == 1 else LEAVE
        for child in self._children:
            if child.process.pid and child.process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(child.process.pid, number)

    def run(self, processes: int, *, until_idle: bool) -> None:
        """Until asked to stop, or idle."""
        self._mend()
        telling = threading.Thread(target=self._tell, name="tracemill callbacks", daemon=True)
        telling.start()
        try:
            while not self._stops:
                self._start(processes)
                self._look(_LOOK_S)
                if until_idle and self._idle():
                    break
            if not self._stops:
                self._asked_to_stop()
            self._drain()
        finally:
            self._stops += 1
            self._news.set()
            for child in self._children:
                child.process.kill()
        telling.join(self._terms.drain_s)

    def _start(self, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        while len(self._children) < processes and not self._stops:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=work,
                args=(self._settings, theirs, *self._how),
                name="tracemill worker",
            )
            process.start()
            theirs.close()
            self._children.append(_Child(process, ours))

    def _look(self, timeout_s: float) -> None:
        """Wait for hints and deaths, and do what follows."""
        sources: list[Any] = [child.hints for child in self._children]
        sources += [child.process.sentinel for child in self._children]
        ready = wait(sources, timeout_s)
        hinted: set[str] = set()
        died = False
        for child in list(self._children):
            if child.hints in ready:
                hinted |= _hints(child.hints)
            if child.process.sentinel in ready:
                self._children.remove(child)
                died |= self._ended(child)
        try:
            recovery.promote(self._jobs)
            if self._lender:
                self._lender.collect()
            for job_id in hinted:
                self._may_have_ended(job_id)
            if died or time.monotonic() >= self._next_mend_s:
                self._mend()
        except TracemillError as error:
            logger.error("%s", error)
            self._next_mend_s = 0.0

    def _ended(self, child: _Child) -> bool:
        """A process is gone; True where it did not say goodbye."""
        child.process.join()
        child.hints.close()
        code = child.process.exitcode
        if code == 0:
            return False
        if not self._stops:
            logger.warning("a worker process ended with %s; what it held is put back", code)
            # Whatever ends it at once would end the next one too.
            lived_s = time.monotonic() - child.started_s
            time.sleep(max(0.0, _BETWEEN_STARTS_S - lived_s))
        return True

    def _may_have_ended(self, job_id: str) -> None:
        if not self._leases.any(job_id) and self._jobs.close_if_done(job_id):
            self._has_news()

    def _mend(self) -> None:
        mended = recovery.mend(self._jobs, self._leases)
        self._next_mend_s = time.monotonic() + self._terms.mend_s
        if mended.lost or mended.missing:
            logger.info("put back: %d held by the dead, %d unqueued", mended.lost, mended.missing)
        if mended.closed:
            self._has_news()

    def _has_news(self) -> None:
        self._untold = True
        self._news.set()

    def _idle(self) -> bool:
        return not self._untold and not self._news.is_set() and not self._jobs.known.open()

    def _drain(self) -> None:
        end = time.monotonic() + self._terms.drain_s + 5
        while self._children and time.monotonic() < end:
            self._look(_LOOK_S)

    def _tell(self) -> None:
        """Tell callbacks, in a thread of its own: whoever is told may be slow."""
        while not self._stops:
            self._news.clear()
            try:
                wait_s = self._callbacks.tell()
            except TracemillError as error:
                logger.error("callbacks: %s", error)
                wait_s = 10.0
            if not self._news.is_set():
                self._untold = False
            self._news.wait(min(wait_s or 10.0, 10.0))


class _Signals:
    """Handlers for as long as a block lasts; none where this is not the main thread."""

    _NUMBERS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, handler: Callable[..., None]) -> None:
        self._handler = handler
        self._before: list[Any] = []

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = [signal.signal(number, self._handler) for number in self._NUMBERS]

    def __exit__(self, *_: object) -> None:
        for number, before in zip(self._NUMBERS, self._before, strict=False):
            signal.signal(number, before)


def _hints(connection: Connection) -> set[str]:
    found: set[str] = set()
    with suppress(EOFError, OSError):
        while connection.poll():
            found.add(str(connection.recv()))
    return found
