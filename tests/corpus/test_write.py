import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tracemill.corpus import records
from tracemill.corpus.write import Table, current, write_splits, write_table
from tracemill.errors import InputError
from tracemill.files import sha256_of

WHEN = datetime(2024, 5, 6, tzinfo=UTC)


def rows(count: int = 6) -> pl.DataFrame:
    made = [
        records.record(f"Why {n}?", f"Because: {n} é", "a hint" * (n % 2), "test", WHEN)
        for n in range(count)
    ]
    frame = records.record_frame(made).with_columns(group_id="record_id")
    return frame.with_columns(split=pl.Series(["train", "train", "test"] * (count // 3)))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_frame_and_its_batches_are_the_same_table(tmp_path: Path):
    frame = rows(60)
    one = write_table(frame, tmp_path / "one.parquet")
    two = write_table((frame.slice(at, 7) for at in range(0, 60, 7)), tmp_path / "two.parquet")
    assert one == Table(tmp_path / "one.parquet", 60, sha256_of(tmp_path / "one.parquet"))
    assert two.rows == 60
    assert_frame_equal(pl.read_parquet(one.path), frame)
    assert_frame_equal(pl.read_parquet(two.path), frame)


def test_a_table_that_fails_leaves_the_old_one(tmp_path: Path):
    path = tmp_path / "table.parquet"
    before = write_table(rows(), path)

    def broken() -> Iterator[pl.DataFrame]:
        yield rows()
        raise InputError("the source broke off")

    with pytest.raises(InputError, match="broke off"):
        write_table(broken(), path)
    with pytest.raises(InputError, match="nothing to write"):
        write_table(iter(()), path)
    assert sha256_of(path) == before.digest
    assert files(tmp_path) == ["table.parquet"]


def test_an_empty_frame_keeps_its_columns(tmp_path: Path):
    table = write_table(rows().clear(), tmp_path / "empty.parquet")
    assert_frame_equal(pl.read_parquet(table.path), rows().clear())


def test_a_split_is_chat_rows_with_their_lineage_beside_them(tmp_path: Path):
    frame = rows().sort("record_id")
    data = write_splits(frame, tmp_path, name="demo", inputs={"unique": "d1"}, seed="7")
    assert data.rows == {"train": 4, "validation": 0, "test": 2}
    for split in data.rows:
        part = frame.filter(split=split)
        assert_frame_equal(pl.read_parquet(data.path / f"{split}.parquet"), part)
        lines = (data.path / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == [
            {
                "messages": [
                    {"role": "user", "content": f"{context}\n\n{query}" if context else query},
                    {"role": "assistant", "content": response},
                ]
            }
            for query, response, context in part.select(
                "user_query", "assistant_response", "context"
            ).rows()
        ]


def test_the_manifest_says_what_it_is_made_of(tmp_path: Path):
    data = write_splits(rows(), tmp_path, name="demo", inputs={"unique": "d1"}, seed="7")
    manifest = json.loads((data.path / "manifest.json").read_text())
    names = [f"{split}.{kind}" for split in sorted(data.rows) for kind in ("jsonl", "parquet")]
    assert manifest == {
        "name": "demo",
        "digest": data.digest,
        "seed": "7",
        "rows": data.rows,
        "inputs": {"unique": "d1"},
        "files": {name: sha256_of(data.path / name) for name in names},
    }
    assert files(data.path) == sorted([*names, "manifest.json"])
    assert data.path == tmp_path / data.digest[:16]


def test_the_same_rows_are_the_same_version_in_any_order(tmp_path: Path):
    first = write_splits(rows(), tmp_path, name="demo", inputs={}, seed="7")
    again = write_splits(rows().reverse(), tmp_path, name="demo", inputs={}, seed="7")
    assert again == first == current(tmp_path)
    assert files(tmp_path) == sorted([first.path.name, "current"])


def test_current_names_the_last_version_and_the_others_stay(tmp_path: Path):
    first = write_splits(rows(), tmp_path, name="demo", inputs={}, seed="7")
    second = write_splits(rows(9), tmp_path, name="demo", inputs={}, seed="7")
    assert current(tmp_path) == second
    assert files(tmp_path) == sorted([first.path.name, second.path.name, "current"])
    write_splits(rows(), tmp_path, name="demo", inputs={}, seed="7")
    assert current(tmp_path) == first


def test_no_data_set_is_a_clear_error(tmp_path: Path):
    with pytest.raises(InputError, match="build it first"):
        current(tmp_path)
