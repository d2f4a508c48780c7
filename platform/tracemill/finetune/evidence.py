"""Whether the log speaks for a version: its evaluation, the comparison, what it had seen before.

Only events count: no figure is taken at its word, and none is computed here.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tracemill.events import (
    ContaminationChecked,
    EvaluationFinished,
    EvaluationsCompared,
    Happened,
    Measured,
)

if TYPE_CHECKING:
    from tracemill.finetune.registry import Version
    from tracemill.log import EventLog

E = TypeVar("E", bound=Happened)


class Evidence(NamedTuple):
    """What the log says of a version that is to be promoted."""

    against: str | None
    """Why it is not to be, with the interval and the mend; None where all speaks for it."""
    reason: str
    """What speaks for it, with the interval."""
    comparison_id: str | None = None
    """The comparison with the version in production."""


# What was asked without a threshold proves nothing: it comes second, so that it is told of only
# where no other is. Tests and suites that happen to ask a version have names of their own.
_EVALUATION = """
SELECT stream, position FROM events
WHERE kind = 'evaluation.finished' AND payload ->> '$.model' = $model
AND list_contains($names, payload ->> '$.name')
ORDER BY len(json_keys(payload -> '$.thresholds')) > 0 DESC, position DESC LIMIT 1
"""
_COMPARISON = """
SELECT stream, position FROM events
WHERE kind = 'evaluation.compared' AND payload ->> '$.against' = 'production'
AND payload ->> '$.model' = $model AND payload ->> '$.reference_model' = $reference
AND payload ->> '$.dataset_digest' = $cases
ORDER BY position DESC LIMIT 1
"""
_BASELINE = """
SELECT stream, position FROM events
WHERE kind = 'evaluation.compared' AND payload ->> '$.against' = 'baseline' AND stream = $stream
ORDER BY position DESC LIMIT 1
"""
_CONTAMINATION = """
SELECT stream, position FROM events
WHERE kind = 'evaluation.contamination_checked' AND payload ->> '$.dataset_digest' = $cases
AND payload ->> '$.trained_on' = $trained_on AND payload ->> '$.split' = $split
ORDER BY position DESC LIMIT 1
"""


def judge(log: "EventLog", wanted: "Version", serving: "Version | None") -> Evidence:
    """Whether a version may replace the one in production, by the log.

    Its newest evaluation that had a threshold to reach, named after the model, has to pass. No case
    of it may stand in what the version was trained on. Where it was held against a baseline, it may
    not have failed. Where another version is in production, the newest comparison with that one, of
    the same cases, has to pass.
    """
    asked = {"model": wanted.model, "names": [wanted.name, wanted.model]}
    evaluated = _newest(log, _EVALUATION, asked, EvaluationFinished)
    if evaluated is None:
        mend = f"`tracemill evals run SET --model {wanted.model} --name {wanted.name}` does that"
        return Evidence(f"it has not been evaluated: {mend}", "")
    cases = {"cases": evaluated.dataset_digest}
    compared = None
    if serving:
        pair = {"model": wanted.model, "reference": serving.model, **cases}
        compared = _newest(log, _COMPARISON, pair, EvaluationsCompared)
    seen = {"trained_on": wanted.dataset_digest, "split": wanted.split, **cases}
    checked = _newest(log, _CONTAMINATION, seen, ContaminationChecked)
    held = _newest(log, _BASELINE, {"stream": evaluated.stream}, EvaluationsCompared)
    against = (
        _missed(evaluated)
        or _contaminated(evaluated, checked, wanted)
        or (_worse(evaluated, compared, serving) if serving else None)
        or (
            f"held against its baseline: {held.reason}" if held and held.outcome == "fail" else None
        )
    )
    told = [_figures(evaluated), *([compared.reason] if compared else [])]
    return Evidence(against, "; ".join(told), compared.event_id if compared else None)


def _missed(evaluated: EvaluationFinished) -> str | None:
    if not evaluated.thresholds:
        return (
            f"its evaluation by {evaluated.dataset} had nothing to reach: set `evaluation.at_least` "
            "in its recipe, or run `tracemill evals run` with --min FIGURE=VALUE"
        )
    if evaluated.outcome == "pass":
        return None
    return (
        f"its evaluation by {evaluated.dataset} says {_word(evaluated.outcome)}: {evaluated.reason}"
    )


def _contaminated(
    evaluated: EvaluationFinished, checked: ContaminationChecked | None, wanted: "Version"
) -> str | None:
    where = f"the split {wanted.split!r} of {wanted.dataset} {wanted.dataset_digest[:8]}"
    run = f"`tracemill evals contamination {evaluated.dataset}`"
    if checked is None:
        return f"nobody has looked for the cases of {evaluated.dataset} in {where}: {run} does that"
    if not checked.found:
        return None
    first = ", ".join(checked.case_ids[:3])
    return (
        f"{checked.found:,} of {checked.cases:,} cases of {evaluated.dataset} stand in {where}, "
        f"which it was trained on, such as {first}: take them out of either, see {run}"
    )


def _worse(
    evaluated: EvaluationFinished, compared: EvaluationsCompared | None, serving: "Version"
) -> str | None:
    if compared is None:
        return (
            f"it was not compared with {serving.label}, which is in production, by the cases of "
            f"{evaluated.dataset}: evaluate that one too, then "
            f"`tracemill evals compare {evaluated.evaluation_id[-12:]} --production`"
        )
    if compared.outcome == "pass":
        return None
    verdict = _word(compared.outcome)
    return f"held against {serving.label}, which is in production, it says {verdict}: {compared.reason}"


def _figures(evaluated: EvaluationFinished) -> str:
    """The figures that decided, else all, with their intervals."""
    shown = {
        figure: measured
        for figure, measured in evaluated.metrics.items()
        if figure in evaluated.thresholds or not evaluated.thresholds
    }
    told = "; ".join(_figure(figure, measured) for figure, measured in shown.items())
    return told or evaluated.reason


def _figure(figure: str, measured: Measured) -> str:
    value, low, high = f"{measured.value:.3f}", f"{measured.low:.3f}", f"{measured.high:.3f}"
    return f"{figure} {value} [{low}, {high}], {measured.n:,} cases"


def _word(outcome: str) -> str:
    return outcome.replace("_", " ")


def _newest(log: "EventLog", query: str, asked: Mapping[str, object], kind: type[E]) -> E | None:
    """The event that a query finds: read by its stream, as it was appended."""
    for row in log.arrow(query, asked).to_pylist():
        recorded = next(log.read(row["position"] - 1, stream=row["stream"]))
        assert isinstance(recorded.event, kind)
        return recorded.event
    return None
