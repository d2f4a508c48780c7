"""After the append: sealing, merging, verifying, and grouping a million events and more."""

import shutil
import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.appends import folder_for
from benchmarks.report import Table, console, number
from benchmarks.workload import Calls
from tracemill.log import EventLog

BY_MODEL_AND_DAY = """
    SELECT CAST(occurred_at AS DATE) AS day, request_model, sum(cost_usd) AS cost_usd
    FROM events WHERE kind = 'llm.call.finished' GROUP BY ALL
"""
THE_SAME_IN_SQLITE = """
    SELECT date(occurred_at) AS day, payload ->> '$.request_model' AS request_model,
        sum(payload ->> '$.cost_usd') AS cost_usd
    FROM event WHERE kind = 'llm.call.finished' GROUP BY day, request_model
"""
_NEVER = 10**9  # no fold starts by itself
_BATCH = 1_000


def seconds(action: Callable[[], object]) -> float:
    """How long it takes, once."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def housekeeping(scratch: Path, text: Path, events: int) -> Table:
    """Fold, compact, verify: rates, and what an event takes on the disk."""
    parts = 5
    rows: list[tuple[str, str, str]] = []
    with folder_for(scratch) as folder, EventLog(folder, fold_after_events=_NEVER) as log:
        _append(log, Calls(text), events)
        rows.append(("fold", *_rate(events, seconds(log.fold))))
        size = sum(path.stat().st_size for path in log.segments()) / events
        rows.append(("verify", *_rate(events, seconds(log.verify))))
        log.close()
        kept = _kept_in_journal(folder / "journal.db") / events
    with folder_for(scratch) as folder, EventLog(folder, fold_after_events=_NEVER) as log:
        for part in range(parts):
            _append(log, Calls(text, seed=part), events // parts)
            log.fold()
        rows.append((f"compact, {parts} segments into one", *_rate(events, seconds(log.compact))))
    return Table(
        f"Housekeeping, {events:,} events",
        ("", "events/s", "start to finish"),
        rows,
        f"A sealed event takes {number(size)} bytes in its segment and {number(kept)} in the journal, "
        "which keeps every event's id and every stream's version.",
    )


def _rate(events: int, took_s: float) -> tuple[str, str]:
    return number(events / took_s), f"{took_s:.1f} s"


def _kept_in_journal(path: Path) -> int:
    """Bytes of the pages that are in use; of a copy, since nobody but the log may open the journal."""
    copy = shutil.copy(path, path.with_name("copy.db"))
    with closing(sqlite3.connect(copy)) as connection:
        names = ("page_count", "freelist_count", "page_size")
        pages, free, size = (connection.execute(f"PRAGMA {n}").fetchone()[0] for n in names)
    return (pages - free) * size


def _append(log: EventLog, calls: Calls, events: int) -> None:
    for batch in calls.batches(events, _BATCH):
        log.append(batch)


def group_by(scratch: Path, text: Path, events: int, *, beside_sqlite: bool) -> Table:
    """Cost by model and day, with everything sealed and with 1 % that is not."""
    needed = events * (4_000 if beside_sqlite else 1_200)
    if (free := shutil.disk_usage(scratch).free) < needed:
        console.print(
            f"Grouping {events:,} events is left out: {needed >> 30} GB needed, {free >> 30} free"
        )
        return Table(f"Grouped by model and day, {events:,} events", ("left out",), [])
    with folder_for(scratch) as folder:
        calls = Calls(text, expected=events // 2)
        filled_s = seconds(lambda: _fill(folder, calls, events))
        with EventLog(folder, fold_after_events=_NEVER) as log:
            rows = [_row("log.sql, all sealed", lambda: log.sql(BY_MODEL_AND_DAY))]
            rows += [_row("log.frame (Polars), all sealed", lambda: _in_polars(log))]
            rows += [
                _row(
                    "FROM costs_by_day (tokens, failures too), all sealed",
                    lambda: log.sql("FROM costs_by_day"),
                )
            ]
            _append(log, calls, events // 100)
            first_s = seconds(lambda: log.sql(BY_MODEL_AND_DAY))
            rows += [_row("log.sql, 1 % unsealed", lambda: log.sql(BY_MODEL_AND_DAY))]
            rows += [_row("log.frame (Polars), 1 % unsealed", lambda: _in_polars(log))]
            rows += [
                _row(
                    "log.sql, 1 % unsealed, one more event before each",
                    lambda: _asked_anew(log, calls),
                )
            ]
            if beside_sqlite:
                rows.append(_plain_sqlite(log, folder.with_name("plain.db")))
    return Table(
        f"Grouped by model and day, {events:,} events",
        ("", "fastest", "median"),
        rows,
        f"Appending and sealing them took {filled_s:,.0f} s (one process, {_BATCH:,} at a time, folds "
        f"beside it). The first question after {events // 100:,} new events took {first_s * 1e3:,.0f} ms: "
        "it reads them from the journal, later ones only what came since.",
    )


def _fill(folder: Path, calls: Calls, events: int) -> None:
    with EventLog(folder) as log:
        _append(log, calls, events)
        log.fold()
        log.compact()
        log.gc(grace_s=0)


def _row(name: str, ask: Callable[[], object], times: int = 9) -> tuple[str, str, str]:
    ask()
    took = [seconds(ask) for _ in range(times)]
    return name, f"{min(took) * 1e3:,.0f} ms", f"{statistics.median(took) * 1e3:,.0f} ms"


def _asked_anew(log: EventLog, calls: Calls) -> None:
    log.append(calls.events(1))
    log.sql(BY_MODEL_AND_DAY)


def _in_polars(log: EventLog) -> None:
    import polars as pl

    frame = log.frame(["llm.call.finished"])
    day = pl.col("occurred_at").dt.date().alias("day")
    frame.group_by(day, "request_model").agg(pl.sum("cost_usd")).collect()


def _plain_sqlite(log: EventLog, path: Path) -> tuple[str, str, str]:
    """The same question of one table with the events as JSON, in a file of its own."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute(
        "CREATE TABLE event(id TEXT PRIMARY KEY, kind TEXT, occurred_at TEXT, payload TEXT)"
    )
    columns = log.frame().select("event_id", "kind", "occurred_at", "payload")
    for batch in columns.collect_batches(chunk_size=10_000):
        rows = ((i, k, at.isoformat(), p) for i, k, at, p in batch.iter_rows())
        connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    answer = _row(
        "plain SQLite, JSON payload", lambda: connection.execute(THE_SAME_IN_SQLITE).fetchall(), 1
    )
    connection.close()
    return answer
