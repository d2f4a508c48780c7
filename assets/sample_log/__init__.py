"""A log of 60 days of a small support and search team, made up: for notebooks, tests and pictures.

The same seed gives the same bytes. What is planted in it is said beside it, so that what looks for
it can be held to it; a quiet log has nothing planted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from assets.sample_log import plan, words
from assets.sample_log.calls import ACTOR
from assets.sample_log.days import Team
from tracemill.events import Happened
from tracemill.log import EventLog
from tracemill.settings import Settings

__all__ = ["ACTOR", "Truth", "sample_events", "write_sample"]

UNTIL = date(2026, 11, 16)
_BATCH = 4_000


@dataclass(frozen=True)
class Truth:
    """What is in the sample; None where nothing is planted."""

    first: date
    last: date
    calls: int
    """How many, those that the cache answered included."""
    cost_day: date | None
    """A script with the key `cost_key`, tagged `feature=digest`, ran in a loop."""
    cost_key: str | None
    burst: tuple[datetime, datetime] | None
    """Calls of `burst_model` failed as `burst_class` from the one to the other."""
    burst_class: str | None
    burst_model: str | None
    prompt: str
    """Two versions of it answered in turn from `trial[0]` to `trial[1]`."""
    trial: tuple[date, date]
    versions: tuple[str, str]
    worse_version: str | None
    """More failures, lower feedback."""
    drift: tuple[date, date] | None
    """Calls of `drift_prompt` are longer from the one to the other, both included."""
    drift_prompt: str | None
    causes: Mapping[str, str]
    """Call that failed, or was filtered -> its root cause."""


def sample_events(
    *, seed: int = 7, until: date = UNTIL, quiet: bool = False
) -> tuple[list[Happened], Truth]:
    """The events in the order of their times, and what is in them.

    Args:
        seed: of everything that is drawn.
        until: the day after the last.
        quiet: nothing is planted, and both versions of the prompt are as good.
    """
    days = plan.calendar(until, quiet)
    team = Team(days, seed)
    events = sorted(team.events(), key=lambda event: (event.occurred_at, event.event_id))
    burst_class, model = ("overloaded", plan.ANSWER.model) if days.burst else (None, None)
    versions = (words.ANSWER_1.version, words.ANSWER_2.version)
    return events, Truth(
        first=days.first,
        last=days.last,
        calls=team.calls,
        cost_day=days.cost_day,
        cost_key=plan.DIGEST.key if days.cost_day else None,
        burst=days.burst,
        burst_class=burst_class,
        burst_model=model,
        prompt=words.ANSWER_1.name,
        trial=days.trial,
        versions=versions,
        worse_version=versions[1] if days.worse else None,
        drift=days.drift,
        drift_prompt=words.REWRITE.name if days.drift else None,
        causes=team.causes,
    )


def write_sample(
    settings: Settings, *, seed: int = 7, until: date = UNTIL, quiet: bool = False
) -> Truth:
    """Append the sample to the log of a warehouse and seal it; arguments as of `sample_events`."""
    settings.create()
    events, truth = sample_events(seed=seed, until=until, quiet=quiet)
    # All of it is sealed here: no other process has to.
    with EventLog(settings.log, fold_after_events=10**9, prices=settings.prices) as log:
        for first in range(0, len(events), _BATCH):
            log.append(events[first : first + _BATCH])
        log.fold()
    return truth
