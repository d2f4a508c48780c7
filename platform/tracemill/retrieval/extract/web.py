"""A page of HTML parted into what it says about itself and what it shows.

kreuzberg puts the head before the text as front matter, and in Markdown spoils it; so the head is
read here and cut out.
"""

import re
from html.parser import HTMLParser
from typing import Any

from tracemill.retrieval.extract.decode import decode

MOST_HEAD = 200_000
_TITLE = re.compile(r"<title\b[^>]*>.*?</title\s*>", re.IGNORECASE | re.DOTALL)
_META = re.compile(r"<(?:meta|link|base)\b[^>]*>", re.IGNORECASE)
_NAMES = {
    "author": "authors",
    "dc.creator": "authors",
    "description": "description",
    "keywords": "keywords",
    "dc.date": "created_at",
    "date": "created_at",
    "article:published_time": "created_at",
    "article:modified_time": "modified_at",
    "last-modified": "modified_at",
}


def split_head(content: bytes) -> tuple[bytes, dict[str, Any]]:
    """The page in UTF-8 without title and meta elements, and what these say.

    Raises `InputError` when it cannot be decoded.
    """
    text = decode(content)
    head = _Head()
    head.feed(text[:MOST_HEAD])
    body = _META.sub("", _TITLE.sub("", text))
    return body.encode("utf-8", "replace"), head.said


class _Head(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.said: dict[str, Any] = {}
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._in_title = tag == "title" and "title" not in self.said
        if tag == "html" and given.get("lang"):
            self.said["language"] = given["lang"]
        if tag == "meta":
            name = _NAMES.get((given.get("name") or given.get("property") or "").lower())
            if name and given.get("content"):
                self.said.setdefault(name, self._value(name, given["content"]))

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.said["title"] = self.said.get("title", "") + data

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False

    @staticmethod
    def _value(name: str, said: str) -> Any:
        if name == "keywords":
            return [each.strip() for each in said.split(",") if each.strip()]
        return [said] if name == "authors" else said
