"""What providers say in their headers about how much more they will take, and from when on.

Every provider has names and clocks of its own: durations (OpenAI, Groq), dates (Anthropic), plain
seconds (Azure, Together), milliseconds since 1970 (OpenRouter), nothing but a count (Cohere).
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from tracemill.llm.trouble import retry_after

LONGEST_S = 86_400.0
"""The longest that is believed: no limit that we know of is counted over more than a day."""
_MINUTE_S = 60.0
_ENOUGH_TOKENS = 0.05


class Told(NamedTuple):
    """One limit, as the provider sees it."""

    limit: str
    """Such as `requests` or `input-tokens`; `retry-after` where it only says when to come back."""
    remaining: int
    reset_s: float
    """Seconds until it can be asked again, in case that nothing remains."""


class _Names(NamedTuple):
    limit: str
    remaining: str
    reset: str = ""
    period: str = ""
    """The header with the length of the window in seconds: no reset is farther away."""
    otherwise_s: float | None = None
    """How long to wait where no header tells; None: then it is not known, and nothing is done."""
    refills: bool = False
    """True where a limit comes back little by little: the reset tells when all of it is there."""


_NAMES = (
    *(
        _Names(
            limit,
            f"x-ratelimit-remaining-{limit}",
            f"x-ratelimit-reset-{limit}",
            f"x-ratelimit-renewalperiod-{limit}",  # Azure
            refills=True,
        )
        for limit in ("requests", "tokens")
    ),
    *(
        _Names(
            limit,
            f"anthropic-ratelimit-{limit}-remaining",
            f"anthropic-ratelimit-{limit}-reset",
            refills=True,
        )
        for limit in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
    _Names("requests", "x-ratelimit-remaining", "x-ratelimit-reset"),  # Together, OpenRouter
    _Names("requests-10s", "x-ratelimit-remaining-req-10-second", otherwise_s=10),  # Mistral
    _Names("requests", "x-ratelimit-remaining-req-minute", otherwise_s=_MINUTE_S),
    _Names("tokens", "x-ratelimit-remaining-tokens-minute", otherwise_s=_MINUTE_S),
    _Names("trial-requests", "x-trial-endpoint-call-remaining", otherwise_s=_MINUTE_S),  # Cohere
)

_UNITS_S = {
    "d": 86_400.0,
    "h": 3_600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ns": 1e-9,
}
_PIECE = re.compile(r"(\d+\.?\d*|\.\d+)(d|h|ms|m|us|\u00b5s|\u03bcs|ns|s)", re.ASCII)
_NUMBER = re.compile(r"\d+\.?\d*|\.\d+", re.ASCII)


def read(headers: Mapping[str, str], now: datetime) -> tuple[Told, ...]:
    """What these headers say of limits; what cannot be read is left out.

    Args:
        headers: of an answer, good or bad; names in lower case.
        now: the present, which dates are counted from.
    """
    known = [names for names in _NAMES if names.remaining in headers]
    told = [found for names in known if (found := _told(names, headers, now)) is not None]
    wait = retry_after(headers, now)
    if wait is not None:
        # A reset tells when all of a limit is there again; this, when enough of it is.
        told = [each._replace(reset_s=min(each.reset_s, wait)) for each in told]
        told.append(Told("retry-after", 0, min(wait, LONGEST_S)))
    return tuple(told)


def _told(names: _Names, headers: Mapping[str, str], now: datetime) -> Told | None:
    try:
        remaining = int(float(headers[names.remaining]))
    except (ValueError, OverflowError):
        return None
    reset_s = until(headers.get(names.reset, ""), now)
    if reset_s is None:
        reset_s = names.otherwise_s
    if reset_s is None:
        return None
    period_s = duration_s(headers.get(names.period, ""))
    if names.refills and period_s is None:
        reset_s *= _share(names, headers)
    return Told(names.limit, max(remaining, 0), min(reset_s, period_s or LONGEST_S, LONGEST_S))


def _share(names: _Names, headers: Mapping[str, str]) -> float:
    """Which part of a limit must be there again before it makes sense to ask: one request, or a
    twentieth of the tokens. 1 where the limit is not told."""
    most = duration_s(headers.get(names.remaining.replace("remaining", "limit"), ""))
    if not most or most < 1:
        return 1.0
    return 1 / most if names.limit == "requests" else _ENOUGH_TOKENS


def until(text: str, now: datetime) -> float | None:
    """Seconds until a reset, told as a duration, a date (RFC 3339) or a time since 1970.

    Never negative: a date that has passed, such as 1970 for a limit that is not in use, is 0.
    None where it is none of these.
    """
    told = duration_s(text)
    if told is None:
        try:
            date = datetime.fromisoformat(text.strip())
        except ValueError:
            return None
        return max((date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds(), 0.0)
    if told >= 1e11:
        return max(told / 1000 - now.timestamp(), 0.0)
    return max(told - now.timestamp(), 0.0) if told >= 1e9 else told


@lru_cache(256)
def duration_s(text: str) -> float | None:
    """Seconds of a duration as Go writes it, such as `6m0s`, `174ms` or `1h2.5s`.

    A plain number is seconds. None where the text is no duration, or none that is finite.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        total = float(text)
    else:
        pieces = list(_PIECE.finditer(text))
        if not pieces or "".join(piece[0] for piece in pieces) != text:
            return None
        total = sum(float(piece[1]) * _UNITS_S[piece[2]] for piece in pieces)
    return total if math.isfinite(total) else None
