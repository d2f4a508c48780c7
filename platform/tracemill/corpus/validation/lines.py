"""Bytes of a file as rows, one line at a time; what cannot be read is an issue, never a crash."""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from tracemill.corpus.validation.report import Found
from tracemill.errors import UsageError

LONGEST = 64 * 2**20
"""Bytes of a line; a longer one is skipped, so that memory stays bounded."""
_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line of the file."""

    number: int
    text: bytes
    row: dict[str, Any] | None
    found: tuple[Found, ...]


def read(path: Path, progress: Callable[[int], object]) -> Iterator[Line]:
    """Every line; `progress` is called with each number of bytes of the file that were read.

    Raises `UsageError` when there is no such file.
    """
    if not path.is_file():
        raise UsageError(f"{path} is no file: name a file of JSON lines, plain or .gz")
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if packed else raw
        done = number = 0
        try:
            while text := file.readline(LONGEST + 1):
                number += 1
                if number % 500 == 0:
                    progress(raw.tell() - done)
                    done = raw.tell()
                yield _long(file, number) if len(text) > LONGEST else _line(number, text)
        except (EOFError, OSError, zlib.error) as error:
            problem = Found("broken_file", "", f"after line {number}: {error}")
            yield Line(number + 1, b"", None, (problem,))
        progress(raw.tell() - done)


def _long(file: IO[bytes], number: int) -> Line:
    while (text := file.readline(LONGEST)) and not text.endswith(b"\n"):
        pass
    return Line(number, b"", None, (Found("long_line", "", "over 64 MiB; not read"),))


def _line(number: int, text: bytes) -> Line:
    found: list[Found] = []
    if number == 1 and text.startswith(_BOM):
        text = text[len(_BOM) :]
        found.append(Found("bom", "", "the file begins with the bytes EF BB BF"))
    text = text.strip(b" \t\r\n")
    if not text:
        return Line(number, text, None, (*found, Found("blank_line", "", "nothing in it")))
    row, problem = _parsed(text)
    return Line(number, text, row, (*found, *problem))


def _parsed(text: bytes) -> tuple[dict[str, Any] | None, tuple[Found, ...]]:
    from pydantic_core import from_json

    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        return None, (_not_json(text, str(error)),)
    if not isinstance(value, dict):
        return None, (Found("not_object", "", f"the row is {kind(value)}"),)
    return cast("dict[str, Any]", value), ()


def _not_json(text: bytes, error: str) -> Found:
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        byte = text[wrong.start]
        return Found("not_utf8", "", f"byte {wrong.start + 1} of the line is 0x{byte:02X}")
    message = re.sub(r" at line 1 column (\d+)$", r" at column \1", error)
    return Found("not_json", "", message[:200])


def doubled(text: bytes, row: dict[str, Any]) -> list[Found]:
    """Fields that stand twice in one object.

    The quotation marks of a line are those of the strings that were read from it, unless a field
    hides an earlier one; only then is the line read again, slowly.
    """
    plain = text.replace(b"\\\\", b"") if b"\\" in text else text
    if plain.count(b'"') - plain.count(b'\\"') == 2 * _strings(row):
        return []
    names: list[str] = []

    def seen(pairs: list[tuple[str, Any]]) -> None:
        fields = [name for name, _ in pairs]
        names.extend(sorted({name for name in fields if fields.count(name) > 1}))

    try:
        json.loads(text, object_pairs_hook=seen)
    except (ValueError, RecursionError):
        return []
    return [Found("double_field", "", f"{name[:60]!r} stands twice") for name in names[:20]]


def _strings(value: Any) -> int:
    """How many strings a JSON value holds, names of fields included."""
    found = 0
    rest: list[Any] = [[value]]
    while rest:
        each = rest.pop()
        if type(each) is dict:
            found += len(each)  # pyright: ignore[reportUnknownArgumentType]
            each = each.values()  # pyright: ignore[reportUnknownVariableType]
        for inner in each:  # pyright: ignore[reportUnknownVariableType]
            if type(inner) is str:  # pyright: ignore[reportUnknownArgumentType]
                found += 1
            elif type(inner) is dict or type(inner) is list:  # pyright: ignore[reportUnknownArgumentType]
                rest.append(inner)
    return found


def kind(value: object) -> str:
    """The JSON type of a value, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
