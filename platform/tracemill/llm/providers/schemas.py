"""JSON Schemas as providers want them for structured output: closed, with nothing left open.

OpenAI and Anthropic refuse an object schema that does not say `additionalProperties: false`.
"""

from typing import Any, cast

from tracemill.messages import Json

_OF_SCHEMAS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")


def closed(schema: Json, *, all_required: bool = False) -> Json:
    """The schema with `additionalProperties: false` wherever it does not speak of them.

    With `all_required`, every property is required too, as OpenAI's strict mode wants it. Both
    only narrow the schema: what keeps to the result keeps to the original.
    """
    made: Json = dict(schema)
    for key in _OF_SCHEMAS:
        if isinstance(of := schema.get(key), dict):
            made[key] = {name: _closed(one, all_required) for name, one in cast(Json, of).items()}
    for key in _LISTS:
        if isinstance(of := schema.get(key), list):
            made[key] = [_closed(one, all_required) for one in cast(list[Any], of)]
    if "items" in schema:
        made["items"] = _closed(schema["items"], all_required)
    if schema.get("type") == "object" or isinstance(schema.get("properties"), dict):
        made.setdefault("additionalProperties", False)
        if all_required and isinstance(properties := schema.get("properties"), dict):
            made["required"] = list(cast(Json, properties))
    return made


def _closed(schema: Any, all_required: bool) -> Any:
    return (
        closed(cast(Json, schema), all_required=all_required)
        if isinstance(schema, dict)
        else schema
    )


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
