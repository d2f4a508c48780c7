"""Models that run here: offline, deterministic, no key. They answer by choosing, never by writing.

`extract` picks the sentences of the prompt's passages that answer its question and cites them;
`echo` repeats the last user message. Tokens are counted for real, by the bundled tokenizer.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tracemill import tokenizer
from tracemill.errors import CallFailed
from tracemill.llm import bm25, passages
from tracemill.llm.passages import Passage
from tracemill.llm.providers import Reply
from tracemill.messages import Request, Text, Usage

CONTEXT_TOKENS = 4_096
"""The most tokens that a request may have."""

SENTENCES = 3
# A further sentence must score this share of the best one.
CLOSE = 0.6
# Share of the question's weight that the chosen sentences must hold. On SQuAD 1.1 (600 questions,
# five passages each) 0.5 answers 79 % of those whose article is there, 87 % of these answers hold
# the right words, and refuses 61 % of those whose article is not; 0.4: 89 %, 85 %, 39 %.
ENOUGH = 0.5
# A paragraph without a full stop, such as code, is one sentence up to this length.
_LONGEST = 600
# Fewer words that count are a label, not an answer.
_SHORTEST = 3

_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[^\sa-z])|\n\s*\n|\n(?=[-*+#] |\d+\. )")
# A heading of Markdown, or a line with a line of one character below it.
_HEADING = re.compile(r"^#+ .*$|^.*\n([^\w\s])\1{2,}[ \t]*$", re.MULTILINE)


class Sentence(NamedTuple):
    """A sentence of a passage."""

    passage: Passage
    text: str


def reply(model: str, request: Request) -> Reply:
    """Answer a request.

    Raises `CallFailed`: `unknown_model`, `context_length_exceeded`, or `no_answer` when no
    sentence answers the question.
    """
    if model not in MODELS:
        raise CallFailed(
            "unknown_model", f"local has no model {model!r}: it has {', '.join(sorted(MODELS))}"
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
    for sentence in (one for passage in asked.passages for one in _sentences(passage)):
        first.setdefault(sentence.text, sentence)
    chosen = _choose(asked.question, list(first.values()))
    if not chosen:
        raise CallFailed("no_answer", _why_nothing(asked.question, len(asked.passages)))
    return " ".join(f"{one.text} [{one.passage.number}]" for one in chosen)


def echo(prompt: str) -> str:
    """The last user message."""
    return prompt


MODELS = {"extract": extract, "echo": echo}


def _choose(question: str, sentences: list[Sentence]) -> list[Sentence]:
    """The best few sentences in the order of their passages; none where even they say little."""
    if not sentences:
        return []
    model = bm25.build(map(_searchable, sentences))
    scores = bm25.scores(model, question).tolist()
    best = sorted(range(len(sentences)), key=lambda at: -scores[at])[:SENTENCES]
    chosen = sorted(at for at in best if scores[at] >= max(CLOSE * scores[best[0]], 1e-9))
    held = {word for at in chosen for word in bm25.words(_searchable(sentences[at]))}
    asked = bm25.weights(model, question)
    missing = sum(weight for word, weight in asked.items() if word not in held)
    if missing > (1 - ENOUGH) * sum(asked.values()):
        return []
    return [sentences[at] for at in chosen]


def _searchable(sentence: Sentence) -> str:
    """A passage's title says what its sentences are about."""
    return f"{sentence.passage.title} {sentence.text}"


def _sentences(passage: Passage) -> Iterator[Sentence]:
    for part in _END.split(_HEADING.sub("\n\n", passage.text)):
        for begin in range(0, len(part), _LONGEST):
            text = " ".join(part[begin : begin + _LONGEST].split())
            if len(bm25.words(text)) >= _SHORTEST:
                yield Sentence(passage, text)


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
