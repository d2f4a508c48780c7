"""Gemini's own form of schemas, a part of OpenAPI's, as JSON Schema."""

from typing import Any, cast

from pydantic.alias_generators import to_camel

from tracemill.messages import Json

_NUMBERS = {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
_LEFT_OUT = {"propertyOrdering", "nullable", "example"}


def json_schema(given: Json) -> Json:
    """The same as JSON Schema: small letters, `null` among the types, counts as numbers."""
    made: Json = {}
    for written, value in given.items():
        name = to_camel(written)
        if name in _LEFT_OUT or value is None:
            continue
        made[name] = _value(name, value)
    if given.get("nullable") is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def _value(name: str, value: Any) -> Any:
    if name == "type" and isinstance(value, str):
        return value.lower()
    if name in _NUMBERS and isinstance(value, str) and value.isdecimal():
        return int(value)
    if name in {"properties", "$defs", "defs"} and isinstance(value, dict):
        return {key: _schema(each) for key, each in cast(Json, value).items()}
    if name in {"items", "additionalProperties"}:
        return _schema(value)
    if name == "anyOf" and isinstance(value, list):
        return [_schema(each) for each in cast(list[Any], value)]
    return value


def _schema(value: Any) -> Any:
    return json_schema(cast(Json, value)) if isinstance(value, dict) else value
