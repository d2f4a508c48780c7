import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tracemill.corpus.records import Record, pair, record_frame
from tracemill.corpus.shards import Sorter, write_split
from tracemill.corpus.write import (
    Dataset,
    current,
    settle,
    settled,
    version,
    versions,
    write_splits,
)
from tracemill.errors import InputError
from tracemill.files import sha256_of

WHEN = datetime(2024, 5, 6, tzinfo=UTC)
FORMATS = ("openai", "anthropic", "sharegpt", "hf")


def rows(count: int = 6) -> pl.DataFrame:
    made = [
        Record(pair(f"Why {n}?", f"Because: {n} é"), "test", f"t:{n}", WHEN + timedelta(days=n))
        for n in range(count)
    ]
    frame = record_frame(made).with_columns(group_id="record_id")
    return frame.with_columns(split=pl.Series(["train", "train", "test"] * (count // 3)))


def write(folder: Path, *batches: pl.DataFrame, salt: str = "7") -> Dataset:
    made = iter(batches)
    return write_splits(made, folder, name="demo", inputs={"a": "d1"}, salt=salt, formats=FORMATS)


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_a_version_has_all_rows_in_every_format(tmp_path: Path):
    frame = rows(300)
    data = write(tmp_path, frame)
    assert data.rows == {"train": 200, "validation": 0, "test": 100}
    for split, count in data.rows.items():
        part = frame.filter(split=split).sort("record_id")
        assert_frame_equal(pl.read_parquet(data.path / f"{split}.parquet"), part)
        lines = (data.path / "openai" / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
        expected = part["messages"].to_list()
        assert [json.loads(line)["messages"] for line in lines[:-1]] == [
            [{"role": turn["role"], "content": turn["content"]} for turn in turns]
            for turns in expected
        ]
        for form in ("anthropic", "sharegpt"):
            text = (data.path / form / f"{split}.jsonl").read_text(encoding="utf-8")
            assert text.count("\n") == count
        hub = pl.read_parquet(data.path / "hf" / "data" / f"{split}-00000-of-00001.parquet")
        assert hub["record_id"].to_list() == part["record_id"].to_list()


def test_the_manifest_says_what_it_is_made_of(tmp_path: Path):
    data = write(tmp_path, rows())
    manifest = json.loads((data.path / "manifest.json").read_text())
    described = {"README.md", "card.json", "croissant.json", "manifest.json", "hf/README.md"}
    names = [name for name in files(data.path) if name not in described]
    assert manifest == {
        "name": "demo",
        "digest": data.digest,
        "salt": "7",
        "rows": data.rows,
        "inputs": {"a": "d1"},
        "files": {name: sha256_of(data.path / name) for name in names},
    }
    assert len(names) == 3 * 5
    assert described < set(files(data.path))
    assert data.path == tmp_path / data.digest[:16]


@pytest.mark.parametrize("size", [7, 40, 300])
def test_the_same_rows_are_the_same_version_in_any_order(tmp_path: Path, size: int):
    frame = rows(300)
    first = write(tmp_path, frame)
    mixed = frame.sample(fraction=1, shuffle=True, seed=size)
    again = write(tmp_path, *(mixed.slice(at, size) for at in range(0, 300, size)))
    assert again == first == current(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([first.path.name, "current"])


def test_rows_are_sorted_over_many_runs(tmp_path: Path):
    frame = rows(600)
    with Sorter(tmp_path, run_bytes=5_000) as kept:
        for batch in frame.sample(fraction=1, shuffle=True, seed=1).iter_slices(50):
            kept.add(batch)
        assert len(list(tmp_path.iterdir())) > 5
        found = {split: pl.concat(kept.sorted(split)) for split in kept.splits()}
    assert set(found) == {"train", "test"}
    for split, part in found.items():
        assert_frame_equal(part, frame.filter(split=split).sort("record_id"))


def test_a_large_split_is_cut_into_shards_for_a_hub(tmp_path: Path):
    frame = rows(90).sort("record_id")
    parts = frame.iter_slices(30)
    count = write_split(parts, tmp_path, "train", ["hf"], ("role", "content"), shard_bytes=10)
    names = [f"train-0000{n}-of-00003.parquet" for n in range(3)]
    assert files(tmp_path) == [*(f"hf/data/{name}" for name in names), "train.parquet"]
    whole = pl.concat(pl.read_parquet(tmp_path / "hf" / "data" / name) for name in names)
    assert count == 90
    assert whole["record_id"].to_list() == frame["record_id"].to_list()


def test_old_versions_stay_and_are_found_by_digest(tmp_path: Path):
    first, second = write(tmp_path, rows()), write(tmp_path, rows(9))
    assert current(tmp_path) == second
    assert versions(tmp_path) == (first, second)
    assert version(tmp_path, first.digest) == version(tmp_path, first.digest[:6]) == first
    assert write(tmp_path, rows()) == first == current(tmp_path)
    with pytest.raises(InputError, match=f"no versions .* 'zz': there are {first.path.name}, "):
        version(tmp_path, "zz")
    with pytest.raises(InputError, match="2 versions"):
        version(tmp_path, "")


def test_another_salt_is_another_version(tmp_path: Path):
    assert write(tmp_path, rows()) != write(tmp_path, rows(), salt="8")


def test_a_version_that_fails_leaves_nothing(tmp_path: Path):
    first = write(tmp_path, rows())
    with pytest.raises(InputError, match="not even an empty batch"):
        write(tmp_path)
    with pytest.raises(InputError, match="give all the same"):
        write(tmp_path, rows(), rows().drop("label"))
    assert sorted(os.listdir(tmp_path)) == sorted([first.path.name, "current"])
    assert current(tmp_path) == first


def test_no_rows_are_a_version_too(tmp_path: Path):
    data = write(tmp_path, rows().clear())
    assert data.rows == {"train": 0, "validation": 0, "test": 0}
    assert_frame_equal(pl.read_parquet(data.path / "train.parquet"), rows().clear())


def test_no_data_set_is_a_clear_error(tmp_path: Path):
    with pytest.raises(InputError, match="build it first"):
        current(tmp_path)
    (tmp_path / "current").write_text("gone\n")
    with pytest.raises(InputError, match="build the data set again"):
        current(tmp_path)
    assert versions(tmp_path) == ()


def test_the_first_place_of_a_record_is_remembered(tmp_path: Path):
    assert settled(tmp_path, "0").is_empty()
    settle(tmp_path, "0", pl.DataFrame({"record_id": ["a", "b"], "split": ["train", "test"]}))
    settle(tmp_path, "0", pl.DataFrame({"record_id": ["b", "c"], "split": ["train", "train"]}))
    settle(tmp_path, "1", pl.DataFrame({"record_id": ["b"], "split": ["dev"], "more": [1]}))
    assert settled(tmp_path, "0").rows() == [("a", "train"), ("b", "test"), ("c", "train")]
    assert settled(tmp_path, "1").rows() == [("b", "dev")]
    write(tmp_path, rows())
    assert len(versions(tmp_path)) == 1
