"""A log that an older tracemill wrote, with fewer columns, goes on as if it had been ours."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import pyarrow.parquet as pq
import pytest

from tests.log.test_golden import GOLDEN, raws
from tests.log.test_views_asked import story
from tracemill.errors import UsageError
from tracemill.events import KINDS, Happened
from tracemill.files import sha256_of
from tracemill.log import EventLog, rows
from tracemill.log.views import definitions

FIRST, SECOND = (GOLDEN / name / "events.jsonl" for name in ("log_v1", "log_v2"))
OLD_COLUMNS = list(json.loads(FIRST.read_text(encoding="utf-8").splitlines()[0]))
SEALED = 5
TABLES = """
CREATE TABLE seen(event_id BLOB PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE head(stream TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE segment(
  file TEXT PRIMARY KEY, lo INTEGER NOT NULL, hi INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
  sha256 TEXT NOT NULL, digest BLOB NOT NULL, recorded_at INTEGER NOT NULL, replaced_at INTEGER);
"""


def events_of(path: Path) -> list[Happened]:
    return [rows.recorded(rows.from_journal(raw)).event for raw in raws(path)]


def old_log(folder: Path, held: Sequence[tuple[Any, ...]] = ()) -> Path:
    """The first golden log, or these rows, five sealed, with the columns that there were then."""
    (folder / "segments").mkdir(parents=True)
    held = held or raws(FIRST)
    path = folder / "segments" / "000000000001-000000000005-aaaaaa.parquet"
    pq.write_table(rows.to_arrow(held[:SEALED]).select(OLD_COLUMNS), path)
    connection = apsw.Connection(str(folder / "journal.db"))
    typed = ", ".join(OLD_COLUMNS).replace("position", "position INTEGER PRIMARY KEY", 1)
    with connection:
        connection.execute(TABLES)
        connection.execute(f"CREATE TABLE journal({typed}, keep INTEGER NOT NULL DEFAULT 0)")
        last = held[SEALED - 1]
        manifest = (path.name, 1, SEALED, path.stat().st_size, sha256_of(path), last[-1], last[6])
        connection.execute("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", manifest)
        for raw in held:
            row = dict(zip(rows.COLUMNS, raw, strict=True))
            connection.execute("INSERT INTO seen VALUES (?, ?)", (raw[1], raw[0]))
            connection.execute("INSERT OR REPLACE INTO head VALUES (?, ?)", (raw[4], raw[5]))
            if raw[0] > SEALED:
                values = [*(row[name] for name in OLD_COLUMNS), KINDS[raw[2]].keep]
                marks = ", ".join("?" * len(values))
                connection.execute(f"INSERT INTO journal VALUES ({marks})", values)  # noqa: S608
    connection.close()
    return folder


def test_there_are_columns_that_it_lacks() -> None:
    assert set(rows.COLUMNS) - set(OLD_COLUMNS) >= {"reasoning_output_tokens", "prompt_name"}


def test_an_older_log_opens_goes_on_folds_merges_and_verifies(tmp_path: Path) -> None:
    old, new = events_of(FIRST), events_of(SECOND)
    with EventLog(old_log(tmp_path / "log")) as log:
        assert [r.event for r in log.read()] == old
        assert log.verify().problems == ()
        log.append(new)
        assert log.append(old) == list(range(1, len(old) + 1))
        for step in (log.fold, log.compact, lambda: log.gc(grace_s=0)):
            step()
            assert [r.event for r in log.read()] == [*old, *new]
            assert log.verify().problems == ()
        assert len(log.segments()) == 1
        assert set(pq.read_schema(log.segments()[0]).names) == set(rows.COLUMNS)
        assert log.frame().collect().height == len(old) + len(new)


@pytest.mark.parametrize("sealed", [False, True])
def test_every_view_answers_over_both_versions(tmp_path: Path, sealed: bool) -> None:
    with EventLog(old_log(tmp_path / "log")) as log:
        log.append(events_of(SECOND))
        if sealed:
            log.fold()
        for view in () if sealed else definitions():
            log.sql(f"SELECT * FROM {view}")  # noqa: S608
        found = {row["call_id"][-4:]: row for row in log.sql("FROM calls").to_dicts()}
    told = ("status", "prompt", "answer", "error_type", "attempts", "finish_reason", "refusal")
    assert {call: tuple(row[name] for name in told) for call, row in found.items()} == {
        "ca11": ("finished", "What is a fold?\u2028\u00e9\U0001f600", "Sealing the tail.", None, 1, "stop", None),
        "ca12": ("failed", None, None, "timeout", 1, None, None),
        "ca01": ("finished", "What is the weather in Oslo?\u2028\u00e9\U0001f600", "Rain", None, 2, "tool_call", None),
        "ca02": ("failed", None, None, "context_length_exceeded", 1, None, None),
        "ca03": ("aborted", "Once more?", "Once upon", "connection", 1, None, None),
        "ca04": ("crashed", None, None, "crashed", None, None, None),
        "ca05": ("cached", "Once more?", None, None, 0, None, None),
        "ca06": ("finished", None, "", None, 1, "refusal", "I cannot help with that."),
    }  # fmt: skip


def test_similar_failures_are_found_in_both_versions(tmp_path: Path) -> None:
    with EventLog(old_log(tmp_path / "log")) as log:
        log.append(events_of(SECOND))
        found: list[dict[str, Any]] = log.find_similar_failures("no answer in 45 s").to_dicts()
        assert [row["call_id"][-4:] for row in found[:1]] == ["ca12"]
        assert {row["call_id"][-4:] for row in found} == {"ca12", "ca02", "ca03", "ca04", "ca06"}
        by_call = {row["call_id"][-4:]: row["next"] for row in found}
        assert by_call["ca02"] == {
            "how": "fallback",
            "call_id": "0194255b-0000-7000-8000-00000000ca03",
            "model": "openai/gpt-5",
            "status": "aborted",
        }
        with pytest.raises(UsageError, match="no call"):
            log.find_similar_failures("0194255b-0000-7000-8000-00000000cabb")


def test_columns_that_it_lacks_are_read_out_of_its_payloads(tmp_path: Path) -> None:
    digest, held = b"", list[tuple[Any, ...]]()
    for position, event in enumerate(story(), 1):
        d = rows.draft(event)
        row = (position, d.event_id, d.kind, d.schema_version, d.stream, position, 1, d.occurred_us)
        digest = rows.digest(digest, (*row, *d.rest))
        held.append((*row, *d.rest, digest))
    expected = rows.to_arrow(held).select(["position", *rows.HOT]).to_pylist()
    question = f"SELECT position, {', '.join(rows.HOT)} FROM events ORDER BY position"  # noqa: S608
    with EventLog(old_log(tmp_path / "log", held)) as log:
        assert log.arrow(question).to_pylist() == expected
        spent = log.sql("FROM costs_by_tag ORDER BY ALL").rows()
        for step in (log.fold, log.compact, lambda: log.gc(grace_s=0)):
            step()
            assert log.arrow(question).to_pylist() == expected
            assert log.sql("FROM costs_by_tag ORDER BY ALL").rows() == spent
        assert set(pq.read_schema(log.segments()[0]).names) == set(rows.COLUMNS)
    assert len([row for row in expected if row["metadata"]]) > len(held) / 2


def test_tags_of_an_older_call_are_those_of_its_start(tmp_path: Path) -> None:
    asked, answered = (
        rows.draft(event) for event in story()[:3:2] if event.stream == story()[0].stream
    )
    payload = json.loads(answered.rest[-1])
    del payload["metadata"]
    held = [
        (i, d.event_id, d.kind, d.schema_version, d.stream, i, 1, d.occurred_us, *rest, b"d" * 16)
        for i, (d, rest) in enumerate(
            ((asked, asked.rest), (answered, (*answered.rest[:-1], json.dumps(payload)))), 1
        )
    ]
    harvest = rows.draft(events_of(FIRST)[0])
    held += [
        (i, bytes([i]) * 16, harvest.kind, 1, f"s{i}", 1, 1, 1, *harvest.rest, b"d" * 16)
        for i in range(3, 7)
    ]
    with EventLog(old_log(tmp_path / "log", held)) as log:
        query = "SELECT metadata FROM calls WHERE call_id = ?"
        assert log.sql(query, [answered.stream[5:]]).item() == '{"team":"a","job":"x"}'
