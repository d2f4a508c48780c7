"""A language model of bytes: n-grams of its examples, of a base, and copies from the conversation.

Three answers to what comes next are mixed; how much each is trusted was learned for how much of the
context is known. `log_probs` scores what was said, `write` says something.
"""

import bisect
import math
import random
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tracemill.llm.trained import copies, trie, utf8
from tracemill.llm.trained.artefact import Artefact
from tracemill.llm.trained.conversation import BREAK, END, Conversation, Rendered, asked, rendered
from tracemill.llm.trained.next_byte import NextByte
from tracemill.llm.trained.trie import Level

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Places = NDArray[np.int64]

KIND = "ngram"
MOST_BYTES = 4_096
"""What an answer has at most where nobody says otherwise. A token of these models is a byte."""
_BATCH = 1 << 20
_ROUND = 32


class Model(NamedTuple):
    """A language model."""

    own: tuple[Level, ...]
    """N-grams of the examples."""
    base: tuple[Level, ...]
    """N-grams of the base; may be none."""
    mixture: "Floats"
    """Weights of examples, base and copy, by levels that know the context and kind of the copy:
    shape (levels + 1, copies.KINDS, 3); each three sum to 1."""


class Parts(NamedTuple):
    """What there is to mix for each byte that the assistant said."""

    probabilities: "Floats"
    """Of examples, base and copy: shape (bytes, 3)."""
    matched: "Places"
    """How many levels of the examples know the context."""
    kinds: "Places"
    """Of the copy."""


class Piece(NamedTuple):
    """A character of an answer."""

    text: str
    log_prob: float
    """Natural logarithm of its probability, before temperature and cuts."""


_models: dict[str, Model] = {}


def model(artefact: Artefact) -> Model:
    """The model in an artefact; the last four are kept."""
    if artefact.digest not in _models:
        while len(_models) >= 4:
            _models.pop(next(iter(_models)), None)
        _models[artefact.digest] = opened(artefact.weights)
    return _models[artefact.digest]


def opened(weights: Any) -> Model:
    """A model from its arrays."""
    base = trie.unpacked(weights, "base") if "base.sizes" in weights else ()
    return Model(trie.unpacked(weights, "own"), base, weights["mixture"])


def packed(model: Model) -> "dict[str, NDArray[Any]]":
    """The arrays of a model."""
    base = trie.packed(model.base, "base") if model.base else {}
    return {**trie.packed(model.own, "own"), **base, "mixture": model.mixture}


def log_probs(artefact: Artefact, conversations: Sequence[Conversation]) -> "list[Floats]":
    """Score what was said.

    Returns:
        For each conversation log2 of the probability of each byte that the assistant said, the end
        of each turn included.
    """
    scored: list[Floats] = []
    loaded = model(artefact)
    for batch in _batches(conversations):
        logs = np.log2(mixed(loaded, parts(loaded.own, loaded.base, batch)))
        lengths = [sum(end - start for start, end in each.spans) for each in batch]
        scored += np.split(logs, np.cumsum(lengths))[:-1]
    return scored


def bits_per_byte(artefact: Artefact, conversations: Sequence[Conversation]) -> "Floats":
    """For each conversation the bits that a byte of the assistant's takes; NaN where it said nothing."""
    scored = log_probs(artefact, conversations)
    return np.array([-logs.mean() if len(logs) else math.nan for logs in scored])


def parts(own: tuple[Level, ...], base: tuple[Level, ...], batch: Sequence[Rendered]) -> Parts:
    """What there is to mix for what the assistant said in some conversations."""
    data, said = joined(batch)
    wanted = data[said].astype(np.int64)
    copied = [copies.expected(each) for each in batch]
    next_bytes, kinds = (np.concatenate(column) for column in zip(*copied, strict=True))
    here = trie.scored(own, data)
    there = trie.scored(base, data).probability[said] if base else np.zeros(len(wanted))
    columns = [here.probability[said], there, (next_bytes == wanted).astype(np.float64)]
    return Parts(np.stack(columns, axis=1), here.matched[said], kinds)


def joined(batch: Sequence[Rendered]) -> "tuple[NDArray[np.uint8], NDArray[np.bool_]]":
    """Conversations as one text, and where in it the assistant speaks."""
    mark = bytes([BREAK])
    data = np.frombuffer(mark + mark.join(each.data for each in batch), np.uint8)
    said = np.zeros(len(data), bool)
    offset = 1
    for each in batch:
        for start, end in each.spans:
            said[offset + start : offset + end] = True
        offset += len(each.data) + 1
    return data, said


def mixed(model: Model, found: Parts) -> "Floats":
    """The probability of each byte."""
    return (found.probabilities * model.mixture[found.matched, found.kinds]).sum(axis=1)


def write(
    model: Model,
    conversation: Conversation,
    *,
    most_bytes: int = MOST_BYTES,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int | None = None,
) -> Generator[Piece, None, bool]:
    """Say something, character by character, until the turn is over or has its most bytes.

    Args:
        temperature: 0 takes the likeliest byte each time; an answer that has come round to what
            it said already would then go on so for ever, and ends.
        top_p: only the likeliest bytes that together have this share; 1 for all.
        top_k: only so many; 0 for all.
        seed: of the choices; None for other choices each time.

    Returns:
        As the generator's value whether the model ended its turn itself.
    """
    follow = NextByte(model, asked(conversation))
    draw = random.Random(seed)
    state, pending, log_prob = utf8.START, bytearray(), 0.0
    rounds = _Rounds() if temperature <= 0 else None
    for _ in range(most_bytes):
        likely = follow.probabilities() * utf8.ALLOWED[state]
        likely /= likely.sum()
        byte = _chosen(likely, temperature, top_p, top_k, draw)
        if byte == END:
            return True
        if rounds and rounds.closed(byte):
            return False
        follow.write(byte)
        pending.append(byte)
        log_prob += math.log(max(likely[byte], 1e-300))
        state = utf8.after(state, byte)
        if state == utf8.START:
            yield Piece(pending.decode(), log_prob)
            pending.clear()
            log_prob = 0.0
    return False


class _Rounds:
    """Notices when an answer repeats more of itself than the model remembers."""

    def __init__(self) -> None:
        self._last, self._seen = b"", set[bytes]()

    def closed(self, byte: int) -> bool:
        self._last = self._last[-_ROUND + 1 :] + bytes([byte])
        if len(self._last) < _ROUND:
            return False
        if self._last in self._seen:
            return True
        self._seen.add(self._last)
        return False


def _chosen(
    likely: "Floats", temperature: float, top_p: float, top_k: int, draw: random.Random
) -> int:
    """A byte of those that are likely."""
    if temperature <= 0 or top_k == 1:
        return int(likely.argmax())
    if temperature != 1:
        likely = (likely / likely.max()) ** (1 / temperature)
    if top_p < 1 or top_k:
        order = np.argsort(-likely, kind="stable")
        shares = likely[order] / likely.sum()
        # The byte with which the share is reached still counts.
        cut = int((np.cumsum(shares) - shares < top_p).sum()) if top_p < 1 else len(order)
        likely = likely.copy()
        likely[order[min(max(cut, 1), top_k or 256) :]] = 0.0
    reached = np.cumsum(likely)
    return bisect.bisect_right(reached.tolist(), draw.random() * float(reached[-1]))


def _batches(conversations: Sequence[Conversation]) -> Iterator[list[Rendered]]:
    batch: list[Rendered] = []
    size = 0
    for conversation in conversations:
        batch.append(rendered(conversation))
        size += len(batch[-1].data)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
