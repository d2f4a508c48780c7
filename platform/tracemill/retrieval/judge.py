"""Put labelled questions to `ask`, and judge what comes back: right, honest, and truly cited?"""

import hashlib
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.retrieval import citations, relevance
from tracemill.retrieval.metrics import Figure, figure

if TYPE_CHECKING:
    import polars as pl

    from tracemill.log import EventLog
    from tracemill.retrieval.answer import Answer
    from tracemill.retrieval.collection import Collection, Mode
    from tracemill.settings import Settings

SAMPLE = 200
"""How many questions are asked, where nobody says otherwise."""


class Judged(NamedTuple):
    """What came of one question."""

    question_id: str
    unanswerable: bool
    not_found: bool
    answered: bool
    """Neither refused nor empty."""
    right: bool
    """The answer holds one of the texts that are right; where none are known, it cites a right
    chunk. Never, where the question has no answer."""
    citations: int
    supported: int
    """Citations that exist and support their sentence."""
    faithful: bool
    """Every sentence has a citation, and every citation supports its sentence."""
    confidence: float
    signs: tuple[float, ...] | None
    """What the confidence was made of; None where nothing was found."""


def sample(questions: "pl.DataFrame", count: int | None) -> "pl.DataFrame":
    """So many questions by hash, always the same; all of them for None."""
    if count is None or questions.height <= count:
        return questions
    order = [hashlib.blake2b(each.encode()).digest() for each in questions["question_id"]]
    chosen = sorted(range(questions.height), key=order.__getitem__)[:count]
    return questions[sorted(chosen)]


def judge(
    collection: "Collection",
    questions: "pl.DataFrame",
    right: "pl.DataFrame",
    *,
    settings: "Settings",
    log: "EventLog",
    model: str = "local/extract",
    mode: "Mode" = "hybrid",
    progress: Callable[[int], None] | None = None,
) -> list[Judged]:
    """Ask each question and judge the answer.

    Args:
        questions: as `questions.question_schema` says.
        right: question_id, chunk_id, as `relevance.right_chunks` gives them.
        progress: is called with 1 for each question asked.

    Every question is an event, as all that are asked are, by the actor `evaluation`. Raises
    `CallFailed` as `ask` does.
    """
    from tracemill.retrieval.answer import ask

    chunks: defaultdict[str, set[str]] = defaultdict(set)
    for question_id, chunk_id in right.select("question_id", "chunk_id").iter_rows():
        chunks[question_id].add(chunk_id)
    judged: list[Judged] = []
    for row in questions.iter_rows(named=True):
        answer = ask(
            row["question"],
            settings=settings,
            log=log,
            index=collection,
            model=model,
            mode=mode,
            actor="evaluation",
        )
        judged.append(_judge(row, answer, chunks[row["question_id"]]))
        if progress:
            progress(1)
    return judged


def _judge(row: dict[str, Any], answer: "Answer", right: set[str]) -> Judged:
    answered = answer.outcome == "answered"
    unknown = citations.unknown(answer.text, answer.sources) if answered else []
    cited = len(answer.citations) + len(unknown) if answered else 0
    supported = sum(each.supported for each in answer.citations) if answered else 0
    return Judged(
        question_id=row["question_id"],
        unanswerable=row["unanswerable"],
        not_found=answer.not_found,
        answered=answered,
        right=answered and not row["unanswerable"] and _is_right(row, answer, right),
        citations=cited,
        supported=supported,
        faithful=answered and supported == cited and not citations.uncited(answer.text),
        confidence=answer.confidence,
        signs=tuple(answer.features) if answer.features else None,
    )


def _is_right(row: dict[str, Any], answer: "Answer", right: set[str]) -> bool:
    if row["answers"]:
        return any(relevance.holds(answer.text, text) for text in row["answers"])
    cited = (source for source in answer.sources if source.supported)
    return any(not right.isdisjoint(source.chunk_ids) for source in cited)


def figures(judged: list[Judged]) -> dict[str, Figure]:
    """The shares that tell how answers did; one of nothing is left out.

    answered             of the questions with an answer, those that were answered
    not_found_recall     of the questions without an answer, those that were refused
    not_found_precision  of the refusals, those of questions without an answer
    answer_precision     of the answers, those that are right
    citation_precision   of the citations, those that support their sentence
    faithful             of the answers, those with every sentence cited and supported
    """
    answers = [each for each in judged if each.answered]
    shares = {
        "answered": [each.answered for each in judged if not each.unanswerable],
        "not_found_recall": [each.not_found for each in judged if each.unanswerable],
        "not_found_precision": [each.unanswerable for each in judged if each.not_found],
        "answer_precision": [each.right for each in answers],
        "citation_precision": [
            number < each.supported for each in answers for number in range(each.citations)
        ],
        "faithful": [each.faithful for each in answers],
    }
    return {
        name: figure(sum(values) / len(values), len(values))
        for name, values in shares.items()
        if values
    }
