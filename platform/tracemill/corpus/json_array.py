"""Rows of JSON read one by one, with care: those of an array, and a line by itself."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from tracemill.corpus.formats import (
    MAX_ROW_BYTES,
    PIECE_BYTES,
    UNREADABLE,
    Line,
    Rows,
    chunks,
    cut,
    opened,
)
from tracemill.corpus.recipe import Source

ROWS_OF_AN_ARRAY = 1000
MAX_INDENT = 200
_BETWEEN = re.compile(r"[\s,\[\]]*")


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
            said = error.msg.removesuffix(" at")
            return f"{said} at character {error.pos - start + 1}"
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
