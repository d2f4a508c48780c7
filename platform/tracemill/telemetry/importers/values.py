"""Values of other tools' rows: names, times, scores, tags."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

from tracemill.errors import InputError
from tracemill.telemetry.conversation import as_text, parsed

Json = dict[str, Any]

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MAX_TAGS = 30
_MAX_TAG = 200
_WORDS = {
    **dict.fromkeys(("true", "yes", "correct", "good", "positive", "pass", "thumbs-up"), 1.0),
    **dict.fromkeys(("false", "no", "incorrect", "bad", "negative", "fail", "thumbs-down"), -1.0),
    "neutral": 0.0,
}


@cache
def snake(name: str) -> str:
    """`startTime` as `start_time`."""
    return _HUMP.sub("_", name).lower()


def when(value: Any, name: str = "its time") -> datetime:
    """A time, in UTC; one without a zone is UTC. Raises `InputError`."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().replace(" UTC", "+00:00"))
        except ValueError:
            raise InputError(f"{name} is no time: {value[:60]!r}") from None
    if not isinstance(value, datetime):
        raise InputError(f"{name} is missing" if value is None else f"{name} is no time: {value!r}")
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def optional_when(value: Any, name: str) -> datetime | None:
    """A time that may be missing. Raises `InputError`."""
    return when(value, name) if value else None


def object_of(value: Any) -> Json:
    """A JSON object, given as such or as its text; anything else is an empty one."""
    told = parsed(value)
    return cast(Json, told) if isinstance(told, dict) else {}


def list_of(value: Any) -> list[Any]:
    """A JSON list, given as such or as its text; anything else is an empty one."""
    told = parsed(value)
    return cast(list[Any], told) if isinstance(told, list) else []


def score(value: Any, word: Any = None, *, boolean: bool = False) -> float:
    """A score from -1 to 1: a number within that, or a word that says good or bad.

    A boolean's 0 is the worst. Raises `InputError`: it is neither.
    """
    known = _WORDS.get(str(word).strip().lower().replace("_", "-").replace(" ", "-"))
    if known is not None:
        return known
    if value is None or value == "":
        raise InputError(f"it has no score, and {str(word)[:60]!r} says neither good nor bad")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"its score is no number: {str(value)[:60]!r}") from None
    if boolean:
        return 1.0 if number else -1.0
    if not -1 <= number <= 1:
        raise InputError(
            f"its score is {number:g}, and nothing says on which scale: -1 to 1 is taken"
        )
    return number


def tags(metadata: Mapping[str, Any], without: frozenset[str] = frozenset()) -> dict[str, str]:
    """Short single values of a tool's metadata, as tags."""
    made: dict[str, str] = {}
    for name, value in metadata.items():
        if (
            isinstance(value, str | int | float | bool)
            and name not in without
            and len(made) < _MAX_TAGS
        ):
            text = as_text(value)
            if text and len(text) <= _MAX_TAG:
                made[name] = text
    return made
