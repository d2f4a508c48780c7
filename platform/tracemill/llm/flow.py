"""A call is a generator that says what it needs next; a driver does it, blocking or not.

The flow knows nothing of threads, event loops or sockets, so that `generate` and `agenerate` are
the same code, and tests can play the network.
"""

import asyncio
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterator,
    Mapping,
)
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from pydantic import SecretStr

from tracemill.errors import UsageError
from tracemill.events import Happened
from tracemill.llm import abandoned
from tracemill.llm.providers import Provider, Wire
from tracemill.log import presence
from tracemill.messages import Delta, Response

if TYPE_CHECKING:
    from tracemill.llm.network import Network
    from tracemill.log import EventLog


class Answer(NamedTuple):
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Exchange(NamedTuple):
    """A request with where it goes; the key is not part of it."""

    provider: Provider
    wire: Wire
    timeout_s: float
    """For each wait: until the first byte, and between one byte and the next."""


class Opened(NamedTuple):
    """A stream that has begun."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


class OpenedAsync(NamedTuple):
    """A stream that has begun."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Send(NamedTuple):
    """Send a request; gives its `Answer`."""

    exchange: Exchange
    key: SecretStr | None


class Open(NamedTuple):
    """Send a request and begin to read; gives an `Opened`, whose chunks `Read` gives."""

    exchange: Exchange
    key: SecretStr | None


class Read(NamedTuple):
    """Gives the next bytes of what was opened; none at its end."""


class Do(NamedTuple):
    """Call a function that may block, such as a look into a cache on another machine; gives what
    it returns."""

    function: Callable[[], Any]


class Sleep(NamedTuple):
    """Wait."""

    seconds: float


class Append(NamedTuple):
    """Record an event whose stream has this version; goes on when it is safe."""

    log: "EventLog"
    event: Happened
    version: int


Action = Append | Send | Open | Read | Do | Sleep | Delta
T = TypeVar("T")
Reach = Callable[[], "Network"]
"""Made when the first request leaves: models that run here never need it."""
Flow = Generator[Action, Any, T]
"""Yields actions, is sent their results or thrown their errors, returns a value. A `Delta` is not
asked for but handed on."""


def run(flow: Flow[T], reach: Reach) -> T:
    """Do what the flow asks for, blocking."""
    driver = _Driver(reach)
    with driver.opened:
        return _last(driver.follow(flow))


def at_once(flow: Flow[T]) -> T:
    """Do what a flow asks for that needs no network."""
    return run(flow, _no_network)


def _no_network() -> "Network":
    raise AssertionError("this flow sends nothing")


async def arun(flow: Flow[T], reach: Reach) -> T:
    """Do what the flow asks for, without blocking the event loop."""
    driver = _AsyncDriver(reach)
    result: Any = None
    error: BaseException | None = None
    try:
        while True:
            action = flow.throw(error) if error else flow.send(result)
            result = error = None
            if not isinstance(action, Delta):
                try:
                    result = await driver.do(action)
                except BaseException as raised:  # noqa: BLE001 (the flow decides)
                    error = raised
    except StopIteration as stopped:
        return stopped.value
    finally:
        flow.close()
        await driver.opened.aclose()


class _Driver:
    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self.opened = ExitStack()
        self._chunks: Iterator[bytes] = iter(())

    def follow(self, flow: Flow[T]) -> Generator[Delta, None, T]:
        """Perform its actions and yield its deltas; closing this closes the flow."""
        result: Any = None
        error: BaseException | None = None
        try:
            while True:
                action = flow.throw(error) if error else flow.send(result)
                result = error = None
                if isinstance(action, Delta):
                    yield action
                    continue
                try:
                    result = self.do(action)
                except BaseException as raised:  # noqa: BLE001 (the flow decides)
                    error = raised
        except StopIteration as stopped:
            return stopped.value
        finally:
            flow.close()

    def do(self, action: Action) -> Any:
        match action:
            case Append(log, event, version):
                return log.append([event], expected={event.stream: version})
            case Send(exchange, key):
                return self._reach().send(exchange, key)
            case Open(exchange, key):
                self.opened.close()
                opened = self.opened.enter_context(self._reach().open(exchange, key))
                self._chunks = opened.chunks
                return opened
            case Read():
                return next(self._chunks, b"")
            case Do(function):
                return function()
            case Sleep(seconds):
                return time.sleep(seconds)
            case _:
                raise AssertionError(action)


class _AsyncDriver:
    def __init__(self, reach: Reach, *, together: bool = False) -> None:
        self._reach = reach
        self._together = together
        self.opened = AsyncExitStack()
        self._chunks: AsyncIterator[bytes] | None = None
        self.result: Any = None

    async def follow(self, flow: Flow[Any]) -> AsyncGenerator[deque[Delta]]:
        """As that of the blocking driver; what the flow returns is in `result`. With `together`,
        deltas that arrived together come together."""
        result: Any = None
        error: BaseException | None = None
        there: deque[Delta] = deque()
        try:
            while True:
                try:
                    action = flow.throw(error) if error else flow.send(result)
                except StopIteration as stopped:
                    self.result = stopped.value
                    if there:
                        yield there
                    return
                except BaseException:
                    # What came before the error is handed on before it.
                    if there:
                        yield there
                    raise
                result = error = None
                if isinstance(action, Delta):
                    there.append(action)
                    if self._together:
                        continue
                if there:
                    yield there
                    there = deque()
                if isinstance(action, Delta):
                    continue
                try:
                    result = await self.do(action)
                except BaseException as raised:  # noqa: BLE001 (the flow decides)
                    error = raised
        finally:
            flow.close()

    async def do(self, action: Action) -> Any:
        match action:
            case Append(log, event, version):
                expected = {event.stream: version}
                if presence.in_flight() > 1:
                    return await log.aappend(event, expected=expected)
                # Nobody comes along: to wait for another turn of the loop would be for nothing.
                return log.append([event], expected=expected)
            case Send(exchange, key):
                return await self._reach().asend(exchange, key)
            case Open(exchange, key):
                await self.opened.aclose()
                opened = await self.opened.enter_async_context(self._reach().aopen(exchange, key))
                self._chunks = opened.chunks
                return opened
            case Read():
                return b"" if self._chunks is None else await anext(self._chunks, b"")
            case Do(function):
                return await asyncio.to_thread(function)
            case Sleep(seconds):
                return await asyncio.sleep(seconds)
            case _:
                raise AssertionError(action)


def _last(deltas: Generator[Delta, None, T]) -> T:
    while True:
        try:
            next(deltas)
        except StopIteration as stopped:
            return stopped.value


_UNREAD = "the answer is not whole yet: read the stream to its end first"


class Stream(Iterator[Delta]):
    """A streamed answer: iterate over its pieces, then ask for the `response`.

    Use it as a context manager where you may stop early; what had arrived is recorded then. One
    that is dropped without that is closed a moment later, by another thread.
    """

    def __init__(self, flow: Flow[Response], reach: Reach) -> None:
        self._driver = _Driver(reach)
        self._deltas = self._driver.follow(flow)
        self._response: Response | None = None
        self._closed = abandoned.watch(self, _closing(self._deltas, self._driver.opened))

    def __next__(self) -> Delta:
        try:
            return next(self._deltas)
        except StopIteration as stopped:
            self.close()
            self._response = self._response or stopped.value
            raise
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading. The call is recorded as aborted unless it had ended."""
        self._closed()
        self._deltas.close()
        self._driver.opened.close()

    @property
    def response(self) -> Response:
        """The whole answer, once it has been read."""
        if self._response is None:
            raise UsageError(_UNREAD)
        return self._response


def _closing(deltas: Generator[Delta, None, Response], opened: ExitStack) -> Callable[[], None]:
    def close() -> None:
        with opened:
            deltas.close()

    return close


class AsyncStream(AsyncIterator[Delta]):
    """A streamed answer, for `async for`; otherwise as `Stream`."""

    def __init__(self, flow: Flow[Response], reach: Reach, *, together: bool = False) -> None:
        self._driver = _AsyncDriver(reach, together=together)
        self._deltas = self._driver.follow(flow)
        self._there: deque[Delta] = deque()

    async def __anext__(self) -> Delta:
        if not self._there:
            try:
                self._there = await anext(self._deltas)
            except BaseException:
                await self._driver.opened.aclose()
                raise
        return self._there.popleft()

    @property
    def more(self) -> bool:
        """Whether the next piece is here already."""
        return bool(self._there)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop reading. The call is recorded as aborted unless it had ended."""
        await self._deltas.aclose()
        await self._driver.opened.aclose()

    @property
    def response(self) -> Response:
        """The whole answer, once it has been read."""
        if self._driver.result is None:
            raise UsageError(_UNREAD)
        return self._driver.result
