"""`tracemill collections evaluate`: figures for people and programs, and each refusal in one line."""

import json
from pathlib import Path

import polars as pl
import pytest

from tests.cli.running import Run
from tracemill.retrieval import collection as collections
from tracemill.retrieval.frames import chunk_schema
from tracemill.settings import Settings

TEXTS = [
    f"The clerk of room {n} carries seven red ledgers down to the {name} vault every morning."
    for n, name in enumerate(
        ("amber", "birch", "coral", "denim", "ebony", "flint", "grape", "hazel")
    )
]


@pytest.fixture
def handbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(settings.warehouse))
    monkeypatch.setenv("COLUMNS", "200")
    rows = [
        {
            "chunk_id": f"c{n}",
            "document_id": f"{n}.md",
            "title": f"Page {n}",
            "headings": [],
            "source": f"{n}.md",
            "format": "markdown",
            "start": 0,
            "end": len(text),
            "tokens": 20,
            "metadata": "{}",
            "text": text,
        }
        for n, text in enumerate(TEXTS)
    ]
    made = collections.create(settings.indexes, "handbook")
    made.add(pl.DataFrame(rows, schema=chunk_schema()))
    return settings


def label(settings: Settings, *lines: object) -> None:
    settings.raw_questions.mkdir(parents=True, exist_ok=True)
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path = settings.raw_questions / "handbook.jsonl"
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")


GOOD = {"question": "What goes to the coral vault?", "document": "2.md", "quote": "red ledgers"}
GONE = {"question": "What goes to the ivory vault?", "quote": "seven blue ledgers"}


def test_figures_lost_places_and_refused_lines_are_shown(handbook: Settings, run: Run) -> None:
    label(handbook, GOOD, "{oops", GONE)
    ran = run("collections", "evaluate", "handbook", "--mode", "lexical")
    assert ran.code == 0
    assert "2, 0 of them without an answer" in ran.out
    assert "recall@1" in ran.out
    assert "0.500" in ran.out
    assert "no earlier version was evaluated by these questions" in ran.out
    assert "line 2 is left out: not JSON" in ran.err
    assert "line 3: what it quotes is nowhere in the collection: What goes to the ivory" in ran.err


def test_programs_get_one_line_for_each_mode(handbook: Settings, run: Run) -> None:
    label(handbook, GOOD)
    ran = run(
        "collections", "evaluate", "handbook", "--mode", "lexical", "--mode", "dense", "--json"
    )
    assert [line["mode"] for line in ran.lines] == ["lexical", "dense"]
    assert ran.lines[0]["metrics"]["recall@1"]["value"] == 1
    assert ran.lines[0]["against_last"]["passed"] is True
    assert ran.lines[0]["lost"] == []


def test_without_labels_questions_are_made_and_it_says_so(handbook: Settings, run: Run) -> None:
    ran = run("collections", "evaluate", "handbook", "--json")
    assert ran.err == "no labels: 8 questions were made from the text of handbook\n"
    assert ran.lines[0]["dataset_digest"].startswith("self-made:")


def test_too_few_answers_do_not_make_a_calibration(handbook: Settings, run: Run) -> None:
    label(handbook, GOOD)
    ran = run("collections", "evaluate", "handbook", "--calibrate")
    assert ran.code == 2
    assert "1 answers, 1 right and 0 wrong, are too few to calibrate by: it takes 200" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        (["handbook", "--mode", "best"], "--mode is hybrid, dense or lexical, not 'best'"),
        (["handbook", "--questions", "gone.jsonl"], "cannot read the questions in gone.jsonl"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    handbook: Settings, run: Run, arguments: list[str], message: str
) -> None:
    ran = run("collections", "evaluate", *arguments)
    assert ran.code in (1, 2)
    assert ran.err.startswith("error: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1
