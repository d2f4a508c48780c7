"""Where something came from and what became of it: a call, a record, a model, as a small tree.

Each step says where it was read: an event or a view of the log, or a file of the warehouse.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from html import escape
from typing import TYPE_CHECKING

from tracemill.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tracemill.log import EventLog
    from tracemill.settings import Settings

MOST = 12
"""Of steps of one kind, so many are told one by one."""
_ID = 36


@dataclass(frozen=True)
class Step:
    """One thing on the way."""

    kind: str
    """call, conversation, prompt, feedback, record, data set, model, job, evaluation ..."""
    name: str
    """Its id or name."""
    said: str
    """What is to be known of it, in a line."""
    source: str
    """Where this was read."""
    steps: tuple["Step", ...] = field(default=())
    """What lies beyond it."""

    @property
    def line(self) -> str:
        """As one line of a tree."""
        return " ".join(part for part in (self.kind, self.name) if part) + (
            f": {self.said}" if self.said else ""
        )


@dataclass(frozen=True, repr=False)
class Lineage:
    """A thing, what it came from, and what became of it."""

    of: Step
    came_from: tuple[Step, ...]
    went_into: tuple[Step, ...]

    @property
    def frame(self) -> "pl.DataFrame":
        """Every step as a row: way (`of`, `came from`, `went into`), depth, kind, name, said, source."""
        import polars as pl

        rows = [("of", 0, self.of)]
        for way, steps in self._ways():
            rows += [(way, depth, step) for depth, step in _walk(steps, 1)]
        return pl.DataFrame(
            [(way, depth, s.kind, s.name, s.said, s.source) for way, depth, s in rows],
            schema=["way", "depth", "kind", "name", "said", "source"],
            orient="row",
        )

    def __repr__(self) -> str:
        lines = [f"{self.of.line}  [{self.of.source}]"]
        ways = self._ways()
        for number, (way, steps) in enumerate(ways):
            last = number == len(ways) - 1
            lines.append(f"{'└─' if last else '├─'} {way}{'' if steps else ': nothing is known'}")
            lines += _drawn(steps, "   " if last else "│  ")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        ways = "".join(
            f"<li>{way}{_listed(steps) if steps else ': nothing is known'}</li>"
            for way, steps in self._ways()
        )
        return f"<div>{_item(self.of)}<ul>{ways}</ul></div>"

    def _ways(self) -> list[tuple[str, tuple[Step, ...]]]:
        return [("came from", self.came_from), ("went into", self.went_into)]


def lineage(log: "EventLog", settings: "Settings", wanted: str) -> Lineage:
    """See `Opened.lineage`."""
    from tracemill.analysis import lineage_of_calls, lineage_of_models, lineage_of_records

    name = wanted.strip()
    if not name:
        raise UsageError("lineage is of something: the id of a call or record, or a model")
    if name.startswith("b2:"):
        found = lineage_of_records.of(log, settings, name)
    elif len(name) == _ID and name.count("-") == 4:
        found = lineage_of_calls.of(log, settings, name)
        found = found or lineage_of_models.of(log, settings, name)
    else:
        found = lineage_of_models.of(log, settings, name)
        found = found or lineage_of_records.of(log, settings, name)
    if found is None:
        raise UsageError(f"nothing here is called {wanted!r}: {_nearest(log, name)}")
    return found


def shortened(steps: Sequence[Step], what: str, most: int = MOST) -> tuple[Step, ...]:
    """The first steps, and how many more there are."""
    left = len(steps) - most
    if left <= 0:
        return tuple(steps)
    return (*steps[:most], Step("", "", f"and {left:,} more {what}", steps[most].source))


def _nearest(log: "EventLog", name: str) -> str:
    """What could have been meant, or how to find out what there is."""
    known = log.arrow(
        "SELECT DISTINCT model AS name FROM models UNION SELECT DISTINCT name FROM models "
        "UNION SELECT DISTINCT request_model FROM events WHERE kind = 'llm.call.started'"
    )
    names = [str(each) for each in known.column("name").to_pylist() if each]
    if near := get_close_matches(name, names, 3, 0.5):
        return f"did you mean {' or '.join(near)}?"
    return (
        "tm.calls() lists calls, tm.sql('FROM models') models, and records are told by their ids "
        "(b2:...) or by file and line, as faq.jsonl:12"
    )


def _walk(steps: Sequence[Step], depth: int) -> Iterator[tuple[int, Step]]:
    for step in steps:
        yield depth, step
        yield from _walk(step.steps, depth + 1)


def _drawn(steps: Sequence[Step], indent: str) -> list[str]:
    lines: list[str] = []
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        lines.append(f"{indent}{'└─' if last else '├─'} {step.line}  [{step.source}]")
        lines += _drawn(step.steps, indent + ("   " if last else "│  "))
    return lines


def _listed(steps: Sequence[Step]) -> str:
    items = "".join(
        f"<li>{_item(step)}{_listed(step.steps) if step.steps else ''}</li>" for step in steps
    )
    return f"<ul>{items}</ul>"


def _item(step: Step) -> str:
    name = f"<strong>{escape(step.kind)}</strong> <code>{escape(step.name)}</code>"
    said = f" {escape(step.said)}" if step.said else ""
    return f"{name if step.kind else ''}{said} <small>[{escape(step.source)}]</small>"
