"""Contamination: copies are found however they were cut, and disjoint splits are silent."""

import random
from pathlib import Path

import polars as pl
import pytest

from tests.log.made import NOON
from tracemill import EventLog
from tracemill.corpus import dedup
from tracemill.corpus.records import Message, Record, record_frame
from tracemill.corpus.split import split
from tracemill.corpus.write import current, write_splits
from tracemill.errors import InputError
from tracemill.finetune.recipe import Examples, FineTune
from tracemill.quality.cases import Cases, cases_of, of_split
from tracemill.quality.decontamination import check, contaminated, learned_from
from tracemill.settings import Settings

WORDS = [
    "amber",
    "birch",
    "coral",
    "denim",
    "ebony",
    "flint",
    "grape",
    "hazel",
    "ivory",
    "jade",
    "khaki",
    "lemon",
    "maple",
    "navy",
    "olive",
    "pearl",
    "quartz",
    "ruby",
    "sable",
    "topaz",
    "umber",
    "violet",
    "walnut",
    "zinc",
    "anchor",
    "barrel",
    "candle",
    "dragon",
    "engine",
]
LONG = " ".join(random.Random(1).choices(WORDS, k=60))
SHORT = "where do the seven clerks keep their ledgers at night"


def record(question: str, answer: str = "answer", *, at: int = 0, label: str = "l") -> Record:
    turns = [Message("system", "be brief"), Message("user", question), Message("assistant", answer)]
    return Record(turns, "here", f"row {at}", NOON, label=label)


def records(*questions: str) -> pl.DataFrame:
    others = [" ".join(random.Random(n).choices(WORDS, k=12 + n % 30)) for n in range(10, 60)]
    rows = [record(each, at=at) for at, each in enumerate([*others, *questions])]
    return record_frame(rows)


def case(question: str, origin: str = "file") -> Cases:
    rows = [{"id": "a", "input": question, "expected": "another label"}]
    return Cases("x", cases_of("x", rows).frame, origin)  # pyright: ignore[reportArgumentType]


def words(text: str, start: float, end: float) -> str:
    said = text.split()
    return " ".join(said[int(len(said) * start) : int(len(said) * end)])


@pytest.mark.parametrize("origin", ["file", "split"])
@pytest.mark.parametrize(
    ("question", "copy", "rule"),
    [
        (SHORT, SHORT, "same"),
        ("Hi", "hi", "same"),
        (SHORT, f"  {SHORT.upper()}\n", "same"),
        (LONG, LONG, "same"),
        (LONG, LONG.replace("amber", "azure", 1), "near-duplicate"),
        (LONG, words(LONG, 0, 0.6), "13-gram"),
        (LONG, words(LONG, 0.35, 1), "13-gram"),
        (LONG, f"Somebody asked me this. {LONG} What shall I say to that, {SHORT}?", "13-gram"),
    ],
    ids=["short", "shortest", "case", "long", "near", "head", "tail", "inside"],
)
def test_copies_are_found(question: str, copy: str, rule: str, origin: str) -> None:
    found = contaminated(case(question, origin), records(copy))
    assert found["id"].to_list() == ["a"]
    assert found["rule"].item() in (rule, "near-duplicate" if rule == "13-gram" else rule)
    planted = records(copy)["record_id"][-1]
    assert found["record_id"].item() == planted


def test_what_is_only_akin_is_not_found() -> None:
    train = records(
        "What does the method sable.handler.Lexical.start do?",
        "Could you please help me find a hotel in London for tonight",
        "is there anything else that i can help you with no thank you",
    )
    for question in (
        "What does the method sable.handler.Lexical.end do?",
        "Could you please help me find a hostel in Leeds for tomorrow",
        "Ledgers",
    ):
        assert contaminated(case(question), train).is_empty()


def test_a_question_in_what_a_system_message_or_an_answer_says_is_found() -> None:
    hidden = record_frame([record("hello there", f"You may be asked: {LONG}")])
    assert contaminated(case(LONG), hidden)["id"].to_list() == ["a"]


def test_boilerplate_that_the_whole_training_has_is_no_proof() -> None:
    rules = "Sort the following message of a customer into one of the three queues that we have:"
    train = records(*[f"{rules} {words(LONG, 0, 0.1)} {n} {WORDS[n % 29]}" for n in range(40)])
    assert contaminated(case(f"{rules} my {SHORT} and my parcel never came back"), train).is_empty()


def test_all_cases_that_one_record_holds_are_found() -> None:
    texts = [" ".join(random.Random(n).choices(WORDS, k=25)) for n in (100, 101, 102)]
    rows = [{"id": f"c{n}", "input": text} for n, text in enumerate(texts)]
    found = contaminated(cases_of("x", rows), records("\n".join(texts)))
    assert found["id"].to_list() == ["c0", "c1", "c2"]


def built(settings: Settings, frame: pl.DataFrame) -> None:
    placed = split(
        frame,
        {"train": 0.7, "test": 0.3},
        clusters=dedup.clusters(frame, fields="prompt"),
    ).kept
    write_splits([placed], settings.splits, name="d", inputs={}, salt="0", splits=["train", "test"])


def test_disjoint_splits_are_silent_and_a_copied_case_is_not(tmp_path: Path) -> None:
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    log = EventLog(settings.log)
    kinds = ("method", "function", "class")
    rows = [
        record(
            f"What does the {kinds[n % 3]} {WORDS[n % 29]}.{WORDS[n % 7]}.part{n} do?",
            f"It {WORDS[n % 11]}s.",
            at=n,
            label=WORDS[n % 29],
        )
        for n in range(300)
    ]
    built(settings, record_frame(rows))
    recipe = FineTune(examples=Examples(target="label"))
    cases = of_split(settings, "routes", recipe)
    dataset = current(settings.splits)
    clean = check(log, settings, cases, dataset.digest[:16], actor="me")
    assert (clean.cases, clean.found, clean.case_ids) == (len(cases), 0, ())
    assert (clean.trained_on, clean.split, clean.actor) == (dataset.digest, "train", "me")
    assert clean.dataset_digest == cases.digest
    assert [each.event for each in log.read(stream=clean.stream)] == [clean]
    itself = check(log, settings, cases, dataset.digest, "test")
    assert itself.found == len(cases)
    assert itself.case_ids == tuple(sorted(cases.frame["id"])[:100])
    assert learned_from(log, settings) == [(dataset.digest, "train")]
    with pytest.raises(InputError, match="has no split 'dev': it has train, test"):
        check(log, settings, cases, dataset.digest, "dev")
    with pytest.raises(InputError, match="no versions in"):
        check(log, settings, cases, "feed")
