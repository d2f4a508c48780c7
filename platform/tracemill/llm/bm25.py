"""BM25 on a scale from 0 to 1: which share of a question's weight a text answers to.

bm25s scores depend on the question, so that no threshold fits two of them. A text that held every
word of the question without end would reach the sum of the words' weights; divided by that sum,
scores compare across questions. Words that no text holds count fully: they are what is missing.
"""

import logging
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

K1, B = 1.2, 0.75

# The words that carry no subject; a question is full of them and its answer is not. Python's
# keywords are not among them: people ask what `with` and `not` do.
_STOP_WORDS = """
a an any are at be been but by can could did do does done had has have how i into it its many may
me might much my no of on our shall should so such than that the their them then there these they
this to used using was we were what when where which who whom whose why will would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words that count: in lower case, in the singular, in order."""
    return [_singular(word) for word in _WORD.findall(text.lower()) if word not in STOP_WORDS]


def build(texts: Iterable[str]) -> Any:
    """A `bm25s.BM25` over the texts (at least one)."""
    bm25s = _quiet()
    model = bm25s.BM25(k1=K1, b=B)
    # An empty vocabulary cannot be indexed: the empty word stands in for it.
    model.index([words(text) or [""] for text in texts], show_progress=False)
    return model


def scores(model: Any, question: str) -> "NDArray[np.float32]":
    """For each text, how much of the question's weight it holds: 0 nothing, towards 1 all."""
    import numpy as np

    asked = weights(model, question)
    known = model.get_tokens_ids(sorted(asked))
    if not known:
        return np.zeros(int(model.scores["num_docs"]), dtype=np.float32)
    return (model.get_scores_from_ids(known) / sum(asked.values())).astype(np.float32)


def weights(model: Any, question: str) -> dict[str, float]:
    """What each word of a question weighs: its inverse document frequency, as Lucene has it."""
    count, pointers = int(model.scores["num_docs"]), model.scores["indptr"]
    weighed: dict[str, float] = {}
    for word in words(question):
        at = model.vocab_dict.get(word)
        holders = 0 if at is None else int(pointers[at + 1] - pointers[at])
        weighed[word] = math.log(1 + (count - holders + 0.5) / (holders + 0.5))
    return weighed


def save(model: Any, folder: Path) -> None:
    """Write the model's arrays and vocabulary into a folder."""
    model.save(folder, show_progress=False)


def load(folder: Path) -> Any:
    """The model that `save` wrote; its arrays are mapped, not read."""
    return _quiet().BM25.load(folder, mmap=True, show_progress=False)


def _singular(word: str) -> str:
    """Harman's S stemmer (1991, "How effective is suffixing?"): the first rule that fits."""
    if len(word) > 4 and word.endswith("ies") and word[-4] not in "ae":
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("es") and word[-3] not in "aeo":
        return word[:-1]
    if len(word) > 3 and word.endswith("s") and word[-2] not in "us":
        return word[:-1]
    return word


def _quiet() -> Any:
    import bm25s  # pyright: ignore[reportMissingTypeStubs]

    # The library sets its logger to DEBUG when it is imported.
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    return bm25s
