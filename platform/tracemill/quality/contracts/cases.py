"""What is sent: a value that is right, then the same with one thing changed to what breaks programs.

Each case knows by its schema whether it has to be taken or refused.
"""

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

from tracemill.quality.contracts.shapes import Shape

LONG = 100_000
"""Characters of a very long text."""
MANY = 10_000
"""Items of a very long list."""
DEEP = 500
"""Levels of deep nesting."""
_MOST_PLACES = 40
_MISSING = object()
_TEXTS = {
    "blanks": " \t\n",
    "unicode": "Grüße 你好 🧑‍🚀 Ω≈ç√",
    "a NUL": "a\x00b",
    "right to left": "\u202eabc \u05e9\u05dc\u05d5\u05dd",
    "combining marks": "e" + "\u0301" * 50,
    "half of a surrogate pair": "\ud800",
    "markup and quotes": "'\"`;--<script>{{7*7}}${x}%s\\",
}
_NUMBERS = (0, -1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**40, 1.5, 1e308, -0.0)


class Raw(NamedTuple):
    """A body that is sent as it is, for what is not JSON."""

    body: bytes


class Case(NamedTuple):
    """Something to send."""

    name: str
    """Where it differs from a right value, and how."""
    sent: Any
    """A JSON value, or `Raw`."""
    valid: bool | None
    """Whether it has to be taken; None where either is right."""


def edge_cases(shape: Shape, right: Sequence[Any]) -> list[Case]:
    """The edge cases of values that are right, each case once.

    Empty, null, very long, missing, extra, of a wrong type, unicode, deep, numbers at limits, and
    bodies that are no JSON. What sizes a schema does not limit, the other side may.
    """
    found: dict[str, Case] = {}
    for number, value in enumerate(right):
        suffix = f" (example {number + 1})" if number else ""
        for name, sent, open_too in _changed(value, shape.schema):
            valid = shape.verdict(sent)
            case = Case(name + suffix, sent, None if open_too and valid else valid)
            found.setdefault(_key(sent), case)
    for name, body, valid in _bodies(right[0] if right else None):
        found.setdefault(repr(body), Case(name, Raw(body), valid))
    return list(found.values())


def _changed(value: Any, schema: Any) -> Iterator[tuple[str, Any, bool]]:
    """Name, value, and whether it may be refused though the schema allows it."""
    yield "as it should be", value, False
    whole: dict[str, Any] = {"null": None, "empty object": {}, "empty list": [], "text": "text"}
    for name, other in whole.items():
        yield f"$: {name}", other, False
    yield "$: deeply nested", _nested(DEEP), True
    if isinstance(value, dict):
        yield "$: an extra field", {**value, "unexpected_field": "x"}, False
    for path in _places(value):
        at = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
        before = _at(value, path)
        for name, other, open_too in _replacements(before, _subschema(schema, schema, path)):
            yield f"{at}: {name}", _with(value, path, other), open_too


def _replacements(value: Any, schema: dict[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    yield "missing", _MISSING, False
    yield "null", None, False
    for name, wrong in (("text", "not it"), ("a number", 12345), ("true", True)):
        if type(wrong) is not type(value):
            yield f"{name} instead", wrong, False
    yield (
        ("a list instead", [value], False)
        if not isinstance(value, list)
        else (
            "an object instead",
            {"0": 1},
            False,
        )
    )
    if isinstance(value, str):
        yield "empty", "", False
        yield "very long", "x" * LONG, True
        for name, text in _TEXTS.items():
            # Half a pair is no character: JSON can say it, and few can store it.
            yield name, text, text == "\ud800"
        yield from (("at a limit", text, False) for text in _lengths(schema))
    if isinstance(value, int | float) and not isinstance(value, bool):
        for number in (*_NUMBERS, *_limits(schema)):
            yield str(number) if abs(number) < 10**9 else f"{number:.3g}", number, False
        yield "a number in quotes", str(value), False
    if isinstance(value, list):
        yield "empty", [], False
        items = cast("list[Any]", value)
        if items:
            yield "very long", items[:1] * MANY, True
            yield "a null inside", [*items, None], False
    if isinstance(value, dict):
        yield "empty", {}, False


def _lengths(schema: dict[str, Any]) -> Iterator[str]:
    for name, step in (("minLength", -1), ("maxLength", 1)):
        limit = schema.get(name)
        if isinstance(limit, int) and limit <= LONG:
            yield "x" * limit
            yield "x" * max(limit + step, 0)


def _limits(schema: dict[str, Any]) -> Iterator[float]:
    for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        limit = schema.get(name)
        if isinstance(limit, int | float):
            yield from (limit - 1, limit, limit + 1)


def _bodies(right: Any) -> Iterator[tuple[str, bytes, bool | None]]:
    """Bodies that are no JSON, or that JSON leaves open."""
    text = json.dumps(right)
    yield "an empty body", b"", False
    yield "a body that is cut", text.encode()[:-1] or b"{", False
    yield "a body that is no JSON", b"this is not JSON", False
    yield "a body that is no UTF-8", b'{"\xff\xfe": "\xc3("}', False
    yield "NaN, which JSON does not know", b'{"value": NaN}', None
    yield "a field twice", b'{"value": 1, "value": 2}', None


def _nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": value}
    return value


def _places(value: Any) -> list[tuple[str | int, ...]]:
    """The paths inside a value, those near the root first."""
    found: list[tuple[str | int, ...]] = [()]
    for path in found:
        inside = _at(value, path)
        steps: Any = ()
        if isinstance(inside, dict):
            steps = cast("dict[str, Any]", inside)
        elif isinstance(inside, list):
            steps = range(min(len(cast("list[Any]", inside)), 1))
        found += [(*path, step) for step in steps][: _MOST_PLACES + 1 - len(found)]
    return found[1:] or [()]


def _at(value: Any, path: Sequence[str | int]) -> Any:
    for step in path:
        value = value[step]
    return value


def _with(value: Any, path: Sequence[str | int], other: Any) -> Any:
    if not path:
        return None if other is _MISSING else other
    changed = copy.deepcopy(value)
    parent = _at(changed, path[:-1])
    if other is _MISSING:
        del parent[path[-1]]
    else:
        parent[path[-1]] = other
    return changed


def _subschema(root: Any, schema: Any, path: Sequence[str | int]) -> dict[str, Any]:
    """What the schema says of a place, where that is said plainly; else nothing."""
    here = _resolved(root, schema)
    for step in path:
        inside: Any = here.get("properties") if isinstance(step, str) else here.get("items")
        if isinstance(step, str) and isinstance(inside, dict):
            inside = cast("dict[str, Any]", inside).get(step)
        here = _resolved(root, inside)
    return here


def _resolved(root: Any, schema: Any) -> dict[str, Any]:
    """Behind its references, and the first of its alternatives that is not null."""
    for _ in range(20):
        if not isinstance(schema, dict):
            return {}
        here = cast("dict[str, Any]", schema)
        branches: list[Any] = here.get("anyOf") or here.get("oneOf") or here.get("allOf") or []
        if str(here.get("$ref", "")).startswith("#/"):
            schema = pointed(root, here["$ref"])
        elif branches:
            schema = next((each for each in branches if each != {"type": "null"}), None)
        else:
            return here
    return {}


def pointed(root: Any, ref: str) -> Any:
    """What a reference within a schema or a document points to; None for nothing."""
    for step in ref.removeprefix("#/").split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        root = cast("dict[str, Any]", root).get(name) if isinstance(root, dict) else None
    return root


def _key(sent: Any) -> str:
    return json.dumps(sent)
