"""Which field of a row means what: the names that our columns go by, and how a value is taken.

Both ways of reading use it, the one by columns and the one by rows, so that they cannot disagree.
"""

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

from tracemill.corpus.recipe import Source
from tracemill.errors import InputError

NAMES: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation"),
    "tools": ("tools", "functions"),
    "system": ("system",),
    "history": ("history",),
    "user_query": ("user_query", "prompt", "instruction", "question"),
    "assistant_response": (
        *("assistant_response", "completion", "output", "answer", "response", "chosen"),
    ),
    "context": ("context", "input"),
    "source": ("source",),
    "timestamp": ("timestamp", "created_at"),
    "conversation_id": ("conversation_id",),
    "user_id": ("user_id",),
    "label": ("label",),
    "rating": ("rating",),
    "licence": ("licence", "license"),
}
"""Column -> the fields it goes by; the first that is there and not null wins. Others are ignored."""

LAYOUTS: dict[str, dict[str, tuple[str, ...]]] = {
    "auto": {},
    "chat": {"messages": ("messages",)},
    "sharegpt": {"messages": ("conversations", "conversation")},
    "alpaca": {
        "messages": (),
        "user_query": ("instruction",),
        "assistant_response": ("output",),
        "context": ("input",),
    },
    "pairs": {"messages": ()},
}
"""Format of a recipe -> the names that it alone knows."""

IDS = ("source", "conversation_id", "user_id", "label", "licence")
"""Columns of text where a file may have numbers."""
BLANKS = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680" + (
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""What `str.strip` removes; other libraries draw the line elsewhere."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def names(recipe: Source) -> dict[str, tuple[str, ...]]:
    """Column -> the paths to look at, in order, with what the recipe says."""
    found = NAMES | LAYOUTS[recipe.format]
    return found | {column: (path,) for column, path in recipe.columns.items()}


def is_alpaca(recipe: Source) -> bool:
    """Whether the context follows the question in every row, not only in those that look so."""
    return recipe.format == "alpaca"


def may_be_alpaca(recipe: Source) -> bool:
    """Whether a row with `instruction` and `output` is in Alpaca's layout."""
    return recipe.format == "auto" and not {"user_query", "assistant_response"} & set(
        recipe.columns
    )


def reach(row: dict[str, Any], path: str) -> Any:
    """What lies at a path: a field of that very name, else `a.b` in objects and `a.0` in lists."""
    if (value := row.get(path)) is not None or "." not in path:
        return value
    value: Any = row
    for step in path.split("."):
        if isinstance(value, dict):
            value = cast("dict[str, Any]", value).get(step)  # pyright: ignore[reportUnnecessaryCast]
        elif isinstance(value, list) and step.isdecimal() and step.isascii():
            items = cast("list[Any]", value)
            value = items[int(step)] if len(step) < 10 and int(step) < len(items) else None
        else:
            return None
    return value


def first(row: dict[str, Any], paths: tuple[str, ...]) -> Any:
    """The first value at one of these paths that is not null."""
    for path in paths:
        if (value := reach(row, path)) is not None:
            return value
    return None


def text(value: Any, what: str, *, may_be_blank: bool = False) -> str:
    """Text that can be stored. Raises InputError, which says what it is instead."""
    if not isinstance(value, str):
        raise InputError(f"{what} is {kind(value)}, not text")
    if not value.isascii():
        valid(value, what)
    if not may_be_blank and not value.strip():
        raise InputError(f"{what} is empty")
    return value


def valid(value: str, what: str) -> str:
    """Text without lone surrogates, which UTF-8 cannot hold."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"{what} is not valid Unicode: not UTF-8, or half of a surrogate pair"
        ) from None
    return value


def kind(value: Any) -> str:
    """What a value is, in JSON's words."""
    known = {bool: "true or false", int: "a number", float: "a number", str: "text"}
    known |= {list: "a list", dict: "an object", type(None): "null"}
    each = cast("type[Any]", type(value))
    return known.get(each, each.__name__)


def identifier(value: Any, column: str) -> str | None:
    """The text of a name, number or date; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{column} is {kind(value)}, not text or a whole number")
    return valid(str(value), column)


def rating(value: Any) -> float | None:
    """A number, or a number as text; None where there is none, and for NaN."""
    if value is None or value == "":
        return None
    try:
        number = math.inf if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if math.isinf(number):
        raise InputError(f"rating {str(value)[:40]!r} is not a number")
    return None if math.isnan(number) else number


def timestamp(value: Any) -> datetime | None:
    """ISO 8601, Unix seconds or a date, in UTC; without a zone it is UTC already."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return EPOCH + timedelta(microseconds=round(float(value) * 1e6))
        when = value if isinstance(value, date) else datetime.fromisoformat(cast(str, value))
        if not isinstance(when, datetime):
            when = datetime(when.year, when.month, when.day, tzinfo=UTC)
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        reason = f"timestamp {str(value)[:40]!r} is neither ISO 8601 nor Unix seconds"
        raise InputError(reason) from None
