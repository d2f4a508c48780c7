"""Server-sent events out of bytes, however they are cut (HTML standard, section 9.2.6).

Lines end at LF, CR LF or CR and nowhere else: U+2028 within a JSON text is a letter like any other,
which `str.splitlines` and the line iterators of HTTP clients do not know.
"""

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE = re.compile(r"\r\n|\n|\r")


class Event(NamedTuple):
    """One event."""

    name: str
    """The `event:` field; empty where there is none."""
    data: str
    """The `data:` fields, joined by line feeds."""


class Decoder:
    """Bytes go in as they come; whole events come out."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode
        self._rest = ""
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this chunk completes."""
        yield from self._take(self._decode(chunk))

    def close(self) -> Iterator[Event]:
        """An event that the end of the stream completes: servers forget the last empty line."""
        yield from self._take(self._decode(b"", True))
        yield from self._take("\n\n")

    def _take(self, text: str) -> Iterator[Event]:
        lines = _LINE.split(self._rest + text)
        # A CR at the very end may be the first half of CR LF.
        held = "\r" if (self._rest + text).endswith("\r") else ""
        if held:
            lines.pop()
        self._rest = lines.pop() + held
        for line in lines:
            if event := self._line(line):
                yield event

    def _line(self, line: str) -> Event | None:
        if not line:
            event = Event(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data = "", []
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        return None
