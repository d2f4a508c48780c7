"""Cases: what a file, a split and a question to the log give, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.log.made import NOON, call
from tracemill import EventLog
from tracemill.corpus.records import Message, Record, record_frame
from tracemill.corpus.write import write_splits
from tracemill.errors import InputError, UsageError
from tracemill.events import FeedbackGiven
from tracemill.finetune.recipe import Examples, FineTune
from tracemill.messages import Message as Turn
from tracemill.messages import Text, ToolCall, ToolResult
from tracemill.quality.cases import (
    cases_of,
    digest_of,
    messages_of,
    named_set,
    of_split,
    of_view,
    read_set,
    said,
    sets,
)
from tracemill.settings import Settings


def written(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_each_form_of_a_case_is_read(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    path = written(
        tmp_path / "some.jsonl",
        {"id": "a", "input": "2 + 2?", "expected": "4", "tags": ["sum"]},
        "",
        {"id": 7, "input": "a prime?", "expected": ["2", "3"]},
        {"id": "m", "messages": talk, "expected": {"b": 1, "a": [True]}},
        {"id": "v", "input": {"question": "why?", "n": 2}, "expected": None},
        {"id": "l", "input": talk, "expected": False},
    )
    cases = read_set(path)
    assert cases.name == "some"
    assert cases.frame.rows() == [
        ("a", "2 + 2?", "text", ["4"], ["sum"]),
        ("7", "a prime?", "text", ["2", "3"], []),
        ("m", json.dumps(talk), "messages", ['{"a": [true], "b": 1}'], []),
        ("v", '{"question": "why?", "n": 2}', "values", [], []),
        ("l", json.dumps(talk), "messages", ["false"], []),
    ]
    assert said(cases.frame).to_list() == ["2 + 2?", "a prime?", "hi", "why?\n2", "hi"]


def test_wrong_lines_are_named_with_file_and_line(tmp_path: Path) -> None:
    path = written(
        tmp_path / "bad.jsonl",
        {"id": "a", "input": "x", "expected": "y"},
        "{not json",
        "[]",
        {"id": "a", "input": "z"},
        {"id": "c", "input": "x", "messages": []},
        {"id": "d", "inptu": "x"},
        {"id": "e", "messages": [{"role": "king", "content": "x"}]},
        {"id": "f", "input": "  "},
        {"id": "g", "input": "x", "tags": "t"},
        {"id": "", "input": "x"},
        {"id": "h", "input": "x", "expected": [1]},
    )
    with pytest.raises(InputError) as caught:
        read_set(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: line 2: it is not JSON:")
    assert "line 3: it is not a JSON object" in told
    assert "line 5: it needs input or messages, and not both" in told
    assert "line 6: there is no field 'inptu': the fields are" in told
    assert told.endswith("; and 5 more")
    assert "\n" not in told


def test_an_id_that_is_there_twice_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    twice = written(tmp_path / "t.jsonl", *[{"id": "a", "input": str(n)} for n in range(2)])
    with pytest.raises(InputError, match="the id 'a' is there more than once"):
        read_set(twice)
    with pytest.raises(InputError, match="there is no case in it"):
        read_set(written(tmp_path / "e.jsonl", "", " "))
    with pytest.raises(InputError, match="cannot be read as cases"):
        read_set(tmp_path / "none.jsonl")


def test_sets_are_found_by_name(tmp_path: Path) -> None:
    settings = Settings(warehouse=tmp_path / "warehouse")
    path = written(tmp_path / "evals" / "sums.jsonl", {"id": "a", "input": "x"})
    written(tmp_path / "evals" / "README.md", "text")
    assert sets(settings) == {"sums": path}
    assert len(named_set(settings, "sums")) == 1
    with pytest.raises(UsageError, match="evals: there are sums"):
        named_set(settings, "none")


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(str.strip)


@given(st.dictionaries(texts, st.tuples(texts, texts), min_size=1, max_size=8), st.randoms())
def test_the_digest_depends_on_the_cases_and_not_on_their_order(
    given_cases: dict[str, tuple[str, str]], random: Any
) -> None:
    rows = [{"id": i, "input": q, "expected": a} for i, (q, a) in given_cases.items()]
    shuffled = random.sample(rows, len(rows))
    first = cases_of("x", rows)
    assert cases_of("y", shuffled).digest == first.digest == digest_of(first.frame)
    changed = [{**rows[0], "expected": rows[0]["expected"] + "!"}, *rows[1:]]
    assert cases_of("x", changed).digest != first.digest


def test_a_sample_is_the_same_whatever_else_there_is() -> None:
    rows = [{"id": f"c{n}", "input": f"q{n}"} for n in range(200)]
    few = cases_of("x", rows).sample(20)
    assert len(few) == 20
    assert few.frame["id"].to_list() == cases_of("x", rows[:]).sample(20).frame["id"].to_list()
    some = cases_of("x", rows[:100]).sample(20).frame["id"]
    assert set(few.frame["id"]) & {f"c{n}" for n in range(100)} <= set(some)
    assert cases_of("x", rows).sample(None).frame.height == 200
    assert (
        few.frame["id"].to_list() != cases_of("x", rows).sample(20, seed="2").frame["id"].to_list()
    )


def test_cases_are_chosen_by_their_tags() -> None:
    cases = cases_of(
        "x",
        [
            {"id": "a", "input": "q", "tags": ["easy", "sum"]},
            {"id": "b", "input": "q", "tags": ["easy"]},
            {"id": "c", "input": "q", "tags": ["hard"]},
        ],
    )
    assert cases.tagged("easy").frame["id"].to_list() == ["a", "b"]
    assert cases.tagged("easy", "sum").frame["id"].to_list() == ["a"]
    with pytest.raises(UsageError, match="x has no tag 'eazy': there are easy, hard, sum"):
        cases.tagged("eazy")
    with pytest.raises(UsageError, match="x has no case with all of easy, hard"):
        cases.tagged("easy", "hard")


def test_a_conversation_with_tools_becomes_messages() -> None:
    turns = [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "sun"},
    ]
    [row] = cases_of("x", [{"id": "a", "messages": turns}]).frame.iter_rows(named=True)
    assert messages_of(row) == (
        Turn(role="system", content="rules"),
        Turn(role="user", content="weather?"),
        Turn(role="assistant", content=(ToolCall(id="1", name="look", arguments="{}"),)),
        Turn(role="tool", content=(ToolResult(id="1", response="sun"),)),
    )
    assert Text(content="x")  # the part that text alone would be


def splits(settings: Settings) -> None:
    def record(n: int, split: str, label: str | None = "sums") -> Record:
        turns = [
            Message("system", "be brief"),
            Message("user", f"what is {n}?"),
            Message("assistant", f"it is {n}"),
        ]
        return Record(turns, "here", f"{split} {n}", NOON, label=label)

    records = [record(n, "test") for n in (1, 2, 2, 3)] + [record(9, "train")]
    frame = record_frame(records).with_columns(
        group_id=pl.Series([str(n) for n in range(5)]),
        split=pl.Series(["test"] * 4 + ["train"]),
        record_id=pl.Series([f"r{n}" for n in range(5)]),
    )
    write_splits([frame], settings.splits, name="d", inputs={}, salt="0", splits=["train", "test"])


def test_a_split_is_asked_as_its_examples_are_rendered(tmp_path: Path) -> None:
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    splits(settings)
    recipe = FineTune(examples=Examples(target="label", system=False, instructions="Route."))
    cases = of_split(settings, "routes", recipe)
    assert (cases.name, cases.origin) == ("routes:test", "split")
    asked = [json.loads(text) for text in cases.frame["input"]]
    assert sorted(json.dumps(each) for each in asked) == sorted(
        json.dumps(
            [
                {"role": "system", "content": "Route."},
                {"role": "user", "content": f"what is {n}?"},
            ]
        )
        for n in (1, 2, 2, 3)
    )
    assert set(cases.frame["expected"].explode()) == {"sums"}
    # Equal cases are told apart, and the same in every version.
    ids = cases.frame["id"].to_list()
    assert len(set(ids)) == 4
    assert sum(one.endswith("-2") for one in ids) == 1
    assert of_split(settings, "routes", recipe).digest == cases.digest
    assert len(of_split(settings, "routes", recipe, 2)) == 2
    whole = of_split(settings, "routes", FineTune())
    assert sorted(set(whole.frame["expected"].explode())) == ["it is 1", "it is 2", "it is 3"]


def test_calls_that_people_liked_become_cases(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    liked, other = call("four", prompt="2 + 2?"), call("five", prompt="3 + 3?")
    log.append([*liked, *other])
    log.append(FeedbackGiven(call_id=liked[0].stream[-36:], score=1.0))
    query = (
        "SELECT call_id AS id, prompt AS input, answer AS expected, ['liked'] AS tags "
        "FROM calls SEMI JOIN feedback USING (call_id) WHERE operation = $what"
    )
    cases = of_view(log, query, {"what": "chat"}, name="liked")
    assert cases.frame.drop("id").rows() == [("2 + 2?", "text", ["four"], ["liked"])]
    assert (cases.name, cases.origin) == ("liked", "log")
    with pytest.raises(UsageError):
        of_view(log, "DELETE FROM events")
    with pytest.raises(UsageError, match="a view of cases needs input or messages"):
        of_view(log, "SELECT 1 AS id")
    with pytest.raises(InputError, match="row 1: input is text"):
        of_view(log, "SELECT 1 AS input")
