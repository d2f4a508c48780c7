"""Logs that older versions wrote still read, and their digests still prove them."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tracemill.events import KINDS, LlmCallFinished
from tracemill.log import rows

GOLDEN = Path(__file__).parent.parent / "golden"
LOGS = sorted(GOLDEN.glob("log_v*/events.jsonl"))


def raws(path: Path) -> list[tuple[Any, ...]]:
    """Rows as the journal holds them; columns that were added since are empty."""
    found: list[tuple[Any, ...]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        row["event_id"], row["digest"] = (
            bytes.fromhex(row["event_id"]),
            bytes.fromhex(row["digest"]),
        )
        found.append(tuple(row.get(name) for name in rows.COLUMNS))
    return found


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.parent.name)
def test_every_line_still_reads(path: Path) -> None:
    for raw in raws(path):
        row = rows.from_journal(raw)
        record = rows.recorded(row)
        assert (record.position, record.stream, record.version) == (raw[0], raw[4], raw[5])
        assert record.event.stream == record.stream
        assert rows.draft(record.event).event_id == raw[1]


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.parent.name)
def test_every_digest_is_still_what_it_was(path: Path) -> None:
    digest = b""
    for raw in raws(path):
        digest = rows.digest(digest, raw)
        assert digest == raw[-1], f"position {raw[0]}"


def test_what_has_not_changed_is_written_as_it_was() -> None:
    for raw in raws(LOGS[0]):
        event = rows.recorded(rows.from_journal(raw)).event
        if event.schema_version == raw[3]:
            assert rows.draft(event).rest == tuple(raw[8:-1])


def test_every_version_of_every_kind_has_a_golden_line() -> None:
    held = {(raw[2], raw[3]) for path in LOGS for raw in raws(path)}
    needed = {(k, v) for k, cls in KINDS.items() for v in range(1, cls.schema_version + 1)}
    assert needed - held == set(), "add a line to tests/golden/log_v*/events.jsonl"


def test_a_golden_call_says_what_it_said() -> None:
    event = rows.recorded(rows.from_journal(raws(LOGS[0])[1])).event
    assert isinstance(event, LlmCallFinished)
    assert (event.cost_usd, event.usage.input_tokens) == (Decimal("0.000012345"), 12)
    assert event.occurred_at.isoformat() == "2026-01-02T03:04:05.678901+00:00"
