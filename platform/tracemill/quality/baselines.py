"""Baselines: what later evaluations of the same name are held against.

A baseline is an event with everything that it stands on. It moves only when somebody says so, with
a reason; an evaluation that turns out better or worse never moves it.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

from tracemill.errors import UsageError
from tracemill.events import BaselineSet, EvaluationFinished, EvaluationsCompared, Expected
from tracemill.quality.compare import compare
from tracemill.quality.evaluate import get
from tracemill.quality.statistical import Direction
from tracemill.quality.verdicts import RELATIVE_TOLERANCE, TOLERANCE, direction, unit

if TYPE_CHECKING:
    from tracemill.log import EventLog

_SCORED = """
SELECT json_keys(payload, '$.scores') AS figures,
  CAST(payload -> '$.case_ids' AS VARCHAR[]) AS case_ids
FROM events WHERE kind = 'evaluation.cases_scored' AND stream = ? ORDER BY position
"""
_TRAINED_ON = """
SELECT payload ->> '$.dataset_digest' AS digest FROM events
WHERE kind = 'model.registered' AND payload ->> '$.model' = ? ORDER BY position DESC LIMIT 1
"""


class Tolerance(NamedTuple):
    """How far a figure may fall behind its baseline."""

    value: float
    relative: bool = False
    """Whether `value` is a share of what the baseline has."""
    direction: Direction | None = None
    """Which way is better; None for what the figure's scorer says."""


def tolerance(text: str) -> Tolerance:
    """A tolerance as people write it: `0.02`, or `5%` of what the baseline has; `lower:10%` where
    less is better and the figure's scorer does not say so.

    Raises `UsageError` for anything else.
    """
    way, _, amount = text.strip().rpartition(":")
    relative = amount.endswith("%")
    try:
        value = float(amount.removesuffix("%")) / (100 if relative else 1)
        if way not in ("", "higher", "lower") or not 0 <= value < float("inf"):
            raise ValueError
    except ValueError:
        raise UsageError(f"{text!r} is no tolerance: write 0.02, 5% or lower:10%") from None
    return Tolerance(value, relative, way or None)


def set_baseline(
    log: "EventLog",
    name: str,
    evaluation_id: str,
    *,
    reason: str,
    tolerances: Mapping[str, Tolerance] | None = None,
    actor: str | None = None,
) -> BaselineSet:
    """Make an evaluation what later ones of this name are held against.

    Args:
        log: holds the evaluation.
        name: of the baseline: the name of what is evaluated.
        evaluation_id: the evaluation.
        reason: why, in a sentence.
        tolerances: figure -> how far it may fall behind; only these are held against later on. By
            default all are, with 0.02, and 5 % for what is no share.
        actor: who asked.

    Raises `UsageError` without a reason, for an evaluation of another name or that is not in the
    log, and for a figure that it has not.
    """
    event = get(log, evaluation_id)
    if not reason.strip():
        raise UsageError(f"the baseline {name} needs a reason: say why it moves")
    if event.name != name:
        raise UsageError(
            f"evaluation {evaluation_id} is of {event.name}, not of {name}: "
            "evaluations find their baseline by that name"
        )
    scored = log.sql(_SCORED, [event.stream])
    figures = set(scored["figures"].explode())
    baseline = BaselineSet(
        name=name,
        evaluation_id=event.evaluation_id,
        model=event.model,
        prompt_name=event.prompt_name,
        prompt_version=event.prompt_version,
        dataset=event.dataset,
        dataset_digest=event.dataset_digest,
        trained_on=_trained_on(log, event.model),
        case_ids=tuple(dict.fromkeys(scored["case_ids"].explode())),
        metrics=_expected(event, figures, tolerances),
        reason=reason,
        actor=actor,
    )
    log.append(baseline)
    return baseline


def baseline(log: "EventLog", name: str) -> BaselineSet | None:
    """The baseline of this name, as it was set last; None where nobody set one."""
    found = None
    for recorded in log.read(stream=f"baseline:{name}"):
        found = cast("BaselineSet", recorded.event)
    return found


def baselines(log: "EventLog") -> dict[str, BaselineSet]:
    """All baselines: name -> as it was set last."""
    recorded = log.read(kinds={"evaluation.baseline_set"})
    events = (cast("BaselineSet", each.event) for each in recorded)
    return {event.name: event for event in events}


def check(log: "EventLog", evaluation_id: str, *, actor: str | None = None) -> EvaluationsCompared:
    """Hold an evaluation against the baseline of its name; the baseline stays as it is.

    Raises `UsageError` where there is no baseline, where it is of other cases, and for the baseline
    itself.
    """
    event = get(log, evaluation_id)
    held = baseline(log, event.name)
    if held is None:
        raise UsageError(
            f"there is no baseline of {event.name}: "
            f"`tracemill evals baseline set {event.name} {evaluation_id}` makes this one it"
        )
    if held.dataset_digest != event.dataset_digest:
        raise UsageError(
            f"the baseline of {event.name} is of other cases ({held.dataset}, "
            f"{held.dataset_digest[:12]}) than {evaluation_id} ({event.dataset}, "
            f"{event.dataset_digest[:12]}): evaluate {held.model} on these, and set the baseline anew"
        )
    return compare(
        log,
        evaluation_id,
        held.evaluation_id,
        against="baseline",
        expected=held.metrics,
        actor=actor,
    )


def _expected(
    event: EvaluationFinished, scored: Collection[str], tolerances: Mapping[str, Tolerance] | None
) -> dict[str, Expected]:
    # What is known of the whole alone cannot be held against anything case by case.
    known = {figure: seen for figure, seen in event.metrics.items() if figure in scored}
    if strange := sorted(set(tolerances or ()) - set(known)):
        raise UsageError(
            f"evaluation {event.evaluation_id} has no figure {strange[0]!r} for each case: it has "
            f"{', '.join(known) or 'none'}"
        )
    asked = tolerances or {figure: _default(figure, known[figure].value) for figure in known}
    return {
        figure: Expected(
            value=known[figure].value,
            direction=each.direction or direction(figure),
            tolerance=each.value,
            relative=each.relative,
        )
        for figure, each in asked.items()
    }


def _default(figure: str, value: float) -> Tolerance:
    share = unit(figure)
    if share is None:
        share = 0 <= value <= 1
    return Tolerance(TOLERANCE) if share else Tolerance(RELATIVE_TOLERANCE, relative=True)


def _trained_on(log: "EventLog", model: str) -> str | None:
    found = log.sql(_TRAINED_ON, [model])["digest"]
    return found[0] if len(found) else None
