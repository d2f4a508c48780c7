"""From when to when: what people write for a time, as the moments that questions are asked with.

Times are UTC. A period holds its beginning and not its end, so that periods follow each other.
"""

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, cast

from tracemill.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

Moment = datetime | date | str
"""An aware datetime, a day (its beginning, in UTC), or text: `7d` ago, `2026-11-01`, `2026-11-01T09:00`."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Period(NamedTuple):
    """From `since` up to but not including `until`; None where it is open."""

    since: datetime | None
    until: datetime | None

    @property
    def parameters(self) -> dict[str, datetime | None]:
        """For `$since` and `$until` of a question; without a zone, as the log's columns are."""
        return {
            "since": self.since and self.since.replace(tzinfo=None),
            "until": self.until and self.until.replace(tzinfo=None),
        }

    def told(self, first: datetime | None = None, last: datetime | None = None) -> str:
        """In words; where an end is open, what was found there stands for it."""
        start, end = self.since or first, self.until or last
        if start is None or end is None:
            return "no time at all" if start is end is None else _one_end(start, end)
        return f"{_short(start)} to {_short(end)} UTC"


def period(since: Moment | None = None, until: Moment | None = None) -> Period:
    """Raises `UsageError` for what is no time, has no zone, or ends before it begins."""
    found = Period(moment(since, "since"), moment(until, "until"))
    if found.since and found.until and found.since >= found.until:
        raise UsageError(
            f"since ({_short(found.since)}) is not before until ({_short(found.until)})"
        )
    return found


def moment(given: Moment | None, name: str = "since") -> datetime | None:
    """What was written for a time, in UTC; `name` is of the argument, for the message."""
    if isinstance(given, datetime):
        if given.tzinfo is None:
            raise UsageError(
                f"{name}={given!r} has no time zone: give datetime(..., tzinfo=UTC), or a date"
            )
        return given.astimezone(UTC)
    if isinstance(given, date):
        return datetime(given.year, given.month, given.day, tzinfo=UTC)
    return None if given is None else _read(given, name)


def span(first: "pl.Series", last: "pl.Series") -> tuple[datetime | None, datetime | None]:
    """The earliest of the first times and the latest of the last ones."""
    return cast("datetime | None", first.min()), cast("datetime | None", last.max())


def _read(text: str, name: str) -> datetime:
    try:
        if age := re.fullmatch(r"(\d+)([smhdw])", text.strip()):
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        read = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise UsageError(
            f"{name} is an age, as 30m, 2h or 7d, a day, as 2026-11-01, or a time, not {text!r}"
        ) from None
    return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)


def _one_end(start: datetime | None, end: datetime | None) -> str:
    return f"since {_short(start)} UTC" if start else f"until {_short(end)} UTC" if end else ""


def _short(when: datetime) -> str:
    midnight = (when.hour, when.minute, when.second) == (0, 0, 0)
    return f"{when:%Y-%m-%d}" if midnight else f"{when:%Y-%m-%d %H:%M}"
