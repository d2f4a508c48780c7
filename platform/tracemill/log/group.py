"""Group commit: the thread whose turn it is commits what the others have queued meanwhile.

There is no thread to start, to stop, or to lose in a fork. A thread that waits is woken once, when
its append is done: were each to take the turn only to see that, they would cost more than the disk.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Literal

from tracemill.errors import LogError
from tracemill.log.rows import Draft

Durability = Literal["kill", "power"]

_EVENTS = 256  # that one commit takes from the queue, at most


@dataclass(eq=False)
class Request:
    """One append, waiting for whichever thread commits next."""

    drafts: Sequence[Draft]
    expected: Mapping[str, int]
    durability: Durability
    positions: list[int] = field(default_factory=list[int])
    error: Exception | None = None
    done: bool = False
    woken: SimpleQueue[None] = field(default_factory=SimpleQueue[None])

    def finish(self, error: Exception | None) -> None:
        """Let its thread go on; with what went wrong, unless it has an error of its own."""
        self.error = self.error or error
        self.done = True
        self.woken.put(None)


class Group:
    """The turn among the threads of this process. `with group:` takes it for something else."""

    def __init__(self, commit: Callable[[Sequence[Request]], None]) -> None:
        """`commit` stores some requests at once, or raises and stores none."""
        self._commit = commit
        self._queue: deque[Request] = deque()
        self._turn = threading.Lock()
        self._in_company = False

    def submit(self, request: Request) -> None:
        """Return when the request is done, by this thread or by another."""
        self._queue.append(request)
        try:
            while not request.done:
                if self._turn.acquire(blocking=False):
                    try:
                        while not request.done:
                            self._commit_next()
                    finally:
                        self.__exit__()
                else:
                    request.woken.get()
        except BaseException:
            # This thread was interrupted while it waited: nobody may wait for it in turn.
            with suppress(ValueError):
                self._queue.remove(request)
            self._wake_next()
            raise

    def __enter__(self) -> None:
        self._turn.acquire()

    def __exit__(self, *_: object) -> None:
        self._turn.release()
        self._wake_next()

    def forget(self) -> None:
        """Drop what is queued by threads that do not exist: in the child of a fork."""
        self._queue.clear()

    def _wake_next(self) -> None:
        with suppress(IndexError):
            self._queue[0].woken.put(None)

    def _commit_next(self) -> None:
        if self._in_company:
            time.sleep(0)  # those who were just woken may want to come along
        requests = [self._queue.popleft()]
        size = len(requests[0].drafts)
        while self._queue and size + len(self._queue[0].drafts) <= _EVENTS:
            requests.append(self._queue.popleft())
            size += len(requests[-1].drafts)
        self._in_company = len(requests) > 1
        error: Exception | None = LogError(
            "the thread that committed was interrupted: append again"
        )
        try:
            self._commit(requests)
            error = None
        except Exception as raised:  # noqa: BLE001 (handed to the threads that wait for it)
            error = raised
        finally:
            for request in requests:
                request.finish(error)
