"""`tracemill demo`: from nothing to answers, 200 recorded calls, their costs, and what to open next.

Nothing here is staged: the questions come from the records that were harvested on this machine,
and those that fail do so because nothing was found or because the text was too long.
"""

import math
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from assets import model_evaluation, models
from assets.build import build
from assets.documents import INSTALLED, names, table
from assets.progress import bar
from tracemill.errors import CallFailed, UsageError
from tracemill.log import EventLog
from tracemill.messages import Message, Request
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.retrieval.collection import Collection

QUESTIONS = 200
FIVE = 5
WHOLE_DOCUMENT_EVERY = 10
QUESTION = "When are default parameter values evaluated?"
IN_WORDS = {"no_answer": "nothing found", "context_length_exceeded": "too long for the model"}
NEXT = (
    ("tracemill", "ui", "assets, runs, checks and the notebook, in the browser"),
    ("tracemill", "ask 'What is a slice?'", "a question of yours"),
    ("tracemill", 'log sql "FROM costs_by_day"', "any question to the log, in SQL"),
    ("tracemill", 'log sql "FROM failures"', "the calls that failed, and why"),
    ("marimo", "edit notebooks/01_first_look.py", "calls, costs and latencies, to edit"),
)


class Question(NamedTuple):
    """One question of the demo."""

    text: str
    of_whole_document: bool
    """Put to a whole document, without the index: what an index is for."""


def demo(settings: Settings, console: Console | None = None) -> int:
    """Build everything, ask, make 200 calls, show what they cost; returns the exit code.

    Running it again builds what has changed and asks what this index was not asked yet.
    """
    console = console or Console()
    _heading(console, "1  Records to training splits, documents to an index")
    code = build(settings, 'group:"sources" or group:"corpus" or group:"retrieval"', console)
    if code:
        return code
    with EventLog.open(settings) as log:
        from tracemill.retrieval.collection import open_collection

        index = open_collection(settings.indexes, _asked_collection(settings), log=log)
        _heading(console, "2  A question to the index")
        _ask_one(settings, log, index, console)
        _heading(
            console,
            f"3  {QUESTIONS} questions from the harvested records, each call an event in the log",
        )
        _ask_many(settings, log, index, console)
    _heading(console, "4  A model of your own: trained on the splits, evaluated, promoted")
    code = build(settings, models.GROUP, console)
    with EventLog.open(settings) as log:
        _show_models(log, console)
        _ask_model(settings, log, console)
        _heading(console, "5  What it cost")
        _show_costs(log, console)
    _heading(console, "6  The log sealed, the notebook rendered")
    code |= build(settings, 'group:"log" or key:"reports/first_look"', console)
    _heading(console, "What to open next")
    _show_next(settings, console)
    return code


def _asked_collection(settings: Settings) -> str:
    """What is installed; where that is left out, the first of the others."""
    known = names(settings)
    if not known:
        raise UsageError(f"nothing to ask: put documents into {settings.raw_documents}")
    return INSTALLED if INSTALLED in known else known[0]


def _ask_one(settings: Settings, log: EventLog, index: "Collection", console: Console) -> None:
    from tracemill.retrieval.answer import ask

    answer = ask(QUESTION, settings=settings, log=log, index=index, actor="demo")
    console.print(f"  [bold]{QUESTION}[/]")
    console.print(Padding(escape(answer.text), (0, 4)), highlight=False)
    for source in answer.sources:
        if source.cited:
            where = " > ".join(dict.fromkeys((source.title, *source.headings)))
            line = f"[{source.number}] {source.source}, {where} ({source.score:.2f})"
            console.print(f"  [dim]{escape(line)}[/]", highlight=False)


def _ask_many(settings: Settings, log: EventLog, index: "Collection", console: Console) -> None:
    questions = _questions(settings)
    asked = _asked(log, index)
    new = [question for question in questions if question.text not in asked]
    if len(new) < len(questions):
        known = len(questions) - len(new)
        console.print(f"  {known} were put to this version of the index before: not asked again")
    if new:
        started = time.monotonic()
        with bar(console, "calls") as progress:
            waiting = progress.track(new, description="  asking")
            outcomes = Counter(_outcome(q, settings, log, index) for q in waiting)
        _tell(outcomes, time.monotonic() - started, console)


def _questions(settings: Settings) -> list[Question]:
    """The first of the unique records in the order of their ids, which are hashes: a fair sample."""
    import polars as pl

    from tracemill.corpus.records import question

    records = pl.scan_parquet(sorted(settings.kept("unique_records").glob("*.parquet")), glob=False)
    asked = records.sort("record_id").select(question())
    texts = asked.unique(keep="first", maintain_order=True).head(QUESTIONS).collect()["question"]
    return [Question(text, n % WHOLE_DOCUMENT_EVERY == 0) for n, text in enumerate(texts)]


def _asked(log: EventLog, index: "Collection") -> set[str]:
    """What was asked of this version of the index, and of whole documents beside it."""
    from tracemill.llm import passages

    found = log.sql(
        "SELECT payload ->> '$.question' AS text FROM events "
        "WHERE kind = 'rag.answered' AND payload ->> '$.index_digest' = $digest",
        {"digest": index.digest},
    )
    whole = log.sql(
        "SELECT prompt FROM calls WHERE conversation_id = $conversation",
        {"conversation": _conversation(index)},
    )
    return {*found["text"], *(passages.read(prompt).question for prompt in whole["prompt"])}


def _outcome(question: Question, settings: Settings, log: EventLog, index: "Collection") -> str:
    """`answered`, `nothing found`, or the type of the error."""
    from tracemill.retrieval.answer import ask

    if question.of_whole_document:
        return _ask_whole_document(question.text, settings, log, index)
    answer = ask(question.text, settings=settings, log=log, index=index, actor="demo")
    return "nothing found" if answer.not_found else "answered"


def _ask_whole_document(text: str, settings: Settings, log: EventLog, index: "Collection") -> str:
    """Put the question to all of the document that the best passage is from."""
    import polars as pl

    from tracemill.llm import passages
    from tracemill.llm.client import Client

    best = index.search(text, 1).row(0, named=True)
    documents = pl.scan_parquet(table(settings, index.name, "documents"), glob=False)
    wanted = documents.filter(pl.col("document_id") == best["document_id"])
    passage = passages.Passage(1, best["title"], wanted.select("text").collect().item())
    messages = (
        Message(role="system", content=passages.INSTRUCTIONS),
        Message(role="user", content=passages.write(text, [passage])),
    )
    request = Request(
        model="local/extract", messages=messages, conversation_id=_conversation(index)
    )
    try:
        Client(log).generate(request, actor="demo")
    except CallFailed as failure:
        return IN_WORDS.get(failure.error_type, failure.error_type)
    return "answered"


def _conversation(index: "Collection") -> str:
    return f"demo, whole documents, index {index.digest}"


def _tell(outcomes: Counter[str], seconds: float, console: Console) -> None:
    each = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items()))
    console.print(f"  {outcomes.total()} asked in {seconds:.1f} s: {each}", highlight=False)
    console.print(
        f"  [dim]One in {WHOLE_DOCUMENT_EVERY} was put to a whole document, without the index: "
        "those can be too long.[/]",
        highlight=False,
    )


def _show_models(log: EventLog, console: Console) -> None:
    """Each model that was evaluated: beside always giving the same answer, and the one before."""
    table = Table(box=box.SIMPLE_HEAD, title="  Who is right how often", title_justify="left")
    for column in ("model", "version", "right", "95 %", "cases", "outcome"):
        table.add_column(column, no_wrap=True)
    for row in model_evaluation.figures(log).iter_rows(named=True):
        figure = "" if row["figure"] == "accuracy" else f" {row['figure']}"
        table.add_row(
            row["name"],
            row["version"],
            f"{row['value']:.3f}{figure}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            f"{row['n']:,}",
            row["said"],
        )
    console.print(Padding(table, (0, 0, 0, 1)))


def _ask_model(settings: Settings, log: EventLog, console: Console) -> None:
    """Which package does this? Words that the model has not seen, to the version in production."""
    from tracemill.finetune.recipe import BUILT_IN, recipes
    from tracemill.finetune.registry import production
    from tracemill.llm.client import Client
    from tracemill.quality.cases import messages_of, of_split

    recipe = recipes(settings).get(BUILT_IN)
    if recipe is None or production(log, BUILT_IN) is None:
        return
    console.print("  Five descriptions that it has not seen: which package is it?")
    client = Client(log, settings)
    for row in of_split(settings, BUILT_IN, recipe, FIVE).frame.iter_rows(named=True):
        request = Request(model=f"ft:local:{BUILT_IN}", messages=messages_of(row), logprobs=1)
        answer = client.generate(request, actor="demo")
        sure = f" ({math.exp(answer.logprobs[0].logprob):.0%} sure)" if answer.logprobs else ""
        (right,) = row["expected"]
        mark = "[green]right[/]" if answer.text == right else f"[yellow]it is {right}[/]"
        asked = shorten(request.messages[-1].text, 40, placeholder=" ...")
        console.print(
            f"    {escape(asked):<40}  [bold]{escape(answer.text)}[/]{sure} {mark}",
            highlight=False,
        )


def _show_costs(log: EventLog, console: Console) -> None:
    from tracemill import prices

    ours = log.sql(
        "SELECT provider, request_model, sum(calls)::BIGINT AS calls, "
        "sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens, "
        "sum(cost_usd) AS cost_usd FROM costs_by_day GROUP BY ALL ORDER BY cost_usd DESC"
    )
    finished = log.sql("SELECT status, ended_at, input_tokens, output_tokens FROM calls")
    hosted = prices.what_if(finished)
    console.print(_costs_table("  What was called", ours))
    console.print(_costs_table("  The answered calls, had they gone to a hosted model", hosted))


def _costs_table(title: str, frame: "pl.DataFrame") -> Padding:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("model", min_width=28)
    for column in ("calls", "tokens in", "tokens out", "US dollars"):
        table.add_column(column, justify="right")
    for row in frame.iter_rows(named=True):
        counts = (f"{row[name]:,}" for name in ("calls", "input_tokens", "output_tokens"))
        cost = "no price" if row["cost_usd"] is None else f"{row['cost_usd']:.6f}"
        table.add_row(f"{row['provider']}/{row['request_model']}", *counts, cost)
    return Padding(table, (0, 0, 0, 1))


def _show_next(settings: Settings, console: Console) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for program, arguments, what in NEXT:
        table.add_row(f"[bold]{escape(f'{_callable(program)} {arguments}')}[/]", what)
    console.print(Padding(table, (0, 2)))
    raw = f"{settings.warehouse}/raw"
    console.print(
        f"  Your own files go to {raw}/records and {raw}/documents;",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"  [bold]{_callable('tracemill')} build[/] then makes only what has changed.")


def _callable(program: str) -> str:
    """How to call a program of this environment from here."""
    if shutil.which(program):
        return program
    path = Path(sys.executable).with_name(program)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _heading(console: Console, text: str) -> None:
    console.print(f"\n[bold cyan]{text}[/]", highlight=False)
