"""Which of the chunks that were found a model is given: those that fit, whole, once, best first.

Chunks that overlap or follow each other in a document become one passage. Whatever a document says,
its title included, is data: `llm/passages.py` keeps it between its tags, and what reads like an
order to a model is flagged.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from tracemill import tokenizer
from tracemill.llm import injection, meaning, passages
from tracemill.llm.passages import Passage

if TYPE_CHECKING:
    import polars as pl

THRESHOLD = 0.45
"""A chunk that holds less of the question is not shown to the model. On SQuAD 1.1 (1,000 questions)
98.9 % of the right paragraphs hold so much, and in 18 % of the questions whose article is not there
none of five does; 0.55: 97.7 % and 50 %. The rest is for the model to say."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A passage that the model was given."""

    number: int
    """What the answer cites it by, as [1]."""
    chunk_id: str
    """Of the best of its chunks."""
    chunk_ids: tuple[str, ...]
    """All of them, in the order of the document."""
    document_id: str
    title: str
    headings: tuple[str, ...]
    """From the outermost."""
    source: str
    """Where the document comes from: a URL, a module, a path."""
    start: int
    """The document's text[start:end] is the passage."""
    end: int
    first_page: int | None
    last_page: int | None
    first_line: int | None
    last_line: int | None
    text: str
    score: float
    """The search's, to be compared within one search."""
    lexical: float | None
    """The share of the question's weight that it holds, by BM25; None where nobody looked."""
    dense: float | None
    """The cosine of its vector and the question's; None where nobody looked."""
    fit: float
    """How much of the question it holds, by the meaning of words: 0 to 1, whatever the search."""
    flagged: tuple[str, ...] = ()
    """Signs that it tries to give a model orders (`llm/injection.py`)."""
    cited: bool = False
    """True when the answer cites it."""
    supported: bool = False
    """True when it supports a sentence that cites it."""


def passage(source: Source) -> Passage:
    """A source as the model sees it: headings that repeat the title say nothing."""
    return Passage(source.number, place(source), source.text)


def place(source: Source) -> str:
    """Its title and headings."""
    return " > ".join(dict.fromkeys((source.title, *source.headings)))


def pack(
    question: str, found: "pl.DataFrame", *, threshold: float, tokens: int
) -> tuple[Source, ...]:
    """The passages for a question.

    Args:
        found: what a search gave, best first.
        threshold: what a chunk must hold of the question, from 0 to 1.
        tokens: what the passages may take, tags included. A first one that is longer is cut;
            others that do not fit are left out.
    """
    kept: list[Source] = []
    room = tokens
    rows = list(found.iter_rows(named=True))
    for row, fit in zip(rows, _fits(question, rows), strict=True):
        source = _source(row, fit)
        if fit < threshold or any(source.text in other.text for other in kept):
            continue
        touching = [other for other in kept if _touch(other, source)]
        joined = reduce(_join, touching, source)
        cost = _cost(joined) - sum(map(_cost, touching))
        if cost > room and kept:
            continue
        if cost > room:
            joined = _cut(source, room)
            cost = _cost(joined)
        room -= cost
        at = min((kept.index(other) for other in touching), default=len(kept))
        kept = [other for other in kept if other not in touching]
        kept.insert(at, joined)
    return tuple(replace(source, number=at) for at, source in enumerate(kept, start=1))


def _fits(question: str, rows: list[dict[str, Any]]) -> list[float]:
    asked = list(dict.fromkeys(meaning.words(question)))
    if not asked or not rows:
        return [1.0] * len(rows)
    texts = [" ".join((row["title"], *row["headings"], row["text"])) for row in rows]
    compared = meaning.compare(asked, list(map(meaning.words, texts)))
    return [float(fit) for fit in compared.held @ compared.shares]


def _source(row: dict[str, Any], fit: float) -> Source:
    return Source(
        number=row["rank"],
        chunk_id=row["chunk_id"],
        chunk_ids=(row["chunk_id"],),
        document_id=row["document_id"],
        title=row["title"],
        headings=tuple(row["headings"]),
        source=row["source"],
        start=row["start"],
        end=row["end"],
        first_page=row["first_page"],
        last_page=row["last_page"],
        first_line=row["first_line"],
        last_line=row["last_line"],
        text=row["text"],
        score=row["score"],
        lexical=row["lexical"],
        dense=row["dense"],
        fit=fit,
        flagged=tuple(injection.signs("\n".join((row["title"], *row["headings"], row["text"])))),
    )


def _touch(one: Source, other: Source) -> bool:
    same = one.document_id == other.document_id
    return same and one.start <= other.end and other.start <= one.end


def _join(one: Source, other: Source) -> Source:
    """Both as one stretch of their document; scores are the best of both."""
    first, last = sorted((one, other), key=lambda source: (source.start, -source.end))
    best = max(one, other, key=lambda source: source.score)
    return replace(
        best,
        chunk_ids=(*first.chunk_ids, *(i for i in last.chunk_ids if i not in first.chunk_ids)),
        headings=first.headings,
        start=first.start,
        end=max(first.end, last.end),
        first_page=first.first_page,
        last_page=_later(first.last_page, last.last_page),
        first_line=first.first_line,
        last_line=_later(first.last_line, last.last_line),
        text=first.text + last.text[max(first.end - last.start, 0) :],
        lexical=_most(one.lexical, other.lexical),
        dense=_most(one.dense, other.dense),
        fit=max(one.fit, other.fit),
        flagged=tuple(dict.fromkeys((*first.flagged, *last.flagged))),
    )


def _cut(source: Source, tokens: int) -> Source:
    """As much of its beginning as there is room for. Its last page and line are not known then."""
    starts = tokenizer.starts(source.text)
    spare = tokens - (_cost(source) - len(starts))
    text = source.text[: int(starts[spare])] if 0 < spare < len(starts) else source.text[:1]
    end = source.start + len(text)
    return replace(source, text=text, end=end, last_page=None, last_line=None)


def _cost(source: Source) -> int:
    return tokenizer.count(passages.write_passage(passage(source)))


def _most(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _later(*values: int | None) -> int | None:
    return max((value for value in values if value is not None), default=None)


def ids(sources: Iterable[Source]) -> tuple[str, ...]:
    """The chunks of sources."""
    return tuple(chunk_id for source in sources for chunk_id in source.chunk_ids)
