"""Rows of JSON: one a line, in an array, or one after the other.

Lines are parsed a block at a time into columns by Arrow, which is stricter than `json` in all that
matters here; what it refuses, and the few things that it takes and `json` does not, are read alone.
"""

import codecs
import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from tracemill.corpus.formats import (
    MAX_ROW_BYTES,
    PIECE_BYTES,
    UNREADABLE,
    Line,
    Rows,
    chunks,
    cut,
    opened,
    pieces,
    refused,
)
from tracemill.corpus.recipe import Source
from tracemill.corpus.row_schema import json_schema, narrowed

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MAX_FAILURES = 64
"""Rows of a block that may be refused by Arrow before the rest is read one by one."""
MAX_BRACKETS = 400
"""A row with more opening brackets is read alone: `json` cannot read what is nested too deep."""
ROWS_OF_AN_ARRAY = 1000
MAX_INDENT = 200
_BARE_INF = re.compile(rb"Inf\s*[,\]}]")
_BETWEEN = re.compile(r"[\s,\[\]]*")


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

    found = codes & 0xDF == 0x5B  # [ and { differ in this one bit.
    found |= codes == 10
    found |= codes == 73
    return np.flatnonzero(found)


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


def json_line(content: bytes) -> Line:
    """One row of JSON text."""
    shown = content[:1000].decode("utf-8", "replace")
    try:
        return _row(loads(content.decode()), shown)
    except UnicodeDecodeError as error:
        return Line(None, f"not UTF-8: {error.reason}", shown)
    except (ValueError, RecursionError) as error:
        return Line(None, f"not JSON: {_why(error)}", shown)


def _why(error: Exception, start: int = 0) -> str:
    match error:
        case json.JSONDecodeError():
            return f"{error.msg} at character {error.pos - start + 1}"
        case RecursionError():
            return "nested too deep"
        case _:
            return str(error)


_decoder = json.JSONDecoder(parse_constant=lambda _: None)
_decoder_of_long_numbers = json.JSONDecoder(parse_constant=lambda _: None, parse_int=float)


def loads(text: str) -> Any:
    """JSON as Python values; NaN and Infinity, which JSON does not have, are null."""
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # A whole number of over 4300 digits.
        return _decoder_of_long_numbers.decode(text)


def _row(value: Any, shown: str) -> Line:
    if isinstance(value, dict):
        return Line(cast("dict[str, Any]", value), text=shown)
    return Line(None, "not an object with named fields", shown)


def json_array(path: Path, recipe: Source, by_columns: bool) -> Iterator[Rows]:
    """An array of rows, or rows one after the other, with no more in memory than a few of them.

    After a row that is not JSON the next one is where a line begins with { in the same column.
    """
    with opened(path) as file:
        window = _Window(file)
        numbers: list[int] = []
        lines: list[Line] = []
        for number, line in window.rows():
            numbers.append(number)
            lines.append(line)
            if len(lines) == ROWS_OF_AN_ARRAY:
                yield Rows(numbers, lines.__getitem__)
                numbers, lines = [], []
        if lines:
            yield Rows(numbers, lines.__getitem__)


def _steps(file: IO[bytes]) -> Iterator[bytes]:
    """Small parts of the chunks: what is wrong in a text is told by counting its lines so far."""
    for chunk in chunks(file):
        for start in range(0, len(chunk), PIECE_BYTES):
            yield chunk[start : start + PIECE_BYTES]


class _Window:
    """The part of a text that is being read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.steps = _steps(file)
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text, self.at, self.number = "", 0, 1
        self.ended, self.trouble = False, ""

    def more(self) -> bool:
        """Whether there was more to read; what was read before is let go."""
        if self.ended:
            return False
        line = self.text.rfind("\n", 0, self.at) + 1
        kept = line if self.at - line < MAX_INDENT else self.at
        self.text, self.at = self.text[kept:], self.at - kept
        # As much as there is: a long row is tried again a few times only.
        parts, wanted = [b""], len(self.text)
        try:
            while wanted >= 0 and (step := next(self.steps, b"")):
                parts.append(step)
                wanted -= len(step)
        except UNREADABLE as error:
            self.trouble = cut(error)
        chunk = b"".join(parts)
        self.ended = not chunk
        self.text += self.decoder.decode(chunk, self.ended)
        return not self.ended

    def rows(self) -> Iterator[tuple[int, Line]]:
        """Each row with the line where it begins."""
        while self._skip():
            number = self.number
            try:
                value = self._value()
            except (ValueError, RecursionError) as error:
                shown = self.text[self.at : self.at + 1000]
                said = _why(error, self.at)
                on = self._to_the_next()
                where = "" if on else " from here on"
                why = self.trouble if self.trouble and not on else f"not JSON{where}: {said}"
                yield number, Line(None, why, shown)
                if not on:
                    return
            else:
                yield number, value
        if self.trouble:
            yield self.number, Line(None, self.trouble)

    def _skip(self) -> bool:
        """To the next row, past blanks, commas and the brackets of an array."""
        while True:
            between = _BETWEEN.match(self.text, self.at)
            self._pass(between.end() if between else self.at)
            if self.at < len(self.text):
                return True
            if not self.more():
                return self.at < len(self.text)

    def _pass(self, end: int) -> None:
        self.number += self.text.count("\n", self.at, end)
        self.at = end

    def _value(self) -> Line:
        while True:
            try:
                value, end = self._decoded()
                if end == len(self.text) and self.more():
                    continue
            except json.JSONDecodeError as error:
                complete = error.pos < len(self.text) - 20 and "Unterminated" not in error.msg
                if complete or len(self.text) - self.at > MAX_ROW_BYTES or not self.more():
                    raise
            else:
                row = _row(value, self.text[self.at : min(end, self.at + 1000)])
                self._pass(end)
                return row

    def _decoded(self) -> tuple[Any, int]:
        try:
            return _decoder.raw_decode(self.text, self.at)
        except json.JSONDecodeError:
            raise
        except ValueError:
            return _decoder_of_long_numbers.raw_decode(self.text, self.at)

    def _to_the_next(self) -> bool:
        """To the next line that begins with { in the column where this one begins."""
        start = self.text.rfind("\n", 0, self.at) + 1
        line = self.text[start : start + MAX_INDENT]
        begins = f"\n{line[: len(line) - len(line.lstrip())]}{{"
        while (found := self.text.find(begins, self.at)) < 0:
            self._pass(max(self.at, len(self.text) - len(begins)))
            if not self.more():
                return False
        self._pass(found + 1)
        return True
