"""Does retrieval find the right passage: the newest evaluation of a collection, question by question.

Ranks are those that the evaluation kept; passages are looked up in the version that serves.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracemill.errors import InputError
from tracemill.events import RetrievalEvaluated
from tracemill.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import polars as pl

    from tracemill.log import EventLog
    from tracemill.retrieval.collection import Collection

KINDS = ("in the passage's words", "half in other words", "in other words")
"""Of questions, by the share of their words that the right passage has."""
NOWHERE = "not found"


@dataclass(frozen=True)
class Asked:
    """An evaluation of a collection and what is known of its questions."""

    event: RetrievalEvaluated
    collection: "Collection"
    """The version that serves; `is_current` says whether it was the one evaluated."""
    questions: "pl.DataFrame"
    """As `retrieval.questions.question_schema` says; empty where they are no longer there."""
    outcomes: "pl.DataFrame"
    """question_id, `first` (rank of the right passage, null: not found), recall@1 ... ndcg@10; and
    question, document_id, kind (one of `KINDS`)."""

    @property
    def is_current(self) -> bool:
        return self.event.index_digest == self.collection.digest

    @property
    def by_people(self) -> bool:
        """Whether people labelled the questions."""
        return ":" not in self.event.dataset_digest


def evaluated(settings: Settings, log: "EventLog") -> list[Asked]:
    """The newest evaluation of each collection that is there, those labelled by people first."""
    from tracemill.retrieval.collection import collections, open_collection

    found: list[Asked] = []
    for name in collections(settings.indexes):
        event = _newest(settings, log, name)
        try:
            held = open_collection(settings.indexes, name, log=log)
        except InputError:
            continue
        if event is not None:
            found.append(_asked(settings, event, held))
    return sorted(found, key=lambda each: (not each.by_people, each.event.index))


def recall(asked: Asked) -> "pl.DataFrame":
    """Recall by depth, of all questions and of each kind: kind, k, value, low, high, n."""
    import polars as pl

    from tracemill.retrieval.metrics import DEPTHS, figure

    kinds = ["all questions", *KINDS]
    parts = [asked.outcomes, *(asked.outcomes.filter(kind=kind) for kind in KINDS)]
    rows = [
        (kind, depth, *figure(_mean(part[f"recall@{depth}"]), part.height))
        for kind, part in zip(kinds, parts, strict=True)
        for depth in DEPTHS
        if part.height and f"recall@{depth}" in part.columns
    ]
    schema = {"kind": pl.String, "k": pl.Int64, "value": pl.Float64, "low": pl.Float64}
    return pl.DataFrame(rows, {**schema, "high": pl.Float64, "n": pl.Int64}, orient="row")


def ranks(asked: Asked) -> "pl.DataFrame":
    """At which rank the right passage came: rank (1 to 10, then `not found`), questions."""
    import polars as pl

    rank = pl.col("first").cast(pl.String).fill_null(NOWHERE)
    counted = dict(asked.outcomes.group_by(rank).len().iter_rows())
    names = [*map(str, range(1, 11)), NOWHERE]
    return pl.DataFrame({"rank": names, "questions": [counted.get(name, 0) for name in names]})


def misses(asked: Asked, beyond: int = 1) -> "pl.DataFrame":
    """The questions whose right passage is not among the first: what is right, what came instead.

    Columns: question, kind, rank (null: not among the ten), right and instead (where a passage
    stands, as title > heading), right_text, instead_text; the worst first.
    """
    import polars as pl

    missed = asked.outcomes.filter(pl.col("first").is_null() | (pl.col("first") > beyond))
    order = missed.sort(pl.col("first").fill_null(99), "question", descending=[True, False])
    right = _right(asked)
    rows = [
        (
            row["question"],
            row["kind"],
            row["first"],
            *_where(right.filter(question_id=row["question_id"])),
            *_where(asked.collection.search(row["question"], 1, mode=asked.event.mode)),
        )
        for row in order.iter_rows(named=True)
    ]
    names = ("right", "right_text", "instead", "instead_text")
    schema = {"question": pl.String, "kind": pl.String, "rank": pl.Int64}
    frame = pl.DataFrame(rows, {**schema, **dict.fromkeys(names, pl.String)}, orient="row")
    return frame.select(*schema, "right", "instead", "right_text", "instead_text")


def not_found(asked: Asked, log: "EventLog") -> "pl.DataFrame":
    """Whether "not found" was said, where answers were asked for: question, answerable, said,
    confidence. The newest answer of this version to each question counts."""
    import polars as pl

    said = log.sql(
        """
        SELECT payload ->> '$.question' AS question,
               arg_max(CAST(payload ->> '$.not_found' AS BOOLEAN), position) AS said,
               arg_max(CAST(payload ->> '$.confidence' AS DOUBLE), position) AS confidence
        FROM events
        WHERE kind = 'rag.answered' AND payload ->> '$.index_digest' = $digest
        GROUP BY ALL ORDER BY question
        """,
        {"digest": asked.event.index_digest},
    )
    known = asked.questions.select("question", answerable=~pl.col("unanswerable"))
    return known.join(said, on="question").sort("answerable", "question")


def _newest(settings: Settings, log: "EventLog", name: str) -> RetrievalEvaluated | None:
    """The last evaluation of which it is known what came of each question."""
    found = None
    for recorded in log.read(stream=f"index:{name}:evaluations"):
        event = recorded.event
        if isinstance(event, RetrievalEvaluated) and _file(settings, event).is_file():
            found = event
    return found


def _file(settings: Settings, event: RetrievalEvaluated) -> "Path":
    from tracemill.retrieval.evaluate import FOLDER

    return settings.collection(event.index) / FOLDER / f"{event.event_id}.parquet"


def _asked(settings: Settings, event: RetrievalEvaluated, held: "Collection") -> Asked:
    import polars as pl

    from tracemill.retrieval.questions import question_schema

    questions = pl.DataFrame(schema=question_schema())
    for each in _known(settings, event, held):
        questions = each
    outcomes = pl.read_parquet(_file(settings, event), glob=False)
    asked = Asked(event, held, questions, outcomes)
    told = questions.select("question_id", "question", "document_id")
    kinds = pl.DataFrame(
        {"question_id": told["question_id"], "kind": _kinds(asked)},
        schema={"question_id": pl.String, "kind": pl.String},
    )
    both = outcomes.join(told, on="question_id", how="left").join(
        kinds, on="question_id", how="left"
    )
    return Asked(event, held, questions, both.sort("question", "question_id"))


def _known(
    settings: Settings, event: RetrievalEvaluated, held: "Collection"
) -> "Iterator[pl.DataFrame]":
    """The set of questions with the digest of the evaluation, if it is still there."""
    import polars as pl

    from tracemill.corpus.records import answer, question
    from tracemill.retrieval import questions

    def candidates() -> "Iterator[pl.DataFrame]":
        if questions.questions_file(settings, event.index).is_file():
            yield questions.read_questions(questions.questions_file(settings, event.index)).frame
        yield questions.self_made(held.chunks)
        installed = settings.corpus / "installed_records.parquet"
        if installed.is_file():
            rows = pl.scan_parquet(installed, glob=False).select(question(), answer()).collect()
            yield questions.from_records(rows)

    for each in candidates():
        if questions.dataset_digest(each) == event.dataset_digest:
            yield each
            return


def _kinds(asked: Asked) -> list[str]:
    """How far each question is in the words of its right passage; of several passages the best."""
    from tracemill.llm.words import words

    texts: dict[str, list[set[str]]] = {}
    for question_id, text in _right(asked).select("question_id", "text").iter_rows():
        texts.setdefault(question_id, []).append(set(words(text)))
    kinds: list[str] = []
    for question_id, text in asked.questions.select("question_id", "question").iter_rows():
        said = set(words(text))
        shared = max((len(said & each) for each in texts.get(question_id, [])), default=0)
        share = shared / max(len(said), 1)
        kinds.append(KINDS[0] if share >= 2 / 3 else KINDS[1] if share >= 1 / 3 else KINDS[2])
    return kinds


def _right(asked: Asked) -> "pl.DataFrame":
    """The right passages: question_id and the columns of chunks, in the order of their ids."""
    from tracemill.retrieval.relevance import right_chunks

    chunks = asked.collection.chunks
    pairs = right_chunks(asked.questions, chunks)
    return pairs.join(chunks, on="chunk_id").sort("question_id", "chunk_id")


def _where(chunks: "pl.DataFrame") -> tuple[str, str]:
    """Where a passage stands, and its text on one line."""
    if chunks.is_empty():
        return "nowhere", ""
    first = chunks.row(0, named=True)
    place = " > ".join(dict.fromkeys((first["title"], *first["headings"])))
    return place, " ".join(str(first["text"]).split())


def _mean(values: "pl.Series") -> float:
    return float(values.mean())  # pyright: ignore[reportArgumentType]
