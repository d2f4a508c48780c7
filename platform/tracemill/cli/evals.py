"""`tracemill evals ...`: put cases to a model, and hold what comes of it against what was."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli import baselines
from tracemill.cli.baselines import CODES, SHORT_ID, EvaluationId, pairs
from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import plain, print_facts, print_json, print_lines, print_table, progress
from tracemill.cli.sets import SetName, cases_of, list_sets
from tracemill.errors import InputError, UsageError

if TYPE_CHECKING:
    from tracemill.events import EvaluationFinished
    from tracemill.quality.evaluate import Evaluation

app = typer.Typer(no_args_is_help=True, help="Evaluations: run, look, compare, set baselines.")
app.command()(baselines.compare)
app.add_typer(baselines.app, name="baseline")

_SHOWN = 20
_WRONG = 5
_COLUMNS = ("evaluation", "finished", "name", "model", "cases", "of", "outcome", "figures")


@app.command()
def ls(
    sets: Annotated[
        bool, typer.Option("--sets", help="List the sets in evals/ instead of evaluations.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Only evaluations of this name.")] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """List evaluations, newest first; or the sets of cases that there are.

    Examples:

      tracemill evals ls
      tracemill evals ls --sets
      tracemill evals ls --name routing --json | jq .metrics.accuracy
    """
    if sets:
        list_sets(settings_for(warehouse), as_json=as_json)
        return
    from tracemill.quality.evaluate import listed

    with open_log(warehouse) as log:
        found = listed(log, name=name, most=None if as_json else _SHOWN)
    if as_json:
        for event in found:
            print_json(_told(event))
    elif found:
        print_lines(_COLUMNS, [_cells(event) for event in found], right={"cases"})
    else:
        print("no evaluations", file=sys.stderr)


@app.command()
def run(
    cases: SetName,
    model: Annotated[str, typer.Option(help="Who answers, as provider/model or ft:local:NAME.")],
    figures: Annotated[
        list[str] | None,
        typer.Option(
            "--figure",
            help="accuracy (default without --judge), exact_match, normalised, contains, "
            "json_match, similarity, bits_per_byte; may be repeated.",
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="How often each case is asked.")] = 1,
    minimum: Annotated[
        list[str] | None,
        typer.Option(
            "--min",
            metavar="FIGURE=VALUE",
            help="What the interval has to reach; of "
            "figures of which less is better, what it must stay below.",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="A registered prompt around each input: NAME or NAME@VERSION."),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(help="JSON Schema of the answers; adds the figure format_compliance."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="A model that scores the answers by --rubric; adds the figure judged."),
    ] = None,
    rubric: Annotated[
        str | None, typer.Option(help="What makes an answer good, in words, for --judge.")
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="Only cases with this tag; may be repeated.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("--cases", min=1, help="Only so many, chosen by hash.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What is evaluated, for baselines; the model by default.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2)] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Calls under way at a time; 8, and 1 for local models."),
    ] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Put a set of cases to a model and tell how good its answers are.

    A set is a file in evals/, one JSON object a line:

      {"id": "1", "input": "What is 2 + 2?", "expected": "4", "tags": ["sum"]}
      {"id": "2", "input": "Name a prime below 4.", "expected": ["2", "3"]}
      {"id": "3", "messages": [{"role": "user", "content": "Hi"}], "expected": "Hello"}

    Figures come with the interval that holds the true one in 95 of 100 cases, and it is the end of
    the interval that has to reach --min: luck passes nothing. Exit code 0 where all is reached, 1
    where something is missed, 3 where it takes more cases to tell, which says how many. Each answer
    is an ordinary call: `tracemill calls` shows it.

    Examples:

      tracemill evals run routing --model ft:local:routing --min accuracy=0.8
      tracemill evals run arithmetic --model openai/gpt-5.4-mini --samples 5 --figure contains
      tracemill evals run tickets --model anthropic/claude-sonnet-5-5 --prompt triage@production
      tracemill evals run praised.sql --model local/extract --figure similarity
    """
    from tracemill.llm.client import Client
    from tracemill.quality import ask
    from tracemill.quality.evaluate import evaluate
    from tracemill.quality.judge import rubric as judged_by
    from tracemill.quality.scorers import json_schema, scorer

    settings = settings_for(warehouse)
    asked: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
    chosen = [scorer(figure) for figure in figures or ([] if judge else ["accuracy"])]
    if schema:
        asked["response_schema"] = _schema(schema)
        chosen.append(json_schema(asked["response_schema"]))
    if bool(judge) != bool(rubric):
        raise UsageError("--judge and --rubric go together: who judges, and by what")
    with open_log(warehouse) as log:
        put = cases_of(log, settings, cases)
        put = (put.tagged(*tags) if tags else put).sample(count)
        client = Client(log, settings)
        if judge and rubric:
            chosen.append(judged_by(client, judge, rubric, actor="tracemill evals run"))
        try:
            with progress(f"asking {model}", len(put) * samples) as advance:
                made = evaluate(
                    client,
                    put,
                    model=model,
                    scorers=chosen,
                    name=name,
                    samples=samples,
                    prompt=ask.registered(log, prompt) if prompt else None,
                    thresholds=_thresholds(minimum or []),
                    asked=asked,
                    actor="tracemill evals run",
                    concurrency=concurrency,
                    progress=advance,
                )
        finally:
            client.close()
    if as_json:
        print_json(
            {**_told(made.event), "majority": _majority(made), "by_tag": made.by_tag().to_dicts()}
        )
    else:
        _print(made.event, majority=_majority(made))
        _print_parts(made)
    raise typer.Exit(CODES[made.event.outcome])


@app.command()
def show(
    evaluation_id: EvaluationId,
    cases: Annotated[
        bool, typer.Option("--cases", help="Each case with its scores and its call.")
    ] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Tell what an evaluation found.

    Examples:

      tracemill evals show 7cad03f92ebb
      tracemill evals show 7cad03f92ebb --cases --json | jq -r 'select(.accuracy < 1) | .call_id'
    """
    from tracemill.quality.evaluate import case_scores, get

    with open_log(warehouse) as log:
        event = get(log, evaluation_id)
        scores = case_scores(log, event.evaluation_id) if cases else None
    if scores is not None:
        from tracemill.cli.output import print_frame

        print_frame(scores, as_json=as_json, as_csv=False)
    elif as_json:
        print_json(_told(event))
    else:
        _print(event)


@app.command()
def contamination(
    cases: SetName,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="VERSION",
            help="Of the data set; by default the one in "
            "force, and all that models were trained on.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Of the data set.")] = "train",
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Look for cases in what models learned from: word for word, nearly so, or cut.

    Exit code 1 where one is found: figures of such a set say nothing, and `tracemill models promote`
    refuses them.

    Examples:

      tracemill evals contamination routing
      tracemill evals contamination routing --against 1f0b2a77 --json
    """
    from tracemill.quality import decontamination

    settings = settings_for(warehouse)
    with open_log(warehouse) as log:
        put = cases_of(log, settings, cases)
        searched = [(against, split)] if against else decontamination.learned_from(log, settings)
        found = [
            decontamination.check(log, settings, put, *each, actor="tracemill evals contamination")
            for each in searched
        ]
    if as_json:
        for event in found:
            print_json(event.model_dump(mode="json", exclude_none=True))
    else:
        rows = [
            (each.trained_on[:16], each.split, f"{each.cases:,}", f"{each.found:,}", each.case_ids)
            for each in found
        ]
        print_table(("version", "split", "cases", "found", "which"), rows)
    raise typer.Exit(int(any(each.found for each in found)))


def _schema(path: Path) -> dict[str, Any]:
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a JSON Schema: {error}") from None


def _thresholds(given: Sequence[str]) -> dict[str, float]:
    try:
        return {figure: float(amount) for figure, amount in pairs(given)}
    except ValueError as error:
        raise UsageError(f"--min is a figure and a number, such as accuracy=0.9: {error}") from None


def _majority(made: "Evaluation") -> float | None:
    from tracemill.quality.statistical import majority

    if "accuracy" not in made.event.metrics:
        return None
    right = made.answers.filter(sample=0)["expected"].to_list()
    return majority([each for each in right if each]).share.value


def _told(event: "EvaluationFinished") -> dict[str, Any]:
    return event.model_dump(mode="json", exclude={"event_id", "kind"}, exclude_none=True)


def _cells(event: "EvaluationFinished") -> list[str]:
    figures = ", ".join(
        f"{figure} {each.value:.3f} [{each.low:.3f}, {each.high:.3f}]"
        for figure, each in event.metrics.items()
    )
    return [
        event.evaluation_id[-SHORT_ID:],
        plain(event.occurred_at),
        event.name,
        event.model,
        f"{event.cases:,}",
        event.dataset,
        event.outcome,
        figures,
    ]


def _print(event: "EvaluationFinished", *, majority: float | None = None) -> None:
    facts = {
        "evaluation": event.evaluation_id,
        "of": event.name if event.name == event.model else f"{event.name}, {event.model}",
        "cases": f"{event.cases:,} of {event.dataset}, {event.dataset_digest[:12]}",
    }
    if event.samples > 1:
        facts["samples"] = f"{event.samples} of each"
    if event.prompt_name:
        facts["prompt"] = f"{event.prompt_name}@{(event.prompt_version or '')[:12]}"
    if event.failed:
        facts["failed"] = f"{event.failed:,} without an answer, which count as wrong"
    facts["cost"] = "not known" if event.cost_usd is None else f"{event.cost_usd:f} USD"
    if event.latency_ms is not None:
        facts["latency"] = f"{event.latency_ms:.1f} ms, the median"
    if majority is not None:
        facts["majority"] = f"{majority:.3f} would be right with always the same answer"
    print_facts(facts)
    rows = [
        (
            figure,
            f"{each.value:.3f}",
            f"{each.low:.3f} to {each.high:.3f}",
            f"{each.n:,}",
            "" if (need := event.thresholds.get(figure)) is None else f"{need:g}",
        )
        for figure, each in event.metrics.items()
    ]
    print_table(("", "figure", "95 of 100", "cases", "needed"), rows, right=(False,) + (True,) * 4)
    print(f"{event.outcome.replace('_', ' ')}: {plain(event.reason)}")


def _print_parts(made: "Evaluation") -> None:
    tags = made.by_tag()
    if tags.height:
        rows = [
            (tag, figure, f"{value:.3f}", f"{low:.3f} to {high:.3f}", f"{n:,}")
            for tag, figure, value, low, high, n in tags.head(_SHOWN).iter_rows()
        ]
        columns = ("tag", "", "figure", "95 of 100", "cases")
        print_table(columns, rows, right=(False, False, True, True, True))
    figure = next(iter(made.event.metrics), None)
    wrong = made.wrong(figure) if figure else made.answers.head(0)
    for one, answer, right, why in (
        wrong.select("id", "answer", "expected", "error_type").head(_WRONG).iter_rows()
    ):
        said = f"failed: {why}" if answer is None else repr(answer[:60])
        expected = " or ".join(repr(text[:60]) for text in right[:3]) or "nothing"
        typer.echo(plain(f"{one}: {said} where {expected} is right"), err=True)
    if wrong.height > _WRONG:
        typer.echo(f"and {wrong.height - _WRONG:,} more", err=True)
