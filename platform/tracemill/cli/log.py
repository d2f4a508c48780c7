"""`tracemill log ...`: look at the event log, ask it, look after it."""

import sys
from dataclasses import asdict
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

import typer

from tracemill.cli.options import Json, Kinds, Until, Warehouse, open_log, position_of
from tracemill.cli.output import plain, print_frame, print_json, print_table, progress
from tracemill.errors import LogDamaged, UsageError

if TYPE_CHECKING:
    from tracemill.events import Recorded
    from tracemill.log import EventLog

app = typer.Typer(no_args_is_help=True, help="The event log: look, ask, look after it.")


@app.command()
def tail(
    count: Annotated[int, typer.Option("-n", min=0, help="How many of the last events.")] = 10,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Then wait for more.")] = False,
    kind: Kinds = None,
    stream: Annotated[str | None, typer.Option(help="Only this stream, as call:<id>.")] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Print the last events, oldest first.

    Examples:

      tracemill log tail -n 3
      tracemill log tail -f --kind llm.call.failed
      tracemill log tail --json | jq .event.kind
    """
    with open_log(warehouse) as log:
        end = log.position()
        after = _start_of_tail(log, count, kind, stream)
        for recorded in log.read(after, kinds=kind, stream=stream, until=end):
            _print_event(recorded, as_json=as_json)
        if follow:
            sys.stdout.flush()
            for recorded in log.subscribe(end, kinds=kind):
                if stream in (None, recorded.stream):
                    _print_event(recorded, as_json=as_json)
                    sys.stdout.flush()


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="DuckDB's SQL; `-` reads it from stdin.")] = "-",
    until: Until = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with a header.")] = False,
    warehouse: Warehouse = None,
) -> None:
    """Ask the log anything: its views are events, calls, failures, costs_by_day and others.

    Examples:

      tracemill log sql "from costs_by_day"
      tracemill log sql "select error_type, count(*) from failures group by all" --json
      tracemill log sql --csv "from calls" > calls.csv
      tracemill log sql < question.sql

    docs/data-model.md lists every column.
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other: choose one")
    text = _query(query)
    with open_log(warehouse) as log:
        frame = log.sql(text, until=position_of(log, until))
    print_frame(frame, as_json=as_json, as_csv=as_csv)


@app.command()
def fold(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Seal the journal's tail into Parquet. Happens by itself when the tail grows; safe any time."""
    with open_log(warehouse) as log, progress("sealing") as advance:
        sealed = log.fold(advance)
    _print_count("sealed", "events sealed", sealed, as_json=as_json)


@app.command()
def compact(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Merge small segments. Readers notice nothing; the old files go after a day."""
    with open_log(warehouse) as log, progress("merging") as advance:
        replaced = log.compact(advance)
    _print_count("replaced", "segments replaced by larger ones", replaced, as_json=as_json)


@app.command()
def gc(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Delete what compaction replaced and crashes left behind, once it is a day old."""
    with open_log(warehouse) as log:
        deleted = log.gc()
    _print_count("deleted", "files deleted", deleted, as_json=as_json)


@app.command()
def verify(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Derive every digest anew and compare: exit code 1 when an event is missing or altered."""
    with open_log(warehouse) as log, progress("verifying", log.position()) as advance:
        found = log.verify(advance)
    if as_json:
        print_json({**asdict(found), "ok": found.ok})
    elif found.ok:
        print(f"{found.events:,} events in {found.segments:,} segments and the journal are sound")
    if found.problems:
        for problem in () if as_json else found.problems:
            print(problem)
        raise LogDamaged(f"{len(found.problems):,} problems in {log.folder}, listed above")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file.")],
    kind: Kinds = None,
    until: Until = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Write events to one file: JSON lines with every field, or Parquet with the log's columns.

    Examples:

      tracemill log export calls.jsonl --kind llm.call.finished
      tracemill log export everything.parquet
    """
    from tracemill.files import write_atomically

    writers = {".jsonl": _write_jsonl, ".parquet": _write_parquet}
    if file.suffix not in writers:
        raise UsageError(f"cannot tell the format of {file}: name it .jsonl or .parquet")
    with open_log(warehouse) as log:
        end = position_of(log, until)
        end = log.position() if end is None else end
        count = 0

        def write(path: Path) -> None:
            nonlocal count
            count = writers[file.suffix](log, path, kind, end)

        write_atomically(file, write)
    if as_json:
        print_json({"file": file, "events": count, "until": end})
    else:
        print(f"{count:,} events written to {file}")


@app.command()
def pin(
    name: Annotated[str | None, typer.Argument(help="Left out: list the pins.")] = None,
    position: Annotated[int | None, typer.Argument(min=0, help="Default: the end.")] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Name a position, so that --until NAME sees the log as it is now, for ever.

    Examples:

      tracemill log pin before-migration
      tracemill log sql "from costs_by_day" --until before-migration
    """
    with open_log(warehouse) as log:
        pins = log.pins() if name is None else {name: log.pin(name, position)}
    if as_json:
        print_json(pins)
    else:
        print_table(("pin", "position"), pins.items(), right=(False, True))


def _start_of_tail(log: "EventLog", count: int, kinds: list[str] | None, stream: str | None) -> int:
    """The position after which the last `count` matching events begin."""
    if kinds is None and stream is None:
        return max(0, log.position() - count)
    import polars as pl

    frame = log.frame(kinds)
    chosen = frame if stream is None else frame.filter(pl.col("stream") == stream)
    first = chosen.select(pl.col("position").top_k(count).min()).collect().item()
    return log.position() if first is None else first - 1


def _print_event(recorded: "Recorded", *, as_json: bool) -> None:
    if as_json:
        print_json(_as_dict(recorded))
        return
    from tracemill.events import Happened

    facts = recorded.event.model_dump(exclude=set(Happened.model_fields), exclude_none=True)
    kind = facts.pop("kind")
    shown = "  ".join(f"{name}={_short(value)}" for name, value in facts.items())
    when = plain(recorded.recorded_at)
    line = f"{recorded.position:>9}  {when}  {kind:<18}  {shown}"
    print(line[: get_terminal_size().columns] if sys.stdout.isatty() else line)


def _short(value: object) -> str:
    text = plain(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _as_dict(recorded: "Recorded") -> dict[str, object]:
    return {**recorded._asdict(), "event": recorded.event.model_dump(mode="json")}


def _query(argument: str) -> str:
    if argument != "-":
        return argument
    if sys.stdin.isatty():
        raise UsageError('no query: tracemill log sql "from costs_by_day", or pipe it in')
    return sys.stdin.read()


def _print_count(name: str, sentence: str, count: int, *, as_json: bool) -> None:
    print_json({name: count}) if as_json else print(f"{count:,} {sentence}")


def _write_jsonl(log: "EventLog", path: Path, kinds: list[str] | None, end: int) -> int:
    from pydantic_core import to_json

    count = done = 0
    with path.open("wb") as file, progress("exporting", end) as advance:
        for recorded in log.read(kinds=kinds, until=end):
            file.write(to_json(_as_dict(recorded)) + b"\n")
            count += 1
            if count % 1000 == 0:
                advance(recorded.position - done)
                done = recorded.position
    return count


def _write_parquet(log: "EventLog", path: Path, kinds: list[str] | None, end: int) -> int:
    import polars as pl

    with progress("exporting"):
        log.frame(kinds, until=end).sink_parquet(path, compression="zstd")
    return pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
