import gzip
import json
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.corpus.contamination import Evaluations, decontaminate, evaluation_texts, report
from tracemill.corpus.records import Message, Record, pair, record_frame
from tracemill.errors import InputError

DATA = Path(os.environ.get("TRACEMILL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
needs_data = pytest.mark.skipif(
    not (DATA / "gsm8k").is_dir(), reason=f"no public data sets in {DATA}"
)
WHEN = datetime(2024, 5, 6, tzinfo=UTC)
ITEM = (
    "A baker sells forty loaves of bread each morning and half as many each evening; how many "
    "loaves does the baker sell in a week?"
)
WORDS = [
    "a",
    "baker",
    "sells",
    "forty",
    "loaves",
    "of",
    "bread",
    "each",
    "morning",
    "and",
    "half",
    "as",
    "many",
]


def frame(*texts: str) -> pl.DataFrame:
    made = [Record(pair(text, "Let me see."), "o", str(n), WHEN) for n, text in enumerate(texts)]
    return record_frame(made)


def verdicts(evaluations: Evaluations, *texts: str) -> list[str | None]:
    made = frame(*texts)
    kept, dropped = decontaminate(made, evaluations)
    assert sorted([*kept["record_id"], *dropped["record_id"]]) == sorted(made["record_id"])
    rules = dict(dropped.select("record_id", "rule").rows())
    return [rules.get(record) for record in made["record_id"]]


def test_an_item_is_found_whatever_its_punctuation_and_case():
    evaluations = Evaluations.of({"bread": [ITEM]})
    shouted = "“" + ITEM.upper().replace(" ", " … ").replace(";", " —") + "”"
    assert verdicts(evaluations, ITEM, f"Solve: {shouted}! Now.", "What is a loaf of bread?") == [
        "13-gram",
        "13-gram",
        None,
    ]


def test_thirteen_words_in_a_row_are_too_many_and_twelve_are_not():
    evaluations = Evaluations.of({"bread": [ITEM]})
    twelve, thirteen = (f"He said {' '.join(WORDS[:count])} stones" for count in (12, 13))
    assert verdicts(evaluations, twelve, thirteen) == [None, "13-gram"]


def test_a_short_item_counts_when_all_of_it_is_there():
    evaluations = Evaluations.of({"capitals": ["What is the capital of France?"]})
    near = "What is the capital of Peru?"
    assert verdicts(evaluations, near, "so: what is the capital of France") == [
        None,
        "near-duplicate",
    ]


def test_a_changed_word_does_not_hide_an_item():
    evaluations = Evaluations.of({"bread": [ITEM]})
    changed = ITEM.replace("morning", "dawn")
    dropped = decontaminate(frame(changed), evaluations).dropped
    assert dropped.select("evaluation", "rule", "eval_id", "reason", "shared").rows() == [
        (
            "bread",
            "13-gram",
            1,
            "13-gram of the evaluation set bread",
            "and half as many each evening how many loaves does the baker sell in a week",
        )
    ]
    assert dropped["overlap"].to_list() == [pytest.approx(16 / 21)]


def test_what_a_template_says_is_no_question():
    """Forty items of one wording: another question in that wording is none of them."""
    wording = "The following is a multiple choice question about the history of the city of"
    names = [f"{first} {last}" for first in ["Ada", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal"] for last in
             ["Axe", "Beck", "Cole", "Dunn", "Esk"]]  # fmt: skip
    evaluations = Evaluations.of({"cities": [f"{wording} {name} and its river" for name in names]})
    assert verdicts(evaluations, f"{wording} Rome", f"{wording} Ada Axe and its river") == [
        None,
        "13-gram",
    ]


def test_system_texts_and_calls_count_too():
    evaluations = Evaluations.of({"bread": [ITEM]})
    said = [Message("system", ITEM), *pair("Go", "Yes")]
    called = [Message("user", "Go"), Message("assistant", None, tool_calls=json.dumps([ITEM]))]
    made = record_frame([Record(turns, "o", "s", WHEN) for turns in (said, called)])
    assert decontaminate(made, evaluations).dropped.height == 2


def test_of_two_sets_the_nearer_is_named_and_both_are_reported():
    part = " ".join(WORDS)
    evaluations = Evaluations.of({"whole": [ITEM, ""], "part": [part, "Nobody asks this at all."]})
    dropped = decontaminate(frame(ITEM), evaluations).dropped
    assert dropped["evaluation"].to_list() == ["whole"]
    assert report(evaluations, dropped).rows() == [("whole", 2, 1, 0), ("part", 2, 0, 0)]


@pytest.mark.parametrize("texts", [[], [""], ["Hm?"]])
def test_nothing_is_found_where_there_is_nothing(texts: list[str]):
    made = frame("Why?", "")
    kept, dropped = decontaminate(made, Evaluations.of({"none": texts}))
    assert kept.equals(made)
    assert dropped.is_empty()
    assert {"evaluation", "rule", "overlap", "eval_id", "shared", "reason"} <= set(dropped.columns)
    assert decontaminate(made.clear(), Evaluations.of({"bread": [ITEM]})).kept.is_empty()


def oracle(text: str, item: str) -> bool:
    """The rules in words, for one text and one item without templates."""
    said, asked = text.split(), item.split()
    runs = {tuple(said[at : at + 13]) for at in range(len(said) - 12)}
    if any(tuple(asked[at : at + 13]) in runs for at in range(len(asked) - 12)):
        return True
    grams, wanted = (
        {tuple(part[at : at + 5]) for at in range(max(len(part) - 4, 1))} for part in (said, asked)
    )
    shared = grams & wanted
    return len(shared) >= max(0.5 * len(wanted), min(len(wanted), 4))


LETTERS = st.lists(st.sampled_from("abc"), min_size=1, max_size=40).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(LETTERS, min_size=1, max_size=4), st.lists(LETTERS, min_size=1, max_size=4))
def test_columns_find_what_plain_words_find(texts: list[str], items: list[str]):
    made = record_frame([Record([Message("assistant", text)], "o", "s", WHEN) for text in texts])
    made = made.with_columns(record_id=pl.Series([str(n) for n in range(len(texts))]))
    dropped = decontaminate(made, Evaluations.of({"set": items})).dropped
    expected = [str(n) for n, text in enumerate(texts) if any(oracle(text, one) for one in items)]
    assert dropped["record_id"].to_list() == expected


def rows(name: str) -> Iterator[dict[str, str]]:
    with gzip.open(DATA / name / "records.jsonl.gz", "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


@needs_data
def test_every_planted_question_is_found_and_nothing_else():
    """100 test questions of GSM8K, half with a changed word, in 1,500 dialogues of SGD."""
    questions = [row["question"] for row in rows("gsm8k") if row["split"] == "test"]
    chosen = random.Random(7)
    dialogues = [row["messages"] for row, _ in zip(rows("sgd"), range(1_500), strict=False)]
    planted = dict(zip(chosen.sample(range(1_500), 100), chosen.sample(range(len(questions)), 100),
                       strict=True))  # fmt: skip
    made: list[Record] = []
    for at, turns in enumerate(dialogues):
        said = [Message(turn["role"], turn["content"]) for turn in turns]  # pyright: ignore
        if at in planted:
            words = questions[planted[at]].split()
            if at % 2:
                words[chosen.randrange(len(words))] = "otherwise"
            said.insert(0, Message("user", "Before that: " + " ".join(words)))
        made.append(Record(said, "sgd", str(at), WHEN))
    dropped = decontaminate(record_frame(made), Evaluations.of({"gsm8k": questions})).dropped
    found = {int(row): item - 1 for row, item in dropped.select("source", "eval_id").rows()}
    assert found == planted


def test_questions_are_read_from_files(tmp_path: Path):
    texts = ["What is it?", "And this?"]
    turns = [{"role": "system", "content": "Be"}, {"role": "user", "content": texts[1]}]
    lines = [json.dumps({"question": texts[0], "answer": "x"}), "", json.dumps({"messages": turns})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (tmp_path / "c.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    (tmp_path / "d.json").write_text(json.dumps(texts), encoding="utf-8")
    for path in sorted(tmp_path.iterdir()):
        assert evaluation_texts(path) == texts


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", b'{"question": "x"}\n{"answer": 1}', "entry 2 has no question"),
        ("a.jsonl", b"{", "line 1 is not JSON"),
        ("a.json", b"{", "cannot be read"),
        ("a.json", b"7", "cannot be read"),
        ("a.txt", b"\xff\xfe", "cannot be read"),
        ("a.jsonl.gz", b"no gzip", "cannot be read"),
    ],
)
def test_a_file_that_is_no_evaluation_set_is_named(
    tmp_path: Path, name: str, text: bytes, told: str
):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(InputError, match=told):
        evaluation_texts(tmp_path / name)
