"""`tracemill quarantine` and `explain` on a warehouse that was built: every way a record can end."""

import json
import random
from pathlib import Path

import polars as pl
import pytest

from tests.assets.test_training_data import lines, made, row, said
from tests.cli.running import Run
from tracemill.settings import Settings

QUESTION = "Why " + said(random.Random(3), 15) + "?"


@pytest.fixture(scope="session")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One line for each end, in the order of the test below."""
    folder = tmp_path_factory.mktemp("ends") / "warehouse"
    settings = Settings(warehouse=folder, harvest_installed=False).create()
    near, dice = row(0), random.Random(1)
    near["answer"] += " And more."
    turns = [{"role": role, "content": said(dice, 60)} for role in ["user", "assistant"] * 4]
    rows = [
        near,
        row(0),
        row(1),
        row(1),
        {"question": QUESTION, "answer": said(dice, 20)},
        {"question": "Why?", "answer": "So."},
        "{broken",
        {"messages": turns},
        {"question": "Why?", "answer": said(dice, 900)},
    ]
    (settings.raw_records / "ends.jsonl").write_text(lines(*rows))
    (folder / "raw" / "exam.jsonl").write_text(lines({"question": QUESTION}))
    settings.raw_dataset.write_text(
        "evaluations: {exam: exam.jsonl}\ntokens: {max_tokens: 400, over: split}\n"
        "split: {ratios: {train: 1}}"
    )
    made(settings)
    return settings


@pytest.fixture(autouse=True)
def _there(ends: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(ends.warehouse))
    monkeypatch.setenv("COLUMNS", "160")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (1, "is in train"),
        (2, "unique_records: near duplicate"),
        (3, "is in train"),
        (4, "unique_records: exact duplicate"),
        (5, "evaluation set exam, both say: why"),
        (6, "clean_records: basic.short_answer: answer under 10 characters"),
        (7, "a line of ends.jsonl:7\n  raw_records: not JSON"),
        (8, "is in train, a part of b2:"),
        (9, "fitting_records: over 400 tokens, in turns that cannot be cut"),
    ],
)
def test_each_line_is_told_where_it_ended(run: Run, line: int, told: str):
    found = run("explain", f"ends.jsonl:{line}")
    assert (found.code, found.err) == (0, "")
    assert told in found.out


def test_a_duplicate_stands_beside_the_one_that_stayed(run: Run):
    [out] = run("quarantine", "--reason", "near", "-n", "5", "--json").lines
    told = run("explain", out["record_id"][:12]).out
    assert f"dropped {out['record_id']}" in told
    assert f"kept {out['kept_id']}" in told
    assert run("explain", out["record_id"].removeprefix("b2:")).out == told


def test_the_id_of_a_conversation_that_was_cut_tells_its_parts(run: Run, ends: Settings):
    fitting = pl.read_parquet(ends.kept("fitting_records") / "ends.parquet", glob=False)
    parts = fitting.drop_nulls("part_of")
    told = run("explain", parts["part_of"][0]).out.splitlines()
    assert told[0] == f"{parts['part_of'][0]} was cut into {parts.height} parts"
    assert told[1:] == [
        f"{part} of ends.jsonl:8 is in train" for part in sorted(parts["record_id"])
    ]


@pytest.mark.parametrize("record", ["ends.jsonl:10", "b2:ffffffff", "b2:", ""])
def test_what_is_no_record_is_told(run: Run, record: str):
    told = run("explain", record)
    assert (told.code, told.out) == (1, "")
    assert f"no record has the id or source {record!r}" in told.err


def test_what_was_left_out_is_counted_shown_and_filtered(run: Run):
    counts = {
        (each["step"], each["reason"]): each["n"] for each in run("quarantine", "--json").lines
    }
    assert set(counts.values()) == {1}
    assert len(counts) == 6
    header, only = run("quarantine", "--step", "raw_records", "-n", "9", "--csv").out.splitlines()
    assert header.startswith("step,origin,source,record_id,reason,text,kept_id,jaccard")
    assert only.startswith("raw_records,ends,ends.jsonl:7,,")
    assert len(run("quarantine", "-n", "2", "--json").lines) == 2
    assert not any("character" in reason for step, reason in counts if step == "raw_records")
    shown = run("quarantine", "--step", "raw_records", "-n", "1").out
    assert "at character 2" in shown
    assert "null" not in shown
    assert "ends.jsonl:9" in run("quarantine", "--origin", "ends").out


def test_a_filter_that_nothing_fits_says_what_there_is(run: Run):
    told = run("quarantine", "--step", "clean")
    assert (told.code, told.out) == (0, "")
    assert "steps are clean_records, decontaminated_records, fitting_records" in told.err
    assert "origins are ends" in told.err


def test_without_a_build_both_say_what_to_do(run: Run, tmp_path: Path):
    for command in (["quarantine"], ["explain", "ends.jsonl:1"]):
        told = run(*command, "--warehouse", str(tmp_path))
        assert told.code == 1
        assert "`tracemill build +quarantine` makes the table" in told.err


def test_json_has_null_for_what_is_not_known(run: Run):
    [refused] = run("quarantine", "--step", "raw_records", "-n", "1", "--json").lines
    assert refused["record_id"] is None
    assert json.dumps(refused["text"]) == '"{broken"'
