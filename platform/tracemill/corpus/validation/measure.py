"""Measures of a whole file in bounded memory: repeats by digest, lengths from a sample, personal
data, frequent answers.

A row leaves 32 bytes of digests and numbers here; its text is gone with the batch it came in.
"""

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.corpus import tokens
from tracemill.corpus.personal import suspects
from tracemill.corpus.stand_ins import real
from tracemill.corpus.validation.report import Found, Issue, Lengths
from tracemill.corpus.validation.shapes import Said

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE = 2_000
"""As many rows are counted in tokens at most, half as many at least; all of a smaller file."""
_BATCH_BYTES = 2**22
_MOST_HELD = 2**26  # bytes of a sample
_MOST_ANSWERS, _LONGEST_ANSWER = 100, 60

_canonical = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
).encode


def _number(digest: bytes) -> int:
    return int.from_bytes(digest, "little")


class Repeats:
    """Which rows are equal, and which ask the same and answer otherwise; by 64-bit digests, of
    which two of a million rows collide once in 37 million files."""

    def __init__(self) -> None:
        self._lines, self._wholes, self._asked = array("Q"), array("Q"), array("Q")

    def add(self, line: int, asked: Any, answer: Any) -> None:
        """Raises `ValueError` for a number that is infinite."""
        before, after = _canonical(asked).encode(), _canonical(answer).encode()
        hashed = blake2b(before, digest_size=8)
        self._lines.append(line)
        self._asked.append(_number(hashed.digest()))
        hashed.update(b"\0" + after)
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


class _Row(NamedTuple):
    line: int
    size: int
    texts: list[str]
    overhead: int


class Tokens:
    """Lengths of a sample spread evenly over the file, and of every row that may be too long."""

    def __init__(self, name: str, limit: int | None) -> None:
        self._name, self._limit = name, limit
        self._used = tokens.tokenizer(name)
        self._near: list[_Row] = []
        self._sample: list[_Row] = []
        self._longest: _Row | None = None
        self._held = self._seen = self._bytes = 0
        self._step = 1
        self._too_long: list[tuple[int, int]] = []

    def add(self, line: int, size: int, said: Said) -> None:
        """A row whose line has `size` bytes; its JSON is never shorter than its tokens are many."""
        number, self._seen, self._bytes = self._seen, self._seen + 1, self._bytes + size
        overhead = said.messages * self._used.per_message + self._used.per_record
        row = _Row(line, size, said.texts, overhead)
        if self._limit is not None and size * self._used.per_byte > self._limit:
            self._near.append(row)
            if sum(each.size for each in self._near) > _BATCH_BYTES:
                self._count_near()
        if self._longest is None or size > self._longest.size:
            self._longest = row
        if number % self._step == 0:
            self._sample.append(row)
            self._held += size
            self._thin()

    def _thin(self) -> None:
        """Every second row of the sample goes while it has too many rows or bytes."""
        while len(self._sample) > SAMPLE or (self._held > _MOST_HELD and len(self._sample) > 1):
            self._step *= 2
            self._sample = self._sample[::2]
            self._held = sum(row.size for row in self._sample)

    def _lengths(self, rows: Sequence[_Row]) -> list[int]:
        texts = [text for row in rows for text in row.texts]
        counted = iter(self._used.lengths(texts).tolist()) if texts else iter(())
        return [sum(next(counted) for _ in row.texts) + row.overhead for row in rows]

    def _count_near(self) -> None:
        for row, length in zip(self._near, self._lengths(self._near), strict=True):
            if self._limit is not None and length > self._limit:
                self._too_long.append((row.line, length))
        self._near = []

    def issues(self) -> Iterator[tuple[int, Found]]:
        """The rows over the limit."""
        self._count_near()
        for line, length in self._too_long:
            message = f"{length:,} tokens, {self._limit:,} are trained on"
            yield line, Found("too_long", "", message)

    def lengths(self) -> Lengths | None:
        """Of the rows counted; None where there were none."""
        if self._longest is None:
            return None
        import numpy as np

        counted = self._lengths(self._sample)
        every = len(counted) == self._seen
        share = self._bytes / sum(row.size for row in self._sample)
        total = sum(counted) if every else round(sum(counted) * share)
        p50, p90, p99 = (int(np.percentile(counted, p, method="higher")) for p in (50, 90, 99))
        most = max([*counted, *self._lengths([self._longest])])
        return Lengths(
            tokenizer=self._name,
            rows=self._seen,
            counted=len(counted),
            total=total,
            p50=p50,
            p90=p90,
            p99=p99,
            most=most,
            histogram=_histogram(counted),
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
    """Personal data and secrets: columns say which texts are searched."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._rows: list[tuple[int, list[str]]] = []
        self._held = 0

    def add(self, line: int, size: int, texts: list[str]) -> None:
        self._rows.append((line, texts))
        self._held += size

    def issues(self, *, last: bool = False) -> Iterator[tuple[int, Found]]:
        """One for each line with some; call it after each row, and with `last` at the end."""
        import polars as pl

        if not self._rows or (self._held < _BATCH_BYTES and not last):
            return
        texts = [(line, text) for line, row in self._rows for text in row]
        held = pl.Series([text for _, text in texts], dtype=pl.String)
        by_line: dict[int, Counter[str]] = {}
        found: list[int] = suspects(held).arg_true().to_list()
        for at in found:
            line, text = texts[at]
            by_line.setdefault(line, Counter()).update(place.kind for place in real(text))
        self._rows, self._held = [], 0
        for line, kinds in by_line.items():
            self.counts.update(kinds)
            told = ", ".join(f"{kind} ({n})" if n > 1 else kind for kind, n in kinds.items())
            if told:
                yield line, Found("personal", "", told)
