"""Whether an answer keeps to a JSON Schema, said in sentences that a model can repair it by.

Nothing is ever fetched: a schema stands alone, and what it refers to is inside of it.
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from tracemill.messages import Json
from tracemill.pii import redact

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

MOST_PROBLEMS = 8
"""More of them help nobody."""
_MOST_CHARACTERS = 200
_FENCED = re.compile(r"\s*```[a-zA-Z]*\n(.*)\n\s*```\s*", re.DOTALL)
_ROOT = "urn:tracemill:response_schema"


def wrong_schema(schema: Json) -> str | None:
    """What is wrong with a schema, in a sentence; None where nothing is."""
    return _prepared(_canonical(schema))[1]


def problems(schema: Json, text: str) -> tuple[str, ...]:
    """What is wrong with an answer: where, as a JSON path, and what; empty where nothing is.

    Nothing personal and no key is repeated in it.
    """
    from referencing.exceptions import Unresolvable

    try:
        answer = _parsed(text)
    except (ValueError, RecursionError) as error:
        return (f"$: it is not JSON: {error}",)
    validator, wrong = _prepared(_canonical(schema))
    if validator is None:
        return (wrong or "",)
    try:
        errors = sorted(
            _first(validator.iter_errors(answer)), key=lambda each: list(map(str, each.path))
        )
        return tuple(_sentence(each) for each in errors)
    except Unresolvable as error:
        return (_outside(error.ref),)
    except (RecursionError, re.error) as error:
        return (f"response_schema cannot be checked against: {type(error).__name__}: {error}",)


def unfenced(text: str) -> str | None:
    """The JSON inside a Markdown fence, where that is all there is; else None."""
    match = _FENCED.fullmatch(text)
    if not match:
        return None
    try:
        _parsed(match[1])
    except (ValueError, RecursionError):
        return None
    return match[1]


def _parsed(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON number")

    return json.loads(text, parse_constant=refuse)


def _canonical(schema: Json) -> str:
    return json.dumps(schema, sort_keys=True)


def _first(errors: Iterator[Any]) -> Iterator[Any]:
    for _, error in zip(range(MOST_PROBLEMS), errors, strict=False):
        yield error


def _sentence(error: Any) -> str:
    place, what = str(error.json_path), str(error.message)
    if len(what) > _MOST_CHARACTERS:
        # What is long is the value; what was wanted of it is short and stands in the schema.
        what = f"it breaks {error.validator!r}: {json.dumps(error.validator_value)}"
    return redact(f"{place[:_MOST_CHARACTERS]}: {what[:_MOST_CHARACTERS]}").text


@lru_cache(maxsize=64)
def _prepared(canonical: str) -> "tuple[Validator | None, str | None]":
    """A validator, or why there is none."""
    import jsonschema
    from jsonschema import validators
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    schema = cast("dict[str, Any]", json.loads(canonical))
    drafts = (
        validators.Draft202012Validator,
        validators.Draft201909Validator,
        validators.Draft7Validator,
        validators.Draft6Validator,
        validators.Draft4Validator,
        validators.Draft3Validator,
    )
    named = str(schema.get("$schema", "")).rstrip("#")
    ids = {str(each.ID_OF(each.META_SCHEMA)).rstrip("#"): each for each in drafts}
    draft = ids.get(named, validators.Draft202012Validator)
    try:
        draft.check_schema(schema, format_checker=draft.FORMAT_CHECKER)
        resource = Resource[Any].from_contents(schema, default_specification=DRAFT202012)
        registry = Registry[Any]().with_resource(_ROOT, resource).crawl()
        resolver = registry.resolver(resource.id() or _ROOT)
        for ref in _references(schema):
            try:
                resolver.lookup(ref)
            except Unresolvable:
                return None, _outside(ref)
    except jsonschema.SchemaError as error:
        return None, (
            f"response_schema is not a JSON Schema: {error.json_path}: "
            f"{str(error.message)[:_MOST_CHARACTERS]}"
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return None, f"response_schema is not a JSON Schema: {error}"
    return draft(schema, registry=registry), None


def _outside(ref: str) -> str:
    return (
        f"response_schema refers to {ref!r}, which is not inside of it, and nothing is fetched: "
        "put it under $defs and refer to it as #/$defs/name"
    )


def _references(schema: Any, *, root: bool = True) -> Iterator[str]:
    """The references that are relative to the whole schema."""
    if isinstance(schema, list):
        for item in cast("list[Any]", schema):
            yield from _references(item, root=False)
    elif isinstance(schema, dict):
        members = cast("dict[str, Any]", schema)
        if not root and isinstance(members.get("$id"), str):
            return
        for name, value in members.items():
            if name == "$ref" and isinstance(value, str):
                yield value
            elif name not in {"const", "enum", "default", "examples"}:
                yield from _references(value, root=False)
