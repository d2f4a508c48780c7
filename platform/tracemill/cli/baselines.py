"""`tracemill evals compare` and `tracemill evals baseline`: what was measured, held against what was."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.options import Json, Warehouse, open_log
from tracemill.cli.output import plain, print_facts, print_json, print_table
from tracemill.errors import UsageError

if TYPE_CHECKING:
    from tracemill.events import EvaluationFinished, EvaluationsCompared
    from tracemill.log import EventLog

CODES: Mapping[str, int] = {"pass": 0, "fail": 1, "not_enough_data": 3}
"""Outcome -> exit code."""
SHORT_ID = 12
"""The last part of an id: it begins with the time, which evaluations of one moment share."""
EvaluationId = Annotated[
    str, typer.Argument(metavar="ID", help="Of the evaluation; its beginning or end is enough.")
]
app = typer.Typer(no_args_is_help=True, help="What evaluations are held against.")


def compare(
    candidate: EvaluationId,
    reference: Annotated[
        str | None,
        typer.Argument(metavar="[OTHER]", help="Another one; the baseline of its name by default."),
    ] = None,
    tolerances: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance",
            metavar="FIGURE=AMOUNT",
            help="How far a figure may fall "
            "behind: accuracy=0.02, or 5% of what it was. Not with a baseline, which has its own.",
        ),
    ] = None,
    production: Annotated[
        bool,
        typer.Option(
            "--production",
            help="Against the version of the model that is in production: what "
            "`tracemill models promote` asks for.",
        ),
    ] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Hold an evaluation against another one of the same cases, case by case.

    Exit code 0 where nothing fell behind, 1 where something did, 3 where it takes more cases.

    Examples:

      tracemill evals compare 7cad03f92ebb
      tracemill evals compare 7cad03f92ebb 1f0b2a77c9d4 --tolerance accuracy=0.01
      tracemill evals compare 7cad03f92ebb --production
    """
    from tracemill.quality import baselines
    from tracemill.quality.compare import compare as held_against
    from tracemill.quality.evaluate import get

    with open_log(warehouse) as log:
        one = get(log, candidate).evaluation_id
        if production and reference:
            raise UsageError("--production finds the other evaluation: do not name one")
        if production:
            reference = _in_production(log, get(log, one)).evaluation_id
        if reference is None:
            if tolerances:
                raise UsageError("--tolerance goes with another evaluation: a baseline has its own")
            found = baselines.check(log, one, actor="tracemill evals compare")
        else:
            other = get(log, reference)
            expected = _expected(other, tolerances or []) or None
            found = held_against(
                log,
                one,
                other.evaluation_id,
                against="production" if production else "evaluation",
                expected=expected,
                actor="tracemill evals compare",
            )
    _print_compared(found, as_json=as_json)
    raise typer.Exit(CODES[found.outcome])


@app.command(name="ls")
def list_baselines(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """List the baselines."""
    from tracemill.quality.baselines import baselines

    with open_log(warehouse) as log:
        found = baselines(log)
    if as_json:
        for event in found.values():
            print_json(event.model_dump(mode="json", exclude={"case_ids"}, exclude_none=True))
        return
    rows = [
        (
            name,
            event.evaluation_id[-SHORT_ID:],
            plain(event.occurred_at),
            event.model,
            event.dataset,
            ", ".join(
                f"{figure} {each.value:.4g} less {each.tolerance:g}{' of it' * each.relative}"
                if each.direction == "higher"
                else f"{figure} {each.value:.4g} and {each.tolerance:g}{' of it' * each.relative}"
                for figure, each in event.metrics.items()
            ),
            event.reason,
        )
        for name, event in found.items()
    ]
    if rows:
        print_table(("name", "evaluation", "set", "model", "cases", "expected", "reason"), rows)
    else:
        print("no baselines", file=sys.stderr)


@app.command(name="set")
def set_one(
    name: Annotated[str, typer.Argument(help="Of what is evaluated: `run --name` gives it.")],
    evaluation_id: EvaluationId,
    reason: Annotated[str, typer.Option(help="Why, in a sentence.")],
    tolerances: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance",
            metavar="FIGURE=AMOUNT",
            help="How far a figure may fall "
            "behind: accuracy=0.02, latency_ms=10%; all with 0.02 by default.",
        ),
    ] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Make an evaluation what later ones of its name are held against.

    Only this command moves a baseline, and it says why.

    Examples:

      tracemill evals baseline set routing 7cad03f92ebb --reason "the first one that serves"
      tracemill evals baseline set routing 7cad03f92ebb --reason "labels renamed" \\
        --tolerance accuracy=0.01
    """
    from tracemill.quality.baselines import set_baseline, tolerance
    from tracemill.quality.evaluate import get

    with open_log(warehouse) as log:
        event = set_baseline(
            log,
            name,
            get(log, evaluation_id).evaluation_id,
            reason=reason,
            tolerances={figure: tolerance(text) for figure, text in pairs(tolerances or [])}
            or None,
            actor="tracemill evals baseline set",
        )
    if as_json:
        print_json(event.model_dump(mode="json", exclude={"case_ids"}, exclude_none=True))
    else:
        print(
            f"{name}: evaluation {event.evaluation_id[-SHORT_ID:]} of {event.model} is the baseline"
        )


def pairs(given: Sequence[str]) -> list[tuple[str, str]]:
    found = [text.partition("=") for text in given]
    for text, (figure, _, amount) in zip(given, found, strict=True):
        if not (figure and amount):
            raise UsageError(f"{text!r} is no figure with an amount: write accuracy=0.9")
    return [(figure.strip(), amount.strip()) for figure, _, amount in found]


def _in_production(log: "EventLog", event: "EvaluationFinished") -> "EvaluationFinished":
    """The newest evaluation, by the same cases, of the version that this one would replace."""
    from tracemill.finetune import registry
    from tracemill.quality.evaluate import get

    names = [version.name for version in registry.versions(log) if version.model == event.model]
    if not names:
        raise UsageError(f"{event.model} is no version of a model that was trained here")
    serving = registry.production(log, names[0])
    if serving is None or serving.model == event.model:
        why = "none is" if serving is None else "this one is"
        raise UsageError(f"there is no other version of {names[0]} in production: {why}")
    query = (
        "SELECT evaluation_id FROM evaluations WHERE model = $model AND dataset_digest = $cases "
        "ORDER BY finished_at DESC LIMIT 1"
    )
    found = log.arrow(query, {"model": serving.model, "cases": event.dataset_digest}).to_pylist()
    if found:
        return get(log, str(found[0]["evaluation_id"]))
    raise UsageError(
        f"{serving.label}, which is in production, was not evaluated by the same cases: "
        f"`tracemill evals run {event.dataset} --model {serving.model} --name {names[0]}`"
    )


def _expected(event: "EvaluationFinished", given: Sequence[str]) -> dict[str, Any]:
    from tracemill.events import Expected
    from tracemill.quality.baselines import tolerance
    from tracemill.quality.verdicts import direction

    told = {figure: tolerance(amount) for figure, amount in pairs(given)}
    if strange := sorted(told.keys() - event.metrics.keys()):
        raise UsageError(f"{strange[0]} was not measured: {', '.join(event.metrics)} were")
    return {
        figure: Expected(
            value=event.metrics[figure].value,
            direction=each.direction or direction(figure),
            tolerance=each.value,
            relative=each.relative,
        )
        for figure, each in told.items()
    }


def _print_compared(found: "EvaluationsCompared", *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json", exclude={"event_id", "kind"}))
        return
    print_facts(
        {
            "candidate": f"{found.evaluation_id[-SHORT_ID:]}, {found.model}",
            found.against: f"{found.reference_id[-SHORT_ID:]}, {found.reference_model}",
            "cases": f"{found.cases:,} of both, {found.dataset}",
        }
    )
    rows = [
        (
            figure,
            *(None if value is None else f"{value:.3f}" for value in (each.before, each.after)),
            None if each.low is None else f"{each.low:+.3f} to {each.high:+.3f}",
            None if each.p_adjusted is None else f"{each.p_adjusted:.3g}",
            f"{each.tolerance:g}",
            each.verdict.replace("_", " "),
        )
        for figure, each in found.tests.items()
    ]
    columns = ("", "before", "after", "difference", "p", "tolerance", "verdict")
    print_table(columns, rows, right=(False, True, True, True, True, True, False))
    print(f"{found.outcome.replace('_', ' ')}: {plain(found.reason)}")
