"""Ten thousand damaged records: nothing crashes, nothing is lost, and the good ones stay as they were.

The damage is made here, from a seed; what can be read by columns is read by rows too.
"""

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal
from pyarrow import parquet

from tracemill.corpus.read import read_records
from tracemill.corpus.records import Batch

RECORDS = 10_000
SEED = 4


def good(number: int) -> dict[str, object]:
    words = random.Random(number).choices(["why", "é", "the", "😀", "log,", "line\n", "\\n"], k=12)
    turns = [
        {"role": "user", "content": f"Question {number}: {' '.join(words)}"},
        {"role": "assistant", "content": f"Answer {number}."},
    ]
    return {"messages": turns, "source": str(number), "label": "good"}


def cut(line: bytes, dice: random.Random) -> bytes:
    return line[: dice.randrange(1, len(line))]


def swapped(line: bytes, dice: random.Random) -> bytes:
    table = bytes.maketrans(b"{}[]", bytes(dice.sample(b"{}[]", 4)))
    return line.translate(table)


def with_bytes(line: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(line))
    odd = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00", b"\r", b"\x1e", b'"', b"\\", b"\xf0\x9f"]
    return line[:at] + dice.choice(odd) + line[at:]


def bits(line: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(line))
    return line[:at] + bytes([line[at] ^ (1 << dice.randrange(8))]) + line[at + 1 :]


def surrogate(line: bytes, dice: random.Random) -> bytes:
    return line.replace(b"Answer", b"\\ud800" if dice.random() < 0.5 else b"\\udc00x")


def deep(line: bytes, dice: random.Random) -> bytes:
    depth = dice.choice([50, 500, 5_000, 20_000])
    nest = b"[" * depth + b"]" * depth if dice.random() < 0.5 else b'{"a":' * depth
    return line[:-1] + b', "x": ' + nest + b"}"


def huge(line: bytes, dice: random.Random) -> bytes:
    return line.replace(b"Answer", b"Answer " + b"long " * dice.choice([100, 10_000, 60_000]))


def typed(line: bytes, dice: random.Random) -> bytes:
    row = json.loads(line)
    odd = [None, 3, -1.5, True, [], {}, [[]], "", " ", {"role": 1}, 10**400, [None], ["x"]]
    where = dice.randrange(5)
    if where == 0:
        row["messages"] = dice.choice(odd)
    elif where == 1:
        row["messages"][dice.randrange(2)] = dice.choice(odd)
    elif where == 2:
        turn, field = (
            dice.choice(row["messages"]),
            dice.choice(["role", "content", "name", "weight"]),
        )
        turn[field] = dice.choice(odd)
    elif where == 3:
        row[dice.choice(["source", "label", "timestamp", "rating", "tools", "system"])] = (
            dice.choice(odd)
        )
    else:
        row["messages"][1]["tool_calls"] = dice.choice(odd)
    return json.dumps(row).encode()


def doubled(line: bytes, dice: random.Random) -> bytes:
    return dice.choice(
        [line + line, line + b" " + line, line[:-1] + b"," + line[1:], line + b"}", b"{" + line]
    )


def number(line: bytes, dice: random.Random) -> bytes:
    odd = [b"NaN", b"Inf", b"-Infinity", b"1e999", b"9" * 5000, b"01", b"1.", b"-", b"0x10", b"nul"]
    return line[:-1] + b', "x": ' + dice.choice(odd) + b"}"


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    *(cut, swapped, with_bytes, bits, surrogate, deep, huge, typed, doubled, number)
]


def poisoned(encoded: Callable[[int], bytes]) -> tuple[list[bytes], list[int]]:
    """Lines of which three in ten are damaged, none with a line end in it, and which are not."""
    dice = random.Random(SEED)
    lines, whole = [], []
    for n in range(RECORDS):
        line = encoded(n)
        if dice.random() < 0.3:
            mutation = (
                huge
                if n % 1000 == 7
                else dice.choice([each for each in MUTATIONS if each is not huge])
            )
            line = mutation(line, dice).replace(b"\n", b" ")
        else:
            whole.append(n)
        lines.append(line)
    return lines, whole


def read(path: Path) -> Batch:
    """By columns and by rows; JSON that is not in lines is read by rows alone."""
    by_columns = read_by(path, True)
    if ".json" in path.suffixes:
        return by_columns
    by_rows = read_by(path, False)
    assert_frame_equal(by_columns.kept, by_rows.kept)
    assert_frame_equal(by_columns.quarantined, by_rows.quarantined)
    return by_columns


def read_by(path: Path, by_columns: bool) -> Batch:
    batches = list(read_records(path, by_columns=by_columns))
    return Batch(*(pl.concat([each[part] for each in batches]) for part in (0, 1)))


def clean(folder: Path) -> pl.DataFrame:
    """The records as they are without damage."""
    path = folder / "clean.jsonl"
    path.write_text("\n".join(json.dumps(good(n)) for n in range(RECORDS)))
    return read_by(path, True).kept


def assert_good_ones_are_as_before(batch: Batch, folder: Path, whole: list[int]) -> None:
    names = {str(n) for n in whole}
    columns = ["record_id", "messages", "source", "label"]
    before = clean(folder).select(columns).filter(pl.col("source").is_in(names))
    found = batch.kept.select(columns).unique("record_id", maintain_order=True)
    assert_frame_equal(
        found.filter(pl.col("record_id").is_in(before["record_id"].implode())), before
    )


def test_lines_of_json(tmp_path: Path):
    lines, whole = poisoned(lambda n: json.dumps(good(n), ensure_ascii=n % 2 == 0).encode())
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    batch = read(path)
    assert batch.kept.height + batch.quarantined.height == sum(bool(line.strip()) for line in lines)
    assert batch.quarantined.height > 1_500
    assert batch.quarantined["line"].is_sorted()
    assert_good_ones_are_as_before(batch, tmp_path, whole)


def test_an_array_of_json(tmp_path: Path):
    lines, whole = poisoned(lambda n: json.dumps(good(n), ensure_ascii=n % 2 == 0).encode())
    path = tmp_path / "a.json"
    path.write_bytes(b"[\n" + b",\n".join(lines) + b"\n]")
    batch = read(path)
    told = {*batch.quarantined["line"]} | {int(n) + 2 for n in batch.kept["source"] if n.isdigit()}
    assert len(told) > 0.97 * RECORDS
    assert_good_ones_are_as_before(batch, tmp_path, whole)


def test_cells_of_csv(tmp_path: Path):
    def encoded(n: int) -> bytes:
        cells = io.StringIO()
        said = [turn["content"].replace("\n", " ") for turn in good(n)["messages"]]  # pyright: ignore
        csv.writer(cells, quoting=csv.QUOTE_ALL, lineterminator="").writerow([*said, n])
        return cells.getvalue().encode()

    lines, whole = poisoned_cells(encoded)
    path = tmp_path / "a.csv"
    path.write_bytes(b"prompt,completion,source\n" + b"\n".join(lines))
    batch = read(path)
    kept = set(batch.kept["source"])
    assert sum(str(n) in kept for n in whole) > 0.999 * len(whole)
    assert batch.quarantined.height > 500
    spans = batch.kept["messages"].list.eval(
        pl.element().struct.field("content").str.count_matches("\n")
    )
    rows = batch.kept.height + batch.quarantined.height
    assert rows + spans.list.sum().sum() >= sum(bool(line.strip()) for line in lines)


def poisoned_cells(encoded: Callable[[int], bytes]) -> tuple[list[bytes], list[int]]:
    dice = random.Random(SEED)
    lines, whole = [], []
    for n in range(RECORDS):
        line = encoded(n)
        if dice.random() < 0.3:
            mutation = huge if n % 100 == 7 else dice.choice([cut, with_bytes, bits])
            line = mutation(line, dice).replace(b"\n", b" ")
        else:
            whole.append(n)
        lines.append(line)
    return lines, whole


def test_rows_of_parquet(tmp_path: Path):
    dice = random.Random(SEED)
    odd = [b"\xff", b"", b" ", b"\xed\xa0\x80", b"x\x00y", None, b"long " * 20_000]
    said = [f"Question {n}".encode() for n in range(RECORDS)]
    damaged = {n: dice.choice(odd) for n in range(RECORDS) if dice.random() < 0.3 and n % 97}
    asked = [damaged.get(n, text) for n, text in enumerate(said)]
    ends = [0]
    for text in asked:
        ends.append(ends[-1] + len(text or b""))
    there = pa.array([text is not None for text in asked]).buffers()[1]
    content = b"".join(text or b"" for text in asked)
    buffers = [there, pa.array(ends, pa.int32()).buffers()[1], pa.py_buffer(content)]
    prompts = pa.Array.from_buffers(pa.string(), RECORDS, buffers)
    table = pa.table({"prompt": prompts, "completion": ["A"] * RECORDS})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    batch = read(tmp_path / "a.parquet")
    refused = {b"\xff", b"", b" ", b"\xed\xa0\x80", None}
    expected = [n + 1 for n in range(RECORDS) if damaged.get(n, b"x") in refused]
    assert batch.quarantined["line"].to_list() == expected
    assert batch.kept.height == RECORDS - len(expected)


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.jsonl.gz", "a.csv.zst"]
)
def test_noise_is_no_file(tmp_path: Path, name: str):
    for seed in range(5):
        (tmp_path / name).write_bytes(random.Random(seed).randbytes(20_000))
        batch = read(tmp_path / name)
        assert batch.kept.is_empty()
        assert not batch.quarantined.is_empty()
