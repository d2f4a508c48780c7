"""`tracemill finetune trainers`: who trains which models, at which price, until when."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import print_json, print_lines

if TYPE_CHECKING:
    from tracemill.finetune.providers import Capabilities

_COLUMNS = ("trainer", "base model", "methods", "USD per million tokens", "shut down on")


def trainers(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """List who trains: base models that are known, methods, prices, and the days on which they end.

    Nothing is asked of anybody: this is what tracemill knows of them. A recipe may name other base
    models too.

    Examples:

      tracemill finetune trainers
      tracemill finetune trainers --json | jq 'select(.trainer == "openai") | .models[].name'
    """
    from tracemill.finetune.providers.table import HERE, HOSTED, trainer
    from tracemill.llm.client import Client

    settings = settings_for(warehouse)
    with open_log(warehouse) as log:
        client = Client(log, settings)
        # What a program of theirs can do, whichever it is.
        programs = {"subprocess": ("program",)}
        known = {
            name: trainer(
                name, client=client, settings=settings, command=programs.get(name, ())
            ).capabilities()
            for name in (*HERE, *HOSTED)
        }
    if as_json:
        for name, each in known.items():
            print_json(_told(name, each))
        return
    print_lines(_COLUMNS, [row for name, each in known.items() for row in _rows(name, each)])
    for name, each in known.items():
        if each.warning:
            print(f"{name}: {each.warning}")


def _rows(name: str, known: "Capabilities") -> Iterator[tuple[str, ...]]:
    for model in known.models:
        price = "" if model.usd_per_million is None else f"{model.usd_per_million:f}"
        ends = f"{model.shutdown_date}" if model.shutdown_date else ""
        yield name, model.name, ", ".join(model.methods), price, ends
    if known.other_models:
        yield name, "any other" if known.models else "any", "", "", ""


def _told(name: str, known: "Capabilities") -> dict[str, Any]:
    return {
        "trainer": name,
        **known._asdict(),
        "models": [model._asdict() for model in known.models],
    }
