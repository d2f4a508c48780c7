"""What a check found: a row for each problem, as text for people and as a frame for questions."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.intervals import Interval, wilson
from tracemill.quality.contracts.cases import Raw

if TYPE_CHECKING:
    import polars as pl

_SHOWN = 160


class Problem(NamedTuple):
    """An answer that breaks the contract."""

    kind: str
    """A word of low cardinality, such as `server_error` or `refused_valid`."""
    case: str
    """What was sent, in words."""
    sent: Any
    """What was sent: a JSON value, or `Raw`."""
    got: str
    """What came back, the first characters of it."""
    problem: str
    """What is wrong with it, in a sentence."""
    reproduce: str
    """How to see it again."""


@dataclass(frozen=True, eq=False)
class Report:
    """What came of a check."""

    target: str
    problems: tuple[Problem, ...]
    cases: int
    """How many edge cases were sent."""
    generated: int = 0
    """How many generated values were sent, those for making an example smaller included."""
    broken: int = 0
    """How many edge cases have a problem."""
    notes: tuple[str, ...] = ()
    """What could not be checked, and why."""

    @property
    def ok(self) -> bool:
        """Whether something was checked and nothing was found."""
        return not self.problems and self.cases + self.generated > 0

    @property
    def kept(self) -> Interval:
        """The share of edge cases without a problem; of no case at all everything is possible."""
        return wilson((self.cases - self.broken) / max(self.cases, 1), self.cases)

    def frame(self) -> "pl.DataFrame":
        """One row for each problem; columns as the fields of `Problem`, `sent` as text."""
        import polars as pl

        rows = [problem._replace(sent=_text(problem.sent)) for problem in self.problems]
        return pl.DataFrame(rows, schema=dict.fromkeys(Problem._fields, pl.String), orient="row")

    def __str__(self) -> str:
        told = f"{self.cases} edge cases and {self.generated} generated values"
        if not self.cases + self.generated:
            head = f"{self.target}: nothing was checked"
        else:
            head = f"{self.target}: {len(self.problems)} problems in {told}"
        lines = [head, *(f"  note: {note}" for note in self.notes)]
        for each in self.problems:
            lines += [
                f"  {each.kind}: {each.case}",
                f"    sent       {_short(_text(each.sent))}",
                f"    got        {_short(each.got)}",
                f"    problem    {each.problem}",
                f"    reproduce  {each.reproduce}",
            ]
        return "\n".join(lines)


def _text(sent: Any) -> str:
    return repr(sent.body) if isinstance(sent, Raw) else json.dumps(sent)


def _short(text: str) -> str:
    shown = "".join(
        letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:_SHOWN]
    )
    return shown + (f"... ({len(text):,} characters)" if len(text) > _SHOWN else "")
