"""`tracemill batches ...`: calls that a provider answers within a day, at half the price."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import plain, print_facts, print_json, print_lines
from tracemill.errors import TracemillError, UsageError

if TYPE_CHECKING:
    from tracemill.llm.batches import BatchState, Collected
    from tracemill.llm.client import Client
    from tracemill.log import EventLog

app = typer.Typer(no_args_is_help=True, help="Batches of calls: list, look, wait, cancel.")

BatchId = Annotated[
    str, typer.Argument(metavar="ID", help="Of the batch; its beginning or end is enough.")
]
_COLUMNS = ("batch", "submitted", "model", "state", "calls", "finished", "failed")
_RIGHT = {"calls", "finished", "failed"}
_SHORT_ID = 12
"""The last part of an id: it begins with the time, which batches of one moment share."""


@app.command()
def ls(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """List all batches, oldest first, as the log knows them.

    Examples:

      tracemill batches ls
      tracemill batches ls --json | jq -r 'select(.collected | not) | .batch_id'
    """
    from tracemill.llm.batches import states

    with open_log(warehouse) as log:
        found = states(log)
    if as_json:
        for known in found:
            print_json(_told(known))
    elif found:
        print_lines(_COLUMNS, [_cells(known) for known in found], right=_RIGHT)
    else:
        print("no batches", file=sys.stderr)


@app.command()
def show(batch_id: BatchId, as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Tell how far a batch is, as the log knows it; `wait` asks the provider."""
    from tracemill.llm.batches import state

    with open_log(warehouse) as log:
        known = state(log, _whole(log, batch_id))
    _print(known, as_json=as_json)


@app.command()
def wait(
    batch_id: BatchId,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")
    ] = 86_400.0,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Wait until a batch has ended and collect its answers: each call gets its end in the log.

    Safe to stop and to start again. Exit code 1 when time is up.

    Examples:

      tracemill batches wait 7cad03f92ebb
      tracemill batches wait 7cad03f92ebb --timeout 0
      tracemill calls --status failed
    """
    from tracemill.llm import batches

    with _opened(warehouse) as client:
        log, whole = client.log, _whole(client.log, batch_id)

        def pause(seconds: float) -> None:
            print(f"{_line(batches.state(log, whole))}; again in {seconds:.0f} s", file=sys.stderr)
            time.sleep(seconds)

        known = batches.wait(client, whole, timeout_s=timeout_s, pause=pause)
        if not known.ended:
            raise TracemillError(f"batch {whole} has not ended: {_line(known)}")
        collected = batches.collect(client, whole)
        _print_collected(batches.state(log, whole), collected, as_json=as_json)


@app.command()
def cancel(
    batch_id: BatchId,
    abandon: Annotated[
        bool,
        typer.Option("--abandon", help="End its calls in the log without asking the provider."),
    ] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Ask the provider to stop a batch; `wait` then collects what it had answered.

    `--abandon` is for a batch that the provider has lost: nothing can be collected afterwards.
    """
    from tracemill.llm import batches

    with _opened(warehouse) as client:
        whole = _whole(client.log, batch_id)
        if abandon:
            batches.abandon(client, whole)
        else:
            batches.cancel(client, whole)
        _print(batches.state(client.log, whole), as_json=as_json)


@contextmanager
def _opened(warehouse: Path | None) -> "Generator[Client]":
    from tracemill.llm.client import Client

    with open_log(warehouse) as log:
        client = Client(log, settings_for(warehouse))
        try:
            yield client
        finally:
            client.close()


def _whole(log: "EventLog", given: str) -> str:
    """The id that begins or ends so."""
    query = "SELECT substr(stream, 7) AS id FROM events WHERE kind = 'llm.batch.submitted'"
    wanted = given.lower()
    ids = [str(found) for found in log.arrow(query).column("id").to_pylist()]
    found = [one for one in ids if one.startswith(wanted) or one.endswith(wanted)]
    if len(found) == 1:
        return found[0]
    why = f"{len(found)} batches match" if found else "no batch matches"
    raise UsageError(f"{why} {given!r}: `tracemill batches ls` lists them")


def _told(known: "BatchState") -> dict[str, Any]:
    """What programs get: all but the ids of the calls."""
    told = known._asdict() | {"calls": len(known.calls), "collected": known.collected}
    for name in ("position", "event_id", "version", "requests_sha256"):
        del told[name]
    return told


def _cells(known: "BatchState") -> list[str]:
    ends = [("" if n is None else f"{n:,}") for n in (known.finished, known.failed)]
    model = f"{known.prefix}/{known.model}"
    return [
        known.batch_id[-_SHORT_ID:],
        plain(known.submitted_at),
        model,
        "collected" if known.collected else known.state,
        f"{len(known.calls):,}",
        *ends,
    ]


def _print(known: "BatchState", *, as_json: bool) -> None:
    if as_json:
        print_json(_told(known))
        return
    told = {name: value for name, value in _told(known).items() if value not in (None, "", {})}
    print_facts({name.replace("_", " "): plain(value) for name, value in told.items()})


def _print_collected(known: "BatchState", collected: "Collected", *, as_json: bool) -> None:
    if as_json:
        print_json({**_told(known), "unknown": collected.unknown})
        return
    print(f"{collected.finished:,} calls finished, {collected.failed:,} failed")
    for reason in collected.unknown:
        print(f"left in quarantine/batches/{known.batch_id}.jsonl: {reason}", file=sys.stderr)


def _line(known: "BatchState") -> str:
    counts = f" ({plain(dict(known.counts))})" if known.counts else ""
    return f"{known.state}{counts}"
