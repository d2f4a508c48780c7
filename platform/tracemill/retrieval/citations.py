"""Which sentence of an answer cites what, and whether the passage says so.

Offline and cheap: a passage supports a sentence when two neighbouring sentences of it hold its
words or words near to them, and the passage has its numbers and names. It finds what is made up,
mixed up or altered; what is said the other way round only where the words stay the same.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tracemill import tokenizer
from tracemill.llm import meaning
from tracemill.llm.sentences import Sentence, sentences
from tracemill.retrieval.packing import Source

ENOUGH = 0.59
"""The least score of support. Chosen on half of SQuAD 1.1's articles (even numbers), measured on the
other, where half of the claims are right and the rest are beside another paragraph of the article or
have another number or name: precision 0.96, recall 0.98 (`python -m benchmarks.answers`)."""
_LITTLE = 0.3  # what one of several passages cited together must hold
_SAME = 0.75  # two sentences that hold each other so far say the same, or the opposite

_GROUP = re.compile(
    r"\[\d{1,3}(?:\s*[,;\u2013-]\s*\d{1,3})*\](?:\s*\[\d{1,3}(?:\s*[,;\u2013-]\s*\d{1,3})*\])*"
)
_NUMBERS = re.compile(r"(\d+)(?:\s*[\u2013-]\s*(\d+))?")
# As many backticks close it as open it: reStructuredText writes ``two``.
_CODE = re.compile(r"(`{3,}|~{3,}).*?(?:\1|\Z)|(?<!`)(`{1,2})(?!`)[^\n]*?(?<!`)\2(?!`)", re.DOTALL)
_FIGURE = re.compile(r"\d+(?:[.,:]\d+)*")
_NAME = re.compile(r"[^\W\d_a-z]\w+")
_FIRST = re.compile(r"^\W*([^\W\d_a-z]\w*)(?!\s[^\W\d_a-z])\s")
_NOT = re.compile(
    r"\b(?:not|never|no|none|nor|neither|without|cannot)\b|n['\u2019]t\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Citation:
    """One number after a sentence of an answer, and where its passage supports it."""

    sentence: str
    number: int
    supported: bool
    score: float
    """How much of the sentence the passage holds, from 0 to 1."""
    document_id: str
    start: int
    """The document's text[start:end] is what comes nearest to the sentence."""
    end: int
    line: int | None
    """Of `start`, where the document has lines."""


class Cited(NamedTuple):
    """A sentence, or the part of one, and the numbers after it."""

    sentence: str
    numbers: tuple[int, ...]


class Support(NamedTuple):
    """How much of a sentence a text holds, and where: characters of the text."""

    score: float
    held: float
    """The same without regard to names, numbers and denials."""
    start: int
    end: int


def cited(answer: str) -> list[Cited]:
    """The sentences of an answer that cite something, in order; [1] in code is an index."""
    found: list[Cited] = []
    begin = 0
    for group in _GROUP.finditer(_without_code(answer)):
        between = answer[begin : group.start()]
        numbers = _numbers(group[0])
        if not meaning.words(between) and found:
            earlier = found.pop()
            found.append(earlier._replace(numbers=tuple(dict.fromkeys(earlier.numbers + numbers))))
        else:
            last = sentences(between)[-1:] or [Sentence(0, len(between))]
            found.append(Cited(between[last[0].start : last[0].end].strip(), numbers))
        begin = group.end()
    return found


def uncited(answer: str) -> int:
    """How many sentences of an answer cite nothing."""
    count, begin = 0, 0
    for group in _GROUP.finditer(_without_code(answer)):
        count += max(len(_said(answer[begin : group.start()])) - 1, 0)
        begin = group.end()
    return count + len(_said(answer[begin:]))


def _without_code(answer: str) -> str:
    """The answer without the brackets of its code; every character stays where it is."""
    return _CODE.sub(lambda code: re.sub(r"[\[\]]", "\0", code[0]), answer)


def _said(text: str) -> list[Sentence]:
    """Sentences with two words that count: "So:" and "Note" need no source."""
    return [
        each
        for each in sentences(text)
        if each.kind == "prose"
        and len(meaning.words(text[each.start : each.end])) >= 2
        and not text[each.start : each.end].endswith(":")
    ]


def check(answer: str, sources: Sequence[Source]) -> list[Citation]:
    """Every citation of a source that exists, with what it is worth."""
    by_number = {source.number: source for source in sources}
    return [
        citation
        for sentence, numbers in cited(answer)
        for citation in _checked(sentence, {n: by_number[n] for n in numbers if n in by_number})
    ]


def unknown(answer: str, sources: Sequence[Source]) -> list[int]:
    """The numbers that an answer cites and no source has."""
    known = {source.number for source in sources}
    return sorted({n for each in cited(answer) for n in each.numbers} - known)


def _checked(sentence: str, sources: Mapping[int, Source]) -> list[Citation]:
    """Passages that are cited together may each hold a part."""
    each = {number: support(sentence, _whole(source)) for number, source in sources.items()}
    together = len(sources) > 1 and (
        support(sentence, "\n\n".join(map(_whole, sources.values()))).score >= ENOUGH
    )
    return [
        _citation(sentence, sources[number], found, together=together)
        for number, found in each.items()
    ]


def _whole(source: Source) -> str:
    """The passage, and what it is about behind it, where it moves no character."""
    return f"{source.text}\n\n{' '.join((source.title, *source.headings))}"


def _citation(sentence: str, source: Source, found: Support, *, together: bool) -> Citation:
    start, end = (min(at, len(source.text)) for at in (found.start, found.end))
    line = source.first_line
    return Citation(
        sentence=sentence,
        number=source.number,
        supported=found.score >= ENOUGH or (together and found.held >= _LITTLE),
        score=round(found.score, 4),
        document_id=source.document_id,
        start=source.start + start,
        end=source.start + end,
        line=None if line is None else line + source.text.count("\n", 0, start),
    )


def support(sentence: str, text: str) -> Support:
    """How far a text supports a sentence.

    The score is the share of the sentence's weight that the best two neighbouring sentences hold
    (`llm/meaning.py`), less the weight of names that the text lacks; 0 where it lacks a number.
    """
    asked = list(dict.fromkeys(meaning.words(sentence)))
    parts = sentences(text)
    if not asked or not parts:
        return Support(0, 0, 0, 0)
    texts = [meaning.words(text[part.start : part.end]) for part in parts]
    compared = meaning.compare(asked, texts)
    first, last, held = _nearest(compared)
    score, nearest = held, text[parts[first].start : parts[last].end]
    if first == last and held >= _SAME and _reversed(sentence, nearest, asked, texts[first]):
        score /= 2
    lacking = _lacking(sentence, text)
    missing = [word in lacking for word in asked]
    score = max(score - float(compared.shares[missing].sum()), 0.0)
    if not set(_FIGURE.findall(sentence)) <= set(_FIGURE.findall(text)):
        score = 0.0
    return Support(min(score, 1.0), held, parts[first].start, parts[last].end)


def _nearest(compared: meaning.Compared) -> tuple[int, int, float]:
    """The first and the last sentence of those that hold most, and how much that is."""
    import numpy as np

    held, share = compared.held, compared.shares
    alone = held @ share
    best = int(alone.argmax())
    if len(held) == 1:
        return best, best, float(alone[best])
    pairs = np.maximum(held[:-1], held[1:]) @ share
    pair = int(pairs.argmax())
    # A second sentence must say something: else one is the better place to point at.
    if pairs[pair] <= alone[best] + 0.05:
        return best, best, float(alone[best])
    return pair, pair + 1, float(pairs[pair])


def _lacking(sentence: str, text: str) -> set[str]:
    """The names in a sentence that a text does not have, in lower case."""
    there = set(re.findall(r"\w+", text.lower()))
    names = {name.lower() for name in _NAME.findall(sentence)}
    first = _FIRST.match(sentence)
    if first and len(tokenizer.ids([first[1].lower()])[0]) == 1:
        # Every sentence begins with a capital; a word that the tokenizer knows whole in small
        # letters is no name for that.
        names.discard(first[1].lower())
    return names - there


def _reversed(one: str, other: str, words: Sequence[str], others: Sequence[str]) -> bool:
    """Two sentences of the same words, only one of which says not."""
    same = len(set(others) & set(words)) >= _SAME * len(set(others))
    return same and bool(_NOT.search(one)) != bool(_NOT.search(other))


def _numbers(group: str) -> tuple[int, ...]:
    found: list[int] = []
    for first, last in _NUMBERS.findall(group):
        low, high = int(first), int(last or first)
        found += range(low, high + 1) if high - low < 20 else (low, high)
    return tuple(dict.fromkeys(found))
