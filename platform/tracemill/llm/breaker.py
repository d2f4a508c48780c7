"""A circuit breaker: stop asking a model that is down, and find out with one probe when it is back.

Its one idea: whoever enters gets a ticket that knows the state it was given in, so what comes back
after the state has changed says nothing. A breaker lives in one process.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tracemill.errors import CallFailed

State = Literal["closed", "open", "half_open"]

ILL = frozenset({"connection", "timeout", "overloaded", "server_error", "malformed_response"})
"""Error types that speak of the provider's health. Not among them: what the caller did wrong, what
the caller lacks (a key, money, a permission), and `rate_limited`, by which a healthy provider says
that this caller is too fast: the limiter's affair. These count neither for nor against."""
MIN_FAILURES = 5
WINDOW_S = 30.0
"""What is older says nothing about a model that is called often."""
MEMORY_S = 600.0
"""The same for a model that is called so seldom that the window holds too few results."""
FIRST_OPEN_S = 10.0
LONGEST_OPEN_S = 300.0
PROBE_LOST_S = 900.0
"""A probe that has not come back by then never will; the client's own timeouts are shorter."""
_PROBING_S = 1.0


class Change(NamedTuple):
    """The breaker changed its state: to be recorded as `BreakerChanged`."""

    state: State
    reason: str
    retry_after_s: float | None = None
    """When open: until the next probe, in seconds."""


@dataclass(eq=False, slots=True)
class Ticket:
    """The right to make one attempt. Hand it back once; a second time changes nothing."""

    generation: int
    """How many changes of state there were before it."""
    change: Change | None = None
    """Set where entering made the breaker half open: this attempt is the probe."""
    used: bool = False
    heard: bool = False
    """Whether the beginning of its answer was counted."""


@dataclass(slots=True)
class _Second:
    """Results of one second of the clock."""

    second: int
    calls: int = 0
    failures: int = 0


class Breaker:
    """The breaker of one model; threads may share it.

    It opens when at least 5 and at least half of the results of the last 30 s are failures; where
    the last 30 s hold fewer than 5 results, when the last 5 within 10 minutes all are. It stays
    open for 10 s, then lets one probe through. A probe that succeeds closes it; each that fails
    doubles the time until the next, up to 5 minutes.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`name` is how its messages call the model, as `openai/gpt-6-luna`; `clock` gives seconds
        that never go backwards."""
        self.name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._generation = 0
        self._seconds: deque[_Second] = deque()
        self._latest: deque[tuple[float, bool]] = deque(maxlen=MIN_FAILURES)
        self._why = ""
        self._open_s = FIRST_OPEN_S
        self._probe_at = 0.0
        self._probe: Ticket | None = None
        self._probe_since = 0.0

    @property
    def state(self) -> State:
        """`open` also after its time has run out, until somebody enters."""
        return self._state

    def enter(self) -> Ticket:
        """Ask to make one attempt; `Ticket.change` says whether that changed the state.

        Raises `CallFailed` (`circuit_open`) with the seconds until it is worth asking again.
        """
        with self._lock:
            if self._state == "closed":
                return Ticket(self._generation)
            now = self._clock()
            if self._state == "open" and now < self._probe_at:
                raise self._refusal(self._probe_at - now, "the next probe")
            change = None
            if self._state == "open":
                change = self._change("half_open", f"one probe after {self._open_s:g} s")
            elif self._probe is not None and now - self._probe_since < PROBE_LOST_S:
                raise self._refusal(_PROBING_S, "the probe that is under way may tell more")
            self._probe, self._probe_since = Ticket(self._generation, change), now
            return self._probe

    def heard(self, ticket: Ticket) -> None:
        """The first piece of a streamed answer is here. That counts as an answer: were only ends
        counted, a few quick failures among many long streams would look like most of them."""
        with self._lock:
            if self._state == "closed" and ticket.generation == self._generation:
                ticket.heard = True
                self._note(self._clock(), failed=False)

    def succeeded(self, ticket: Ticket) -> Change | None:
        """The attempt was answered."""
        with self._lock:
            if not self._counts(ticket):
                return None
            if self._state == "half_open":
                self._open_s = FIRST_OPEN_S
                return self._change("closed", "the probe was answered")
            if not ticket.heard:
                self._note(self._clock(), failed=False)
            return None

    def failed(self, ticket: Ticket, error: CallFailed) -> Change | None:
        """The attempt failed; an error that is not the provider's counts as `left`."""
        if error.error_type not in ILL:
            self.left(ticket)
            return None
        status = f" (status {error.status})" if error.status else ""
        with self._lock:
            if not self._counts(ticket):
                return None
            if self._state == "half_open":
                # Reset by an answered probe only: repeated failures must be remembered.
                self._open_s = min(self._open_s * 2, LONGEST_OPEN_S)
                return self._open(f"the probe failed: {error.error_type}{status}")
            now = self._clock()
            self._note(now, failed=True)
            found = self._ill(now)
            return self._open(f"{found}; the latest: {error.error_type}{status}") if found else None

    def left(self, ticket: Ticket) -> None:
        """The attempt ended without telling anything: cancelled, or the caller's own fault.

        Where it was the probe, the next one to enter is.
        """
        with self._lock:
            if self._counts(ticket) and ticket is self._probe:
                self._probe = None

    def _counts(self, ticket: Ticket) -> bool:
        """Whether the ticket tells something about the present state; then it is spent."""
        current = ticket.generation == self._generation and not ticket.used
        ticket.used = True
        return current and (self._state != "half_open" or ticket is self._probe)

    def _note(self, now: float, *, failed: bool) -> None:
        second = int(now // 1)
        while self._seconds and self._seconds[0].second <= second - WINDOW_S:
            self._seconds.popleft()
        if not self._seconds or self._seconds[-1].second != second:
            self._seconds.append(_Second(second))
        self._seconds[-1].calls += 1
        self._seconds[-1].failures += failed
        self._latest.append((now, failed))

    def _ill(self, now: float) -> str | None:
        """Why it should open, if it should."""
        calls = sum(second.calls for second in self._seconds)
        failures = sum(second.failures for second in self._seconds)
        if calls >= MIN_FAILURES:
            enough = failures >= MIN_FAILURES and failures * 2 >= calls
            found = f"{failures} of {calls} attempts failed within {WINDOW_S:g} s"
        else:
            enough = len(self._latest) == MIN_FAILURES and all(
                failed and now - then <= MEMORY_S for then, failed in self._latest
            )
            found = f"the last {MIN_FAILURES} attempts failed"
        return found if enough else None

    def _open(self, reason: str) -> Change:
        self._why = reason
        self._probe_at = self._clock() + self._open_s
        return self._change("open", reason, self._open_s)

    def _change(self, state: State, reason: str, retry_after_s: float | None = None) -> Change:
        self._state, self._probe = state, None
        self._generation += 1
        self._seconds.clear()
        self._latest.clear()
        return Change(state, reason, retry_after_s)

    def _refusal(self, seconds: float, until: str) -> CallFailed:
        return CallFailed(
            "circuit_open",
            f"{self.name} is not called: {self._why}; {until} in {seconds:.1f} s: "
            "wait so long, or name another model to fall back to",
            retry=True,
            retry_after_s=seconds,
        )
