"""`tracemill ask`: a question to an index; the answer with its sources."""

from typing import TYPE_CHECKING, Annotated

import typer

from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import harmless, print_json

if TYPE_CHECKING:
    from tracemill.retrieval.answer import Answer


def ask(
    question: Annotated[str, typer.Argument(help="In plain words.")],
    index: Annotated[str, typer.Option(help="The collection to search.")] = "installed",
    k: Annotated[int, typer.Option("-k", min=1, max=50, help="Passages to read.")] = 5,
    model: Annotated[
        str, typer.Option(help="Who answers, as provider/model; local/extract needs no key.")
    ] = "local/extract",
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Ask a question; the answer names the passages that it rests on.

    The call is an event in the log: `tracemill log tail` shows it.

    Examples:

      tracemill ask "What does asyncio.gather do?"
      tracemill ask "How are decorators evaluated?" -k 8 --json
      tracemill ask "What is a context manager?" --model openai/gpt-5.4-mini
    """
    from tracemill.retrieval import answer

    with open_log(warehouse) as log:
        settings = settings_for(warehouse)
        found = answer.ask(question, settings=settings, log=log, index=index, k=k, model=model)
    print_json(found) if as_json else _print_answer(found)


def _print_answer(answer: "Answer") -> None:
    print(harmless(answer.text))
    cited = [source for source in answer.sources if source.cited]
    if cited:
        print()
    for source in cited:
        place = " > ".join(dict.fromkeys((source.title, *source.headings)))
        print(harmless(f"[{source.number}] {place}  ({source.source}, score {source.score:.2f})"))
