"""How fast and how dear: requests and tokens a minute, dollars a day, for one key of a provider.

Its one idea: what is about to be spent is reserved before it is, so that calls that are made at once
cannot overrun a limit together. A limiter lives in one process; it never waits, it says how long to.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from tracemill.errors import CallFailed
from tracemill.llm import rate_headers

_MINUTE_S = 60.0
_GRAIN_S = 0.25  # starts within it are kept as one and leave with the last, which bounds the memory


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key may do; None is no limit."""

    requests_per_minute: int | None = None
    """In any 60 seconds."""
    tokens_per_minute: int | None = None
    """Read and written, in any 60 seconds."""
    usd_per_day: Decimal | None = None
    """In one day of UTC."""
    max_wait_s: float = 60.0
    """A call that would have to wait longer fails instead."""


@dataclass(slots=True)
class _Grain:
    """Calls that start at about the same time."""

    first: float
    last: float
    """What it holds counts until a minute after this."""
    limit: str
    """What the first of them had to wait for, if anything."""
    requests: int = 0
    tokens: int = 0


@dataclass(eq=False, slots=True)
class Reservation:
    """Room for one call. Settle or release it once; a second time changes nothing."""

    wait_s: float
    """How long to wait before the call may start, in seconds."""
    tokens: int
    usd: Decimal
    grain: _Grain
    open: bool = True


class _Slot(NamedTuple):
    """The earliest start, and the limit that forbids an earlier one."""

    start: float
    limit: str


class Limiter:
    """The limiter of one key; threads may share it. First come, first served.

    Within any 60 seconds no more calls start, with no more tokens, than the limits say, as far as
    the estimates that were reserved are right.
    """

    def __init__(
        self,
        name: str,
        limits: Limits,
        *,
        spent_usd: Decimal = Decimal(0),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        Args:
            name: how its messages call the key, such as `openai`; never the key itself.
            spent_usd: what this UTC day's calls have cost so far, by the log.
            clock: seconds that never go backwards.
            now: the time in UTC, which decides the day and what dates in headers mean.
        """
        self.name, self.limits = name, limits
        self._clock, self._now = clock, now
        self._lock = threading.Lock()
        self._grains: deque[_Grain] = deque()
        self._blocked: dict[str, float] = {}
        self._day = now().date()
        self._spent_usd, self._reserved_usd = spent_usd, Decimal(0)

    def reserve(self, tokens: int, usd: Decimal = Decimal(0)) -> Reservation:
        """Room for a call, from `wait_s` on; it counts from now.

        Args:
            tokens: an estimate of what will be read and written together.
            usd: an estimate of the cost; 0 where it is not known.

        Raises `CallFailed` (`limit_reached`) when the budget is spent or the wait too long.
        """
        with self._lock:
            self._check_budget(usd)
            self._check_size(tokens)
            now = self._clock()
            slot = self._slot(now, tokens)
            if slot.start - now > self.limits.max_wait_s:
                raise self._too_long(slot, now)
            grain = self._grain(slot)
            grain.requests += 1
            grain.tokens += tokens
            self._reserved_usd += usd
            return Reservation(slot.start - now, tokens, usd, grain)

    def settle(self, reservation: Reservation, tokens: int, usd: Decimal | None) -> None:
        """The call was made and took this; `usd` is None where the price is not known.

        A request that was answered with an error was made, and took no tokens.
        """
        with self._lock:
            if reservation.open:
                reservation.open = False
                reservation.grain.tokens += tokens - reservation.tokens
                self._turn_day()
                self._reserved_usd -= reservation.usd
                self._spent_usd += usd or 0

    def release(self, reservation: Reservation) -> None:
        """The call was not made: nothing was sent."""
        with self._lock:
            if reservation.open:
                reservation.open = False
                reservation.grain.requests -= 1
                reservation.grain.tokens -= reservation.tokens
                self._reserved_usd -= reservation.usd
                while self._grains and self._grains[-1].requests == 0:
                    self._grains.pop()

    def observe(self, headers: Mapping[str, str]) -> None:
        """Learn from an answer's headers: where nothing remains, the next call waits for the reset.

        Args:
            headers: names in lower case.
        """
        told = rate_headers.read(headers, self._now())
        with self._lock:
            for limit, remaining, reset_s in told:
                if remaining == 0:
                    self._blocked[limit] = self._clock() + reset_s
                else:
                    self._blocked.pop(limit, None)

    @property
    def spent_usd(self) -> Decimal:
        """What this UTC day's calls have cost, as far as they are settled."""
        with self._lock:
            self._turn_day()
            return self._spent_usd

    # The minute

    def _slot(self, now: float, tokens: int) -> _Slot:
        """The earliest time at which the call fits, not before those that were reserved earlier."""
        while self._grains and self._grains[0].last + _MINUTE_S <= now:
            self._grains.popleft()
        slot = _Slot(now, "")
        for limit, until in self._blocked.items():
            slot = max(slot, _Slot(until, limit))
        if self._grains:
            slot = max(slot, _Slot(self._grains[-1].last, self._grains[-1].limit))
        requests = sum(grain.requests for grain in self._grains)
        used = sum(grain.tokens for grain in self._grains)
        for grain in self._grains:
            over = self._over(requests + 1, used + tokens)
            if grain.last + _MINUTE_S > slot.start:
                if over is None:
                    break
                slot = _Slot(grain.last + _MINUTE_S, over)
            requests -= grain.requests
            used -= grain.tokens
        return slot

    def _over(self, requests: int, tokens: int) -> str | None:
        """The limit that so much in one minute would exceed."""
        limits = self.limits
        if limits.requests_per_minute is not None and requests > limits.requests_per_minute:
            return "requests_per_minute"
        if limits.tokens_per_minute is not None and tokens > limits.tokens_per_minute:
            return "tokens_per_minute"
        return None

    def _grain(self, slot: _Slot) -> _Grain:
        if not self._grains or slot.start - self._grains[-1].first > _GRAIN_S:
            self._grains.append(_Grain(slot.start, slot.start, slot.limit))
        self._grains[-1].last = max(self._grains[-1].last, slot.start)
        return self._grains[-1]

    def _check_size(self, tokens: int) -> None:
        over = self._over(1, tokens)
        if over is not None:
            most = getattr(self.limits, over)
            raise CallFailed(
                "limit_reached",
                f"a call of {tokens:,} tokens can never keep to {over}={most:,} of {self.name}: "
                "raise the limit, or ask for less",
                code=over,
            )

    def _too_long(self, slot: _Slot, now: float) -> CallFailed:
        wait_s = slot.start - now
        match slot.limit:
            case "requests_per_minute":
                used = sum(grain.requests for grain in self._grains)
                why = (
                    f"{used:,} of {self.limits.requests_per_minute:,} requests_per_minute are used"
                )
            case "tokens_per_minute":
                used = sum(grain.tokens for grain in self._grains)
                why = f"{used:,} of {self.limits.tokens_per_minute:,} tokens_per_minute are used"
            case limit:
                why = f"the provider takes no more for now ({limit})"
        return CallFailed(
            "limit_reached",
            f"{self.name}: {why}, with those that wait; the next call could start in "
            f"{wait_s:.1f} s, which is over max_wait_s={self.limits.max_wait_s:g}: "
            "try again then, or raise the limit",
            code=slot.limit,
            retry=True,
            retry_after_s=wait_s,
        )

    # The day

    def _check_budget(self, usd: Decimal) -> None:
        budget = self.limits.usd_per_day
        if budget is None:
            return
        now = self._turn_day()
        used = self._spent_usd + self._reserved_usd
        if used < budget and used + usd <= budget:
            return
        raise CallFailed(
            "limit_reached",
            f"{self.name}: ${self._spent_usd:.4f} of usd_per_day={budget} are spent today (UTC), "
            f"${self._reserved_usd:.4f} more are reserved by calls under way, and this one could cost "
            f"${usd:.4f}: the budget is renewed at midnight UTC; raise it to go on",
            code="usd_per_day",
            retry=True,
            retry_after_s=(_midnight_after(now.date()) - now).total_seconds(),
        )

    def _turn_day(self) -> datetime:
        """The time; a new day begins with nothing spent. Never back: a clock may be set."""
        now = self._now()
        if now.date() > self._day:
            self._day, self._spent_usd = now.date(), Decimal(0)
        return now


def _midnight_after(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC)
