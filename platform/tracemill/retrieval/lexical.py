"""BM25 over the chunks of a collection, kept as word ids so that it grows without reading again.

A version holds the ids of every chunk's words; the scores of a next version follow from them by
sorting, and only new chunks are analysed. `llm/bm25.py` scores, `llm/words.py` says what a word is.
"""

import json
import os
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.errors import InputError
from tracemill.llm import bm25, words
from tracemill.llm.bm25 import Reader, Vocabulary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 2
_ARRAYS = ("ids", "offsets", "spoken", "data", "indices", "pointers")
_REST = "words.json"
OTHER = "other"
"""Stands for every language that has no stemmer here."""


@dataclass(frozen=True)
class Lexical:
    """BM25 over chunks, with the words of each."""

    ids: "NDArray[np.uint32]"
    """Of all chunks' words, in order: those of chunk n from `offsets[n]` to `offsets[n + 1]`."""
    offsets: "NDArray[np.int64]"
    spoken: "NDArray[np.uint8]"
    """The language of each chunk, as a place in `languages`."""
    languages: tuple[str | None, ...]
    """The most frequent first."""
    model: Any
    """bm25s's, with the chunks' scores."""

    def __len__(self) -> int:
        return len(self.spoken)

    @property
    def spoken_languages(self) -> tuple[str | None, ...]:
        """How questions are read: as each language of the chunks has it."""
        return self.languages or (words.ENGLISH,)


def build(texts: Sequence[str], languages: Sequence[str | None] | None = None) -> Lexical:
    """BM25 over texts.

    Args:
        texts: what is searched of each chunk (`frames.searchable`).
        languages: of each text, ISO 639-1; None is read as English.
    """
    import numpy as np

    none = np.zeros(0, dtype=np.uint32)
    empty = _lexical(none, np.zeros(0, dtype=np.int64), none.astype(np.uint8), (), {})
    return update(empty, np.full(len(texts), -1), texts, languages)


def update(
    earlier: Lexical,
    rows: "NDArray[np.int64]",
    texts: Sequence[str],
    languages: Sequence[str | None] | None = None,
) -> Lexical:
    """BM25 over chunks of which some were there before; only `texts` are analysed.

    Args:
        rows: for each chunk of the new version its row in the earlier one, or -1: the next of
            `texts`.
        texts, languages: of the chunks that are new, in order.

    The same as a `build` of all texts gives, to the byte.
    """
    import numpy as np

    # Those without a stemmer are read alike: documents can name any two letters as their language.
    spoken_now = [
        words.ENGLISH if not each else each if each in words.STEMMERS else OTHER
        for each in languages or [None] * len(texts)
    ]
    if not len(texts) == len(spoken_now) == int(np.count_nonzero(rows < 0)):
        raise ValueError(
            f"{np.count_nonzero(rows < 0)} rows are new, with {len(texts)} texts and "
            f"{len(spoken_now)} languages: there must be one of each"
        )
    vocabulary = Vocabulary(earlier.model.vocab_dict)
    ids, lengths = _read(vocabulary, texts, spoken_now)
    source = np.where(rows < 0, len(earlier) + np.cumsum(rows < 0) - 1, rows)
    spoken_before: list[int] = earlier.spoken.tolist()
    spoken = [*(earlier.languages[at] for at in spoken_before), *spoken_now]
    lengths = np.concatenate([np.diff(earlier.offsets), lengths])
    ids = _gathered(np.concatenate([earlier.ids, ids]), lengths, source)
    ids, known = _renumbered(ids, vocabulary)
    codes, names = _coded([spoken[at] for at in source.tolist()])
    return _lexical(ids, lengths[source], codes, names, known)


def scores(lexical: Lexical, question: str) -> "NDArray[np.float32]":
    """For each chunk, how much of the question's weight it holds: 0 nothing, towards 1 all."""
    return bm25.scores(lexical.model, question, lexical.spoken_languages)


def scores_many(lexical: Lexical, questions: Sequence[str]) -> "NDArray[np.float32]":
    """As `scores`, of shape (questions, chunks); on all cores."""
    import numpy as np

    found = np.empty((len(questions), len(lexical)), dtype=np.float32)

    def fill(row: int) -> None:
        found[row] = scores(lexical, questions[row])

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(fill, range(len(questions))))
    return found


def identity() -> str:
    """Of what decides how texts become scores: versions that differ in it do not mix."""
    return f"{FORMAT} {words.identity()} {bm25.K1} {bm25.B}"


def save(lexical: Lexical, folder: Path) -> None:
    """Write it into a folder, which is made; the same content gives the same bytes."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    for name, values in _arrays(lexical).items():
        np.save(folder / f"{name}.npy", values, allow_pickle=False)
    rest = {
        "identity": identity(),
        "languages": lexical.languages,
        "words": list(lexical.model.vocab_dict),
    }
    text = json.dumps(rest, ensure_ascii=False)
    (folder / _REST).write_text(text, encoding="utf-8", errors="surrogatepass")


def load(folder: Path) -> Lexical:
    """What `save` wrote; its arrays are mapped, not read.

    Raises `InputError` when a file is missing or damaged, or when words were found another way.
    """
    import numpy as np

    path = folder / _REST
    try:
        rest = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
        if rest["identity"] != identity():
            raise InputError(
                f"{path}: words were found by {rest['identity']!r}, questions are read by "
                f"{identity()!r}: build the collection again"
            )
        known = {word: number for number, word in enumerate(rest["words"])}
        ids, offsets, spoken, data, indices, pointers = (
            np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            for name in _ARRAYS
        )
        model = bm25.filled(data, indices, pointers, len(spoken), known)
        return Lexical(ids, offsets, spoken, tuple(rest["languages"]), model)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder} is not a word index ({error}): build it again") from error


def _read(
    vocabulary: Vocabulary, texts: Sequence[str], languages: Sequence[str | None]
) -> "tuple[NDArray[np.uint32], NDArray[np.int64]]":
    """The ids of the words of all texts, one after the other, and how many each has."""
    import numpy as np

    readers = {language: Reader(vocabulary, language) for language in set(languages)}
    ids = array("I")
    lengths = np.zeros(len(texts), dtype=np.int64)
    for row, (text, language) in enumerate(zip(texts, languages, strict=True)):
        before = len(ids)
        ids.extend(readers[language].ids(text))
        lengths[row] = len(ids) - before
    return np.frombuffer(ids, dtype=np.uint32) if ids else np.zeros(0, np.uint32), lengths


def _gathered(
    ids: "NDArray[np.uint32]", lengths: "NDArray[np.int64]", source: "NDArray[np.int64]"
) -> "NDArray[np.uint32]":
    """The ids of the texts in the order of `source`."""
    import numpy as np

    begins = np.cumsum(lengths) - lengths
    taken = lengths[source]
    shift = begins[source] - (np.cumsum(taken) - taken)
    return ids[np.repeat(shift, taken) + np.arange(int(taken.sum()))]


def _renumbered(
    ids: "NDArray[np.uint32]", vocabulary: Mapping[str, int]
) -> "tuple[NDArray[np.uint32], dict[str, int]]":
    """Words that a text holds, by the alphabet: versions of equal content are equal."""
    import numpy as np

    held = np.bincount(ids, minlength=len(vocabulary)) > 0
    known = sorted(word for word, number in vocabulary.items() if held[number])
    to = np.zeros(len(vocabulary), dtype=np.uint32)
    to[[vocabulary[word] for word in known]] = np.arange(len(known), dtype=np.uint32)
    return to[ids], {word: number for number, word in enumerate(known)}


def _coded(spoken: list[str | None]) -> "tuple[NDArray[np.uint8], tuple[str | None, ...]]":
    """Languages as places in a list, the most frequent first."""
    import numpy as np

    counted = Counter(spoken)
    names = sorted(counted, key=lambda name: (-counted[name], name or ""))
    place = {name: at for at, name in enumerate(names)}
    return np.array([place[name] for name in spoken], dtype=np.uint8), tuple(names)


def _lexical(
    ids: "NDArray[np.uint32]",
    lengths: "NDArray[np.int64]",
    spoken: "NDArray[np.uint8]",
    languages: tuple[str | None, ...],
    vocabulary: Mapping[str, int],
) -> Lexical:
    import numpy as np

    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    return Lexical(ids, offsets, spoken, languages, bm25.model_of(ids, lengths, vocabulary))


def _arrays(lexical: Lexical) -> "dict[str, NDArray[Any]]":
    stored = lexical.model.scores
    arrays = (stored["data"], stored["indices"], stored["indptr"])
    return dict(zip(_ARRAYS, (lexical.ids, lexical.offsets, lexical.spoken, *arrays), strict=True))
