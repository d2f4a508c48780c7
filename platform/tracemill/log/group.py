"""Group commit: the thread whose turn it is commits what the others have queued meanwhile, and what
coroutines append in the same turn of their event loop goes together.

There is no thread to start, to stop, or to lose in a fork. A thread that waits is woken once, when
its append is done: were each to take the turn only to see that, they would cost more than the disk.
"""

import asyncio
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
_MANY = 4  # coroutines that appended at once: others are about to
_TURNS = 3  # that are waited for them; one takes microseconds where nothing arrives


@dataclass(eq=False, slots=True)
class Append:
    """Events that are stored all or none, and what came of it."""

    drafts: Sequence[Draft]
    expected: Mapping[str, int]
    positions: Sequence[int] = ()
    error: Exception | None = None

    @property
    def stored(self) -> list[int]:
        """Their positions. Raises why there are none."""
        if self.error is not None:
            raise self.error
        return list(self.positions)


@dataclass(eq=False)
class Request:
    """Appends of one thread, waiting for whichever thread commits next."""

    appends: Sequence[Append]
    durability: Durability
    done: bool = False
    woken: SimpleQueue[None] = field(default_factory=SimpleQueue[None])

    def finish(self, error: Exception | None) -> None:
        """Let its thread go on; with what went wrong, unless an append has an error of its own."""
        for append in self.appends:
            append.error = append.error or error
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
        size = _size(requests[0])
        while self._queue and size + _size(self._queue[0]) <= _EVENTS:
            requests.append(self._queue.popleft())
            size += _size(requests[-1])
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


def _size(request: Request) -> int:
    return sum(len(append.drafts) for append in request.appends)


class Together:
    """Appends of coroutines. Those that are made in one turn of an event loop share a commit, which
    its thread makes in the next: another thread would wait for the interpreter at every row. Where
    many come, a few turns more are waited for, in which others arrive."""

    def __init__(self, commit: Callable[[Sequence[Append]], None]) -> None:
        """`commit` stores appends, and leaves in each what came of it."""
        self._commit = commit
        self._waiting: dict[asyncio.AbstractEventLoop, list[tuple[Append, asyncio.Future[None]]]]
        self._waiting = {}
        self._turns = 0

    async def submit(self, append: Append) -> None:
        """Return when it is done. Who is cancelled meanwhile leaves it stored."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        waiting = self._waiting.get(loop)
        if waiting is None:
            waiting = self._waiting[loop] = []
            loop.call_soon(self._after, self._turns, loop)
        waiting.append((append, done))
        try:
            await done
        except BaseException:
            self._commit_all(loop)
            raise

    def _after(self, turns: int, loop: asyncio.AbstractEventLoop) -> None:
        if turns:
            loop.call_soon(self._after, turns - 1, loop)
        else:
            self._commit_all(loop)

    def _commit_all(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = self._waiting.pop(loop, ())
        self._turns = _TURNS if len(waiting) >= _MANY else 0
        if waiting:
            self._commit([append for append, _ in waiting])
        for _, done in waiting:
            if not done.done():
                done.set_result(None)
