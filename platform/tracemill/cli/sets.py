"""Sets of cases, as `tracemill evals` takes them: by name, from a file, or of a question to the log."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.output import print_json, print_table
from tracemill.errors import InputError

if TYPE_CHECKING:
    from tracemill.log import EventLog
    from tracemill.quality.cases import Cases
    from tracemill.settings import Settings

SetName = Annotated[
    str,
    typer.Argument(
        metavar="SET",
        help="A set in evals/, a file of cases (.jsonl), or of a question to the log (.sql).",
    ),
]


def list_sets(settings: "Settings", *, as_json: bool) -> None:
    """Print the sets in evals/: how many cases, which version, which tags."""
    from tracemill.quality.cases import read_set, sets

    found = [read_set(path) for path in sets(settings).values()]
    rows: list[dict[str, Any]] = [
        {
            "name": each.name,
            "cases": len(each),
            "digest": each.digest,
            "tags": sorted(set(each.frame["tags"].explode().drop_nulls())),
        }
        for each in found
    ]
    if as_json:
        for row in rows:
            print_json(row)
    elif rows:
        table = [(r["name"], f"{r['cases']:,}", r["digest"][:12], r["tags"]) for r in rows]
        print_table(("set", "cases", "digest", "tags"), table, right=(False, True, False, False))
    else:
        print(f"no sets in {settings.evaluation_sets}", file=sys.stderr)


def cases_of(log: "EventLog", settings: "Settings", given: str) -> "Cases":
    """The cases that a command names: a set, a file of cases, or a question to the log."""
    from tracemill.quality.cases import named_set, of_view, read_set

    path = Path(given)
    if path.suffix == ".sql":
        try:
            return of_view(log, path.read_text(encoding="utf-8"), name=path.stem)
        except OSError as error:
            raise InputError(f"{path} cannot be read as a question: {error.strerror}") from None
    return read_set(path) if path.suffix == ".jsonl" else named_set(settings, given)
