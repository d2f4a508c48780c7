import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from tracemill.corpus.card import Contamination, Drop, Measures, Story, card, facts
from tracemill.corpus.records import Message, Record, pair, record_frame
from tracemill.corpus.write import write_splits

WHEN = datetime(2024, 5, 6, tzinfo=UTC)
STORY = Story(
    description="Questions | answers.",
    sources=[{"origin": "chat", "licence": "MIT", "read": 1_200, "quarantined": 2}],
    drops=[Drop("clean", "answer under 10 | characters", 1_234), Drop("near", "duplicate", 5)],
    personal={"email": {"redacted": 3}, "phone": {"dropped": 1}},
    duplicates={"exact": 1, "near": 4, "policy": "star", "threshold": 0.8},
    contamination=[Contamination("gsm8k", 1_319, 2, 1)],
    rules={"answer_characters": 10},
    split={"ratios": {"train": 0.9, "test": 0.1}, "by": ["duplicates", "user_id"]},
    warnings=["test is empty"],
    rebuild={"command": "make data", "recipe": "name: demo\n"},
    versions={"polars": "2.1.0"},
)


def rows() -> pl.DataFrame:
    made = [
        Record(pair("a" * 10, "b" * n), "chat" if n % 2 else "faq", f"s{n}", WHEN, label="x<y")
        for n in range(1, 101)
    ]
    splits = pl.Series(["test" if n % 10 == 0 else "train" for n in range(1, 101)])
    return record_frame(made).with_columns(split=splits, group_id="record_id", tokens=pl.lit(7))


def told(story: Story, frame: pl.DataFrame) -> dict[str, Any]:
    measures = Measures()
    for batch in frame.iter_slices(30):
        measures.add(batch)
    counts = {name: int((frame["split"] == name).sum()) for name in ("train", "validation", "test")}
    manifest = {"name": "demo", "digest": "d" * 64, "salt": "0", "rows": counts}
    return facts(manifest | {"inputs": {"in": "b2:1"}, "files": {"t.jsonl": "f"}}, measures, story)


def test_the_facts_are_what_the_rows_are():
    found = told(Story(), rows())
    assert found["origin"] == {
        "chat": {"train": 50, "validation": 0, "test": 0},
        "faq": {"train": 40, "validation": 0, "test": 10},
    }
    assert found["label"] == {"x<y": {"train": 90, "validation": 0, "test": 10}}
    assert found["lengths"]["characters"] == {
        "train": {"p5": 15, "p50": 59, "p95": 105, "max": 109, "sum": 90 * 10 + 4_500},
        "test": {"p5": 20, "p50": 60, "p95": 110, "max": 110, "sum": 650},
    }
    assert found["lengths"]["tokens"]["train"]["sum"] == 630
    assert found["period"] == {"from": WHEN.isoformat(), "to": WHEN.isoformat()}
    assert "licence" not in found or found["licence"] == {}


def test_batches_of_any_size_have_the_same_facts():
    whole = Measures()
    whole.add(rows())
    parts = Measures()
    for batch in rows().iter_slices(7):
        parts.add(batch)
    assert whole.facts(["train", "test"]) == parts.facts(["train", "test"])
    assert whole.used == {"role", "content"}
    called = record_frame([Record([Message("assistant", None, tool_calls="[]")], "o", "s", WHEN)])
    parts.add(called.with_columns(split=pl.lit("train")))
    assert parts.used == {"role", "content", "tool_calls"}


def test_a_card_says_what_is_known():
    text = card(told(STORY, rows()))
    lines = [
        "# demo",
        "Questions | answers.",
        "| faq | 40 | 0 | 10 | 50 |",
        "| x&lt;y | 90 (100.0%) | 0 | 10 (100.0%) | 100 |",
        "| characters | train | 15 | 59 | 105 | 109 | 5,400 |",
        "| clean | answer under 10 \\| characters | 1,234 |",
        "| all |  | 1,239 |",
        "| gsm8k | 1,319 | 2 | 1 |",
        "| email | 0 | 3 |",
        "- threshold: 0.8",
        "- ratios: train 0.9, test 0.1",
        "- by: duplicates, user_id",
        "- warning: test is empty",
        "make data",
        "name: demo",
        "| polars | 2.1.0 |",
    ]
    assert [line for line in lines if line not in text.split("\n")] == []


def test_a_card_has_no_empty_section():
    text = card(told(Story(), rows().drop("tokens").with_columns(label=pl.lit(None, pl.String))))
    sections = [part.split("\n", 1) for part in text.split("\n## ")[1:]]
    assert [name for name, _ in sections] == ["Records", "Lengths", "Files", "How to rebuild"]
    assert all(body.strip() for _, body in sections)
    assert card(told(Story(), rows().clear()))


def test_a_long_table_is_cut_in_the_card_and_whole_in_its_facts():
    drops = [Drop("clean", f"reason {n}", 1) for n in range(500)]
    found = told(Story(drops=drops), rows())
    assert "| clean | reason 29 | 1 |\n| … | 470 other reasons, in card.json | 470 |" in card(found)
    assert "| all |  | 500 |" in card(found)
    assert len(found["drops"]) == 500


def test_a_version_carries_its_card(tmp_path: Path):
    data = write_splits(
        iter([rows()]), tmp_path, name="demo", inputs={}, salt="0", formats=["hf"], story=STORY
    )
    text = (data.path / "README.md").read_text(encoding="utf-8")
    kept = json.loads((data.path / "card.json").read_text(encoding="utf-8"))
    assert text == card(kept)
    assert kept["drops"][0]["records"] == 1_234
    _, matter, body = (data.path / "hf" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert body == "\n" + text
    assert yaml.safe_load(matter)["configs"] == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": "data/train-*"},
                {"split": "test", "path": "data/test-*"},
            ],
        }
    ]
    linked = json.loads((data.path / "croissant.json").read_text(encoding="utf-8"))
    assert {file["@id"]: file["sha256"] for file in linked["distribution"]} == kept["files"]
