"""`tracemill collections evaluate NAME`: how well a collection finds and answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import plain, print_facts, print_json, print_table, progress
from tracemill.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tracemill.log import EventLog
    from tracemill.retrieval.collection import Collection, Mode
    from tracemill.retrieval.evaluate import Evaluation
    from tracemill.settings import Settings

_MODES = ("hybrid", "dense", "lexical")
_SHOWN = 5


def evaluate(
    name: Annotated[str, typer.Argument(help="The collection.")],
    file: Annotated[
        Path | None,
        typer.Option(
            "--questions", help="Labelled questions, instead of raw/questions/NAME.jsonl."
        ),
    ] = None,
    modes: Annotated[
        list[str] | None,
        typer.Option("--mode", help="hybrid (default), dense or lexical; may be repeated."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How deep is looked.")] = 10,
    answers: Annotated[
        bool, typer.Option("--answers", help="Let a model answer a sample, and judge that too.")
    ] = False,
    model: Annotated[str, typer.Option(help="Who answers.")] = "local/extract",
    sample: Annotated[
        int, typer.Option(min=1, help="How many questions are answered, at most.")
    ] = 200,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Answer all questions, and fit the collection's confidence to what was right.",
        ),
    ] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Measure a collection by questions of which it is known where the answer lies.

    One JSON object a line, in raw/questions/NAME.jsonl:

      {"question": "Who takes the writes?", "document": "log.md", "quote": "The journal takes"}
      {"question": "When was it built?", "document": "log.md", "answers": ["2024", "in 2024"]}
      {"question": "Is there life on Mars?", "unanswerable": true}

    Without labels, questions are made from the collection's own text: good for noticing that
    something got worse, and for nothing else. Every evaluation is an event; the view
    retrieval_quality has them all, and each is compared with the last version's.

    Examples:

      tracemill collections evaluate handbook
      tracemill collections evaluate handbook --mode lexical --mode hybrid
      tracemill collections evaluate handbook --answers --json
      tracemill collections evaluate handbook --calibrate
    """
    from tracemill.retrieval.collection import open_collection

    chosen = [_mode(mode) for mode in modes or ["hybrid"]]
    settings = settings_for(warehouse)
    with open_log(warehouse) as log:
        collection = open_collection(settings.indexes, name, log=log, cache=settings.cache)
        questions = _questions(settings, collection, file)
        made = None
        for mode in chosen:
            made = _evaluate(
                collection,
                questions,
                settings=settings,
                log=log,
                mode=mode,
                k=k,
                answer_model=model if answers or calibrate else None,
                sample=None if calibrate else sample,
            )
            _tell(made, settings, log, as_json=as_json)
        if calibrate and made:
            _calibrate(made, settings)


def _mode(mode: str) -> "Mode":
    if mode not in _MODES:
        raise UsageError(f"--mode is hybrid, dense or lexical, not {mode!r}")
    return mode


def _questions(settings: "Settings", collection: "Collection", file: Path | None) -> "pl.DataFrame":
    from tracemill.retrieval import questions

    read = questions.read_questions(file) if file else questions.labelled(settings, collection.name)
    if read is None:
        made = questions.self_made(collection.chunks)
        if made.is_empty():
            where = questions.questions_file(settings, collection.name)
            raise UsageError(
                f"{collection.name} has no sentence to make a question of: label some in {where}"
            )
        note = f"no labels: {made.height} questions were made from the text of {collection.name}"
        typer.echo(note, err=True)
        return made
    for row in read.refused.head(_SHOWN).iter_rows(named=True):
        typer.echo(plain(f"line {row['line']} is left out: {row['reason']}"), err=True)
    if read.refused.height > _SHOWN:
        typer.echo(f"and {read.refused.height - _SHOWN:,} more lines", err=True)
    return read.frame


def _evaluate(
    collection: "Collection", questions: "pl.DataFrame", *, sample: int | None, **how: Any
) -> "Evaluation":
    from tracemill.retrieval.evaluate import evaluate

    total = questions.height - int(questions["unanswerable"].sum())
    if how["answer_model"]:
        total += questions.height if sample is None else min(sample, questions.height)
    with progress(f"asking {collection.name}", total) as advance:
        return evaluate(collection, questions, sample=sample, progress=advance, **how)


def _tell(made: "Evaluation", settings: "Settings", log: "EventLog", *, as_json: bool) -> None:
    from tracemill.retrieval.evaluate import against_last

    verdict = against_last(log, made, settings=settings)
    event = made.event
    if as_json:
        fields = event.model_dump(mode="json", exclude={"event_id", "kind"}, exclude_none=True)
        figures = {name: figure._asdict() for name, figure in made.figures.items()}
        lost = made.lost.select("line", "question").to_dicts()
        print_json({**fields, "metrics": figures, "lost": lost, "against_last": verdict._asdict()})
        return
    print_facts(
        {
            "collection": f"{event.index}, version {event.index_digest}, {event.embedding_model}",
            "questions": f"{event.questions:,}, {event.unanswerable:,} of them without an answer",
            "mode": f"{event.mode}, {event.latency_ms:.1f} ms a question",
        }
    )
    rows = [
        (name, f"{each.value:.3f}", f"{each.low:.3f} to {each.high:.3f}", f"{each.questions:,}")
        for name, each in made.figures.items()
    ]
    print_table(("", "figure", "95 of 100", "of"), rows, right=(False, True, True, True))
    for line in verdict.lines:
        typer.echo(line)
    for line, question in made.lost.select("line", "question").head(_SHOWN).iter_rows():
        lost = f"line {line}: what it quotes is nowhere in the collection: {question}"
        typer.echo(plain(lost), err=True)
    if made.lost.height:
        typer.echo(f"{made.lost.height:,} such questions count as missed", err=True)


def _calibrate(made: "Evaluation", settings: "Settings") -> None:
    from tracemill.retrieval import calibrate, confidence

    learned = calibrate.learn(made.judged, made.event)
    path = confidence.keep(settings, made.event.index, learned)
    held = learned.provenance
    typer.echo(
        f"confidence is fitted to {held['answers']} answers; error on what was held out "
        f"{float(held['ece_before']):.3f} -> {float(held['ece']):.3f}; {path}"
    )
