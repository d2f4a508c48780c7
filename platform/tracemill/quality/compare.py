"""One evaluation held against another, case by case: is the candidate worse, and how sure is that.

Scores are paired by case, so that what makes cases easy or hard does not count as chance. What
becomes of each figure is judged in `verdicts`; here the log is read, and told.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from tracemill.errors import UsageError, VersionConflict
from tracemill.events import EvaluationFinished, EvaluationsCompared, Expected
from tracemill.quality.evaluate import get
from tracemill.quality.verdicts import Verdict, judge, one_sided, overall

if TYPE_CHECKING:
    import polars as pl

    from tracemill.log import EventLog

Against = Literal["production", "baseline", "evaluation"]

# A case that stands in two events of an evaluation counts as in the later one.
_SCORES = """
WITH parts AS (
  SELECT stream, position, CAST(payload -> '$.case_ids' AS VARCHAR[]) AS case_ids,
    CAST(payload -> '$.scores' AS MAP(VARCHAR, DOUBLE[])) AS scores
  FROM events WHERE kind = 'evaluation.cases_scored' AND stream IN ($candidate, $reference)
), figures AS (
  SELECT stream, position, case_ids, unnest(map_keys(scores)) AS figure,
    unnest(map_values(scores)) AS scores
  FROM parts
), cases AS (
  SELECT stream, position, figure, unnest(case_ids) AS case_id, unnest(scores) AS score FROM figures
), each AS (
  SELECT stream, figure, case_id, arg_max_null(score, position) AS score FROM cases GROUP BY ALL
)
SELECT coalesce(a.figure, b.figure) AS figure, coalesce(a.case_id, b.case_id) AS case_id,
  b.score AS before, a.score AS after, b.figure IS NOT NULL AS was, a.figure IS NOT NULL AS is_now
FROM (FROM each WHERE stream = $candidate) a
FULL JOIN (FROM each WHERE stream = $reference) b ON a.figure = b.figure AND a.case_id = b.case_id
ORDER BY ALL
"""
_OF_ITS_OWN = {"event_id", "occurred_at", "actor", "trace_id", "correlation_id", "causation_id"}


def compare(
    log: "EventLog",
    evaluation_id: str,
    reference_id: str,
    *,
    against: Against = "evaluation",
    expected: Mapping[str, Expected] | None = None,
    actor: str | None = None,
) -> EvaluationsCompared:
    """Hold an evaluation against another one of the same cases, and tell the log.

    See `verdicts.judge` for what passes and what fails. Where no case changed at all, it passes,
    but for a model that would replace the one in production: that has to be shown by enough cases.
    A figure that the candidate lacks is `missing`, and lets nothing pass; one that only it has is
    `new`. The same comparison with the same result is told once: the event is that of then.

    Args:
        log: holds both evaluations.
        evaluation_id: the candidate.
        reference_id: what it is held against.
        against: why that one.
        expected: figure -> direction and tolerance; only these are tested. By default all are.
        actor: who asked.

    Raises `UsageError` where one is not in the log, where they are of different cases, or have no
    case or no figure in common.
    """
    candidate, reference = get(log, evaluation_id), get(log, reference_id)
    _refuse_others(candidate, reference)
    scores = log.sql(_SCORES, {"candidate": candidate.stream, "reference": reference.stream})
    verdicts = _verdicts(scores, candidate, reference, expected, proof=against == "production")
    outcome, reason = overall(verdicts)
    event = EvaluationsCompared(
        evaluation_id=candidate.evaluation_id,
        reference_id=reference.evaluation_id,
        against=against,
        name=candidate.name,
        model=candidate.model,
        reference_model=reference.model,
        dataset=candidate.dataset,
        dataset_digest=candidate.dataset_digest,
        cases=scores.filter("was", "is_now")["case_id"].n_unique(),
        tests={figure: verdict.tested for figure, verdict in verdicts.items()},
        outcome=outcome,
        reason=reason,
        actor=actor,
    )
    return _once(log, event)


def _refuse_others(candidate: EvaluationFinished, reference: EvaluationFinished) -> None:
    if candidate.evaluation_id == reference.evaluation_id:
        raise UsageError(f"{candidate.evaluation_id} cannot be held against itself: name another")
    if candidate.dataset_digest != reference.dataset_digest:
        raise UsageError(
            f"the evaluations are of different cases, {candidate.dataset} "
            f"({candidate.dataset_digest[:12]}) and {reference.dataset} "
            f"({reference.dataset_digest[:12]}): evaluate {reference.model} on the cases of now"
        )


def _verdicts(
    scores: "pl.DataFrame",
    candidate: EvaluationFinished,
    reference: EvaluationFinished,
    expected: Mapping[str, Expected] | None,
    *,
    proof: bool,
) -> dict[str, Verdict]:
    both = scores.filter("was", "is_now")
    verdicts = judge(both, expected, proof=proof)
    if not verdicts:
        shared = ", ".join(both["figure"].unique().sort()) or "none"
        raise UsageError(
            f"evaluations {candidate.evaluation_id} and {reference.evaluation_id} have no case with "
            f"the same figure to test (in common: {shared}): evaluate both with the same scorers"
        )
    was, now = (set(scores.filter(side)["figure"]) for side in ("was", "is_now"))
    asked = was if expected is None else set(expected)
    for figure in sorted((asked - now) | (now - was)):
        there = candidate if figure in now else reference
        verdicts[figure] = one_sided(figure, there.metrics.get(figure), new=figure in now)
    return verdicts


def _once(log: "EventLog", event: EvaluationsCompared) -> EvaluationsCompared:
    """The last comparison of the pair where it says the same, else this one, which is appended."""
    while True:
        version, last = 0, None
        for recorded in log.read(stream=event.stream):
            version, earlier = recorded.version, recorded.event
            if isinstance(earlier, EvaluationsCompared) and _pair(earlier) == _pair(event):
                last = earlier
        if last is not None and _said(last) == _said(event):
            return last
        try:
            log.append(event, expected={event.stream: version})
        except VersionConflict:
            continue
        return event


def _pair(event: EvaluationsCompared) -> tuple[str, str]:
    return event.reference_id, event.against


def _said(event: EvaluationsCompared) -> EvaluationsCompared:
    """The event without what differs from one time to the other."""
    return event.model_copy(update=dict.fromkeys(_OF_ITS_OWN))
