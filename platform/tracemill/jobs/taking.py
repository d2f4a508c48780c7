"""One process of a worker: takes tickets, keeps its threads busy, gives back what it cannot finish.

Taking from the queue and holding the lease happen under one lock, so that at any moment what is
neither queued nor held is known to be lost.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from typing import Self

from tracemill.errors import InputError, LogError, TracemillError
from tracemill.events.jobs import item_stream
from tracemill.jobs.elsewhere import Lender
from tracemill.jobs.files import Answers, Requests
from tracemill.jobs.item import Admission, Again, Doing, Terms, Which
from tracemill.jobs.jobs import Jobs, tickets
from tracemill.jobs.leases import Lease, Leases
from tracemill.jobs.queued import Ticket
from tracemill.llm.client import Client
from tracemill.log import EventLog
from tracemill.settings import Settings

logger = logging.getLogger("tracemill.jobs")

LEAVE = signal.SIGUSR1
"""Asks a process to stop at once; SIGTERM asks it to finish what runs first."""
_POLL_S = 0.1
_OPEN_JOBS = 8
"""Of so many jobs the files are kept open."""


def work(
    settings: Settings,
    hints: Connection,
    threads: int,
    admission: Admission | None,
    terms: Terms,
    elsewhere: bool,
) -> None:
    """What a process does until it is asked to stop or its parent is gone."""
    with closing(EventLog.open(settings)) as log, closing(Jobs(log, settings)) as jobs:
        client = Client(log, settings)
        lender = Lender(log, settings.queue, jobs.queue.name) if elsewhere else None
        doing = Doing(
            log,
            lender.generate
            if lender
            else lambda request, options: client.generate(request, **options),
            admission(log) if admission else None,
            terms,
        )
        taking = Taking(jobs, doing, threads, hints.send)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, taking.stop)
        signal.signal(LEAVE, taking.leave)
        parent = multiprocessing.parent_process()
        if parent is not None:
            threading.Thread(target=lambda: (parent.join(), taking.stop()), daemon=True).start()
        with taking:
            while taking.turn():
                pass
        client.close()
    if taking.broken is not None:
        logger.error("a worker process stops: %s", taking.broken)
        sys.exit(1)


class Taking:
    """What a process has taken and is at. Use it as a context; `turn` again and again within."""

    def __init__(
        self, jobs: Jobs, doing: Doing, threads: int, may_have_ended: Callable[[str], object]
    ) -> None:
        """`may_have_ended` is told the ids of jobs of which the last request may be done."""
        self._jobs, self._doing, self._threads = jobs, doing, threads
        self._may_have_ended = may_have_ended
        self._leases = Leases(jobs.settings.jobs / "leases")
        self._pool = ThreadPoolExecutor(threads, "tracemill worker")
        self._files_lock = threading.Lock()
        self._open: OrderedDict[str, tuple[Requests, Answers]] = OrderedDict()
        self._backlog: deque[tuple[Lease, int]] = deque()
        self._running: dict[Future[Again | None], tuple[Lease, int]] = {}
        self._alone = False
        self._stops = 0
        self._stopped_s = 0.0
        self.broken: BaseException | None = None
        """Why nothing can be recorded any more."""

    def __enter__(self) -> Self:
        self._leases.announce()
        return self

    def __exit__(self, *_: object) -> None:
        """Finish what runs, as long as that may take; give the rest back."""
        self._drain()
        stuck = bool(self._running)
        self._give_back()
        self._leases.leave()
        if stuck:
            # Threads that wait for a model would keep the process here.
            os._exit(0)
        self._pool.shutdown()

    def stop(self, *_: object) -> None:
        """Finish what runs. For signals and other threads."""
        self._stops = max(self._stops, 1)
        self._stopped_s = self._stopped_s or time.monotonic()

    def leave(self, *_: object) -> None:
        """Give back what runs, unfinished."""
        self.stop()
        self._stops = 2

    def turn(self) -> bool:
        """Take what is next and wait a moment for what runs; False once it is time to stop."""
        if self._stops or self.broken is not None:
            return False
        self._fill()
        self._wait()
        return True

    # Taking

    def _fill(self) -> None:
        """Keep every thread busy, unless something is to be done alone."""
        while not self._alone and len(self._running) < self._threads:
            if not self._backlog and not self._take():
                return
            lease, index = self._backlog[0]
            if lease.ticket.alone and self._running:
                return
            self._backlog.popleft()
            self._alone = lease.ticket.alone
            self._running[self._pool.submit(self._do, lease, index)] = (lease, index)

    def _take(self) -> bool:
        """Hold what is next in the queue; False where there is nothing."""
        queue = self._jobs.queue
        try:
            if not queue.waiting():
                return False
            with queue.locked():
                while ticket := queue.pop():
                    if todo := self._todo(ticket):
                        lease = self._leases.take(ticket, todo)
                        self._backlog.extend((lease, index) for index in todo)
                        return True
        except TracemillError as error:
            logger.error("%s", error)
            time.sleep(1.0)
        return False

    def _todo(self, ticket: Ticket) -> list[int]:
        """Those of a ticket that have no result and that nobody is at."""
        job = self._jobs.known.job(ticket.job_id)
        if job is None or job.ended or job.round != ticket.round:
            return []
        elsewhere = self._leases.held(job.id, job.round)
        return [
            index
            for index in ticket.indices
            if index not in elsewhere
            and not self._jobs.log.version(item_stream(job.id, job.round, index))
        ]

    # Doing

    def _do(self, lease: Lease, index: int) -> Again | None:
        """In a thread: one request, unless its job was given up meanwhile."""
        ticket = lease.ticket
        job = self._jobs.known.job(ticket.job_id)
        if job is None or job.ended or job.round != ticket.round:
            return None
        which = Which(job.id, job.round, index)
        try:
            requests, answers = self._files(job.id)
        except InputError as error:
            self._doing.fail(which, error)
            return None
        lease.begin(index)
        return self._doing.do(which, requests, answers)

    def _files(self, job_id: str) -> tuple[Requests, Answers]:
        with self._files_lock:
            if job_id not in self._open:
                folder = self._jobs.settings.jobs / job_id
                self._open[job_id] = Requests(folder), Answers(folder, self._leases.process)
                while len(self._open) > _OPEN_JOBS:
                    self._open.popitem(last=False)
            self._open.move_to_end(job_id)
            return self._open[job_id]

    def _wait(self) -> None:
        """Until something is done, or it is time to look into the queue again."""
        if not self._running:
            time.sleep(_POLL_S)
            return
        done, _ = wait(self._running, _POLL_S, FIRST_COMPLETED)
        for future in done:
            lease, index = self._running.pop(future)
            self._alone = False
            error = future.exception()
            if isinstance(error, LogError | OSError):
                # It stays held, and is given back: nobody died of it.
                self.broken = error
                self._backlog.append((lease, index))
                continue
            if error is not None:
                logger.error("request %d of job %s: %s", index, lease.ticket.job_id, error)
            again = future.result() if error is None else None
            if self._let_go(lease, index, again):
                with suppress(OSError):
                    self._may_have_ended(lease.ticket.job_id)

    def _let_go(self, lease: Lease, index: int, again: Again | None) -> bool:
        """Hold a request no more, and put it off where it is to be tried again; True with the last
        one of a ticket."""
        if again is None:
            return lease.end(index)
        # Together: whoever mends in between would queue it at once.
        with self._jobs.queue.locked():
            last = lease.end(index)
            try:
                self._jobs.queue.later(lease.ticket._replace(first=index, size=1), again.wait_s)
            except TracemillError as error:
                logger.error("what is to be tried again is found by who mends: %s", error)
        return last

    # Stopping

    def _drain(self) -> None:
        """Let what runs come to its end, as long as that may take."""
        end = (self._stopped_s or time.monotonic()) + self._doing.terms.drain_s
        while self._running and self._stops < 2 and time.monotonic() < end:
            self._wait()

    def _give_back(self) -> None:
        """Queue again what was taken and not done."""
        left = [*self._backlog, *self._running.values()]
        leases = {id(lease): lease for lease, _ in left}
        try:
            with self._jobs.queue.locked():
                for lease in leases.values():
                    job = self._jobs.known.job(lease.ticket.job_id)
                    if job is not None and not job.ended:
                        again = tickets(job, lease.left, alone=lease.ticket.alone)
                        self._jobs.queue.put(again, job.priority)
                    for index in lease.left:
                        lease.end(index)
        except (TracemillError, OSError) as error:
            logger.error("what was held is found by the next worker: %s", error)
