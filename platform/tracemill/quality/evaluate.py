"""Put cases to a model or a function, score the answers, and tell the log in one piece.

Each answer of a model is an ordinary call in the log. What the evaluation found is appended at its
end, all or nothing: one that was interrupted leaves its calls and nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracemill.events import EvaluationFinished

if TYPE_CHECKING:
    import polars as pl

    from tracemill.llm.client import Client
    from tracemill.llm.prompts import Prompt
    from tracemill.log import EventLog
    from tracemill.quality.cases import Cases
    from tracemill.quality.scorers import Scorer


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came of a set of cases."""

    event: EvaluationFinished
    """As the log has it."""
    answers: "pl.DataFrame"
    """One row for each case and sample: id, sample, expected, tags, answer, error_type, call_id,
    latency_ms, cost_usd, and a column for each figure."""
    scores: "pl.DataFrame"
    """One row for each case: id, and a column for each figure, the mean over its samples."""


def evaluate(
    client: "Client",
    cases: "Cases",
    *,
    model: str | Callable[[Any], Any],
    name: str | None = None,
    scorers: "Sequence[Scorer]",
    samples: int = 1,
    prompt: "str | Prompt | None" = None,
    thresholds: Mapping[str, float] | None = None,
    asked: Mapping[str, Any] | None = None,
    actor: str | None = None,
    concurrency: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Ask each case and score what comes back."""
    raise NotImplementedError


def latest(
    log: "EventLog", *, name: str, model: str, dataset_digest: str
) -> EvaluationFinished | None:
    """The newest evaluation of these cases by this model."""
    raise NotImplementedError
