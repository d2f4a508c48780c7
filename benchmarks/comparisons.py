"""The same calls into other stores: plain files and SQLite here, MLflow and Langfuse in their own worlds."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.appends import DURABILITIES, Times, die, each, folder_for, killed, timed
from benchmarks.processes import uv
from benchmarks.report import Table, console, microseconds, number
from benchmarks.workload import Calls, write_calls
from tracemill.events import Happened
from tracemill.log import EventLog

Append = Callable[[Happened], object]
PEERS = Path(__file__).parent / "peers"


def raw_file(path: Path, *, sync: bool) -> tuple[Append, Callable[[], int]]:
    """`os.write` of a JSON line, and fdatasync if asked; how to write one, and how to count them."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    wait = getattr(os, "fdatasync", os.fsync)

    def append(event: Happened) -> None:
        os.write(descriptor, event.model_dump_json().encode() + b"\n")
        if sync:
            wait(descriptor)

    return append, lambda: path.read_bytes().count(b"\n")


def plain_sqlite(path: Path, *, synchronous: str) -> tuple[Append, Callable[[], int]]:
    """One table in WAL mode, the event as JSON; how to insert one, and how to count them."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE IF NOT EXISTS event(id TEXT PRIMARY KEY, payload TEXT)")

    def append(event: Happened) -> None:
        row = (event.event_id, event.model_dump_json())
        connection.execute("INSERT INTO event VALUES (?, ?)", row)

    def count() -> int:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return connection.execute("SELECT count(*) FROM event").fetchone()[0]

    return append, count


STORES: dict[str, Callable[[Path], tuple[Append, Callable[[], int]]]] = {
    "os.write, no sync": lambda path: raw_file(path, sync=False),
    "os.write + fdatasync": lambda path: raw_file(path, sync=True),
    "plain SQLite, synchronous = NORMAL": lambda path: plain_sqlite(path, synchronous="NORMAL"),
    "plain SQLite, synchronous = FULL": lambda path: plain_sqlite(path, synchronous="FULL"),
}


def _write_and_die(store: str, path: Path, text: Path, events: int) -> None:
    append, _ = STORES[store](path)
    for event in Calls(text).events(events):
        append(event)
    os.kill(os.getpid(), signal.SIGKILL)


def _time_store(store: str, path: Path, made: Sequence[Happened]) -> Times:
    append, count = STORES[store](path)
    times = each(made, append)
    count()
    return times


def side_by_side(scratch: Path, text: Path, *, events: int, calls: int) -> Table:
    """Everybody alone, one process, one event (or call) at a time."""
    made = Calls(text).events(events)
    rows = [*_our_rows(scratch, text, made), *_store_rows(scratch, text, made)]
    rows += _peer_rows(scratch, text, calls)
    return Table(
        "One process, one event at a time, nobody else there",
        ("", "returned/s", "stored/s", "p50", "p99", "bytes each", "lost when killed"),
        rows,
        "Ours, files and SQLite: events, two to a call. MLflow and Langfuse: calls, so twice the "
        "text each, and more rows computed of it; `stored/s` counts until their queues are empty. Lost: "
        "the writer makes its calls in a tight loop and sends itself SIGKILL when the last one has "
        "returned; then it is counted what is stored. That is the worst case for a queue; a program "
        "with pauses loses what its last interval held. Langfuse's sink is a server on this machine "
        "that takes everything at once, not a database; its bytes are the compressed requests.",
    )


def _our_rows(scratch: Path, text: Path, made: Sequence[Happened]) -> Iterator[tuple[str, ...]]:
    for durability in DURABILITIES:
        share = made if durability == "kill" else made[: len(made) // 3]
        with folder_for(scratch) as folder, EventLog(folder, fold_after_events=10**9) as log:
            log.position()
            rate, p50, p99, _ = timed(log, share, durability).cells(len(share))
            log.fold()
            size = sum(path.stat().st_size for path in log.segments()) / len(share)
        lost = len(share) - killed(scratch, text, len(share)) if durability == "kill" else None
        loss = "" if lost is None else f"{lost:,} of {len(share):,}"
        yield f"tracemill, {durability}-safe", rate, rate, p50, p99, f"{number(size)} sealed", loss


def _store_rows(scratch: Path, text: Path, made: Sequence[Happened]) -> Iterator[tuple[str, ...]]:
    for store in STORES:
        share = made[: len(made) // 3] if store.endswith(("fdatasync", "FULL")) else made
        with folder_for(scratch) as folder:
            rate, p50, p99, _ = _time_store(store, folder, share).cells(len(share))
            size = sum(path.stat().st_size for path in folder.parent.glob("log*")) / len(share)
        with folder_for(scratch) as folder:
            die(_write_and_die, store, folder, text, len(share))
            lost = len(share) - STORES[store](folder)[1]()
        yield store, rate, rate, p50, p99, number(size), f"{lost:,} of {len(share):,}"


# Peers


def _peer_rows(scratch: Path, text: Path, calls: int) -> Iterator[tuple[str, ...]]:
    peer = uv()
    if peer is None:
        console.print("MLflow and Langfuse are left out: no uv on the PATH or in .uv/")
        return
    write_calls(scratch / "calls.jsonl", Calls(text).events(2 * calls))
    slow = {"MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false"}
    for name, script, environment, wanted in (
        ("MLflow, synchronous", "mlflow_tracing.py", slow, calls // 5),
        ("MLflow, as it comes", "mlflow_tracing.py", {}, calls // 2),
        ("Langfuse SDK, as it comes", "langfuse_sdk.py", {}, calls),
    ):
        try:
            yield name, *_peer((*peer, str(PEERS / script)), environment, scratch, wanted)
        except (subprocess.CalledProcessError, json.JSONDecodeError, IndexError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            console.print(f"{name} is left out: {reason.strip().splitlines()[-1]}")


def _peer(
    command: tuple[str, ...], environment: dict[str, str], scratch: Path, calls: int
) -> tuple[str, ...]:
    def run(what: str, folder: Path) -> dict[str, Any]:
        with _sink(folder) as url:
            done = subprocess.run(
                [*command, what, str(folder), str(scratch / "calls.jsonl"), str(calls)],
                cwd=folder,  # what a peer drops where it stands goes with the folder
                env={**os.environ, "DO_NOT_TRACK": "1", "SINK_URL": url, **environment},
                capture_output=True,
                text=True,
                check=what != "kill",
            )
        return json.loads(done.stdout.splitlines()[-1]) if what != "kill" else {}

    with folder_for(scratch) as folder, folder_for(scratch) as victim:
        folder.mkdir()
        victim.mkdir()
        found = run("measure", folder)
        run("kill", victim)
        lost = calls - run("count", victim)["stored"]
    return (
        number(calls / found["returned_s"]),
        number(calls / found["stored_s"]),
        microseconds(found["p50_s"]),
        microseconds(found["p99_s"]),
        number(found["bytes"] / calls),
        f"{lost:,} of {calls:,}",
    )


@contextmanager
def _sink(folder: Path) -> Iterator[str]:
    command = [sys.executable, str(PEERS / "sink.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sink:
        assert sink.stdout is not None
        try:
            yield f"http://127.0.0.1:{sink.stdout.readline().strip()}"
        finally:
            sink.terminate()
