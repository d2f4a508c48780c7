"""Evaluations for tests, as the log has them: scores by case, and what they add up to."""

from collections.abc import Mapping, Sequence
from typing import Any

from tracemill.events import CasesScored, EvaluationFinished, new_id
from tracemill.intervals import mean
from tracemill.log import EventLog
from tracemill.quality.statistical import measured

Scores = Mapping[str, Sequence[float | None]]


def evaluated(
    log: EventLog,
    scores: Scores,
    *,
    ids: Sequence[str] | None = None,
    digest: str = "d1",
    model: str = "ft:local:routing:ab",
    name: str = "routing",
    unbounded: Sequence[str] = ("bits_per_byte", "latency_ms"),
    **more: Any,
) -> str:
    """An evaluation of cases c0, c1 ... or of `ids`, told in parts of 1,000; returns its id."""
    count = len(next(iter(scores.values())))
    ids = ids or [f"c{number}" for number in range(count)]
    one = new_id()
    log.append(
        CasesScored(
            evaluation_id=one,
            case_ids=tuple(ids[start : start + 1000]),
            scores={
                figure: tuple(values[start : start + 1000]) for figure, values in scores.items()
            },
        )
        for start in range(0, count, 1000)
    )
    figures = {f: measured(mean(v, unit=f not in unbounded)) for f, v in scores.items()}
    log.append(
        EvaluationFinished(
            evaluation_id=one,
            name=name,
            model=model,
            dataset="cases",
            dataset_digest=digest,
            cases=count,
            metrics={figure: seen for figure, seen in figures.items() if seen},
            outcome="pass",
            reason="nothing was asked",
            **more,
        )
    )
    return one
