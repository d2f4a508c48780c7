"""JSON Schemas as providers want them for structured output: closed, and within what they know.

OpenAI and Anthropic refuse an object schema that does not say `additionalProperties: false`;
Anthropic refuses limits on numbers and lengths too. The caller's schema itself is what an answer
is judged by.
"""

from collections.abc import Callable, Collection
from typing import Any, cast

from tracemill.messages import Json

_OF_SCHEMAS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")


def closed(schema: Json, *, all_required: bool = False) -> Json:
    """The schema with `additionalProperties: false` wherever it does not speak of them.

    With `all_required`, every property is required too, as OpenAI's strict mode wants it. Both
    only narrow the schema: what keeps to the result keeps to the original.
    """

    def close(one: Json) -> Json:
        properties = one.get("properties")
        if one.get("type") != "object" and not isinstance(properties, dict):
            return one
        made: Json = {**one, "additionalProperties": one.get("additionalProperties", False)}
        if all_required and isinstance(properties, dict):
            made["required"] = list(cast(Json, properties))
        return made

    return _each(schema, close)


def in_words(schema: Json, unknown: Collection[str]) -> Json:
    """The schema with the keywords that a provider refuses said in the descriptions instead."""

    def say(one: Json) -> Json:
        limits = ", ".join(f"{key}: {one[key]}" for key in one if key in unknown)
        if not limits:
            return one
        made = {key: value for key, value in one.items() if key not in unknown}
        words = f"{one.get('description', '')} ({limits})".strip()
        return made | {"description": words}

    return _each(schema, say)


def is_strict(schema: Any) -> bool:
    """Whether every object in the schema is closed, as OpenAI's strict mode demands."""
    if isinstance(schema, list):
        return all(is_strict(one) for one in cast(list[Any], schema))
    if not isinstance(schema, dict):
        return True
    known = cast(Json, schema)
    if known.get("type") == "object" and known.get("additionalProperties") is not False:
        return False
    return all(is_strict(one) for one in known.values())


def _each(schema: Any, change: Callable[[Json], Json]) -> Any:
    """The schema with each schema inside it, and then itself, changed. Names of properties are no
    keywords, so only places that hold schemas are looked into."""
    if not isinstance(schema, dict):
        return schema
    made = dict(cast(Json, schema))
    for key in _OF_SCHEMAS:
        if isinstance(of := made.get(key), dict):
            made[key] = {name: _each(one, change) for name, one in cast(Json, of).items()}
    for key in _LISTS:
        if isinstance(of := made.get(key), list):
            made[key] = [_each(one, change) for one in cast(list[Any], of)]
    if "items" in made:
        made["items"] = _each(made["items"], change)
    return change(made)
