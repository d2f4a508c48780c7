"""Files of every kind and layout become the same records, by columns as by rows."""

import gzip
import hashlib
import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tracemill.corpus import formats
from tracemill.corpus.fields import NAMES
from tracemill.corpus.read import origins, read_records
from tracemill.corpus.recipe import Source
from tracemill.corpus.records import BATCH_ROWS, Batch, Message, Record, record_frame
from tracemill.errors import InputError

DATA = Path(os.environ.get("TRACEMILL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
GOOD = {"user_query": "Why?", "assistant_response": "Because."}


def whole(batches: list[Batch]) -> Batch:
    return Batch(
        pl.concat([each.kept for each in batches]),
        pl.concat([each.quarantined for each in batches]),
    )


def read(path: Path, **how: Any) -> Batch:
    """By columns; that reading by rows gives the same is part of every test. JSON that is not in
    lines is read by rows alone."""
    by_columns = whole(list(read_records(path, **how)))
    if ".json" in path.suffixes:
        return by_columns
    by_rows = whole(list(read_records(path, **how, by_columns=False)))
    assert_frame_equal(by_columns.kept, by_rows.kept)
    assert_frame_equal(by_columns.quarantined, by_rows.quarantined)
    return by_columns


def records_in(path: Path, content: str | bytes, **recipe: Any) -> Batch:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(path, recipe=Source(**recipe))


def refusals(batch: Batch) -> list[tuple[int | None, str]]:
    return batch.quarantined.select("line", "reason").rows()


def pairs(batch: Batch) -> list[tuple[str, ...]]:
    return [tuple(turn["content"] for turn in row) for row in batch.kept["messages"].to_list()]


def test_bad_lines_are_quarantined_beside_the_good_ones(tmp_path: Path):
    lines = [
        json.dumps(GOOD),
        "{not json",
        " ",
        json.dumps({"question": "How?"}),
        json.dumps({"prompt": " ", "completion": "x"}),
        json.dumps({"prompt": 3, "completion": "x"}),
        '["a list"]',
        '{"prompt": "\\ud800", "completion": "x"}',
        json.dumps(GOOD | {"timestamp": "yesterday"}),
        json.dumps(GOOD | {"rating": "good"}),
        json.dumps(GOOD | {"label": 1.5}),
        "{} {}",
        "[" * 100_000,
    ]
    batch = records_in(tmp_path / "a.jsonl", "\n".join(lines))
    assert pairs(batch) == [("Why?", "Because.")]
    answers = "assistant_response, completion, output, answer, response, chosen"
    assert refusals(batch) == [
        (2, "not JSON: Expecting property name enclosed in double quotes at character 2"),
        (4, f"no assistant_response (known as {answers})"),
        (5, "user_query is empty"),
        (6, "user_query is a number, not text"),
        (7, "not an object with named fields"),
        (8, "user_query is not valid Unicode: not UTF-8, or half of a surrogate pair"),
        (9, "timestamp 'yesterday' is neither ISO 8601 nor Unix seconds"),
        (10, "rating 'good' is not a number"),
        (11, "label is a number, not text or a whole number"),
        (12, "not JSON: Extra data at character 4"),
        (13, "not JSON: nested too deep"),
    ]
    assert batch.quarantined["text"][0] == "{not json"
    assert set(batch.quarantined["file"]) == {"a.jsonl"}


def test_bytes_that_are_not_utf8_cost_only_their_own_line(tmp_path: Path):
    good = json.dumps(GOOD).encode()
    bad = b'{"prompt": "caf\xe9", "completion": "x"}'
    batch = records_in(tmp_path / "a.jsonl", b"\n".join([good, bad, good]))
    assert batch.kept.height == 2
    assert refusals(batch) == [(2, "not UTF-8: invalid continuation byte")]


@pytest.mark.parametrize(
    ("query", "response"),
    [
        ("user_query", "assistant_response"),
        ("prompt", "completion"),
        ("instruction", "output"),
        ("question", "answer"),
        ("Question", " Answer "),
    ],
)
def test_columns_go_by_their_usual_names(tmp_path: Path, query: str, response: str):
    batch = records_in(tmp_path / "a.jsonl", json.dumps({query: "Why?", response: "Because."}))
    assert pairs(batch) == [("Why?", "Because.")]


ROW = {
    "prompt": "Why, then?",
    "completion": 'Two\nlines, "quoted"',
    "context": "c",
    "source": "s",
    "timestamp": "2024-05-06T07:08:09+02:00",
    "conversation_id": 7,
    "user_id": "u",
    "label": "l",
    "rating": 0.5,
    "license": "MIT",
}
TURN = dict.fromkeys(("name", "tool_calls", "tool_call_id", "weight"))
TAKEN = {
    "messages": [
        {"role": "user", "content": "c\n\nWhy, then?", **TURN},
        {"role": "assistant", "content": 'Two\nlines, "quoted"', **TURN},
    ],
    "origin": "rows",
    "source": "s",
    "timestamp": datetime(2024, 5, 6, 5, 8, 9, tzinfo=UTC),
    "tools": None,
    "call_id": None,
    "conversation_id": "7",
    "user_id": "u",
    "label": "l",
    "rating": 0.5,
    "licence": "MIT",
}


def packed(content: bytes, how: str) -> bytes:
    if how == ".zst":
        return pa.Codec("zstd").compress(content, asbytes=True)
    return gzip.compress(content) if how else content


@pytest.mark.parametrize("how", ["", ".gz", ".zst"])
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_record(tmp_path: Path, suffix: str, how: str):
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pl.DataFrame([ROW]).with_columns(
            pl.col("timestamp").str.to_datetime(time_zone="UTC"),
            pl.col("label").cast(pl.Categorical),
        ).write_parquet(path)
    elif suffix == "json":
        path.write_text(json.dumps([ROW], indent=2))
    elif suffix == "jsonl":
        path.write_text(json.dumps(ROW))
    else:
        pl.DataFrame([ROW]).write_csv(path, separator="," if suffix == "csv" else "\t")
    if how:
        content = path.read_bytes()
        path.unlink()
        path = path.with_name(path.name + how)
        path.write_bytes(packed(content, how))
    batch = read(path)
    assert refusals(batch) == []
    assert batch.kept.drop("record_id").to_dicts() == [TAKEN]


CHAT = [
    {
        "messages": [
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": "A", "weight": 1},
        ]
    },
    {
        "messages": [
            {"from": "human", "value": "Q"},
            {"from": "gpt", "value": "A"},
            {"from": "human", "value": "?"},
        ]
    },
    {
        "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}],
        "system": "S",
    },
    {
        "messages": [
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
        ]
    },
]


def test_chats_in_parquet_are_those_in_jsonl(tmp_path: Path):
    turns: list[list[dict[str, Any]]] = [
        [{"role": "user", "content": "Q"}, {"role": "assistant", "content": f"A{n}"}]
        for n in range(30)
    ]
    turns[3][1] |= {"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}
    rows = [{"messages": each, "rating": n} for n, each in enumerate(turns)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet", row_group_size=7)
    one, other = read(tmp_path / "a.jsonl"), read(tmp_path / "a.parquet")
    assert one.kept.height == 30
    assert one.kept.drop("source", "timestamp").equals(other.kept.drop("source", "timestamp"))
    assert other.kept["source"][29] == "a.parquet:30"


def test_a_recipe_maps_columns_and_gives_a_licence(tmp_path: Path):
    rows = [
        {"q": "Q", "answers": {"text": ["A", "B"]}, "meta": {"who": {"id": 3}}, "tags": ["x"]},
        {"q": "Q", "answers": {"text": []}, "meta": {}},
        {"q": "Q", "answers": {"text": ["A"]}, "licence": "MIT"},
    ]
    columns = {
        "user_query": "q",
        "assistant_response": "answers.text.0",
        "user_id": "meta.who.id",
        "label": "tags.0",
    }
    content = "\n".join(map(json.dumps, rows))
    batch = records_in(tmp_path / "a.jsonl", content, columns=columns, licence="CC0-1.0")
    assert pairs(batch) == [("Q", "A"), ("Q", "A")]
    assert batch.kept.select("user_id", "label", "licence").rows() == [
        ("3", "x", "CC0-1.0"),
        (None, None, "MIT"),
    ]
    assert refusals(batch) == [(2, "no assistant_response (known as answers.text.0)")]


def test_what_is_missing_is_told_by_the_file(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    batch = records_in(path, "\n" + json.dumps(GOOD))
    modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    assert batch.kept.select("origin", "source", "timestamp").rows() == [
        ("a", "a.jsonl:2", modified)
    ]


@pytest.mark.parametrize(
    ("given", "when"),
    [
        (1_700_000_000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (1_700_000_000.25, datetime(2023, 11, 14, 22, 13, 20, 250_000, tzinfo=UTC)),
        ("2024-01-02", datetime(2024, 1, 2, tzinfo=UTC)),
        ("2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2024-01-02 03:04:05.5-01:00", datetime(2024, 1, 2, 4, 4, 5, 500_000, tzinfo=UTC)),
    ],
)
def test_times_are_iso_8601_or_unix_seconds(tmp_path: Path, given: Any, when: datetime):
    batch = records_in(tmp_path / "a.jsonl", json.dumps(GOOD | {"created_at": given}))
    assert batch.kept["timestamp"].to_list() == [when]


def test_numbers_that_json_does_not_have_are_nothing(tmp_path: Path):
    lines = ['{"prompt": "Q", "answer": "A", "rating": NaN, "x": -Infinity}']
    lines += [
        '{"prompt": "Q", "answer": "A", "x": Inf}',
        '{"prompt": "Q", "answer": "A", "x": %s}' % ("9" * 5000),
    ]
    batch = records_in(tmp_path / "a.jsonl", "\n".join(lines))
    assert batch.kept["rating"].to_list() == [None, None]
    assert refusals(batch) == [(2, "not JSON: Expecting value at character 37")]


def test_of_a_key_that_is_there_twice_the_last_counts(tmp_path: Path):
    batch = records_in(tmp_path / "a.jsonl", '{"prompt": "P", "answer": "A", "prompt": "Q"}')
    assert pairs(batch) == [("Q", "A")]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path: Path, end: str):
    lines = [json.dumps(GOOD), "", json.dumps(GOOD), ""]
    batch = records_in(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + end.join(lines).encode())
    assert batch.kept["source"].to_list() == ["a.jsonl:1", "a.jsonl:3"]
    assert refusals(batch) == []


def test_a_csv_line_of_another_width_is_refused(tmp_path: Path):
    batch = records_in(
        tmp_path / "a.csv", 'prompt,completion\na,b\na,b,c\n"x"y,b\nd,\n\nd,"e\ne"\n'
    )
    assert pairs(batch) == [("a", "b"), ("d", "e\ne")]
    answers = "assistant_response, completion, output, answer, response, chosen"
    assert refusals(batch) == [
        (3, "3 fields where the header has 2"),
        (4, "not CSV: ',' expected after '\"'"),
        (5, f"no assistant_response (known as {answers})"),
    ]
    assert batch.kept["source"].to_list() == ["a.csv:2", "a.csv:7"]


def test_a_quote_that_never_closes_costs_only_its_own_line(tmp_path: Path):
    batch = records_in(tmp_path / "a.csv", 'prompt,completion\na,"b\nc,d\ne,f\n')
    assert pairs(batch) == [("c", "d"), ("e", "f")]
    assert refusals(batch) == [(2, "not CSV: unexpected end of data")]


def test_a_csv_text_may_be_longer_than_the_usual_limit(tmp_path: Path):
    batch = records_in(tmp_path / "a.csv", "prompt,completion\nwhy," + "x" * 200_000 + "\n")
    assert [len(answer) for _, answer in pairs(batch)] == [200_000]


def test_a_column_of_csv_may_hold_messages(tmp_path: Path):
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    pl.DataFrame({"messages": [json.dumps(turns)]}).write_csv(tmp_path / "a.csv")
    assert pairs(read(tmp_path / "a.csv")) == [("Q", "A")]


def test_a_header_that_names_a_column_twice_is_refused(tmp_path: Path):
    batch = records_in(tmp_path / "a.csv", "prompt,Prompt,answer\na,b,c\n")
    assert refusals(batch) == [(1, "the header names a column twice: prompt")]


def test_json_goes_on_at_the_next_row_that_can_be_seen(tmp_path: Path):
    good = json.dumps(GOOD)
    batch = records_in(tmp_path / "a.json", f"[\n{good},\n{{oops}},\n{good}\n]")
    assert batch.kept["source"].to_list() == ["a.json:2", "a.json:4"]
    assert refusals(batch) == [
        (3, "not JSON: Expecting property name enclosed in double quotes at character 2")
    ]
    batch = records_in(tmp_path / "b.json", f"[{good}, {{oops}}, {good}]")
    assert batch.kept.height == 1
    assert refusals(batch)[0][1].startswith("not JSON from here on: ")


def test_json_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [GOOD | {"source": f"ü{n}", "x": ["y" * n]} for n in range(200)]
    expected = [row["source"] for row in rows]
    for size in (1, 7, 100):
        monkeypatch.setattr(formats, "BLOCK_BYTES", size)
        monkeypatch.setattr(formats, "PIECE_BYTES", size)
        for indent in (None, 1):
            batch = records_in(
                tmp_path / "a.json", json.dumps(rows, indent=indent, ensure_ascii=False)
            )
            assert batch.kept["source"].to_list() == expected
            assert refusals(batch) == []


def test_lines_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines = [json.dumps(GOOD | {"x": "y" * (n % 50)}) for n in range(60)]
    lines[7], lines[50] = "", json.dumps(GOOD | {"x": "z" * 500})
    for size in (7, 64, 1000):
        monkeypatch.setattr(formats, "BLOCK_BYTES", size)
        monkeypatch.setattr(formats, "PIECE_BYTES", size)
        monkeypatch.setattr(formats, "MAX_ROW_BYTES", 400)
        batch = records_in(tmp_path / "a.jsonl", "\n".join(lines))
        there = [n for n in range(1, 61) if n not in (8, 51)]
        assert batch.kept["source"].to_list() == [f"a.jsonl:{n}" for n in there]
        assert refusals(batch) == [(51, "a row of more than 64 MB")]


@pytest.mark.parametrize("name", ["cut.jsonl.gz", "cut.jsonl.zst", "cut.csv.gz", "cut.json.gz"])
def test_a_file_that_is_cut_gives_what_came_before(tmp_path: Path, name: str):
    rows = [GOOD | {"source": str(n), "x": os.urandom(40).hex()} for n in range(4_000)]
    if name.startswith("cut.csv"):
        content = pl.DataFrame(rows).write_csv().encode()
    else:
        content = b"[\n" * ("json." in name) + b",\n"["jsonl" in name :].join(
            json.dumps(row).encode() for row in rows
        )
    path = tmp_path / name
    path.write_bytes(packed(content, path.suffix)[:-4000])
    batch = read(path)
    assert batch.kept["source"].to_list() == [row["source"] for row in rows[: batch.kept.height]]
    assert batch.kept.height > 2_000
    [(line, reason)] = refusals(batch)
    assert line == batch.kept.height + (2 if ".csv" in name or ".json." in name else 1)
    assert reason.startswith("the file cannot be read from here on: ")


@pytest.mark.parametrize(
    "name", ["bad.parquet", "plain.jsonl.gz", "plain.jsonl.zst", "bad.parquet.zst"]
)
def test_a_damaged_file_is_refused_and_the_others_are_read(tmp_path: Path, name: str):
    (tmp_path / "z.jsonl").write_text(json.dumps(GOOD))
    (tmp_path / name).write_bytes(b"PAR1 nothing")
    batch = read(tmp_path)
    assert batch.kept["source"].to_list() == ["z.jsonl:1"]
    [(file, line, reason, _)] = batch.quarantined.rows()
    assert (file, line) == (name, 1)
    assert reason.startswith("the file cannot be read from here on: ")


def test_what_follows_a_packed_file_is_told(tmp_path: Path):
    content = gzip.compress(json.dumps(GOOD).encode() + b"\n")
    batch = records_in(tmp_path / "a.jsonl.gz", content + content + b"garbage")
    assert batch.kept.height == 2
    [(line, reason)] = refusals(batch)
    assert line == 3
    assert reason.startswith("the file cannot be read from here on: Not a gzipped file")


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "jsonl.zst"])
def test_an_empty_file_has_no_rows(tmp_path: Path, suffix: str):
    batch = records_in(tmp_path / f"a.{suffix}", b"")
    assert (batch.kept.height, refusals(batch)) == (0, [])


def test_a_folder_is_read_by_name_and_what_is_no_record_is_told(tmp_path: Path):
    for name in ("b.jsonl", "sub.jsonl/a.jsonl", "notes.docx", ".hidden.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(GOOD))
    for name in ("README.md", "LICENSE", "sub.jsonl/recipe.yaml"):
        (tmp_path / name).write_text("about")
    batch = read(tmp_path)
    assert batch.kept["source"].to_list() == ["b.jsonl:1", "sub.jsonl/a.jsonl:1"]
    assert batch.quarantined["file"].to_list() == ["notes.docx"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jsonl").write_text(json.dumps(GOOD))
    folder = tmp_path / "records"
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "round").symlink_to(folder)
    (folder / "self.jsonl").symlink_to(folder / "self.jsonl")
    (folder / "gone.jsonl").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.jsonl")
    batch = read(folder)
    assert batch.kept["source"].to_list() == ["linked/a.jsonl:1"]
    nothing = "a link to nothing, or no regular file"
    assert batch.quarantined.select("file", "reason").rows() == [
        ("gone.jsonl", nothing),
        ("pipe.jsonl", nothing),
        ("round", "a link that leads back to a folder above it"),
        ("self.jsonl", nothing),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text(json.dumps(GOOD))
    (tmp_path / "a.jsonl").chmod(0)
    (tmp_path / "b").mkdir(mode=0)
    try:
        assert read(tmp_path).quarantined["file"].to_list() == ["a.jsonl", "b"]
    finally:
        (tmp_path / "b").chmod(stat.S_IRWXU)


def test_batches_are_bounded_and_an_empty_folder_gives_an_empty_one(tmp_path: Path):
    [empty] = read_records(tmp_path)
    assert (empty.kept.height, empty.quarantined.height) == (0, 0)
    (tmp_path / "a.jsonl").write_text((json.dumps(GOOD) + "\n") * (BATCH_ROWS + 1))
    for n in range(20):
        (tmp_path / f"b{n}.jsonl").write_text(json.dumps(GOOD))
    batches = list(read_records(tmp_path))
    assert [each.kept.height for each in batches] == [BATCH_ROWS, 21]
    assert [each.kept.schema for each in batches] == [empty.kept.schema] * 2


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match="no file or folder"):
        list(read_records(tmp_path / "typo"))


def test_origins_are_the_entries_of_the_folder(tmp_path: Path):
    for name in ("chat.jsonl.gz", "README.md", ".keep", "more/a.csv", "plain.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "chat.yaml").write_text("licence: MIT\n")
    (tmp_path / "more.yml").write_text("format: pairs\n")
    found = origins(tmp_path)
    assert {name: (each.path.name, each.recipe) for name, each in found.items()} == {
        "chat": ("chat.jsonl.gz", Source(licence="MIT")),
        "more": ("more", Source(format="pairs")),
        "plain": ("plain.csv", Source()),
    }
    assert found["plain"].recipe_path == tmp_path / "plain.yaml"
    assert origins(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("a.jsonl", "a.csv"), "a.csv and a.jsonl, which would both be the origin 'a'"),
        (("a.jsonl", "b.yaml"), "b.yaml is a recipe for nothing"),
    ],
)
def test_origins_that_are_unclear_are_refused(tmp_path: Path, names: tuple[str, ...], reason: str):
    for name in names:
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=reason):
        origins(tmp_path)


TEXT = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["Q", "", " ", "\x1c", "\u2028", "\x00", "a,b", '"', "\n", "é", "😀", "Inf}"]),
)
SCALAR = st.one_of(
    TEXT, st.none(), st.booleans(), st.integers(-3, 2**70), st.floats(), st.just([]), st.just({})
)
FIELD = st.one_of(TEXT, TEXT, TEXT, SCALAR)
SPEAKER = st.one_of(
    st.sampled_from(["user", "assistant", "user", "assistant", "system", "tool", "human", "gpt"]),
    SCALAR,
)
CALLS = st.one_of(st.none(), st.just([]), st.just([{"function": {"name": "f"}}]), SCALAR)
TURNS = st.one_of(
    st.fixed_dictionaries(
        {"role": SPEAKER, "content": FIELD},
        optional={
            "name": FIELD,
            "weight": st.one_of(st.sampled_from([0, 1, 2, 0.5, None, 1.0]), SCALAR),
            "tool_calls": CALLS,
            "function_call": CALLS,
            "from": SPEAKER,
            "value": FIELD,
            "tool_call_id": FIELD,
        },
    ),
    st.fixed_dictionaries({"from": SPEAKER, "value": FIELD}),
    SCALAR,
)
ROWS = st.dictionaries(
    st.sampled_from(
        [*NAMES, "conversations", "prompt", "instruction", "output", "input", "created_at", "x"]
    ),
    FIELD,
    max_size=4,
)
CHATS = st.lists(TURNS, max_size=4)
MIXED = st.one_of(
    st.builds(lambda row, turns: row | {"messages": turns}, ROWS, CHATS),
    st.builds(lambda row, turns: row | {"conversations": turns}, ROWS, CHATS),
    st.builds(lambda row, q, a: row | {"prompt": q, "completion": a}, ROWS, FIELD, FIELD),
    st.builds(lambda row, q, a: row | {"instruction": q, "output": a}, ROWS, FIELD, FIELD),
    st.builds(lambda row, when: row | GOOD | {"timestamp": when}, ROWS, SCALAR),
    st.sampled_from([*CHAT, GOOD, ROW]),
)
RECIPES = st.sampled_from(
    [
        Source(),
        Source(),
        Source(format="chat"),
        Source(format="sharegpt"),
        Source(format="pairs"),
        Source(format="alpaca"),
        Source(columns={"label": "x", "messages": "conversations"}),
        Source(columns={"label": "messages.0.role", "user_id": "x.y"}),
    ]
)


MESSAGES = st.builds(
    Message,
    st.sampled_from(["user", "assistant"]),
    *[st.none() | st.sampled_from(["", "é", "1:-"])] * 4,
    st.none() | st.integers(0, 1),
)
TALKS = st.tuples(st.lists(MESSAGES, min_size=1, max_size=3), st.none() | st.just("[1]"))


@settings(max_examples=60, deadline=None)
@given(st.lists(TALKS, max_size=4))
def test_an_id_is_the_digest_of_each_text_after_its_length(talks: list[Any]):
    def counted(value: str | int | None) -> str:
        return "-" if value is None else f"{len(str(value).encode())}:{value}"

    when = datetime(2026, 1, 2, tzinfo=UTC)
    found = record_frame([Record(said, "o", "s", when, tools) for said, tools in talks])
    for id, (said, tools) in zip(found["record_id"], talks, strict=True):
        text = counted(tools) + "".join(counted(field) for turn in said for field in turn)
        assert id == "b2:" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    assert found["messages"].to_list() == [[turn._asdict() for turn in said] for said, _ in talks]


@settings(max_examples=120, deadline=None)
@given(rows=st.lists(MIXED, max_size=12), recipe=RECIPES, ascii=st.booleans())
def test_columns_and_rows_agree_on_any_mixture_of_lines(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    recipe: Source,
    ascii: bool,
):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    lines = [json.dumps(row, ensure_ascii=ascii).encode("utf-8", "surrogatepass") for row in rows]
    path.write_bytes(b"\n".join(lines))
    batch = read(path, recipe=recipe)
    assert batch.kept.height + batch.quarantined.height == len(rows)


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.one_of(st.just(json.dumps(GOOD)), st.text(), st.binary()), max_size=20))
def test_in_is_kept_and_quarantined(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str | bytes]
):
    plain = [each if isinstance(each, bytes) else each.encode("utf-8", "replace") for each in lines]
    content = b"\n".join(each.replace(b"\n", b"") for each in plain)
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    batch = records_in(path, content)
    rows = [each for each in content.removeprefix(b"\xef\xbb\xbf").split(b"\n") if each.strip()]
    assert batch.kept.height + batch.quarantined.height == len(rows)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real sets in {DATA}")
@pytest.mark.parametrize(
    ("name", "rows", "recipe"),
    [
        ("sgd", 17_193, Source(columns={"label": "services.0", "conversation_id": "id"})),
        ("gsm8k", 8_792, Source(licence="MIT")),
        ("taskmaster4", 3_710, Source()),
    ],
)
def test_real_sets_are_read_whole(name: str, rows: int, recipe: Source):
    batch = read(DATA / name / "records.jsonl.gz", recipe=recipe, origin=name)
    assert (batch.kept.height, refusals(batch)) == (rows, [])
    assert batch.kept["label"].null_count() == (0 if name == "sgd" else rows)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real sets in {DATA}")
def test_squad_is_read_through_a_mapping(tmp_path: Path):
    with gzip.open(DATA / "squad" / "dev-v1.1.json.gz") as file:
        articles = json.load(file)["data"]
    rows = [
        {**asked, "title": article["title"], "context": paragraph["context"]}
        for article in articles
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
    ]
    columns = {"assistant_response": "answers.0.text", "label": "title"}
    for name in ("a.json", "a.jsonl"):
        lines = json.dumps(rows) if name == "a.json" else "\n".join(map(json.dumps, rows))
        batch = records_in(tmp_path / name, lines, columns=columns)
        assert (batch.kept.height, refusals(batch)) == (10_570, [])
