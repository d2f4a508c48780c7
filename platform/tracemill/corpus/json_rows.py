"""Rows of JSON, one a line.

They are parsed a block at a time into columns by Arrow, which is stricter than `json` in all that
matters here; what it refuses, and the few things that it takes and `json` does not, are read alone.
"""

import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracemill.corpus.formats import Line, Rows, opened, pieces, refused
from tracemill.corpus.json_array import json_line
from tracemill.corpus.recipe import Source
from tracemill.corpus.row_schema import json_schema, narrowed

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MAX_FAILURES = 64
"""Rows of a block that may be refused by Arrow before the rest is read one by one."""
MAX_BRACKETS = 400
"""A row with more opening brackets is read alone: `json` cannot read what is nested too deep."""
CACHED_BYTES = 1 << 18
_BARE_INF = re.compile(rb"Inf\s*[,\]}]")


def jsonl(path: Path, recipe: Source, by_columns: bool) -> Iterator[Rows]:
    """One row a line."""
    if not by_columns:
        yield from _blocks(path, None)
        return
    # What Arrow does while the block before becomes records: a second core takes part.
    with ThreadPoolExecutor(1, "read") as pool:
        blocks = _blocks(path, _Reading(recipe))
        ahead = pool.submit(next, blocks, None)
        while (rows := ahead.result()) is not None:
            ahead = pool.submit(next, blocks, None)
            yield rows


class _Reading:
    """What is known of the rows of a file as blocks go by."""

    def __init__(self, recipe: Source) -> None:
        self.recipe = recipe
        self.is_narrow = True
        """Whether rows had no fields but those of the first ones: others cost time to look for."""

    def schema(self, samples: list[dict[str, Any]]) -> "pa.Schema | None":
        """What to read of rows like these."""
        wide = json_schema(samples[0], self.recipe) if samples else None
        narrow = narrowed(wide, samples) if wide is not None and self.is_narrow else None
        self.is_narrow = narrow is not None
        return narrow or wide


def _blocks(path: Path, reading: _Reading | None) -> Iterator[Rows]:
    with opened(path) as file:
        for piece in pieces(file):
            if piece.problem:
                yield refused(piece.number, piece.problem, piece.content)
            else:
                yield _block(piece.number, piece.content, reading)


def _block(number: int, content: bytes, reading: _Reading | None) -> Rows:
    import numpy as np

    codes = np.frombuffer(content, np.uint8)
    marks = _marks(codes)
    ends = marks[codes[marks] == 10]
    if codes[-1] != 10:
        ends = np.append(ends, codes.size)
    starts = np.append(0, ends[:-1] + 1)
    ends = ends - ((ends > starts) & (codes[ends - 1] == 13))
    braced = (ends - starts > 1) & (codes[np.minimum(starts, codes.size - 1)] == 123)
    braced &= codes[ends - 1] == 125
    there = braced | (ends > starts)
    for index in np.flatnonzero(there & ~braced):
        there[index] = bool(content[starts[index] : ends[index]].strip())
    starts, ends, braced = starts[there], ends[there], braced[there]
    numbers = (np.flatnonzero(there) + number).tolist()

    def line(index: int) -> Line:
        return json_line(content[starts[index] : ends[index]])

    if reading:
        certain = np.flatnonzero(braced & ~_unsure(content, codes, marks, starts, ends))
        tables, taken = _tables(content, starts[certain], ends[certain], reading)
        if tables:
            return Rows(numbers, line, _frame(tables), certain[taken].tolist())
    return Rows(numbers, line)


def _marks(codes: "np.ndarray") -> "np.ndarray":
    """Where a line ends, a bracket opens or an I stands, found in one pass over the bytes."""
    import numpy as np

    marks = [np.zeros(0, np.int64)]
    # Three times as quick as over the whole: what is compared stays in the processor's cache.
    for start in range(0, codes.size, CACHED_BYTES):
        part = codes[start : start + CACHED_BYTES]
        found = part & 0xDF == 0x5B  # [ and { differ in this one bit.
        found |= part == 10
        found |= part == 73
        marks.append(np.flatnonzero(found) + start)
    return np.concatenate(marks)


def _unsure(
    content: bytes,
    codes: "np.ndarray",
    marks: "np.ndarray",
    starts: "np.ndarray",
    ends: "np.ndarray",
) -> "np.ndarray":
    """Lines that Arrow might read otherwise than `json`: with NULs, bytes that are not UTF-8, the
    number `Inf`, or perhaps too deep for `json`."""
    import numpy as np

    if not len(starts):
        return np.zeros(0, bool)
    kinds = codes[marks]
    opening = marks[kinds > 73]
    found = np.searchsorted(opening, ends) - np.searchsorted(opening, starts) > MAX_BRACKETS
    capitals = marks[kinds == 73]
    capitals = capitals[codes[np.minimum(capitals + 1, codes.size - 1)] == 110]
    odd = [int(at) for at in capitals if _BARE_INF.match(content, at)]
    if b"\x00" in content:
        odd += np.flatnonzero(codes == 0).tolist()
    found[np.searchsorted(starts, odd, "right") - 1] = True
    if not _is_utf8(content):
        for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
            found[index] |= not _is_utf8(content[start:end])
    return found


def _is_utf8(content: bytes) -> bool:
    import pyarrow as pa

    ends = pa.py_buffer(bytes(8) + len(content).to_bytes(8, sys.byteorder))
    whole = pa.Array.from_buffers(pa.large_utf8(), 1, [None, ends, pa.py_buffer(content)])
    try:
        whole.validate(full=True)
    except ValueError:
        return False
    return True


def _tables(
    content: bytes, starts: "np.ndarray", ends: "np.ndarray", reading: _Reading
) -> "tuple[list[pa.Table], np.ndarray]":
    """The lines that Arrow can read, and which they are."""
    import numpy as np

    schema = reading.schema(_samples(content, starts, ends))
    tables: list[pa.Table] = []
    taken: list[np.ndarray] = [np.zeros(0, np.int64)]
    todo = [] if schema is None else _runs(content, starts, ends)
    failures = 0
    while todo and failures <= MAX_FAILURES:
        low, high = todo.pop()
        lines = content[starts[low] : ends[high - 1]]
        found = _parsed(lines, high - low, schema, reading.is_narrow)
        if found is None:
            reading.is_narrow = False
            return _tables(content, starts, ends, reading)
        if isinstance(found, int):
            failures += 1
            todo += [(low + found + 1, high)] * (low + found + 1 < high)
            todo += [(low, low + found)] * (found > 0)
        else:
            tables.append(found)
            taken.append(np.arange(low, high))
    return tables, np.concatenate(taken)


def _samples(content: bytes, starts: "np.ndarray", ends: "np.ndarray") -> list[dict[str, Any]]:
    """The first rows of a block that are rows."""
    places = zip(starts[:10], ends[:10], strict=True)
    rows = (json_line(content[start:end]).row for start, end in places)
    return [row for row in rows if row is not None]


def _runs(content: bytes, starts: "np.ndarray", ends: "np.ndarray") -> list[tuple[int, int]]:
    """Stretches of lines with nothing but line ends between them, the first one last."""
    import numpy as np

    gaps = np.flatnonzero(starts[1:] - ends[:-1] > 2) + 1
    blank = [not content[ends[gap - 1] : starts[gap]].strip() for gap in gaps]
    edges = [0, *(int(gap) for gap, is_blank in zip(gaps, blank, strict=True) if not is_blank)]
    return [(a, b) for a, b in zip(edges, [*edges[1:], len(starts)], strict=True) if a < b][::-1]


def _parsed(
    content: bytes, rows: int, schema: "pa.Schema | None", is_narrow: bool
) -> "pa.Table | int | None":
    """The rows as a table, or the first one that is in the way; None where one has other fields
    than a narrow schema."""
    import pyarrow as pa
    from pyarrow import json as arrow

    try:
        table = arrow.read_json(
            cast(Any, pa.BufferReader(content)),
            read_options=arrow.ReadOptions(use_threads=False, block_size=len(content) + 1),
            parse_options=arrow.ParseOptions(
                explicit_schema=schema,
                unexpected_field_behavior="error" if is_narrow else "ignore",
            ),
        )
    except pa.ArrowInvalid as error:
        if is_narrow and "unexpected field" in str(error):
            return None
        told = re.search(r" in row (\d+)$", str(error))
        at = int(told[1]) if told else rows // 2
        return at if at < rows else rows // 2
    # Each line starts with { and ends with }: as many rows as lines means one row in each.
    return table if table.num_rows == rows else rows // 2


def _frame(tables: "list[pa.Table]") -> Any:
    import polars as pl
    import pyarrow as pa

    return pl.from_arrow(pa.concat_tables(tables))  # pyright: ignore[reportUnknownMemberType]
