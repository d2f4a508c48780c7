"""A collection is measured by labelled questions; a version that finds less is told apart from luck."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tracemill.errors import UsageError
from tracemill.events import RetrievalEvaluated
from tracemill.log import EventLog
from tracemill.retrieval import collection as collections
from tracemill.retrieval.collection import Collection
from tracemill.retrieval.evaluate import FOLDER, KEPT, against_last, evaluate
from tracemill.retrieval.frames import chunk_schema
from tracemill.retrieval.questions import question_schema, self_made
from tracemill.settings import Settings

ROOMS = ("amber", "birch", "coral", "denim", "ebony", "flint", "grape", "hazel", "ivory", "jade")
THINGS = ("ledgers", "lanterns", "hammers", "violins")


def shelf(room: str, thing: str) -> str:
    return f"The {room} room of the house keeps all {thing} behind a door that nobody opens."


TEXTS = {f"{room}-{thing}.md": shelf(room, thing) for room in ROOMS for thing in THINGS}


def chunks(names: list[str]) -> pl.DataFrame:
    rows = [
        {
            "chunk_id": f"c:{name}",
            "document_id": name,
            "title": "House",
            "headings": [],
            "source": name,
            "format": "markdown",
            "start": 0,
            "end": len(TEXTS[name]),
            "tokens": 15,
            "metadata": "{}",
            "text": TEXTS[name],
        }
        for name in names
    ]
    return pl.DataFrame(rows, schema=chunk_schema())


def labels(unanswerable: int = 0) -> pl.DataFrame:
    rows = [
        {
            "question_id": name,
            "question": f"Which {thing} are kept in the {room} room?",
            "document_id": name,
            "places": [f"The {room} room"],
            "answers": [],
            "unanswerable": False,
            "line": number,
        }
        for number, name in enumerate(TEXTS, 1)
        for room, thing in [name.removesuffix(".md").split("-")]
    ]
    rows += [
        {
            "question_id": f"nowhere {n}",
            "question": f"How deep is lake {n} in metres of water?",
            "unanswerable": True,
            "line": 100 + n,
        }
        for n in range(unanswerable)
    ]
    return pl.DataFrame(rows, schema=question_schema())


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole house, built once and copied for each test."""
    folder = tmp_path_factory.mktemp("indexes")
    collections.create(folder, "house").upsert(chunks(list(TEXTS)))
    return folder


@pytest.fixture
def settings(tmp_path: Path, indexes: Path) -> Settings:
    settings = Settings(warehouse=tmp_path)
    shutil.copytree(indexes, settings.indexes)
    return settings


@pytest.fixture
def log(settings: Settings) -> Iterator[EventLog]:
    with EventLog.open(settings) as log:
        yield log


def house(settings: Settings, names: list[str] | None = None) -> Collection:
    """The collection with these documents, whichever it had before."""
    held = collections.create(settings.indexes, "house", exist_ok=True)
    gone = set(held.chunks["document_id"]) - set(names or TEXTS)
    held = held.delete(document_ids=gone) if gone else held
    return held.upsert(chunks(names or list(TEXTS)))


def recorded(log: EventLog) -> list[RetrievalEvaluated]:
    events = [each.event for each in log.read(kinds=["retrieval.evaluated"])]
    return [event for event in events if isinstance(event, RetrievalEvaluated)]


def test_figures_go_to_one_event_and_one_row_of_the_view(settings: Settings, log: EventLog) -> None:
    held = house(settings)
    made = evaluate(held, labels(3), settings=settings, log=log, mode="lexical", actor="me")
    (event,) = recorded(log)
    assert event == made.event
    assert (event.index, event.index_digest, event.mode) == ("house", held.digest, "lexical")
    assert (event.questions, event.unanswerable, event.actor) == (43, 3, "me")
    assert event.embedding_model == "local/wordllama"
    assert event.metrics == {
        "recall@1": 1.0,
        "recall@5": 1.0,
        "recall@10": 1.0,
        "mrr@10": 1.0,
        "ndcg@10": 1.0,
    }
    assert made.figures["recall@1"].questions == 40
    assert made.lost.is_empty()
    (row,) = log.sql("FROM retrieval_quality").iter_rows(named=True)
    assert row["collection"] == "house"
    assert row["version"] == held.digest
    assert row["recall_at_1"] == row["ndcg_at_10"] == 1.0
    assert row["answered"] is None


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_a_batch_of_questions_finds_what_each_one_finds(settings: Settings, mode: str) -> None:
    held = house(settings)
    made = evaluate(held, labels(), settings=settings, mode=mode, k=3)  # type: ignore[arg-type]
    for question_id, first in made.outcomes.select("question_id", "first").iter_rows():
        question = labels().filter(pl.col("question_id") == question_id)["question"][0]
        found = held.search(question, 3, mode=mode)["document_id"].to_list()  # type: ignore[arg-type]
        assert (found.index(question_id) + 1 if question_id in found else None) == first
    assert list(made.figures) == ["recall@1", "mrr@3", "ndcg@3"]


def test_without_a_log_nothing_is_kept(settings: Settings) -> None:
    evaluate(house(settings), labels(), settings=settings)
    assert not (settings.collection("house") / FOLDER).exists()
    with pytest.raises(UsageError, match="evaluate with a log"):
        evaluate(house(settings), labels(), settings=settings, answer_model="local/extract")


def test_no_question_is_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match="there is no question to evaluate house by"):
        evaluate(house(settings), labels().clear(), settings=settings)


def test_a_question_whose_place_is_gone_is_missed_and_named(settings: Settings) -> None:
    names = [name for name in TEXTS if name != "jade-violins.md"]
    made = evaluate(house(settings, names), labels(), settings=settings, mode="lexical")
    assert made.lost["question_id"].to_list() == ["jade-violins.md"]
    assert made.missed == ["jade-violins.md"]
    assert made.figures["recall@10"].value == pytest.approx(39 / 40)


def test_a_version_that_finds_less_fails(settings: Settings, log: EventLog) -> None:
    first = evaluate(house(settings), labels(), settings=settings, log=log)
    verdict = against_last(log, first, settings=settings)
    assert verdict == (True, ("no earlier version was evaluated by these questions",))
    fewer = house(settings, list(TEXTS)[:30])
    second = evaluate(fewer, labels(), settings=settings, log=log)
    verdict = against_last(log, second, settings=settings)
    assert not verdict.passed
    assert len(verdict.lines) == len(first.figures)
    assert all("fell (p =" in line for line in verdict.lines)
    assert verdict.lines[2].startswith("recall@10 1.000 -> 0.750 fell (p = 0.000977); 40 questions")


def test_a_version_that_finds_as_much_or_a_little_less_passes(
    settings: Settings, log: EventLog
) -> None:
    evaluate(house(settings), labels(), settings=settings, log=log)
    nearly = house(settings, list(TEXTS)[:38])
    # Two of forty are five points, but two coins that fall the same way are chance.
    made = evaluate(nearly, labels(), settings=settings, log=log)
    verdict = against_last(log, made, settings=settings)
    assert verdict.passed
    assert "recall@10 1.000 -> 0.950 holds" in verdict.lines[2]


def test_only_what_was_evaluated_alike_is_compared(settings: Settings, log: EventLog) -> None:
    full = house(settings)
    evaluate(full, labels(), settings=settings, log=log, mode="lexical")
    evaluate(full, self_made(full.chunks), settings=settings, log=log)
    fewer = house(settings, list(TEXTS)[:20])
    made = evaluate(fewer, labels(), settings=settings, log=log)
    # The same version again is no version before it.
    made = evaluate(fewer, labels(), settings=settings, log=log)
    verdict = against_last(log, made, settings=settings)
    assert verdict == (True, ("no earlier version was evaluated by these questions",))


def test_new_questions_do_not_spoil_the_comparison(settings: Settings, log: EventLog) -> None:
    evaluate(house(settings), labels().head(30), settings=settings, log=log)
    made = evaluate(house(settings, list(TEXTS)[:39]), labels(), settings=settings, log=log)
    verdict = against_last(log, made, settings=settings)
    assert verdict.passed
    assert "30 questions" in verdict.lines[0]


def test_outcomes_are_kept_for_the_newest_evaluations(settings: Settings, log: EventLog) -> None:
    held = house(settings)
    for _ in range(KEPT + 3):
        evaluate(held, labels().head(2), settings=settings, log=log, mode="lexical")
    kept = sorted(path.stem for path in (settings.collection("house") / FOLDER).iterdir())
    assert kept == [event.event_id for event in recorded(log)[3:]]


def test_answers_are_judged_right_honest_and_cited(settings: Settings, log: EventLog) -> None:
    held = house(settings)
    asked = pl.concat([labels(3).head(4), labels(3).tail(3)])
    made = evaluate(held, asked, settings=settings, log=log, answer_model="local/extract")
    answers = {each.question_id: each for each in made.judged}
    assert answers.keys() == set(asked["question_id"])
    assert all(answers[name].right and answers[name].faithful for name in list(TEXTS)[:4])
    assert all(answers[f"nowhere {n}"].not_found for n in range(3))
    expected = {
        "answered": 1.0,
        "answer_precision": 1.0,
        "not_found_precision": 1.0,
        "not_found_recall": 1.0,
        "citation_precision": 1.0,
        "faithful": 1.0,
    }
    assert {name: made.event.metrics[name] for name in expected} == expected
    assert made.event.answer_model == "local/extract"
    actors = [each.event.actor for each in log.read(kinds=["rag.answered"])]
    assert actors == ["evaluation"] * 7


def test_an_answer_to_what_has_none_is_wrong(settings: Settings, log: EventLog) -> None:
    held = house(settings)
    asked = labels().head(2).with_columns(unanswerable=True)
    made = evaluate(held, asked, settings=settings, log=log, answer_model="local/extract")
    assert made.figures["answer_precision"].value == 0
    assert made.figures["not_found_recall"].value == 0
    assert "recall@1" not in made.figures
    assert "not_found_precision" not in made.figures


def test_what_an_answer_must_say_is_looked_for_in_it(settings: Settings, log: EventLog) -> None:
    held = house(settings)
    wrong = pl.Series([["behind a door"], ["under a roof"]])
    asked = labels().head(2).with_columns(answers=wrong)
    made = evaluate(held, asked, settings=settings, log=log, answer_model="local/extract")
    assert [each.right for each in made.judged] == [True, False]


def test_a_sample_is_asked_always_the_same(settings: Settings, log: EventLog) -> None:
    held = house(settings)
    asked = [
        evaluate(
            held, each, settings=settings, log=log, answer_model="local/extract", sample=3
        ).judged
        for each in (labels(), labels().reverse())
    ]
    first, second = ({each.question_id for each in judged} for judged in asked)
    assert len(first) == 3
    assert first == second


def test_questions_of_our_own_making_are_found(settings: Settings) -> None:
    held = house(settings)
    made = evaluate(held, self_made(held.chunks), settings=settings, mode="lexical")
    assert made.event.dataset_digest.startswith("self-made:")
    assert made.figures["recall@10"].value > 0.5
