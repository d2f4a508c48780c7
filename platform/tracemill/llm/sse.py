"""Server-sent events out of bytes, however they are cut (HTML standard, section 9.2.6).

Lines end at LF, CR LF or CR and nowhere else: U+2028 within a JSON text is a letter like any other,
which `str.splitlines` and the line iterators of HTTP clients do not know.
"""

import codecs
import json
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
        self._rest: list[str] = []
        self._after_cr = False
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this chunk completes."""
        yield from self._take(self._decode(chunk))

    def close(self) -> Iterator[Event]:
        """An event that the end of the stream completes: servers forget the last empty line.

        A last line that was cut is none: its data is neither JSON nor `[DONE]`.
        """
        yield from self._take(self._decode(b"", True))
        cut = "".join(self._rest).removeprefix("data:").strip()
        if cut and not _is_whole(cut):
            self._rest = []
        yield from self._take("\n\n")

    def _take(self, text: str) -> Iterator[Event]:
        if not text:
            return
        # The second half of a CR LF that was cut between the two.
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r")
        first, *begun = _LINE.split(text)
        self._rest.append(first)
        for rest in begun:
            event = self._line("".join(self._rest))
            self._rest = [rest]
            if event:
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


def _is_whole(data: str) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return data == "[DONE]"
    return True
