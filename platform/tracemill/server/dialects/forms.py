"""What forms of bodies have in common: exact about what they read, lenient about the rest."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from tracemill.messages import Content, Json, Part, Text
from tracemill.server.trouble import invalid


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
