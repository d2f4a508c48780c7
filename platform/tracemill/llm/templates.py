"""Jinja templates, in a sandbox: values in, text out, and nothing else.

A template may write values, choose, loop over what it was given, and filter. It may not call,
include, assign or multiply, so that what it costs follows from its length and its values; Jinja's
own sandbox stands behind that and refuses attributes of Python's.
"""

import json
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, cast

from tracemill.errors import UsageError

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_CHARACTERS = 8_000_000
"""A rendered text may have no more: half of what an event can hold."""

_REFUSED = {
    "Call": "calls",
    "CallBlock": "calls",
    "Macro": "macros",
    "Include": "includes",
    "Import": "imports",
    "FromImport": "imports",
    "Extends": "inheritance",
    "Block": "inheritance",
    "Assign": "assignments",
    "AssignBlock": "assignments",
    "With": "assignments",
    "Mul": "products",
    "Pow": "powers",
    "Mod": "remainders",
}
_DEEPEST = 3
_LARGEST = 10_000
_FILTERS = {
    "abs", "capitalize", "default", "dictsort", "first", "groupby", "indent",
    "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject",
    "rejectattr", "replace", "reverse", "round", "select", "selectattr", "shield",
    "sort", "string", "sum", "title", "tojson", "trim", "truncate", "unique", "upper",
    "wordcount", "wordwrap",
}  # fmt: skip
"""Those whose result is about as long as their input, and the same every time."""


def variables(template: str, where: str) -> frozenset[str]:
    """The variables that a template needs.

    Raises `UsageError` for a template that does not parse or does what it may not; `where` names
    it in the message.
    """
    try:
        return _variables(template)
    except UsageError as error:
        raise UsageError(f"{where}{error}") from error.__cause__


def render(template: str, values: Mapping[str, Any], where: str) -> str:
    """The text of a template with these values; each variable must have one.

    Raises `UsageError` when a value does not have what the template asks of it, or the text grows
    beyond `MAX_CHARACTERS`.
    """
    from jinja2 import TemplateError

    pieces: list[str] = []
    length = 0
    try:
        for piece in _compiled(template).generate(values):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_CHARACTERS:
                raise UsageError(f"{where}: the text grows beyond {MAX_CHARACTERS:,} characters")
    except TemplateError as error:
        raise UsageError(f"{where}: {_sentence(error)}") from error
    except (
        ArithmeticError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise UsageError(f"{where} does not fit its values: {_sentence(error)}") from error
    return "".join(pieces)


def is_a(value: object, kind: str) -> bool:
    """Whether a value is of this JSON type, and JSON all through."""
    match kind:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool) and _plain(value)
        case "array":
            return isinstance(value, (list, tuple)) and _plain(cast("object", value))
        case _:
            return isinstance(value, dict) and _plain(cast("object", value))


def _plain(value: object) -> bool:
    """Whether a value can be written as JSON: nothing in it is an object of Python's."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


@lru_cache(maxsize=256)
def _variables(template: str) -> frozenset[str]:
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.meta import find_undeclared_variables

    try:
        tree = _environment().parse(template)
    except TemplateSyntaxError as error:
        raise UsageError(
            f", line {error.lineno}: {_sentence(error)}; "
            "braces that are meant literally stand between {% raw %} and {% endraw %}"
        ) from error
    for node in tree.find_all(nodes.Node):
        _check(node)
    if _depth(tree) > _DEEPEST:
        raise UsageError(f": loops may stand {_DEEPEST} deep in each other: give it flatter values")
    return frozenset(find_undeclared_variables(tree))


def _check(node: Any) -> None:
    kind = type(node).__name__
    if kind in _REFUSED:
        raise UsageError(
            f", line {node.lineno}: a template has no {_REFUSED[kind]}: "
            "compute such a value in Python and give it as a variable"
        )
    if kind == "Filter" and node.name not in _FILTERS:
        raise UsageError(
            f", line {node.lineno}: there is no filter {node.name!r}: "
            f"there are {', '.join(sorted(_FILTERS))}"
        )
    if kind == "Const" and isinstance(node.value, (int, float)) and abs(node.value) > _LARGEST:
        raise UsageError(f", line {node.lineno}: {node.value} is more than {_LARGEST:,}")
    if kind == "Name" and node.name == "self":
        raise UsageError(f", line {node.lineno}: `self` is no variable: choose another name")
    if kind == "Getattr" and node.attr.startswith("_"):
        raise UsageError(
            f", line {node.lineno}: access to the attribute {node.attr!r} is refused: "
            "a template sees values, not Python"
        )


def _depth(node: Any) -> int:
    own = type(node).__name__ == "For"
    return own + max((_depth(child) for child in node.iter_child_nodes()), default=0)


@lru_cache(maxsize=256)
def _compiled(template: str) -> Any:
    _variables(template)
    return _environment().from_string(template)


@cache
def _environment() -> "ImmutableSandboxedEnvironment":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_written,
        cache_size=0,
    )
    # What is left in a template's reach is what it was given.
    environment.globals = {}
    filters = cast("dict[str, Any]", environment.filters)  # pyright: ignore[reportUnknownMemberType]
    filters.update(tojson=_json, shield=shield)
    # Filters such as `map` take the names of others.
    for name in filters.keys() - _FILTERS:
        del filters[name]
    return environment


def _written(value: Any) -> Any:
    """A value as it stands in a text: what is not text or undefined is JSON, not Python."""
    return _json(value) if isinstance(value, (dict, list, tuple, bool, type(None))) else value


def shield(text: str, *tags: str) -> str:
    """A text in which these tags are none, so that it cannot end the element it stands in:
    `</text>` becomes `</\\text>`. As in `passages.py`."""
    return re.sub(rf"(?i)<(/?)(\\*)({'|'.join(map(re.escape, tags))})", r"<\1\\\2\3", str(text))


def _json(value: Any, indent: int | None = None) -> str:
    # Jinja's own writes < as \u003c, for pages; models read it as it is.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
