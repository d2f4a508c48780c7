"""Examples: which records of a split are learned from, and what of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.finetune.splits_made import made, record, turn, warehouse
from tracemill.corpus.validation import validate
from tracemill.errors import InputError
from tracemill.files import sha256_of
from tracemill.finetune.examples import examples_path, few_answers, write_examples
from tracemill.finetune.recipe import Examples, FineTune
from tracemill.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return warehouse(tmp_path)


def rows(settings: Settings, split: str = "train", **examples: Any) -> list[dict[str, Any]]:
    recipe = FineTune(examples=Examples(**examples))
    path = write_examples(settings, "routing", recipe, split).path
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def said(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def one(**more: Any) -> dict[str, Any]:
    messages = [turn("system", "Be brief."), turn("user", "rain?"), turn("assistant", "Yes.")]
    return record(0, "train", messages=messages, label="weather") | more


SYSTEM, USER, ANSWER = ("system", "Be brief."), ("user", "rain?"), ("assistant", "Yes.")


@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        ({}, said(SYSTEM, USER, ANSWER)),
        ({"system": False}, said(USER, ANSWER)),
        ({"target": "label"}, said(SYSTEM, USER, ("assistant", "weather"))),
        ({"instructions": "Route."}, said(("system", "Route.\n\nBe brief."), USER, ANSWER)),
        ({"instructions": "Route.", "system": False}, said(("system", "Route."), USER, ANSWER)),
    ],
)
def test_what_is_shown_and_what_is_learned(
    settings: Settings, examples: dict[str, Any], expected: dict[str, Any]
) -> None:
    made(settings, rows=[one()])
    assert rows(settings, **examples) == [expected]


def test_the_label_stands_after_a_question_that_nobody_answered(settings: Settings) -> None:
    unanswered = one(messages=[turn("user", "rain?")])
    made(settings, rows=[unanswered])
    assert rows(settings, target="label") == [said(USER, ("assistant", "weather"))]
    assert rows(settings) == []


def test_the_label_stands_for_an_answer_with_tools(settings: Settings) -> None:
    call = '[{"id":"1","type":"function","function":{"name":"look","arguments":"{}"}}]'
    calls = [
        turn("user", "rain?"),
        turn("assistant", None, tool_calls=call),
        turn("tool", "it rains", tool_call_id="1"),
        turn("assistant", "Yes.", weight=0),
    ]
    made(settings, rows=[one(messages=calls)])
    (row,) = rows(settings, target="label")
    assert row["messages"][-1] == {"role": "assistant", "content": "weather"}
    assert [each["role"] for each in row["messages"]] == ["user", "assistant", "tool", "assistant"]


def test_rare_labels_are_left_out_of_all_splits_alike(settings: Settings) -> None:
    frequent = [one(record_id=f"a{at}") for at in range(3)]
    rare = [one(record_id="b0", label="music"), one(record_id="c0", label=None)]
    watched = [one(record_id=f"d{at}", split="validation", label="music") for at in range(5)]
    made(settings, rows=[*frequent, *rare, *watched])
    answers = [row["messages"][-1]["content"] for row in rows(settings, target="label")]
    assert sorted(answers) == ["music", "weather", "weather", "weather"]
    kept = rows(settings, target="label", min_per_label=2)
    assert [row["messages"][-1]["content"] for row in kept] == ["weather"] * 3
    assert rows(settings, "validation", target="label", min_per_label=2) == []


def test_only_records_of_the_sources_that_are_named(settings: Settings) -> None:
    made(settings, rows=[one(record_id="a"), one(record_id="b", origin="x", label="music")])
    kept = rows(settings, target="label", origins=("x",))
    assert [row["messages"][-1]["content"] for row in kept] == ["music"]


def test_the_file_is_named_by_its_bytes_and_the_same_for_the_same_request(
    settings: Settings,
) -> None:
    made(settings, train=40)
    recipe = FineTune(examples=Examples(target="label"))
    file = write_examples(settings, "routing", recipe, "train")
    assert file.path == examples_path(settings, sha256_of(file.path))
    assert (file.rows, file.size_bytes) == (40, file.path.stat().st_size)
    assert write_examples(settings, "other", recipe, "train") == file
    assert [path.name for path in file.path.parent.iterdir()] == [file.path.name]


def test_examples_are_what_validate_takes(settings: Settings) -> None:
    made(settings, train=40)
    for examples in (Examples(), Examples(target="label", instructions="Route.", system=False)):
        recipe = FineTune(examples=examples)
        report = validate(write_examples(settings, "routing", recipe, "train").path)
        assert (report.ok, report.rows, report.shape) == (True, 40, "chat")


def test_few_answers_are_labels(settings: Settings) -> None:
    made(settings, train=40)
    recipe = FineTune(examples=Examples(target="label"))
    counts = few_answers(write_examples(settings, "routing", recipe, "train").path)
    assert set(counts) == {"cooking", "music", "travel", "weather"}
    assert sum(counts.values()) == 40


def test_a_split_that_is_not_there_is_named(settings: Settings) -> None:
    made(settings, train=4)
    with pytest.raises(InputError, match=r"no split 'dev'; it has train, validation, test"):
        write_examples(settings, "routing", FineTune(), "dev")
