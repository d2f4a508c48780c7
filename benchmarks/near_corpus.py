"""Texts with near-duplicates planted at known similarity, the same on every run, in any number.

Words are drawn as often as Python's own documentation uses them; every block of 5,500 documents holds
the same mix of kinds, so that a corpus twice as large is twice the work and no other.
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pydoc_data import topics
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

Words = NDArray[np.int32]
"""A text as places in the vocabulary."""

VERSION = 1
"""Of the corpus: another one makes the files of the last one stale."""
BLOCK = 5_500
MIX = {
    "unrelated": 2_300,
    "pairs": 1_000,
    "templates": 1_000,
    "letters": 240,
    "chains": 300,
    "copies": 360,
    "boilerplate": 300,
}
"""Documents of each kind in a block."""
FOREIGN = (str.maketrans("aeiou", "äéîöü"), str.maketrans("aeioktsn", "аеиоктсн"))
"""Every twentieth text has words in these letters, which take two bytes each."""


class Draw:
    """Random words, lengths and edits from one seed."""

    def __init__(self, seed: int, block: int) -> None:
        self.random = np.random.default_rng([seed, block])
        words, counts = vocabulary()
        self._size = len(words) // (1 + len(FOREIGN))
        self._shares = np.cumsum(counts) / np.sum(counts)

    def words(self, count: int) -> Words:
        """Some words of a text that resembles no other."""
        drawn = np.searchsorted(self._shares, self.random.random(count)).astype(np.int32)
        if self.random.random() < 0.05:
            letters = int(self.random.integers(1, 1 + len(FOREIGN)))
            drawn += self._size * letters * (self.random.random(count) < 0.3)
        return drawn

    def length(self) -> int:
        """Words of a text: 55 to 275, one text in fifty far fewer."""
        few = self.random.random() < 0.02
        return int(self.random.integers(5, 20) if few else self.random.integers(55, 275))

    def like(self, text: Words, jaccard: float) -> Words:
        """Another text whose word 5-grams are about so similar: words replaced, or the end."""
        grams = max(len(text) - 4, 1)
        other = text.copy()
        changed = grams * (1 - jaccard) / (1 + jaccard)
        if self.random.random() < 0.5:
            places = self.random.choice(len(text), min(round(changed / 5), len(text)), False)
            other[places] = self.words(len(places))
            return other
        end = min(round(changed), len(text))
        return np.concatenate([other[: len(text) - end], self.words(end)])


@cache
def vocabulary() -> tuple[list[str], list[int]]:
    """All words, and how often each of the plain ones, which come first, is drawn."""
    counted = Counter(re.findall(r"[\x21-\x7e]+", " ".join(topics.topics.values())))
    plain = list(counted)
    foreign = [word.lower().translate(letters) for letters in FOREIGN for word in plain]
    return [*plain, *foreign], list(counted.values())


# Kinds: each goes on for ever


def unrelated(draw: Draw) -> Iterator[Words]:
    """Texts alone."""
    while True:
        yield draw.words(draw.length())


def pairs(draw: Draw) -> Iterator[Words]:
    """Two and two, Jaccard 0.55 to 1."""
    while True:
        text = draw.words(draw.length())
        yield text
        yield draw.like(text, draw.random.uniform(0.55, 1))


def templates(draw: Draw) -> Iterator[Words]:
    """The same passage under up to nine instructions, as in instruction data."""
    asked = [draw.words(int(draw.random.integers(6, 26))) for _ in range(9)]
    while True:
        passage = draw.words(int(draw.random.integers(55, 275)))
        for place in draw.random.permutation(9)[: int(draw.random.integers(3, 10))]:
            yield np.concatenate([asked[place], passage])


def letters(draw: Draw) -> Iterator[Words]:
    """One text 240 times, with a few words filled in."""
    while True:
        form = draw.words(170)
        blanks = draw.random.choice(len(form), int(draw.random.integers(1, 5)), False)
        for _ in range(MIX["letters"]):
            filled = form.copy()
            filled[blanks] = draw.words(len(blanks))
            yield filled


def chains(draw: Draw) -> Iterator[Words]:
    """Windows that move along one text: each is like the next, the first not like the third."""
    while True:
        size = int(draw.random.integers(100, 300))
        step = round(size * draw.random.uniform(0.06, 0.1))
        links = int(draw.random.integers(3, 7))
        text = draw.words(size + links * step)
        for link in range(links):
            yield text[link * step : link * step + size]


def copies(draw: Draw) -> Iterator[Words]:
    """The same text two to four times; `texts` writes some of them in another case."""
    while True:
        text = draw.words(draw.length())
        yield from [text] * int(draw.random.integers(2, 5))


def boilerplate(draw: Draw) -> Iterator[Words]:
    """Eight texts that share much, though less than duplicates do: Jaccard 0.4 to 0.78."""
    while True:
        shared = draw.words(int(draw.random.integers(80, 200)))
        own = max(round(len(shared) * draw.random.uniform(0.14, 0.7)), 6)
        for _ in range(8):
            yield np.concatenate([shared, draw.words(own)])


KINDS = (unrelated, pairs, templates, letters, chains, copies, boilerplate)


def texts(documents: int, seed: int = 0) -> pa.ChunkedArray:
    """So many texts in random order, about 1.1 KB each."""
    words = pa.array(vocabulary()[0])
    blocks = [
        _block(Draw(seed, block), words, min(BLOCK, documents - block * BLOCK))
        for block in range(-(-documents // BLOCK))
    ]
    order = np.random.default_rng(seed).permutation(documents)
    whole: Any = pa.concat_arrays(blocks)
    return pa.chunked_array([whole.take(pa.array(order))])


def _block(draw: Draw, words: Any, documents: int) -> pa.Array:
    made: list[Words] = []
    for kind in KINDS:
        forever = kind(draw)
        made += [next(forever) for _ in range(MIX[kind.__name__])]
    kept = draw.random.permutation(BLOCK)[:documents] if documents < BLOCK else range(BLOCK)
    made = [made[place] for place in kept]
    texts = joined(made, words)
    shouted = pa.array(draw.random.random(documents) < 0.02)
    loud = pc.replace_substring(pc.utf8_upper(texts), " ", "  ")
    return pc.if_else(shouted, loud, texts).cast(pa.large_string())


def joined(made: list[Words], words: Any) -> Any:
    """Texts of places in the vocabulary, a sentence a line."""
    ends = np.cumsum([0, *map(len, made)], dtype=np.int32)
    arrays: Any = pa.ListArray
    lists = arrays.from_arrays(ends, words.take(pa.array(np.concatenate(made))))
    return pc.replace_substring(pc.binary_join(lists, " "), ". ", ".\n")


def write(path: Path, column: pa.ChunkedArray) -> Path:
    """One Parquet file with `id` (its place) and `text`, which every library here reads."""
    ids = pa.array(np.arange(len(column)))
    temporary = path.with_suffix(".part")
    table = pa.Table.from_pydict({"id": ids, "text": column})
    pq.write_table(table, temporary, compression="zstd", row_group_size=10_000)
    return temporary.rename(path)


def corpus(folder: Path, documents: int) -> Path:
    """The corpus of so many texts, made when it is not there yet."""
    path = folder / f"near-{VERSION}-{documents}.parquet"
    return path if path.exists() else write(path, texts(documents))
