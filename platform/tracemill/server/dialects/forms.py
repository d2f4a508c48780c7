"""What forms of bodies have in common: exact about what they read, lenient about the rest."""

import base64
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from tracemill.llm.providers.attached import base64_of, kind_of
from tracemill.messages import Content, File, Image, Json, Part, Text
from tracemill.server.trouble import invalid

_WORDS = frozenset({"application/json", "application/xml", "application/yaml"})
"""Media types of text, besides all of `text/`."""


class Form(BaseModel):
    """A part of a body; what it does not name is kept in `model_extra`."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Loose(BaseModel):
    """A part of a body; what it does not name is left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Camel(BaseModel):
    """A part of a body whose names may be written in either case; what it does not name is kept."""

    model_config = ConfigDict(
        extra="allow", frozen=True, alias_generator=to_camel, populate_by_name=True
    )


def content_of(parts: tuple[Part, ...]) -> Content:
    """Parts as content: one text alone is a string; several stay apart, as they were sent."""
    match parts:
        case ():
            return ""
        case (Text(content=words),):
            return words
        case _:
            return parts


def attached(uri: str, kind: str | None = None, name: str | None = None) -> Part:
    """A picture, a document or a recording. A text that came as a file is words, which are redacted
    and searched as all others.

    Raises `Trouble` (400): a text that is none.
    """
    part = File(uri=uri, mime_type=kind, name=name)
    kind = kind_of(part)
    if kind.startswith("image/"):
        return Image(uri=uri, mime_type=kind)
    data = base64_of(part)
    if data is None or not (kind.startswith("text/") or kind in _WORDS):
        return part.model_copy(update={"mime_type": kind})
    try:
        words = base64.b64decode(data, validate=True).decode()
    except ValueError:
        raise invalid(f"the file {(name or kind)[:80]!r} is no text in UTF-8 and base64") from None
    return Text(content=f"{name}\n\n{words}" if name else words)


def extra(given: Mapping[str, Any] | None, without: frozenset[str], *, speaks: bool) -> Json:
    """Fields that have no name of ours: to whom speaks the language they go along.

    Args:
        without: those that another provider can do without: the answer is of the same kind.

    Raises `Trouble` (400) for one that another provider cannot do without.
    """
    told = {name: value for name, value in (given or {}).items() if value is not None}
    if speaks:
        return told
    if unknown := sorted(told.keys() - without):
        raise invalid(f"{unknown[0]}: this model's provider has no such thing", unknown[0])
    return {}
