"""Models that run here: offline, deterministic, no key. They answer by choosing, never by writing.

`extract` picks the sentences of the prompt's passages that answer its question and cites them;
`echo` repeats the last user message. Tokens are counted for real, by the bundled tokenizer.
"""

import re
import textwrap
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tracemill import tokenizer
from tracemill.errors import CallFailed
from tracemill.llm import injection, meaning, passages, sentences
from tracemill.llm.asked_for import asks_way, asks_what, is_signature, offers
from tracemill.llm.passages import Passage
from tracemill.llm.providers import Reply
from tracemill.messages import Request, Text, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONTEXT_TOKENS = 4_096
"""The most tokens that a request may have."""

SENTENCES = 3
# A further sentence must score this share of the best one.
CLOSE = 0.85
# Or it must hold this share of the question's weight that the chosen ones lack, as in "who and when".
GAIN = 0.2
# The best sentence's least score, chosen on half of SQuAD 1.1's articles. On the other half, with five
# passages each, it answers 95 % of 1,000 questions whose article is there, 93 % of these answers hold
# the right words, and it refuses 83 % of those whose article is not (`python -m benchmarks.answers`).
ENOUGH = 0.6
# A sentence's score: how much of the question it holds, it and the sentence before it, its whole
# passage; how near it is to the question. Weights as a listwise softmax learned them on half of
# the articles, rounded.
OWN, WITH_BEFORE, PASSAGE, NEAR = 0.35, 0.35, 0.15, 0.15
# What a sentence gains that has the kind of thing which is asked for: a number, a name, code.
OFFERED = 0.1
# What it gains that says three words which are not in the question: else it only repeats that.
NEW = 0.1
# What the first sentence below a heading gains, of what the question and the heading share, where
# it is asked what something is or does: a summary stands there.
SUMMARY = 0.25
# Fewer words that count are a label, not an answer; below a heading, a sentence may be shorter.
_SHORTEST = 3
# An introduction with so many says something without its code.
_WHOLE = 6
_FOOTNOTE = re.compile(r"\[(\d+)\]")


class Sentence(NamedTuple):
    """Something of a passage that can be quoted."""

    passage: Passage
    text: str
    words: list[str]
    """Those that count, its title and heading among them: they say what a sentence is about."""
    is_code: bool
    below: tuple[str, ...] = ()
    """The words of the heading whose first sentence it is; else none."""


def reply(model: str, request: Request) -> Reply:
    """Answer a request.

    Raises `CallFailed`: `unknown_model`, `context_length_exceeded`, or `no_answer` when no
    sentence answers the question.
    """
    if model not in MODELS:
        raise CallFailed(
            "unknown_model", f"local has no model {model!r}: it has {', '.join(sorted(MODELS))}"
        )
    if request.logprobs is not None:
        raise CallFailed(
            "invalid_request",
            f"logprobs: local/{model} chooses without probabilities: leave it out",
        )
    read = sum(tokenizer.count(text) for text in _texts(request))
    if read > CONTEXT_TOKENS:
        raise CallFailed(
            "context_length_exceeded",
            f"the request has {read:,} tokens and local/{model} reads at most {CONTEXT_TOKENS:,}: "
            "send fewer or shorter passages",
        )
    prompt = next((m.text for m in reversed(request.messages) if m.role == "user"), "")
    text, cut = _shorten(MODELS[model](prompt), request.max_output_tokens)
    usage = Usage(input_tokens=read, output_tokens=tokenizer.count(text))
    reason = "length" if cut else "stop"
    return Reply((Text(content=text),), reason, reason, model, usage)


def answer(model: str, request: Request) -> Generator[str, None, Reply]:
    """As `reply`, in pieces; the reply is the generator's value."""
    whole = reply(model, request)
    yield from pieces(whole.text)
    return whole


def _texts(request: Request) -> Iterator[str]:
    """Everything that is read."""
    yield from (message.text for message in request.messages)
    if request.system:
        yield request.system


def pieces(text: str) -> list[str]:
    """A text cut before its words, as a stream hands it on."""
    return re.findall(r"\s*\S+|\s+$", text)


def extract(prompt: str) -> str:
    """The sentences of the prompt's passages that answer its question, each cited as [1].

    Raises `CallFailed` with `no_answer`.
    """
    asked = passages.read(prompt)
    # Documents repeat each other: of equal sentences the first is enough.
    first: dict[str, Sentence] = {}
    for sentence in (one for passage in asked.passages for one in _quotable(passage)):
        first.setdefault(sentence.text, sentence)
    # Who gives orders to models is quoted only where nobody else answers.
    ordering = [passage for passage in asked.passages if injection.signs(passage.text)]
    clean = [one for one in first.values() if one.passage not in ordering]
    chosen = _chosen(asked.question, clean)
    if not chosen and ordering:
        chosen = _chosen(asked.question, list(first.values()))
    if not chosen:
        raise CallFailed("no_answer", _why_nothing(asked.question, len(asked.passages)))
    return _joined(chosen)


def echo(prompt: str) -> str:
    """The last user message."""
    return prompt


MODELS = {"extract": extract, "echo": echo}


def _chosen(question: str, given: list[Sentence]) -> list[Sentence]:
    """Code shows how something is done; what else is asked, it answers only where no words do."""
    if asks_way(question):
        return _choose(question, given)
    calls = asks_what(question)
    said = [one for one in given if not (one.is_code or (calls and is_signature(one.text)))]
    return _choose(question, said) or _choose(question, given)


def _choose(question: str, given: list[Sentence]) -> list[Sentence]:
    """The best few sentences in the order of their passages; none where even they say little."""
    asked = list(dict.fromkeys(meaning.words(question)))
    if not given or not asked:
        return []
    scores, held = _scores(asked, given)
    if max(scores) < ENOUGH:
        return []
    ranked = [
        score
        + OFFERED * offers(question, sentence.text, is_code=sentence.is_code)
        + NEW * min(len(set(sentence.words).difference(asked)), 3) / 3
        + SUMMARY * (asks_what(question) and _shared(asked, sentence.below))
        for score, sentence in zip(scores, given, strict=True)
    ]
    best = sorted(range(len(given)), key=lambda at: -ranked[at])
    chosen = [at for at in best[:SENTENCES] if ranked[at] >= CLOSE * ranked[best[0]]]
    if len(chosen) < SENTENCES:
        gains = (held - held[chosen].max(axis=0)).clip(0).sum(axis=1)
        if gains.max() >= GAIN:
            chosen.append(int(gains.argmax()))
    return [given[at] for at in sorted(chosen)]


def _scores(asked: list[str], given: list[Sentence]) -> "tuple[list[float], NDArray[np.float32]]":
    """How well each sentence fits the words that were asked, from 0 to 1; and how much of the
    question's weight it holds, word by word: shape (sentences, words)."""
    import numpy as np

    compared = meaning.compare(asked, [sentence.words for sentence in given])
    held, share = compared.held, compared.shares
    numbers = np.array([sentence.passage.number for sentence in given])
    goes_on = np.append(False, numbers[1:] == numbers[:-1])
    before = np.where(goes_on[:, None], np.roll(held, 1, axis=0), 0)
    whole = {number: held[numbers == number].max(axis=0) for number in set(numbers.tolist())}
    parts = (
        OWN * held,
        WITH_BEFORE * np.maximum(held, before),
        PASSAGE * np.stack([whole[number] for number in numbers.tolist()]),
    )
    scores = sum(parts) @ share + NEAR * compared.cosine.clip(0, 1)
    return [float(score) for score in scores], held * share


def _shared(some: Sequence[str], others: Sequence[str]) -> float:
    """How much of two sets of words is in both."""
    one, other = set(some), set(others)
    return len(one & other) / max(len(one | other), 1)


def _quotable(passage: Passage) -> Iterator[Sentence]:
    """What of a passage can be quoted: no heading, no label, and no order to a model."""
    cut = sentences.sentences(passage.text)
    about = meaning.words(passage.title)
    below: tuple[str, ...] = ()
    before = ""
    for (start, end, kind), after in zip(cut, [*cut[1:], None], strict=True):
        text, is_code = passage.text[start:end], kind == "code"
        if kind == "heading":
            below = tuple(meaning.words(text))
            about, before = [*_place(passage, cut[0], start), *below], ""
            continue
        # A number in brackets would be a citation.
        prose = _FOOTNOTE.sub(r"(\1)", " ".join(text.split()))
        shown = f"```\n{textwrap.dedent(text)}\n```" if is_code else prose
        introduces = after is not None and after.kind == "code" and shown[-1] not in ".!?"
        if not is_code and (shown.endswith(":") or introduces):
            # "Use it so:" says nothing without what follows.
            before = shown
            continue
        if is_code and len(meaning.words(before)) >= _WHOLE and before.endswith(":"):
            yield from _said(passage, before.rstrip(":") + ".", about, below)
        shown, before = f"{before}\n{shown}" if before else shown, ""
        yield from _said(passage, shown, about, below, is_code=is_code)
        below = below if is_code or is_signature(shown) else ()


def _place(passage: Passage, first: sentences.Sentence, start: int) -> list[str]:
    """What the heading at `start` stands under: not the first one, where that is on its level."""
    above, _, last = passage.title.rpartition(" > ")
    begins = passage.text[first.start : first.end].strip("# ") == last
    siblings = begins and _level(passage.text, first.start) == _level(passage.text, start)
    return meaning.words(above if siblings and start > first.start else passage.title)


def _level(text: str, start: int) -> str:
    """The marks of a heading: those before it, or the line of them below."""
    line, _, rest = text[start:].partition("\n")
    return line[: len(line) - len(line.lstrip("#"))] or rest[:1]


def _said(
    passage: Passage, shown: str, about: list[str], below: tuple[str, ...], *, is_code: bool = False
) -> Iterator[Sentence]:
    own = meaning.words(shown)
    if len(own) >= (1 if below and shown[-1] in ".!" else _SHORTEST) and not injection.signs(shown):
        yield Sentence(passage, shown, own + about, is_code, below)


def _joined(chosen: list[Sentence]) -> str:
    """Prose goes on in its line, code has lines of its own."""
    parts = [(" ", "\n")[one.is_code].join((one.text, f"[{one.passage.number}]")) for one in chosen]
    written = parts[0]
    for earlier, one, part in zip(chosen, chosen[1:], parts[1:], strict=False):
        written += ("\n\n" if one.is_code or earlier.is_code else " ") + part
    return written


def _shorten(text: str, most: int | None) -> tuple[str, bool]:
    """The text within so many tokens, and whether something had to go."""
    starts = tokenizer.starts(text)
    if most is None or len(starts) <= most:
        return text, False
    return text[: int(starts[most])], True


def _why_nothing(question: str, passages: int) -> str:
    if not passages:
        return f"nothing found: the prompt has no passages to answer {question[:80]!r} from"
    return f"nothing found: none of {passages} passages answers {question[:80]!r}"
