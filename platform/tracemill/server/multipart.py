"""A form with one file, read as it comes: the file goes to the disk piece by piece and is never whole
in memory, whatever its size and the order of the fields.
"""

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from tracemill.server.incoming import Incoming
from tracemill.server.trouble import Trouble, invalid

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

PIECE_S = 30.0
"""How long the next piece may take to arrive."""
FORM_S = 3600.0
"""How long the whole form may take to arrive."""
_FIELD_BYTES = 4096
_FIELDS = 20


class Form(NamedTuple):
    """What a form held."""

    fields: dict[str, str]
    filename: str | None
    """None where there was no file."""
    size_bytes: int
    sha256: str


async def read_form(asked: Incoming, path: Path, most_bytes: int, file_field: str = "file") -> Form:
    """Read a form; its file is at `path` afterwards, not synced.

    Raises `Trouble`: it is no form, is too large or too slow, or the caller went away.
    """
    kind, options = parse_options_header(asked.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise invalid("the body has to be multipart/form-data with a file", file_field)
    told = asked.headers.get("content-length", "")
    if told.isdecimal() and int(told) > most_bytes + _FIELDS * _FIELD_BYTES:
        raise _too_large(most_bytes)
    with path.open("xb") as file:
        reading = _Reading(file, most_bytes, file_field)
        try:
            parser = MultipartParser(boundary, reading.callbacks())
            await _fed(asked, parser)
            parser.finalize()
        except FormParserError as error:
            raise invalid(f"the form cannot be read: {error}") from None
    if not reading.ended:
        raise invalid("the form breaks off in the middle")
    return Form(reading.fields, reading.filename, reading.size_bytes, reading.digest.hexdigest())


async def _fed(asked: Incoming, parser: MultipartParser) -> None:
    pieces = asked.http.stream()
    try:
        async with asyncio.timeout(FORM_S):
            while True:
                async with asyncio.timeout(PIECE_S):
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                parser.write(piece)
    except TimeoutError:
        raise Trouble(408, "timeout", "the form did not arrive in time", retry=True) from None
    except ClientDisconnect:
        raise Trouble(499, "interrupted", "the caller went away") from None


class _Reading:
    """The part that is being read."""

    def __init__(self, file: BinaryIO, most_bytes: int, file_field: str) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.size_bytes = 0
        self.digest = hashlib.sha256()
        self.ended = False
        self._file, self._most, self._file_field = file, most_bytes, file_field
        self._header, self._value = b"", b""
        self._disposition: bytes = b""
        self._name: str | None = None
        self._in_file = False
        self._words = b""

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser tells."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers,
            "on_part_data": self._data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._disposition, self._name, self._words = b"", None, b""
        self._in_file = False

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name")
        if name is None:
            raise invalid("a part of the form has no name")
        self._name = name.decode("utf-8", "replace")
        self._in_file = b"filename" in options
        if not self._in_file:
            if len(self.fields) >= _FIELDS:
                raise invalid("the form has too many fields")
            return
        if self._name != self._file_field:
            raise invalid(f"{self._name[:40]}: the file's field is `{self._file_field}`")
        if self.filename is not None:
            raise invalid("one file at a time", self._file_field)
        self.filename = options[b"filename"].decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if not self._in_file:
            self._words += piece
            if len(self._words) > _FIELD_BYTES:
                raise invalid(f"{self._name}: it is too long", self._name)
            return
        self.size_bytes += len(piece)
        if self.size_bytes > self._most:
            raise _too_large(self._most)
        self.digest.update(piece)
        self._file.write(piece)

    def _part_end(self) -> None:
        if not self._in_file and self._name is not None:
            self.fields[self._name] = self._words.decode("utf-8", "replace")

    def _end(self) -> None:
        self.ended = True


def _too_large(most: int) -> Trouble:
    message = f"the file is larger than {most // 1024**2} MiB: send less"
    return Trouble(413, "request_too_large", message, param="file")
