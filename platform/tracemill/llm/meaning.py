"""What words mean and how much they say: a vector for each, from wordllama's table of tokens.

The direction is the meaning; the length is the weight, for the table was trained so that sums of
it stand for texts: words that are everywhere are short, those that tell texts apart are long.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tracemill import tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Of what a question is full and its answer is not.
_STOP_WORDS = """
a an any are at be been but by can could did do does done had has have how i into it its many may me
might much my of on our shall should so such than that the their them then there these they this to
used using was we were what when where which who whom whose why will would you your s t
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
# Scripts without blanks: each character is a word.
_WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")


class Compared(NamedTuple):
    """Some words beside several texts."""

    weights: "NDArray[np.float32]"
    """How much each word says; shape (words,)."""
    held: "NDArray[np.float32]"
    """How near the nearest word of each text comes to each word, from 0 to 1, where 1 is the word
    itself; shape (texts, words)."""
    cosine: "NDArray[np.float32]"
    """Of all the words and each text; shape (texts,)."""

    @property
    def shares(self) -> "NDArray[np.float32]":
        """The weights, as shares of their sum."""
        return self.weights / max(float(self.weights.sum()), 1e-9)


def words(text: str) -> list[str]:
    """The words that say something, in lower case and in order."""
    return [word for word in _WORD.findall(text.lower()) if word not in STOP_WORDS]


def compare(asked: Sequence[str], texts: Sequence[Sequence[str]]) -> Compared:
    """Compare words, at least one, with texts that are given as their words."""
    import numpy as np

    rows: dict[str, int] = {}
    for word in (*asked, *(word for text in texts for word in text)):
        rows.setdefault(word, len(rows))
    sums = vectors(list(rows))
    lengths = np.linalg.norm(sums, axis=1)
    unit = sums / np.maximum(lengths, 1e-9)[:, None]
    wanted = [rows[word] for word in asked]
    near = (unit @ unit[wanted].T).clip(0, 1)
    held = np.zeros((len(texts), len(asked)), dtype=np.float32)
    totals = np.zeros((len(texts), sums.shape[1]), dtype=np.float32)
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    if sizes.any():
        flat = np.array([rows[word] for text in texts for word in text])
        begins = np.concatenate(([0], np.cumsum(sizes[sizes > 0])[:-1]))
        held[sizes > 0] = np.maximum.reduceat(near[flat], begins, axis=0)
        totals[sizes > 0] = np.add.reduceat(sums[flat], begins, axis=0)
    about = sums[wanted].sum(axis=0)
    scale = np.linalg.norm(totals, axis=1) * np.linalg.norm(about)
    return Compared(lengths[wanted], held, (totals @ about) / np.maximum(scale, 1e-9))


def vectors(each: Sequence[str]) -> "NDArray[np.float32]":
    """A vector for each word, of shape (words, 256): the sum of those of its tokens."""
    import numpy as np

    ids = tokenizer.ids(each)
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    table = tokenizer.vectors()
    sums = np.zeros((len(each), table.shape[1]), dtype=np.float32)
    if lengths.any():
        flat = np.fromiter((t for word in ids for t in word), np.int64, int(lengths.sum()))
        begins = np.concatenate(([0], np.cumsum(lengths[lengths > 0])[:-1]))
        sums[lengths > 0] = np.add.reduceat(table[flat].astype(np.float32), begins, axis=0)
    return sums
