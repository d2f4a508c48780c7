import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.corpus.read import read_documents, read_records
from tracemill.corpus.records import BATCH_ROWS, Batch
from tracemill.errors import InputError


def whole(batches: list[Batch]) -> Batch:
    return Batch(
        pl.concat([each.kept for each in batches]),
        pl.concat([each.quarantined for each in batches]),
    )


def records_in(path: Path, content: str | bytes) -> Batch:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return whole(list(read_records(path)))


def refusals(batch: Batch) -> list[tuple[int | None, str]]:
    return batch.quarantined.select("line", "reason").rows()


GOOD = {"user_query": "Why?", "assistant_response": "Because."}


def test_bad_lines_are_quarantined_beside_the_good_ones(tmp_path: Path):
    lines = [
        json.dumps(GOOD),
        "{not json",
        "",
        json.dumps({"question": "How?"}),
        json.dumps({"prompt": " ", "completion": "x"}),
        json.dumps({"prompt": 3, "completion": "x"}),
        '["a list"]',
        '{"prompt": "\\ud800", "completion": "x"}',
        json.dumps(GOOD | {"timestamp": "yesterday"}),
    ]
    batch = records_in(tmp_path / "a.jsonl", "\n".join(lines))
    assert batch.kept["user_query"].to_list() == ["Why?"]
    assert refusals(batch) == [
        (
            2,
            "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        (4, "no assistant_response (known as assistant_response, completion, output, answer)"),
        (5, "user_query is empty"),
        (6, "user_query is int, not text"),
        (7, "not an object with named fields"),
        (8, "user_query is not valid UTF-8"),
        (9, "timestamp 'yesterday' is neither ISO 8601 nor Unix seconds"),
    ]
    assert batch.quarantined["text"][0] == "{not json"
    assert set(batch.quarantined["file"]) == {"a.jsonl"}


def test_bytes_that_are_not_utf8_cost_only_their_own_line(tmp_path: Path):
    good = json.dumps(GOOD).encode()
    bad = b'{"prompt": "caf\xe9", "completion": "x"}'
    batch = records_in(tmp_path / "a.jsonl", b"\n".join([good, bad, good]))
    assert batch.kept.height == 2
    assert refusals(batch) == [(2, "user_query is not valid UTF-8")]


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
    assert batch.kept.select("user_query", "assistant_response").rows() == [("Why?", "Because.")]


ROW = {
    "prompt": "Why, then?",
    "completion": 'Two\nlines, "quoted"',
    "context": "c",
    "source": "s",
    "timestamp": "2024-05-06T07:08:09+02:00",
}
TAKEN = ("Why, then?", 'Two\nlines, "quoted"', "c", "s", datetime(2024, 5, 6, 5, 8, 9, tzinfo=UTC))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_record(tmp_path: Path, suffix: str, packed: bool):
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pl.DataFrame([ROW]).with_columns(
            pl.col("timestamp").str.to_datetime(time_zone="UTC")
        ).write_parquet(path)
    elif suffix == "json":
        path.write_text(json.dumps([ROW], indent=2))
    elif suffix == "jsonl":
        path.write_text(json.dumps(ROW))
    else:
        pl.DataFrame([ROW]).write_csv(path, separator="," if suffix == "csv" else "\t")
    if packed:
        path = path.with_name(path.name + ".gz")
        path.write_bytes(gzip.compress((tmp_path / f"rows.{suffix}").read_bytes()))
    batch = whole(list(read_records(path)))
    assert refusals(batch) == []
    assert batch.kept.drop("record_id").rows() == [TAKEN]


def test_what_is_missing_is_told_by_the_file(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    batch = records_in(path, "\n" + json.dumps(GOOD))
    modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    assert batch.kept.select("context", "source", "timestamp").rows() == [
        ("", "a.jsonl:2", modified)
    ]


def test_a_csv_line_of_another_width_is_refused(tmp_path: Path):
    batch = records_in(
        tmp_path / "a.csv", 'prompt,completion\na,b\na,b,c\n"x"y,b\nd,\n\nd,"e\ne"\n'
    )
    assert batch.kept["user_query"].to_list() == ["a", "d"]
    assert refusals(batch) == [
        (3, "3 fields where the header has 2"),
        (4, "not CSV: ',' expected after '\"'"),
        (5, "no assistant_response (known as assistant_response, completion, output, answer)"),
    ]


def test_a_csv_text_may_be_longer_than_the_usual_limit(tmp_path: Path):
    batch = records_in(tmp_path / "a.csv", "prompt,completion\nwhy," + "x" * 200_000 + "\n")
    assert batch.kept["assistant_response"].str.len_chars().to_list() == [200_000]


def test_json_is_read_to_the_first_thing_that_is_not(tmp_path: Path):
    good = json.dumps(GOOD)
    batch = records_in(tmp_path / "a.json", f"[\n{good},\n{good},\n{{oops}}\n]")
    assert batch.kept["source"].to_list() == ["a.json:2", "a.json:3"]
    [(line, reason)] = refusals(batch)
    assert line == 4
    assert reason.startswith("not JSON from here on: ")


@pytest.mark.parametrize("name", ["cut.jsonl.gz", "bad.parquet", "plain.jsonl.gz"])
def test_a_damaged_file_is_refused_and_the_others_are_read(tmp_path: Path, name: str):
    (tmp_path / "z.jsonl").write_text(json.dumps(GOOD))
    rows = "\n".join(json.dumps(GOOD | {"source": str(n)}) for n in range(20_000))
    content = {"cut.jsonl.gz": gzip.compress(rows.encode())[:-400], "bad.parquet": b"PAR1 nothing"}
    (tmp_path / name).write_bytes(content.get(name, b"not packed"))
    batch = whole(list(read_records(tmp_path)))
    assert batch.kept["source"][-1] == "z.jsonl:1"
    [(file, line, reason, _)] = batch.quarantined.rows()
    assert (file, line) == (name, batch.kept.height)
    assert reason.startswith("the file cannot be read from here on: ")


def test_a_folder_is_read_by_name_and_what_is_no_record_is_told(tmp_path: Path):
    for name in ("b.jsonl", "sub/a.jsonl", "notes.docx", ".hidden.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(GOOD))
    batch = whole(list(read_records(tmp_path)))
    assert batch.kept["source"].to_list() == ["b.jsonl:1", "sub/a.jsonl:1"]
    assert batch.quarantined["file"].to_list() == ["notes.docx"]


def test_batches_are_bounded_and_an_empty_folder_gives_an_empty_one(tmp_path: Path):
    [empty] = read_records(tmp_path)
    assert (empty.kept.height, empty.quarantined.height) == (0, 0)
    (tmp_path / "a.jsonl").write_text((json.dumps(GOOD) + "\n") * (BATCH_ROWS + 1))
    batches = list(read_records(tmp_path))
    assert [each.kept.height for each in batches] == [BATCH_ROWS, 1]
    assert [each.kept.schema for each in batches] == [empty.kept.schema] * 2


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match="no file or folder"):
        list(read_records(tmp_path / "typo"))


@given(lines=st.lists(st.one_of(st.just(json.dumps(GOOD)), st.text(), st.binary()), max_size=20))
def test_in_is_kept_and_quarantined(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str | bytes]
):
    plain = [each if isinstance(each, bytes) else each.encode("utf-8", "replace") for each in lines]
    content = b"\n".join(each.replace(b"\r", b"").replace(b"\n", b"") for each in plain)
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    batch = records_in(path, content)
    text = content.decode("utf-8-sig", "surrogateescape")
    assert batch.kept.height + batch.quarantined.height == sum(
        bool(line.strip()) for line in text.split("\n")
    )


def test_documents_are_texts_by_their_suffix(tmp_path: Path):
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "start.md").write_text("# Start\n\nHere.")
    (tmp_path / "notes.txt.gz").write_bytes(gzip.compress(b"Plain."))
    (tmp_path / "old.rst").write_bytes(b"caf\xe9")
    (tmp_path / "empty.md").write_text("\n")
    (tmp_path / "paper.pdf").write_bytes(b"%PDF")
    batch = whole(list(read_documents(tmp_path)))
    assert batch.kept.drop("document_id").rows() == [
        ("guide/start", "guide/start.md", "markdown", "# Start\n\nHere."),
        ("notes", "notes.txt.gz", "text", "Plain."),
    ]
    assert batch.quarantined["file"].to_list() == ["empty.md", "old.rst", "paper.pdf"]
    assert batch.quarantined["reason"][0] == "the file is empty"
