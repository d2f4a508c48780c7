"""`tracemill init`, `status`, `doctor` and `verify`: is there a warehouse, is all well in it?"""

import json
import os
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import plain, print_facts, print_json, progress
from tracemill.errors import TracemillError

if TYPE_CHECKING:
    from tracemill.log import EventLog


def init(
    folder: Annotated[
        Path | None, typer.Argument(help="Where warehouse/ shall be; here, when left out.")
    ] = None,
    warehouse: Warehouse = None,
) -> None:
    """Make a warehouse. What is already there is left as it is.

    Examples:

      tracemill init
      tracemill init ~/experiments
    """
    from tracemill.log import EventLog

    if warehouse is None and (folder is not None or "TRACEMILL_WAREHOUSE" not in os.environ):
        warehouse = (folder or Path.cwd()) / "warehouse"
    settings = settings_for(warehouse).create()
    EventLog.open(settings).close()
    print(f"The warehouse is {settings.warehouse}. Put your own files into its raw/ folder.")


def status(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Show what the warehouse holds: events, calls and what they cost, datasets, indexes."""
    with open_log(warehouse) as log:
        facts = {"warehouse": settings_for(warehouse).warehouse, **_facts(log)}
    print_json(facts) if as_json else print_facts(_sentences(facts))


def doctor(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Check this machine and the warehouse; for each thing that is wrong, say how to mend it.

    Exit code 1 when something failed; what is only odd is a warning.
    """
    from tracemill.operations.examine import examine

    findings = examine(settings_for(warehouse))
    shown = {"ok": "ok  ", "warning": "warn", "failed": "FAIL"}
    for finding in findings:
        if as_json:
            print_json({**finding._asdict(), "ok": finding.ok})
        else:
            said = ": ".join(filter(None, (finding.detail, finding.mend)))
            print(f"{shown[finding.state]}  {finding.what:<12}  {plain(said)}")
    failed = [finding.what for finding in findings if not finding.ok]
    if failed:
        raise TracemillError(f"not all is well: {', '.join(failed)}; the lines above say the mend")


def verify(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Read every byte that something vouches for: the log, data sets, collections and models.

    The log's hash chain, counts and positions are derived anew; files are held against their
    manifests. Exit code 1 when something is missing or altered.
    """
    from tracemill.operations.verification import verify as verify_files

    settings = settings_for(warehouse)
    with open_log(warehouse) as log, progress("verifying the log", log.position()) as advance:
        found = log.verify(advance)
    with progress("reading files") as advance:
        parts = verify_files(settings, advance)
    problems = [*found.problems, *(each for part in parts for each in part.problems)]
    if as_json:
        print_json(
            {
                "log": {**asdict(found), "ok": found.ok},
                "parts": [part._asdict() for part in parts],
                "ok": not problems,
            }
        )
    else:
        if found.ok:
            print(
                f"{found.events:,} events in {found.segments:,} segments and the journal are sound"
            )
        for part in parts:
            if not part.problems:
                print(f"{part.part}: {part.files:,} files, each as it was written")
        for problem in problems:
            print(plain(problem))
    if problems:
        raise TracemillError(f"{len(problems):,} problems in {settings.warehouse}, listed above")


def _facts(log: "EventLog") -> dict[str, Any]:
    (events,) = log.sql(
        "select count(*) as events, max(recorded_at) as last_recorded_at from events"
    ).to_dicts()
    (calls,) = log.sql(
        "select count(*) filter (status = 'finished') as finished, "
        "count(*) filter (status = 'failed') as failed, "
        "count(*) filter (status = 'running') as running, sum(cost_usd) as cost_usd from calls"
    ).to_dicts()
    kinds = log.sql("select kind, count(*) as n from events group by kind order by kind")
    built = log.sql(
        "select kind, payload->>'name' as name, arg_max(payload, position) as payload from events "
        "where kind in ('dataset.built', 'index.built') group by all order by name"
    )
    latest = {(kind, name): json.loads(payload) for kind, name, payload in built.iter_rows()}
    return {
        **events,
        "kinds": dict(kinds.iter_rows()),
        "calls": calls,
        "datasets": {
            name: {"digest": fields["digest"], "rows": fields["rows"]}
            for (kind, name), fields in latest.items()
            if kind == "dataset.built"
        },
        "indexes": {
            name: {"digest": fields["digest"], "chunks": fields["chunks"]}
            for (kind, name), fields in latest.items()
            if kind == "index.built"
        },
        "pins": log.pins(),
    }


def _sentences(facts: dict[str, Any]) -> dict[str, str]:
    calls = facts["calls"]
    last: datetime | None = facts["last_recorded_at"]
    datasets = (
        f"{name} {d['digest'][:12]}: "
        + ", ".join(f"{n:,} {split}" for split, n in d["rows"].items())
        for name, d in facts["datasets"].items()
    )
    indexes = (
        f"{name} {i['digest'][:12]}: {i['chunks']:,} chunks" for name, i in facts["indexes"].items()
    )
    return {
        "warehouse": str(facts["warehouse"]),
        "events": f"{facts['events']:,}" + (f", the last at {plain(last)} UTC" if last else ""),
        "calls": f"{calls['finished']:,} finished, {calls['failed']:,} failed, "
        f"{calls['running']:,} running; {(calls['cost_usd'] or Decimal(0)).normalize():f} USD",
        "datasets": "\n".join(datasets) or "none yet: tracemill build",
        "indexes": "\n".join(indexes) or "none yet: tracemill build",
        "pins": ", ".join(f"{name} = {at:,}" for name, at in facts["pins"].items()) or "none",
    }
