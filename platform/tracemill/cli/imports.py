"""`tracemill import`: the calls that another tool kept, into the log."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracemill.cli.options import Json, Warehouse, open_log
from tracemill.cli.output import plain, print_facts, print_json, progress

if TYPE_CHECKING:
    from tracemill.telemetry.importers import Imported

_REASONS = 8


class Tool(StrEnum):
    """Whose calls."""

    langfuse = "langfuse"
    phoenix = "phoenix"
    llm = "llm"
    litellm = "litellm"


def import_(
    tool: Annotated[Tool, typer.Argument(help="Whose they are.", show_default=False)],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...", help="Exported files, a database file, or postgresql://..."
        ),
    ],
    keep_personal: Annotated[
        bool,
        typer.Option(
            "--keep-personal",
            help="Keep personal data and keys in texts; otherwise placeholders take their place.",
        ),
    ] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Import calls and judgements that another tool kept, with their times and recorded costs.

    Whatever was imported before stays as it is, so that importing again, or going on after a
    breakdown, is safe. Rows that cannot be taken lie in quarantine/imports/ with their reason.

    Examples:

      tracemill import langfuse traces.json observations.json scores.json
      tracemill import phoenix ~/.phoenix/phoenix.db
      tracemill import llm "$(llm logs path)"
      tracemill import litellm postgresql://reader@db.example.org/litellm
    """
    from tracemill.telemetry import importers
    from tracemill.telemetry.importers.load import quarantine_of

    with open_log(warehouse) as log, progress(f"importing from {tool}") as advance:
        items = importers.items(tool.value, _expanded(sources))
        done = importers.load(log, tool.value, items, redact=not keep_personal, progress=advance)
        where = quarantine_of(log, tool.value)
    _print(done, where, as_json=as_json)


def _expanded(sources: list[str]) -> list[str]:
    """Folders as the files in them: exports come in many."""
    return [each for source in sources for each in _files(source)]


def _files(source: str) -> Iterator[str]:
    path = Path(source).expanduser()
    if "://" not in source and path.is_dir():
        yield from sorted(str(p) for p in path.rglob("*") if p.is_file() and p.name[0] != ".")
    else:
        yield source if "://" in source else str(path)


def _print(done: "Imported", where: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({**vars(done), "quarantine": str(where) if done.refused else None})
        return
    facts = {
        "calls": f"{done.calls:,} new",
        "judgements": f"{done.judgements:,} new",
        "known": f"{done.known:,} were here before",
        "ignored": f"{done.ignored:,} are no calls to a model",
        "refused": f"{done.refused:,}",
    }
    print_facts({n: t for n, t in facts.items() if not t.startswith("0")} or {"calls": "none"})
    shown = sorted(done.reasons.items(), key=lambda each: -each[1])[:_REASONS]
    for reason, count in shown:
        print(plain(f"  {count:,} x {reason}"))
    if done.refused:
        print(plain(f"  they are in {where}"))
