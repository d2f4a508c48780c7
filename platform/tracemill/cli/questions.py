"""`tracemill ask`: a question to a collection; the answer with its sources, each a click away."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.style import Style
from rich.text import Text

from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import harmless, plain, print_json
from tracemill.errors import UsageError

if TYPE_CHECKING:
    from tracemill.retrieval.answer import Answer
    from tracemill.retrieval.packing import Source
    from tracemill.settings import Settings

_MODES = ("hybrid", "dense", "lexical")
# From this probability on, in words.
_WORDS = ((0.8, "high"), (0.5, "fair"), (0.0, "low"))


def ask(
    question: Annotated[str, typer.Argument(help="In plain words.")],
    collection: Annotated[
        str, typer.Option("-c", "--collection", help="Where to look; `collections ls` lists them.")
    ] = "installed",
    k: Annotated[int, typer.Option("-k", min=1, max=50, help="Chunks to look for.")] = 5,
    model: Annotated[
        str, typer.Option(help="Who answers, as provider/model; local/extract needs no key.")
    ] = "local/extract",
    mode: Annotated[
        str, typer.Option(help="hybrid (words and meaning), dense (meaning) or lexical (words).")
    ] = "hybrid",
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only chunks for which this holds, as language=en; may be repeated."),
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option(help="A provider's model that orders what was found: cohere/rerank-v3.5."),
    ] = None,
    show_passages: Annotated[
        bool, typer.Option("--show-passages", help="Print what the model was given, too.")
    ] = False,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream", help="Print while it is written; by default on a terminal."
        ),
    ] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Ask a question; the answer names the passages that it rests on, or says there are none.

    Each number in the answer is checked: a passage that does not say what is cited from it is
    marked "unsupported", one that tries to give the model orders "reads like instructions". The
    confidence is the probability that the answer is right, as labelled questions taught; see
    `tracemill collections evaluate`.

    Question, call and passages are events in the log: `tracemill calls` shows the call, with its
    cost. Exit code 0 also where nothing was found.

    Examples:

      tracemill ask "What does asyncio.gather do?"
      tracemill ask "How much leave do I have?" -c handbook -k 8 --where language=en
      tracemill ask "What is a context manager?" --model openai/gpt-5.4-mini
      tracemill ask "Who wrote it?" -c papers --json | jq '.sources[] | select(.cited)'
    """
    from tracemill.retrieval import answer
    from tracemill.retrieval.filters import read

    if mode not in _MODES:
        raise UsageError(f"--mode is one of {', '.join(_MODES)}, not {mode!r}")
    conditions = read(where or [])
    live = not as_json and (sys.stdout.isatty() if stream is None else stream)
    settings = settings_for(warehouse)
    with open_log(warehouse) as log, _ending_the_line() as piece:
        found = answer.ask(
            question,
            settings=settings,
            log=log,
            index=collection,
            k=k,
            model=model,
            where=conditions or None,
            mode=mode,  # pyright: ignore[reportArgumentType]
            rerank=rerank,
            on_text=piece if live else None,
        )
    if as_json:
        print_json(found)
        return
    # What was streamed is on the screen already.
    answered = found.outcome == "answered"
    _print_answer(found, settings, already=live and answered, passages=show_passages)


@contextmanager
def _ending_the_line() -> Generator[Callable[[str], None]]:
    """Yields what prints pieces of an answer; what comes after them begins a line, errors too."""
    printed: list[str] = []

    def print_piece(piece: str) -> None:
        print(harmless(piece), end="", flush=True)
        printed[:] = [piece]

    try:
        yield print_piece
    finally:
        if printed and not printed[0].endswith("\n"):
            print(flush=True)


def _print_answer(answer: "Answer", settings: "Settings", *, already: bool, passages: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if not already:
        console.print(Text(harmless(answer.text)))
    if answer.draft is not None:
        console.print(Text(harmless(f"\nIt wrote: {answer.draft}"), style="dim"))
    print()
    shown = [s for s in answer.sources if s.cited or s.flagged or passages]
    for source in shown:
        console.print(_line(source, settings))
        if passages:
            console.print(Text(_indented(harmless(source.text)), style="dim"))
    if answer.outcome == "answered":
        console.print(Text(f"confidence {answer.confidence:.2f} ({_in_words(answer.confidence)})"))
    elif not shown and answer.sources:
        console.print(
            Text(f"{len(answer.sources)} passages were read; --show-passages prints them")
        )
    for problem in answer.problems:
        print(harmless(f"note: {problem}"), file=sys.stderr)
    if answer.degraded:
        print(harmless(f"note: {answer.degraded}"), file=sys.stderr)


def _line(source: "Source", settings: "Settings") -> Text:
    """`[1] Title > Heading  path, page 3  fit 0.91`, linked where there is something to open."""
    from tracemill.retrieval.packing import place

    where = f"{plain(source.source)}{_span(source)}"
    link = link_of(source, settings)
    line = Text(f"[{source.number}] ", style="bold")
    line.append(plain(place(source)))
    line.append("  ")
    line.append(where, style=Style(link=link, underline=bool(link)))
    line.append(f"  fit {source.fit:.2f}", style="dim")
    for mark in _marks(source):
        line.append(f"  {mark}", style="bold red")
    return line


def _marks(source: "Source") -> list[str]:
    marks: list[str] = []
    if source.cited and not source.supported:
        marks.append("unsupported")
    if source.flagged:
        marks.append("reads like instructions")
    return marks


def link_of(source: "Source", settings: "Settings") -> str | None:
    """Where a click leads: a URL as it is, a file by its path; None for a module's name."""
    if source.source.startswith(("https://", "http://")):
        return source.source if source.source.isprintable() else None
    path = _file(source, settings)
    if path is None:
        return None
    page = f"#page={source.first_page}" if source.first_page is not None else ""
    return path.as_uri() + page


def _file(source: "Source", settings: "Settings") -> Path | None:
    path = settings.warehouse / source.source
    try:
        inside = path.resolve().is_relative_to(settings.warehouse.resolve())
        return path.absolute() if inside and path.is_file() else None
    except (OSError, ValueError):
        return None


def _span(source: Any) -> str:
    for what in ("page", "line"):
        first, last = getattr(source, f"first_{what}"), getattr(source, f"last_{what}")
        if first is not None:
            one = last is None or first == last
            return f", {what} {first}" if one else f", {what}s {first}-{last}"
    return ""


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines()) + "\n"


def _in_words(confidence: float) -> str:
    return next(words for least, words in _WORDS if confidence >= least)
