"""How long what is kept: policies in YAML, a plan that says what would go, and its carrying out.

Events keep their figures, or nothing but their place in the log. Those that states are folded from
(prompts, models, jobs, alerts) are never emptied because of their age.
"""

import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints

from tracemill.events import KINDS
from tracemill.operations.yaml_file import Strict, checked, loaded, told
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.log import EventLog

Keep = Literal["figures", "nothing"]
Days = Annotated[int, Field(ge=1, le=36_500)]
Progress = Callable[[int], object]

REMOVED = "log.event_removed"
_COUNTED = """
    SELECT count(*) AS n, min(occurred_at) AS oldest, max(occurred_at) AS newest
    FROM events
    WHERE kind = $kind AND occurred_at >= $since AND occurred_at < $until
      AND ($keep = 'nothing' OR NOT starts_with(payload, '{"erased": true'))
"""


class Policy(Strict):
    """What becomes of events when they are old."""

    kinds: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=100)], ...], Field(min_length=1)
    ]
    """Kinds of events; `*` stands for any characters."""
    after_days: Days
    """Since they occurred."""
    keep: Keep
    """`figures`: times, models, tokens, costs; texts and names go. `nothing`: that there was one."""


class Retention(Strict):
    """The whole file. What is left out is kept for ever."""

    policies: tuple[Policy, ...] = ()
    cache_days: Days | None = None
    """Embeddings that were not used for so long go from the cache, and answers past their time."""
    report_days: Days | None = None
    """Reports that were written longer ago go."""
    job_days: Days | None = None
    """What jobs asked and were answered goes so long after their end; that they were stays."""
    keep_backups: Annotated[int, Field(ge=1)] | None = None
    """So many of the newest copies of the log stay."""


class Due(NamedTuple):
    """Events of one kind that are to be emptied."""

    kind: str
    keep: Keep
    events: int
    oldest: datetime
    newest: datetime


class Plan(NamedTuple):
    """What would go, or what went."""

    events: tuple[Due, ...]
    cached: dict[str, int]
    """Cache -> entries."""
    reports: int
    """Files."""
    jobs: int
    """Jobs whose requests and answers go."""
    backups: tuple[str, ...]
    """Names of folders."""

    @property
    def nothing(self) -> bool:
        return not (
            self.events or any(self.cached.values()) or self.reports or self.jobs or self.backups
        )


def retention(settings: Settings) -> Retention:
    """The terms of `raw/retention.yaml`; without it, everything is kept.

    Raises `InputError` that names the file, the line, the field and the mend.
    """
    path = settings.raw_retention
    fields, lines = loaded(path)
    terms = checked(path, fields, Retention, lines)
    for number, policy in enumerate(terms.policies):
        for pattern in policy.kinds:
            if not _matching([pattern]):
                kept = [kind for kind in KINDS if fnmatchcase(kind, pattern)]
                why = "is never emptied because of its age" if kept else "is no kind of event"
                mistake = f"policy {number + 1}: kinds: {pattern} {why}; there are "
                where = ("policies", number, "kinds")
                raise told(path, lines, where, mistake + ", ".join(_matching(["*"])))
    return terms


def plan(
    log: "EventLog", settings: Settings, terms: Retention, *, now: datetime | None = None
) -> Plan:
    """What is due; changes nothing."""
    now = now or datetime.now(UTC)
    due = (_due(log, kind, terms, now) for kind in _matching(["*"]))
    return Plan(
        tuple(each for some in due for each in some),
        _prune(settings, terms, now, dry_run=True),
        len(list(_old_reports(settings, terms, now))),
        _old_jobs(log, settings, terms, now, dry_run=True),
        tuple(path.name for path in _old_backups(settings, terms)),
    )


def apply(
    log: "EventLog",
    settings: Settings,
    terms: Retention,
    *,
    now: datetime | None = None,
    actor: str | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Carry out what is due; what a killed run left undone is due again.

    Args:
        now: what ages are counted from; the clock's, when left out.
        actor: who asks; it stands in the log.
        progress: called with the number of events that were just dealt with.

    Returns what went.
    """
    from tracemill.log.erase import Older

    now = now or datetime.now(UTC)
    wanted = plan(log, settings, terms, now=now)
    # What goes whole goes first: otherwise it would be emptied twice.
    for policy in sorted(terms.policies, key=lambda policy: policy.keep != "nothing"):
        if any(each.kind in _matching(policy.kinds) for each in wanted.events):
            log.erase(
                Older(now - timedelta(days=policy.after_days), policy.kinds),
                reason="retention",
                figures=policy.keep == "figures",
                actor=actor,
                progress=progress,
            )
    cached = _prune(settings, terms, now, dry_run=False)
    reports = list(_old_reports(settings, terms, now))
    for path in reports:
        path.unlink(missing_ok=True)
    jobs = _old_jobs(log, settings, terms, now, dry_run=False)
    for path in _old_backups(settings, terms):
        # Renamed first: half a copy must not be found under its name.
        gone = path.rename(path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"))
        shutil.rmtree(gone, ignore_errors=True)
    return wanted._replace(cached=cached, reports=len(reports), jobs=jobs)


def _matching(patterns: Iterable[str]) -> list[str]:
    """Kinds of events that may be emptied, in the order of the union."""
    wanted = tuple(patterns)
    return [
        kind
        for kind, event in KINDS.items()
        if not event.keep and kind != REMOVED and any(fnmatchcase(kind, each) for each in wanted)
    ]


def _before(kind: str, terms: Retention, keep: Keep, now: datetime) -> datetime | None:
    """Older events of this kind are due; the shortest of all terms that name it."""
    days = [
        policy.after_days
        for policy in terms.policies
        if policy.keep == keep and kind in _matching(policy.kinds)
    ]
    return now - timedelta(days=min(days)) if days else None


def _asked(kind: str, terms: Retention, keep: Keep, now: datetime) -> dict[str, object] | None:
    """The parameters of both questions. Of what keeps nothing, figures are not kept first."""
    before = _before(kind, terms, keep, now)
    if before is None:
        return None
    whole = _before(kind, terms, "nothing", now) if keep == "figures" else None
    since = datetime(1, 1, 1, tzinfo=UTC) if whole is None else whole
    return {"kind": kind, "since": _naive(since), "until": _naive(before), "keep": keep}


def _naive(moment: datetime) -> datetime:
    """As the log's columns are: UTC without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _due(log: "EventLog", kind: str, terms: Retention, now: datetime) -> Iterator[Due]:
    keeps: tuple[Keep, ...] = ("nothing", "figures")
    for keep in keeps:
        asked = _asked(kind, terms, keep, now)
        if asked is not None:
            (row,) = log.arrow(_COUNTED, asked).to_pylist()
            if row["n"]:
                yield Due(kind, keep, row["n"], row["oldest"], row["newest"])


def _prune(settings: Settings, terms: Retention, now: datetime, *, dry_run: bool) -> dict[str, int]:
    from tracemill.llm.cache.file import prune as prune_answers
    from tracemill.retrieval.embed.cache import prune as prune_vectors

    if terms.cache_days is None:
        return {}
    at = now.timestamp()
    before = at - terms.cache_days * 86_400
    return {
        "answers": prune_answers(settings.cache, at, dry_run=dry_run),
        "embeddings": prune_vectors(settings.cache, before, dry_run=dry_run),
    }


def _old_reports(settings: Settings, terms: Retention, now: datetime) -> Iterator[Path]:
    """The tables by day are assets with partitions: whoever deletes one does it there."""
    if terms.report_days is None or not settings.reports.is_dir():
        return
    before = now.timestamp() - terms.report_days * 86_400
    files = (path for path in sorted(settings.reports.rglob("*")) if path.is_file())
    for path in files:
        if path.stat().st_mtime < before and not path.is_relative_to(settings.daily):
            yield path


def _old_jobs(
    log: "EventLog", settings: Settings, terms: Retention, now: datetime, *, dry_run: bool
) -> int:
    from tracemill.jobs.jobs import Jobs

    if terms.job_days is None or not settings.jobs.is_dir():
        return 0
    with closing(Jobs(log, settings)) as jobs:
        return jobs.delete_old(terms.job_days, now=now, dry_run=dry_run)


def _old_backups(settings: Settings, terms: Retention) -> list[Path]:
    if terms.keep_backups is None or not settings.backups.is_dir():
        return []
    found = [p for p in settings.backups.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)[: -terms.keep_backups]
