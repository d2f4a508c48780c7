"""Ask an index: find passages, let a model answer from them, say where the answer comes from.

When nothing fits, that is the answer: `not_found`, not a guess. Every question is an event, linked
to its model call by `call_id` and `correlation_id`.
"""

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tracemill import tokenizer
from tracemill.errors import CallFailed, UsageError
from tracemill.events import RagAnswered, new_id
from tracemill.llm import passages
from tracemill.llm.client import Client
from tracemill.llm.options import Options
from tracemill.llm.passages import Passage
from tracemill.messages import Message, Request
from tracemill.retrieval.index import Index, open_index
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.log import EventLog

THRESHOLD = 0.2
"""A passage below this score is not shown to the model. On SQuAD 1.1 (2,000 questions) 97 % of the
right passages reach it, and 56 % of the best ones where the right article is not there."""

PASSAGE_TOKENS = 3_000
"""The most tokens of passages in a prompt."""

NOT_FOUND = "Nothing in the index answers this."


@dataclass(frozen=True)
class Source:
    """A passage that the model was given."""

    number: int
    """What the answer cites it by, as [1]."""
    cited: bool
    """True when the answer cites it."""
    score: float
    """How well it fits the question, from 0 to 1."""
    chunk_id: str
    document_id: str
    title: str
    headings: tuple[str, ...]
    """From the outermost."""
    source: str
    """Where the document comes from."""
    start: int
    """The document's text[start:end] is the passage."""
    end: int
    text: str


@dataclass(frozen=True)
class Answer:
    """What came of a question."""

    text: str
    """The answer with its citations, or a sentence that nothing was found."""
    sources: tuple[Source, ...]
    """The passages that the model was given, best first."""
    not_found: bool
    """True when nothing in the index answers the question."""
    call_id: str | None
    """The model call; None when there was no passage to ask it about."""
    confidence: float
    """The best score among the cited passages, 0 when nothing was found. Not a probability."""


def ask(
    question: str,
    *,
    settings: Settings,
    log: "EventLog",
    index: str | Index = "installed",
    k: int = 5,
    model: str = "local/extract",
    actor: str | None = None,
) -> Answer:
    """Answer a question from an index, with sources.

    Args:
        index: a collection's name, or an index that is already open (faster for many questions).
        k: how many passages are looked for.
        actor: who asks, as on every event.

    Raises `UsageError` for a blank question, `InputError` when the index is missing or damaged,
    and `CallFailed` when the model fails for another reason than that it found nothing.
    """
    if not question.strip() or k < 1:
        raise UsageError(f"cannot look for {k} passages on {question!r}: ask for at least one")
    clock = time.perf_counter()
    opened = open_index(settings.indexes, index) if isinstance(index, str) else index
    sources = _retrieve(opened, question, k)
    work = new_id()
    about: Options = {"actor": actor, "correlation_id": work}
    answer = _answer(question, sources, log=log, model=model, about=about)
    event = RagAnswered(
        index=opened.name,
        index_digest=opened.digest,
        question=question,
        call_id=answer.call_id,
        chunk_ids=tuple(source.chunk_id for source in sources),
        scores=tuple(source.score for source in sources),
        not_found=answer.not_found,
        latency_ms=(time.perf_counter() - clock) * 1000,
        actor=actor,
        correlation_id=work,
    )
    log.append([event])
    return answer


def prompt(question: str, sources: tuple[Source, ...]) -> tuple[Message, ...]:
    """The messages that put a question and its passages to a model."""
    return (
        Message(role="system", content=passages.INSTRUCTIONS),
        Message(role="user", content=passages.write(question, [_passage(s) for s in sources])),
    )


def _retrieve(index: Index, question: str, k: int) -> tuple[Source, ...]:
    """The passages above the threshold, best first, as many as fit."""
    found = index.search(question, k)
    sources: list[Source] = []
    room = PASSAGE_TOKENS
    for row in found.iter_rows(named=True):
        source = _source(row)
        room -= tokenizer.count(passages.write_passage(_passage(source)))
        if source.score < THRESHOLD or room < 0:
            break
        sources.append(source)
    return tuple(sources)


def _source(row: dict[str, Any]) -> Source:
    return Source(
        number=row["rank"],
        cited=False,
        score=row["score"],
        chunk_id=row["chunk_id"],
        document_id=row["document_id"],
        title=row["title"],
        headings=tuple(row["headings"]),
        source=row["source"],
        start=row["start"],
        end=row["end"],
        text=row["text"],
    )


def _answer(
    question: str,
    sources: tuple[Source, ...],
    *,
    log: "EventLog",
    model: str,
    about: Options,
) -> Answer:
    if not sources:
        return Answer(NOT_FOUND, (), True, None, 0.0)
    call_id = new_id()
    request = Request(model=model, messages=prompt(question, sources))
    try:
        response = Client(log).generate(request, **about | {"call_id": call_id})
    except CallFailed as failure:
        if failure.error_type != "no_answer":
            raise
        return Answer(NOT_FOUND, sources, True, call_id, 0.0)
    if response.text.strip() == passages.NOTHING_FOUND:
        return Answer(NOT_FOUND, sources, True, call_id, 0.0)
    return _cite(response.text, sources, call_id)


def _cite(text: str, sources: tuple[Source, ...], call_id: str) -> Answer:
    numbers = passages.cited(text)
    marked = tuple(replace(source, cited=source.number in numbers) for source in sources)
    confidence = max((source.score for source in marked if source.cited), default=0.0)
    return Answer(text, marked, False, call_id, confidence)


def _passage(source: Source) -> Passage:
    """A source as the model sees it: headings that repeat the title say nothing."""
    title = " > ".join(dict.fromkeys((source.title, *source.headings)))
    return Passage(source.number, title, source.text)
