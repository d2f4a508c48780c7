"""BM25 on a scale from 0 to 1: which share of a question's weight a text answers to.

bm25s scores depend on the question, so that no threshold fits two of them. A text that held every
word of the question without end would reach the sum of the words' weights; divided by that sum,
scores compare across questions. Words that no text holds count fully: they are what is missing.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracemill.llm.words import (
    ENGLISH,
    STOP_WORDS,
    Word,
    forms,
    raw_words,
    stem,
    take_apart,
    words,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["K1", "STOP_WORDS", "B", "build", "filled", "model_of", "scores", "terms", "words"]

K1, B = 1.2, 0.75


class Vocabulary(dict[str, int]):
    """Words and their ids; a new word gets the next."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


class Reader(dict[str, "tuple[int, ...]"]):
    """Raw words of a language and the ids of what they are found by; each is analysed once."""

    def __init__(self, vocabulary: Vocabulary, language: str | None) -> None:
        self._vocabulary, self._language = vocabulary, language

    def __missing__(self, raw: str) -> "tuple[int, ...]":
        found = tuple(self._vocabulary[form] for form in forms(raw, self._language))
        self[raw] = found
        return found

    def ids(self, text: str) -> list[int]:
        """What a text is found by, in order."""
        return [number for raw in raw_words(text) for number in self[raw]]


def build(texts: Iterable[str], language: str | None = ENGLISH) -> Any:
    """A `bm25s.BM25` over the texts."""
    import numpy as np

    vocabulary = Vocabulary()
    reader = Reader(vocabulary, language)
    found = [reader.ids(text) for text in texts]
    ids = np.array([number for one in found for number in one], dtype=np.uint32)
    lengths = np.array([len(one) for one in found], dtype=np.int64)
    return model_of(ids, lengths, vocabulary)


def model_of(
    ids: "NDArray[np.uint32]", lengths: "NDArray[np.int64]", vocabulary: Mapping[str, int]
) -> Any:
    """A `bm25s.BM25` over texts of which the ids of the words are known.

    Args:
        ids: of all texts, one after the other.
        lengths: how many of them each text has.

    The same scores as bm25s's own `index` gives, in a third of the time, for it counts in Python.
    """
    import numpy as np

    texts = len(lengths)
    rows = np.repeat(np.arange(texts, dtype=np.int64), lengths)
    places = np.sort((ids.astype(np.int64) << 32) | rows)
    first = np.flatnonzero(np.diff(places, prepend=-1))
    counts = np.diff(first, append=len(places)).astype(np.float32)
    words, rows = places[first] >> 32, (places[first] & 0xFFFFFFFF).astype(np.int32)
    pointers = np.searchsorted(words, np.arange(len(vocabulary) + 1))
    weight = _weight(texts, np.diff(pointers)).astype(np.float32)
    relative = (lengths / max(lengths.mean(), 1e-9) if texts else lengths).astype(np.float32)
    saturation = counts / (counts + np.float32(K1) * (1 - B + B * relative[rows]))
    return filled(weight[words] * saturation, rows, pointers, texts, vocabulary)


def filled(
    data: "NDArray[np.float32]",
    indices: "NDArray[np.int32]",
    pointers: "NDArray[np.int64]",
    texts: int,
    vocabulary: Mapping[str, int],
) -> Any:
    """A `bm25s.BM25` with these scores: a sparse matrix (texts, words) by columns."""
    model = _quiet().BM25(k1=K1, b=B)
    model.scores = {"data": data, "indices": indices, "indptr": pointers, "num_docs": texts}
    model.vocab_dict, model.nonoccurrence_array = vocabulary, None
    return model


def scores(
    model: Any, question: str, languages: Sequence[str | None] = (ENGLISH,)
) -> "NDArray[np.float32]":
    """For each text, how much of the question's weight it holds: 0 nothing, towards 1 all.

    Args:
        languages: those of the texts. What a word is found by differs between them: of its stems
            the one that gives a text most counts.
    """
    import numpy as np

    asked = terms(model, question, languages)
    total = np.zeros(int(model.scores["num_docs"]), dtype=np.float32)
    known = [
        [model.vocab_dict[form] for form in any_of if form in model.vocab_dict] for any_of in asked
    ]
    if single := [ids[0] for ids in known if len(ids) == 1]:
        total += model.get_scores_from_ids(single)
    for ids in (ids for ids in known if len(ids) > 1):
        total += np.maximum.reduce([model.get_scores_from_ids([one]) for one in ids])
    return total / np.float32(sum(asked.values()) or 1)


def terms(
    model: Any, question: str, languages: Sequence[str | None] = (ENGLISH,)
) -> dict[tuple[str, ...], float]:
    """What a question is looked for by: forms of which any one will do, with their weight, which is
    the inverse document frequency as Lucene has it."""
    weighed: dict[tuple[str, ...], float] = {}
    for any_of in _asked(model, question, languages):
        weighed[any_of] = float(
            _weight(_texts(model), max(_holders(model, form) for form in any_of))
        )
    return weighed


def _asked(model: Any, question: str, languages: Sequence[str | None]) -> Iterator[tuple[str, ...]]:
    asked = [take_apart(raw) for raw in raw_words(question)]
    spoken = _language(asked, languages)
    for word in asked:
        # Of an identifier that nobody wrote so, the parts are what can be found.
        if word.whole in model.vocab_dict:
            yield (word.whole,)
        for part in word.parts:
            # Where another language keeps it, it is rare, and would weigh more than all subjects.
            if not stem(part, spoken):
                continue
            if any_of := tuple(dict.fromkeys(filter(None, (stem(part, one) for one in languages)))):
                yield any_of


def _language(asked: Sequence[Word], languages: Sequence[str | None]) -> str | None:
    """Which of these languages a question is in: the one that most of its little words are of."""
    parts = [part for word in asked for part in word.parts]
    return max(languages, key=lambda one: sum(not stem(part, one) for part in parts))


def _holders(model: Any, form: str) -> int:
    """How many texts hold it."""
    at, pointers = model.vocab_dict.get(form), model.scores["indptr"]
    return 0 if at is None else int(pointers[at + 1] - pointers[at])


def _texts(model: Any) -> int:
    return int(model.scores["num_docs"])


def _weight(texts: int, holders: Any) -> Any:
    """The inverse document frequency of words, from how many of the texts hold them."""
    import numpy as np

    return np.log(1 + (texts - holders + 0.5) / (holders + 0.5))


def _quiet() -> Any:
    import bm25s  # pyright: ignore[reportMissingTypeStubs]

    # The library sets its logger to DEBUG when it is imported.
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    return bm25s
