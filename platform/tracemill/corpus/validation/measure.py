"""Measures of a whole file in bounded memory: repeats by digest, lengths from a sample, personal
data, frequent answers.

A row leaves 32 bytes of digests and numbers here; its text is gone with the batch it came in.
"""

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill import pii
from tracemill.corpus import tokens
from tracemill.corpus.validation.report import Found, Issue, Lengths
from tracemill.corpus.validation.shapes import Said

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE = 2_000
"""As many rows are counted in tokens at least, up to twice as many; all of a smaller file."""
_BATCH_BYTES = 2**22
_MOST_ANSWERS, _LONGEST_ANSWER = 100, 60

_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


def _number(digest: bytes) -> int:
    return int.from_bytes(digest, "little")


class Repeats:
    """Which rows are equal, and which ask the same and answer otherwise; by 64-bit digests, of
    which two of a million rows collide once in 37 million files."""

    def __init__(self) -> None:
        self._lines, self._wholes, self._asked = array("Q"), array("Q"), array("Q")

    def add(self, line: int, asked: Any, answer: Any) -> None:
        hashed = blake2b(_canonical(asked).encode(), digest_size=8)
        self._lines.append(line)
        self._asked.append(_number(hashed.digest()))
        hashed.update(b"\0" + _canonical(answer).encode())
        self._wholes.append(_number(hashed.digest()))

    def duplicates(self, keep: int | None) -> tuple[int, list[Issue]]:
        """How many rows stood before, and the first of them: n equal rows are n - 1 duplicates."""
        whole = self._column(self._wholes)
        first, again = _again(whole)
        return len(again), self._issues("duplicate", first[:keep], again[:keep], "is the row of")

    def conflicts(self, keep: int | None) -> tuple[int, list[Issue]]:
        """As `duplicates`, for rows with the question of an earlier one and another answer."""
        import numpy as np

        _, distinct = np.unique(self._column(self._wholes), return_index=True)
        rows = np.sort(distinct)
        first, again = _again(self._column(self._asked)[rows])
        found = self._issues("conflict", rows[first][:keep], rows[again][:keep], "asks as")
        return len(again), found

    def _column(self, values: "array[int]") -> "NDArray[np.uint64]":
        import numpy as np

        return np.frombuffer(values, np.uint64) if values else np.empty(0, np.uint64)

    def _issues(
        self, code: str, first: "NDArray[np.int64]", again: "NDArray[np.int64]", told: str
    ) -> list[Issue]:
        return [
            Issue(self._lines[row], code, "", f"{told} line {self._lines[earlier]}")
            for earlier, row in zip(first.tolist(), again.tolist(), strict=True)
        ]


def _again(values: "NDArray[np.uint64]") -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """For each value that stood before, in order: the row where it stood first, and its own."""
    import numpy as np

    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    earlier = first[inverse].astype(np.int64)
    again = np.flatnonzero(earlier != np.arange(len(values)))
    return earlier[again], again


class _Waiting(NamedTuple):
    line: int
    size: int
    texts: list[str]
    overhead: int
    sampled: bool


class Tokens:
    """Lengths of a sample spread evenly over the file, and of every row that may be too long."""

    def __init__(self, name: str, limit: int | None) -> None:
        self._name, self._limit = name, limit
        self._used = tokens.tokenizer(name)
        self._waiting: list[_Waiting] = []
        self._held = self._seen = self._bytes = self._longest = 0
        self._step = 1
        self._sample: list[tuple[int, int, int]] = []  # number of the row, bytes, tokens
        self.too_long: list[tuple[int, int]] = []

    def add(self, line: int, size: int, said: Said) -> None:
        """A row whose line has `size` bytes; its JSON is never shorter than its tokens are many."""
        number, self._seen, self._bytes = self._seen, self._seen + 1, self._bytes + size
        near = self._limit is not None and size * self._used.per_byte > self._limit
        longest = size > self._longest
        self._longest = max(size, self._longest)
        if number % self._step and not near and not longest:
            return
        overhead = said.messages * self._used.per_message + self._used.per_record
        self._waiting.append(
            _Waiting(line, size, said.texts, overhead, number % self._step == 0 or longest)
        )
        self._held += size
        if self._held > _BATCH_BYTES:
            self._count()

    def _count(self) -> None:
        texts = [text for row in self._waiting for text in row.texts]
        counted = iter(self._used.lengths(texts).tolist()) if texts else iter(())
        for row in self._waiting:
            length = sum(next(counted) for _ in row.texts) + row.overhead
            if self._limit is not None and length > self._limit:
                self.too_long.append((row.line, length))
            if row.sampled:
                self._sample.append((len(self._sample), row.size, length))
        self._waiting, self._held = [], 0
        while len(self._sample) > 2 * SAMPLE:
            self._step *= 2
            top = max(self._sample, key=lambda row: row[1])
            self._sample = [row for row in self._sample[::2] if row is not top] + [top]

    def issues(self) -> Iterator[tuple[int, Found]]:
        """The rows over the limit."""
        self._count()
        for line, length in self.too_long:
            message = f"{length:,} tokens, {self._limit:,} are trained on"
            yield line, Found("too_long", "", message)

    def lengths(self) -> Lengths | None:
        """Of the rows counted; None where there were none."""
        self._count()
        if not self._sample:
            return None
        import numpy as np

        sizes = np.array([size for _, size, _ in self._sample])
        counts = np.array([length for _, _, length in self._sample])
        every = len(counts) == self._seen
        total = int(counts.sum()) if every else round(counts.sum() / sizes.sum() * self._bytes)
        p50, p90, p99 = (int(np.percentile(counts, p, method="higher")) for p in (50, 90, 99))
        most = int(counts.max())
        return Lengths(
            self._name, len(counts), total, p50, p90, p99, most, _histogram(counts.tolist())
        )


def _histogram(counts: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Powers of two from the shortest row to the longest."""
    powers = Counter(max(count, 1).bit_length() - 1 for count in counts)
    return tuple((2**p, 2 ** (p + 1), powers[p]) for p in range(min(powers), max(powers) + 1))


class Answers:
    """How often each answer stands there, as long as there are few and short ones: labels."""

    def __init__(self) -> None:
        self._counts: Counter[str] | None = Counter()

    def add(self, answer: Any) -> None:
        if self._counts is None:
            return
        text = answer.get("content") if isinstance(answer, dict) else answer  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if not isinstance(text, str) or len(text) > _LONGEST_ANSWER:
            self._counts = None
            return
        self._counts[text.strip()] += 1
        if len(self._counts) > _MOST_ANSWERS:
            self._counts = None

    def counts(self) -> dict[str, int]:
        """The most frequent first; empty where answers are many, long, or each its own."""
        if not self._counts or self._counts.total() < 2 * len(self._counts):
            return {}
        return dict(self._counts.most_common())


class Personal:
    """Personal data and secrets: texts pass a gate of columns before they are searched."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lines: list[int] = []
        self._texts: list[str] = []
        self._held = 0

    def add(self, line: int, size: int, texts: Sequence[str]) -> None:
        self._lines += [line] * len(texts)
        self._texts += texts
        self._held += size

    def issues(self, *, last: bool = False) -> Iterator[tuple[int, Found]]:
        """One for each kind in each line; call it after each row, and with `last` at the end."""
        if not self._texts or (self._held < _BATCH_BYTES and not last):
            return
        import polars as pl

        words, digits = _gate()
        texts = pl.Series("text", self._texts)
        passed = texts.str.contains_any(words, ascii_case_insensitive=True)
        passed |= texts.str.contains(digits)
        by_line: dict[int, Counter[str]] = {}
        for at in passed.arg_true().to_list():
            kinds = Counter(found.kind for found in pii.find(self._texts[at]))
            if kinds:
                by_line.setdefault(self._lines[at], Counter()).update(kinds)
        self._lines, self._texts, self._held = [], [], 0
        for line, kinds in by_line.items():
            self.counts.update(kinds)
            told = ", ".join(f"{kind} ({n})" if n > 1 else kind for kind, n in kinds.items())
            yield line, Found("personal", "", told)


@cache
def _gate() -> tuple[list[str], str]:
    """What a text has at least one of, where `pii.find` finds something in it."""
    words = sorted({needle for rule in pii.RULES for needle in rule.needles})
    return words, r"\d(?:[^\w\n]{0,3}\d){5}|[0-9A-Fa-f]:{1,2}[0-9A-Fa-f]"
