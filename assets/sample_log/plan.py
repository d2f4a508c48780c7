"""The plan of the sample: how much is asked on which day, by whom, of which model, and what is planted.

Volume has a weekly season and grows; each day draws from a generator of its own, so that what is
planted on one day leaves all other days as they are.
"""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import NamedTuple

DAYS = 60
GROWTH = 0.005
"""Of the volume, per day."""
WEEKDAYS = (1.08, 1.03, 1.0, 1.0, 0.94, 0.55, 0.45)
"""Monday to Sunday."""
USERS = 40
TESTERS = ("r.adler", "m.okafor")
"""Who judge the answers of both versions side by side."""


class Feature(NamedTuple):
    """A feature of the product that calls a model."""

    name: str
    team: str
    key: str
    provider: str
    model: str
    a_day: float
    """Calls on a usual weekday at the beginning."""
    fixed_tokens: int
    """System text, tools and passages, beside what the user wrote."""
    cached: float
    """The share of the fixed tokens that the provider has in its cache."""
    output_tokens: float
    """The median."""
    ms_per_token: float


ANSWER = Feature(
    "answer", "support", "support-prod", "anthropic", "claude-sonnet-5-5", 46, 3_900, 0.7, 340, 14
)
TRIAGE = Feature("triage", "support", "support-prod", "openai", "gpt-5.4-mini", 40, 620, 0.0, 24, 9)
SEARCH = Feature(
    "search", "search", "search-prod", "gcp.gemini", "gemini-3.8-flash", 46, 180, 0.0, 18, 7
)
DIGEST = Feature("digest", "search", "nightly", "openai", "gpt-5.4-mini", 9, 3_200, 0.0, 260, 9)
FEATURES = (ANSWER, TRIAGE, SEARCH, DIGEST)
HARD = ("openai", "gpt-6-sol")
"""Answers a few of the questions."""
FALLBACK = ("openai", "gpt-5.4-mini")
OWN = ("vllm", "rill-rewriter-3b")
"""A model of their own, of which no table has a price."""


@dataclass(frozen=True)
class Calendar:
    """Which day is what; offsets are days from the first, moved to a working day where need be."""

    first: date
    last: date
    trial: tuple[date, date]
    """Half of the answers come from the second version of the prompt."""
    cost_day: date | None
    burst: tuple[datetime, datetime] | None
    drift: tuple[date, date] | None
    worse: bool
    """The second version of the prompt is worse."""

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(n) for n in range(DAYS)]

    def in_trial(self, day: date) -> bool:
        return self.trial[0] <= day <= self.trial[1]

    def in_drift(self, day: date) -> bool:
        return self.drift is not None and self.drift[0] <= day <= self.drift[1]

    def in_burst(self, moment: datetime) -> bool:
        return self.burst is not None and self.burst[0] <= moment < self.burst[1]


def calendar(until: date, quiet: bool) -> Calendar:
    """The 60 days before `until`."""
    first = until - timedelta(DAYS)
    burst_day = _working(first + timedelta(56))
    return Calendar(
        first=first,
        last=until - timedelta(1),
        trial=(first + timedelta(24), first + timedelta(45)),
        cost_day=None if quiet else _working(first + timedelta(54)),
        burst=None if quiet else (_at(burst_day, 13), _at(burst_day, 16)),
        drift=None if quiet else (first + timedelta(DAYS - 7), until - timedelta(1)),
        worse=not quiet,
    )


def volume(draw: Random, feature: Feature, day: date, first: date) -> int:
    """How many calls of a feature this day has."""
    grown = (1 + GROWTH) ** (day - first).days
    mean = feature.a_day * WEEKDAYS[day.weekday()] * grown
    return max(0, round(draw.gauss(mean, 0.8 * math.sqrt(mean))))


def moment(draw: Random, day: date, early: float = 6, late: float = 21) -> datetime:
    """Some time of the working day."""
    second = draw.triangular(early, late, early + 0.4 * (late - early)) * 3600
    return _at(day, 0) + timedelta(milliseconds=int(second * 1000))


def _working(day: date) -> date:
    return day + timedelta({5: 2, 6: 1}.get(day.weekday(), 0))


def _at(day: date, hour: int) -> datetime:
    return datetime.combine(day, time(hour), UTC)
