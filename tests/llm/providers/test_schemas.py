"""Schemas are made fit for providers without letting anything through that was not asked for."""

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from tracemill.llm.providers.schemas import closed, in_words, is_strict


class Wind(BaseModel):
    kmh: float = Field(ge=0, description="Speed")
    properties: dict[str, str] | None = None


class Weather(BaseModel):
    sky: str = Field(min_length=1)
    winds: list[Wind] = []
    gust: Wind | None = None


SCHEMA = Weather.model_json_schema()
ANSWERS = [
    {"sky": "blue"},
    {"sky": "blue", "winds": [], "gust": None},
    {"sky": "blue", "winds": [{"kmh": 3, "properties": None}], "gust": {"kmh": 1}},
    {"sky": "blue", "winds": [{"kmh": 3, "dust": 1}], "gust": None},
    {"sky": "blue", "more": 1},
    {"winds": []},
]


def accepts(schema: dict, answer: dict) -> bool:
    return Draft202012Validator(schema).is_valid(answer)


@pytest.mark.parametrize("all_required", [False, True])
@pytest.mark.parametrize("answer", ANSWERS)
def test_what_keeps_to_the_closed_schema_keeps_to_the_original(answer: dict, all_required: bool):
    narrow = closed(SCHEMA, all_required=all_required)
    assert accepts(SCHEMA, answer) or not accepts(narrow, answer)


def test_unknown_properties_are_shut_out_at_every_depth():
    assert [accepts(SCHEMA, answer) for answer in ANSWERS] == [True] * 5 + [False]
    assert [accepts(closed(SCHEMA), answer) for answer in ANSWERS] == [True] * 3 + [False] * 3
    assert closed(closed(SCHEMA)) == closed(SCHEMA)


def test_everything_can_be_required():
    schema = closed(SCHEMA, all_required=True)
    assert schema["required"] == ["sky", "winds", "gust"]
    assert schema["$defs"]["Wind"]["required"] == ["kmh", "properties"]


def test_a_map_with_free_keys_stays_and_is_not_strict():
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    assert closed(schema, all_required=True) == schema
    assert [is_strict(schema), is_strict(closed({"type": "object"}))] == [False, True]


def test_limits_that_a_provider_refuses_are_said_in_words():
    schema = {
        "type": "object",
        "properties": {
            "maximum": {"type": "integer", "maximum": 9, "description": "Most"},
            "words": {"type": "array", "items": {"type": "string", "maxLength": 5}},
        },
    }
    assert in_words(schema, {"maximum", "maxLength"}) == {
        "type": "object",
        "properties": {
            "maximum": {"type": "integer", "description": "Most (maximum: 9)"},
            "words": {
                "type": "array",
                "items": {"type": "string", "description": "(maxLength: 5)"},
            },
        },
    }
