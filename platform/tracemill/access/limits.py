"""What a budget is, and whose calls count for it: values, and calendar windows in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import cached_property
from typing import Literal, NamedTuple

from tracemill.errors import UsageError
from tracemill.events.access import Measure, Scope, Window

MEASURES: tuple[Measure, ...] = ("requests", "tokens", "usd")
WINDOWS: tuple[Window, ...] = ("minute", "hour", "day", "month")
EACH = "*"
"""In the place of one key, user, team or value of a tag: each one apart."""
NANO = 10**9
_US = 1_000_000
_LENGTHS_US: Mapping[Window, int] = {
    "minute": 60 * _US,
    "hour": 3_600 * _US,
    "day": 86_400 * _US,
}


@dataclass(frozen=True)
class Budget:
    """What the calls of somebody may take in a window of the calendar."""

    name: str
    scope: Scope
    of: str | None
    """Which key, user, team or tag (`feature=search`); `*` is each one apart, `feature=*` each value
    of a tag."""
    window: Window
    requests: int | None = None
    tokens: int | None = None
    usd: Decimal | None = None
    action: Literal["refuse", "alert"] = "refuse"
    set_by: str = ""
    """The id of the event that set it."""

    @cached_property
    def limits(self) -> tuple[int | None, int | None, int | None]:
        """Requests, tokens, billionths of a dollar; None is no limit."""
        return self.requests, self.tokens, None if self.usd is None else int(self.usd * NANO)


@dataclass(frozen=True)
class Subject:
    """Whose call it is."""

    key_id: str | None = None
    user_id: str | None = None
    team: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


class Estimate(NamedTuple):
    """What a call may take."""

    requests: int = 1
    tokens: int = 0
    """To be read and written."""
    usd: Decimal = Decimal(0)
    """0 where no price is known."""

    def amounts(self) -> "Amounts":
        """With money in billionths of a dollar, rounded up."""
        nanos = int((self.usd * NANO).to_integral_value(ROUND_CEILING))
        return Amounts(self.requests, self.tokens, nanos)


class Amounts(NamedTuple):
    """Requests, tokens, billionths of a dollar."""

    requests: int = 0
    tokens: int = 0
    nanos: int = 0

    def negative(self) -> "Amounts":
        """To be taken away."""
        return Amounts(-self.requests, -self.tokens, -self.nanos)


NOTHING = Amounts()


class Count(NamedTuple):
    """One line of the books: a budget, or somebody's share of one that each has apart."""

    budget: str
    who: str
    """Whose it is; empty for a budget over everything."""


def count_for(budget: Budget, subject: Subject) -> Count | None:
    """Where a call counts for a budget; None where it does not."""
    match budget.scope:
        case "everything":
            return Count(budget.name, "")
        case "key":
            value = subject.key_id
        case "user":
            value = subject.user_id
        case "team":
            value = subject.team
        case "tag":
            name, _, wanted = (budget.of or "").partition("=")
            value = subject.tags.get(name)
            fits = value is not None and wanted in (EACH, value)
            return Count(budget.name, f"{name}={value}") if fits else None
    return Count(budget.name, value) if value and budget.of in (EACH, value) else None


def check(budget: Budget) -> None:
    """Raise `UsageError` where it limits nothing, or nobody."""
    if not budget.name.strip() or not budget.name.isprintable():
        raise UsageError("a budget needs a name on one line")
    if budget.limits == (None, None, None):
        raise UsageError(f"budget {budget.name} limits nothing: give requests, tokens or USD")
    if budget.scope == "everything" and budget.of is not None:
        raise UsageError(f"budget {budget.name} is for everything: it cannot be of {budget.of!r}")
    if budget.scope != "everything" and not budget.of:
        raise UsageError(f"budget {budget.name}: which {budget.scope}? A name, or * for each one")
    if budget.scope == "tag" and not all(map(str.strip, (budget.of or "").partition("="))):
        raise UsageError(f"budget {budget.name}: a tag is written name=value, or name=* for each")


class Span(NamedTuple):
    """A window of the calendar: microseconds since 1970 in UTC, the end not in it."""

    starts: int
    ends: int


def span_of(window: Window, at_us: int) -> Span:
    """The window that a moment lies in; `at_us` is in microseconds since 1970."""
    if window != "month":
        length = _LENGTHS_US[window]
        starts = at_us // length * length
        return Span(starts, starts + length)
    now = moment(at_us)
    first = datetime(now.year, now.month, 1, tzinfo=UTC)
    behind = (first + timedelta(days=32)).replace(day=1)
    return Span(int(first.timestamp()) * _US, int(behind.timestamp()) * _US)


class Calendar:
    """The windows that are open now: worked out anew only when one is over."""

    def __init__(self) -> None:
        self._spans: dict[Window, Span] = {}

    def now(self, at_us: int) -> Mapping[Window, Span]:
        """Each window at this moment, in microseconds since 1970."""
        minute = self._spans.get("minute")
        # Whatever window begins, a minute begins with it.
        if minute is None or not minute.starts <= at_us < minute.ends:
            self._spans = {window: span_of(window, at_us) for window in WINDOWS}
        return self._spans


def moment(at_us: int) -> datetime:
    """In UTC, from microseconds since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
