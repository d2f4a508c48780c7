"""Emptying events, so that a person is forgotten or old texts go, while the log keeps its laws.

A row stays in its place with its id, its version and its digest; what it said goes from every file.
`log.erased` and a list of what is to be done are committed before the first row is emptied, so that a
run that was killed is completed by the next one, or by the next fold.
"""
# pyarrow's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tracemill.errors import LogError, UsageError
from tracemill.events import KINDS, LogErased, Positions
from tracemill.log import rows, segments, sums, tables
from tracemill.log.figures import MARK, emptied, refuse_unknown
from tracemill.log.journal import Journal
from tracemill.log.tables import Erasing, Segment
from tracemill.log.turn import only_one

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from tracemill.log.store import EventLog

    Places = NDArray[np.int64]
    """Positions in ascending order."""

Reason = Literal["forgotten", "retention"]
_TAIL_ROWS = 500  # emptied in one transaction, so that appenders hardly wait
_SPANS = 100_000  # in one event, which may have 16 million characters
_KEPT = sorted(kind for kind, cls in KINDS.items() if cls.keep)


class Older(NamedTuple):
    """Events to be emptied because of their age."""

    before: datetime
    """Those that happened before this moment, which knows its time zone."""
    kinds: Sequence[str] = ("*",)
    """Of kinds that match one of these patterns, as `llm.call.*`. Kinds whose streams are kept for
    their state are never among them."""


class How(NamedTuple):
    """What is done with events, and what `log.erased` says of it."""

    reason: Reason
    figures: bool
    actor: str | None = None


@dataclass(frozen=True)
class Erased:
    """What was emptied."""

    counts: dict[str, int] = field(default_factory=dict[str, int])
    """Events by their kind."""
    positions: tuple[int, ...] = ()
    """Where `log.erased` stands; empty when there was nothing to empty."""
    segments: int = 0
    """How many sealed files were written anew."""

    @property
    def events(self) -> int:
        return sum(self.counts.values())


def erase(
    log: "EventLog",
    journal: Journal,
    which: Iterable[int] | Older,
    how: How,
    progress: segments.Progress | None = None,
) -> Erased:
    """See `EventLog.erase`."""
    ask = _by_age(which) if isinstance(which, Older) else _by_position(which, log.position())
    with only_one(journal.folder / "fold.lock", wait=True):
        finish(journal, progress)
        counts, places = _chosen(log, ask, how)
        if not len(places):
            return Erased()
        events = _vouchers(places, counts, how)
        with journal.writing() as work:
            positions = tables.insert(work, [rows.draft(event) for event in events], {})
            tables.begin_erasing(work, _spans(places), figures=how.figures)
        return Erased(counts, tuple(positions), finish(journal, progress))


def complete(journal: Journal, progress: segments.Progress | None = None) -> None:
    """Do what a process that was killed while it emptied events has left; mostly nothing."""
    if journal.erasing():
        with only_one(journal.folder / "fold.lock", wait=False) as alone:
            if alone:
                finish(journal, progress)


# Which


class _Asked(NamedTuple):
    """A condition on `events`."""

    condition: str
    parameters: list[Any]


def _by_age(which: Older) -> _Asked:
    if which.before.tzinfo is None:
        raise UsageError(f"{which.before} says no time zone: which events are older than it?")
    kinds: set[str] = set()
    for pattern in which.kinds:
        found = {kind for kind in KINDS if fnmatchcase(kind, pattern)}
        if not found:
            raise UsageError(f"no event is called {pattern!r}; there are: {', '.join(KINDS)}")
        if found.issubset(_KEPT):
            raise UsageError(_kept(pattern))
        kinds |= found.difference(_KEPT)
    moment = rows.microseconds(which.before)
    return _Asked(
        "occurred_at < make_timestamp(?::BIGINT) AND list_contains(?::VARCHAR[], kind)",
        [moment, sorted(kinds)],
    )


def _by_position(which: Iterable[int], end: int) -> _Asked:
    wanted = sorted(set(which)) or [0]
    if wanted[0] < 0 or wanted[-1] > end:
        raise UsageError(f"there is no position {wanted[-1]}: the log has 1 to {end}")
    return _Asked(
        "position BETWEEN ? AND ? AND position IN (SELECT unnest(?::BIGINT[]))",
        [wanted[0], wanted[-1], wanted],
    )


def _kept(what: str) -> str:
    return (
        f"{what} is never emptied because of its age: prompts, data sets, jobs, models and alerts are "
        "made of such events; leave it out"
    )


def _chosen(log: "EventLog", ask: _Asked, how: How) -> "tuple[dict[str, int], Places]":
    """Those events that hold something to be emptied: how many of each kind, and where."""
    emptied_alike = f"starts_with(payload, '{MARK}') AND (? OR list_contains(?::VARCHAR[], kind))"
    table = log.arrow(
        "SELECT position, kind, schema_version FROM events "  # noqa: S608
        f"WHERE {ask.condition} AND kind <> 'log.event_removed' AND NOT ({emptied_alike}) "
        "ORDER BY position",
        [*ask.parameters, how.figures, _KEPT],
    )
    counts: Counter[str] = Counter()
    for group in (
        table.group_by(["kind", "schema_version"])
        .aggregate([("position", "count"), ("position", "min")])
        .to_pylist()
    ):
        kind, first = group["kind"], group["position_min"]
        refuse_unknown(kind, group["schema_version"], first)
        if how.reason == "retention" and KINDS[kind].keep:
            raise UsageError(_kept(f"position {first} ({kind})"))
        counts[kind] += group["position_count"]
    return dict(sorted(counts.items())), table["position"].to_numpy()


def _spans(places: "Places") -> list[tuple[int, int]]:
    """Neighbours together, as (first, last)."""
    import numpy as np

    ends = np.flatnonzero(np.diff(places) != 1)
    firsts = places[np.concatenate([[0], ends + 1])]
    lasts = places[np.concatenate([ends, [len(places) - 1]])]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _vouchers(places: "Places", counts: dict[str, int], how: How) -> list[LogErased]:
    spans = [Positions(first=first, last=last) for first, last in _spans(places)]
    parts = [spans[i : i + _SPANS] for i in range(0, len(spans), _SPANS)]
    return [
        LogErased(
            reason=how.reason,
            positions=tuple(part),
            figures=how.figures,
            # Once, or sums over these events would count double.
            counts=counts if part is parts[0] else {},
            actor=how.actor,
        )
        for part in parts
    ]


# Emptying. Every function from here on is called by whoever holds the lock of the folders.


def finish(journal: Journal, progress: segments.Progress | None = None) -> int:
    """Empty what the list says, remove every trace of it, strike it off; returns rewritten files."""
    todo = journal.erasing()
    if not todo:
        return 0
    segments.remove_aborted(journal.folder)
    segments.trim(journal)
    rewritten = 0
    for segment in journal.segments():
        if wanted := _within(todo, segment.lo, segment.hi):
            _rewrite(journal, segment, wanted, progress)
            _unlink(journal, todo)
            rewritten += 1
    _empty_tail(journal, todo, progress)
    _unlink(journal, todo)
    journal.scrub()
    with journal.writing() as work:
        tables.end_erasing(work)
    return rewritten


def _within(todo: Sequence[Erasing], lo: int, hi: int) -> list[Erasing]:
    """The part of the work that lies between two positions."""
    return [
        each._replace(first=max(each.first, lo), last=min(each.last, hi))
        for each in todo
        if not each.done and each.first <= hi and each.last >= lo
    ]


def _rewrite(
    journal: Journal, segment: Segment, wanted: list[Erasing], progress: segments.Progress | None
) -> None:
    """Put a file with emptied rows in the place of a segment."""
    segments.refuse_altered(journal.folder, segment)
    places = _Wanted(wanted)
    parts = (places.emptied(table) for table in segments.read(journal.folder, segment))
    lo, hi = segment.lo, segment.hi
    new = segments.write(journal.folder, lo, hi, parts, progress)
    with journal.writing() as work:  # the commit point
        if not tables.replace_segments(work, [segment], new, time.time_ns() // 1000):
            raise LogError(f"{segment.file} was replaced by somebody else: run this again")
        kept = tables.rows_between(work.connection, lo, hi)  # sealed rows that stay here as well
        tables.empty(work, places.emptied_rows(kept), lo, hi)


def _empty_tail(
    journal: Journal, todo: Sequence[Erasing], progress: segments.Progress | None
) -> None:
    """Empty rows that are not sealed yet, a few in each transaction."""
    sealed = max((segment.hi for segment in journal.segments()), default=0)
    wanted = _within(todo, sealed + 1, journal.position())
    places = _Wanted(wanted)
    for start in range(0, len(places.positions), _TAIL_ROWS):
        lo, hi = places.positions[[start, min(start + _TAIL_ROWS, len(places.positions)) - 1]]
        with journal.writing() as work:
            found = tables.rows_between(work.connection, int(lo), int(hi))
            rows_ = places.emptied_rows(found)
            tables.empty(work, rows_, int(lo), int(hi))
        if progress:
            progress(len(rows_))


def _unlink(journal: Journal, todo: Sequence[Erasing]) -> None:
    """Delete files that hold what was emptied, whoever may still know their names: those that were
    replaced, and those that a killed process never put into the manifest."""
    for segment in journal.segments(replaced=True):
        if _touches(todo, segment.lo, segment.hi):
            segments.segment_path(journal.folder, segment).unlink(missing_ok=True)
            with journal.writing() as work:
                tables.forget(work, segment)
    sums.sweep(journal)
    known = {s.file for s in (*journal.segments(), *journal.segments(replaced=True))}
    for path in (journal.folder / "segments").glob("*-*-*.parquet"):
        lo, hi, _ = path.name.split("-", 2)
        numbered = lo.isdigit() and hi.isdigit()
        if path.name not in known and numbered and _touches(todo, int(lo), int(hi)):
            path.unlink()


def _touches(todo: Sequence[Erasing], lo: int, hi: int) -> bool:
    return any(each.first <= hi and each.last >= lo for each in todo)


class _Wanted:
    """Positions that are to be emptied, and how."""

    def __init__(self, wanted: Sequence[Erasing]) -> None:
        import numpy as np

        self._starts = np.array([each.first for each in wanted], np.int64)
        self._wanted = wanted
        spans = [np.arange(each.first, each.last + 1, dtype=np.int64) for each in wanted]
        self.positions: Places = np.concatenate([np.empty(0, np.int64), *spans])

    def emptied_rows(self, raws: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Those of these rows that are to be emptied, emptied."""
        import numpy as np

        found: list[tuple[Any, ...]] = []
        for raw in raws:
            span = self._wanted[max(0, int(np.searchsorted(self._starts, raw[0], "right")) - 1)]
            if span.first <= raw[0] <= span.last:
                found.append(emptied(raw, figures=span.figures))
        return found

    def emptied(self, table: "pa.Table") -> "pa.Table":
        """A part of a segment with emptied rows in the place of the others; nothing else is touched."""
        import numpy as np
        import pyarrow as pa

        position = table["position"].to_numpy()
        chosen = np.isin(position, self.positions, assume_unique=True)
        if not chosen.any():
            return table
        empty = rows.to_arrow(self.emptied_rows(rows.to_journal(table.filter(pa.array(chosen)))))
        order = np.argsort(np.concatenate([position[~chosen], position[chosen]]), kind="stable")
        both = pa.concat_tables([table.filter(pa.array(~chosen)), empty])
        return both.take(pa.array(order, pa.int64()))


# Vouching


class Vouched:
    """Positions that `log.erased` events speak for."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []

    def add(self, payload: str) -> None:
        """Those of one event."""
        from pydantic_core import from_json

        self._spans += [(span["first"], span["last"]) for span in from_json(payload)["positions"]]

    def lacks(self, positions: Iterable[int]) -> Iterator[int]:
        """Those that no event speaks for."""
        import numpy as np

        spans = np.array(sorted(self._spans) or [(0, 0)], np.int64)
        reach = np.maximum.accumulate(spans[:, 1])
        for position in positions:
            before = int(np.searchsorted(spans[:, 0], position, side="right")) - 1
            if before < 0 or reach[before] < position:
                yield position
