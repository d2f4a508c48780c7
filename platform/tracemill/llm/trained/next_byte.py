"""How likely each byte is to come next, kept up to date while an answer is being written.

A context is followed level by level, one look-up a byte. Where few bytes follow a context they are
added one by one; where many do, the whole distribution is made once and kept.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tracemill.llm.trained.copies import Copies
from tracemill.llm.trained.trie import COUNTS, UNKNOWN, Level, Plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tracemill.llm.trained.ngram import Model

    Floats = NDArray[np.float64]

_FEW = 4
_KEPT = 4_000
_COUNTS: list[float] = COUNTS.tolist()


class NextByte:
    """What comes after a conversation, and then after what is written."""

    def __init__(self, model: "Model", before: bytes) -> None:
        """`before` ends where the assistant begins to speak."""
        self._own, self._base = _Context(model.own, before), _Context(model.base, before)
        self._mixture = model.mixture
        self._copies = Copies()
        self._copies.read(before)

    def probabilities(self) -> "Floats":
        """Of each of the 256 bytes; a new array."""
        byte, kind = self._copies.expected()
        own, base, copy = self._mixture[self._own.matched(), kind].tolist()
        mixed = self._own.probabilities(own)
        if base:
            mixed += self._base.probabilities(base)
        if byte >= 0:
            mixed[byte] += copy
        return mixed

    def write(self, byte: int) -> None:
        """Go on by a byte."""
        self._own.write(byte)
        if self._base.levels:
            self._base.write(byte)
        self._copies.write(byte)


class _Context:
    """The last bytes, as each level knows them."""

    def __init__(self, levels: Sequence[Level], before: bytes) -> None:
        self.levels = [level.plain for level in levels]
        self._at = [0] + [-1] * max(len(levels) - 1, 0)
        for byte in before[-len(levels) :] if levels else b"":
            self.write(byte)

    def write(self, byte: int) -> None:
        at = [0]
        for level, context in zip(self.levels[:-1], self._at, strict=False):
            if context >= 0:
                context = level.labels.find(byte, level.first[context], level.first[context + 1])
            at.append(context)
        self._at = at

    def matched(self) -> int:
        """How many levels know the context."""
        return sum(
            context >= 0 and level.first[context + 1] > level.first[context]
            for level, context in zip(self.levels, self._at, strict=False)
        )

    def probabilities(self, weight: float) -> "Floats":
        """Of each byte, times a weight."""
        seldom: list[tuple[int, float]] = []
        for depth in range(len(self.levels) - 1, -1, -1):
            context, level = self._at[depth], self.levels[depth]
            if context < 0:
                continue
            start, end = level.first[context], level.first[context + 1]
            if start == end:
                continue
            if end - start > _FEW:
                likely = self._many(depth) * weight
                break
            codes = level.codes[start:end]
            total = sum(map(_COUNTS.__getitem__, codes))
            if level.pruned:
                total += _COUNTS[level.pruned[context]]
            spent = 0.0
            for byte, code in zip(level.labels[start:end], codes, strict=True):
                share = level.kept[code] / total
                spent += share
                seldom.append((byte, weight * share))
            weight *= 1 - spent
        else:
            likely = np.full(256, UNKNOWN * weight)
        for byte, share in seldom:
            likely[byte] += share
        return likely

    def _many(self, depth: int) -> "Floats":
        """The distribution after a context that many bytes follow."""
        if depth < 0:
            return np.full(256, UNKNOWN)
        context, level = self._at[depth], self.levels[depth]
        if (known := level.made.get(context)) is not None:
            return known
        shorter = self._many(depth - 1)
        if context < 0 or level.first[context] == level.first[context + 1]:
            return shorter
        if len(level.made) >= _KEPT:
            level.made.clear()
        level.made[context] = likely = _interpolated(level, context, shorter)
        return likely


def _interpolated(level: Plain, context: int, shorter: "Floats") -> "Floats":
    """What follows a context by its own n-grams and by what follows shorter ones."""
    start, end = level.first[context], level.first[context + 1]
    codes = np.frombuffer(level.codes, np.uint8, end - start, start)
    total = COUNTS[codes].sum() + (_COUNTS[level.pruned[context]] if level.pruned else 0.0)
    own = np.array(level.kept)[codes] / total
    likely = shorter * (1 - own.sum())
    likely[np.frombuffer(level.labels, np.uint8, end - start, start)] += own
    return likely
