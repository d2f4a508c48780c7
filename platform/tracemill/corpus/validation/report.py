"""What a validation found: issues in groups of their kind, and measures of the whole file."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from tracemill.corpus.validation.rules import RULES


class Found(NamedTuple):
    """What is wrong in a row."""

    code: str
    """A name in `RULES`."""
    path: str
    """Where: `messages[2].tool_calls[0].function.arguments`; empty for the whole row."""
    message: str


class Issue(NamedTuple):
    """What is wrong, and in which line."""

    line: int | None
    """From 1; None for the whole file."""
    code: str
    path: str
    message: str


@dataclass(frozen=True)
class Group:
    """All issues of one kind."""

    code: str
    level: str
    what: str
    mend: str
    count: int
    issues: tuple[Issue, ...]
    """The first ones; `count` says how many there are."""


class Lengths(NamedTuple):
    """How long the rows are, in tokens."""

    tokenizer: str
    rows: int
    """Rows without errors: the others are not measured."""
    counted: int
    """Of them, those that were counted: all, or a sample spread evenly over the file."""
    total: int
    """Of all these rows; estimated by the sample's tokens per byte where not all were counted."""
    p50: int
    p90: int
    p99: int
    most: int
    """Of the rows counted and the one that is longest in bytes."""
    histogram: tuple[tuple[int, int, int], ...]
    """From, up to and without, rows counted."""


class Cost(NamedTuple):
    """What training would cost, estimated."""

    model: str
    epochs: int
    tokens: int
    """Of all epochs."""
    usd: Decimal
    usd_per_million: Decimal
    source: str
    as_of: date


@dataclass(frozen=True)
class Report:
    """What `validate` found."""

    path: str
    shape: str | None
    """The layout of most rows: chat, sharegpt, alpaca, ...; None where there is none."""
    lines: int
    rows: int
    """Lines that hold an object."""
    groups: tuple[Group, ...]
    """Errors first, then the most frequent."""
    lengths: Lengths | None
    cost: Cost | None
    answers: Mapping[str, int]
    """How often each answer stands there, where there are few different ones; else empty."""
    personal: Mapping[str, int]
    """Kind of personal data -> how often it was found."""

    @property
    def errors(self) -> int:
        return sum(group.count for group in self.groups if group.level == "error")

    @property
    def warnings(self) -> int:
        return sum(group.count for group in self.groups if group.level == "warning")

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return self.errors == 0

    @property
    def issues(self) -> tuple[Issue, ...]:
        """Those kept of every kind, by line; those of the whole file first."""
        kept = (issue for group in self.groups for issue in group.issues)
        return tuple(sorted(kept, key=lambda issue: (issue.line or 0, issue.code, issue.path)))


@dataclass
class Tally:
    """Issues as they come: all are counted, the first of each kind are kept."""

    keep: int | None
    counts: Counter[str] = field(default_factory=Counter[str])
    kept: dict[str, list[Issue]] = field(default_factory=dict[str, list[Issue]])

    def add(self, line: int | None, found: Iterable[Found]) -> None:
        for code, path, message in found:
            self.counts[code] += 1
            kept = self.kept.setdefault(code, [])
            if self.keep is None or len(kept) < self.keep:
                kept.append(Issue(line, code, path, message))

    def more(self, code: str, count: int) -> None:
        """Count issues that are not kept."""
        self.counts[code] += count

    def groups(self) -> tuple[Group, ...]:
        found = [
            Group(code, *RULES[code], count=count, issues=tuple(self.kept.get(code, ())))
            for code, count in self.counts.items()
        ]
        return tuple(sorted(found, key=lambda group: (group.level, -group.count, group.code)))
