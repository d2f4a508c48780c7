"""What may be said of one call besides its request, and what is told to who says it wrong."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, cast, get_args
from uuid import UUID

from tracemill.errors import UsageError
from tracemill.llm.guard import Guard
from tracemill.messages import Request

CachePolicy = Literal["off", "read", "write", "both"]
_NOT_IN_LABELS = re.compile("[\\x00-\\x1f\\ud800-\\udfff]")


class Options(TypedDict, total=False):
    """What may be said of one call."""

    fallback: Sequence[str]
    """Models to ask in turn where the request's own has no answer."""
    cache: CachePolicy
    """Whether the response cache may answer, and whether it keeps the answer; `off` by default."""
    cache_ttl_s: float
    """For how long it is kept; a day by default."""
    timeout_s: float
    """How long the provider may be silent."""
    guard: Guard | None
    """Instead of the client's; None for none."""
    call_id: str
    """The call's id, a UUIDv7 of your own; an id can be used once."""
    actor: str | None
    correlation_id: str | None
    causation_id: str | None
    trace_id: str | None


def check(options: Options) -> None:
    """Raises `UsageError`, which names the option."""
    if unknown := options.keys() - _FORMS.keys():
        raise UsageError(
            f"a call has no option {', '.join(sorted(unknown))}: it has {', '.join(_FORMS)}"
        )
    for name, value in options.items():
        form = _FORMS[name]
        if not form.fits(value):
            raise UsageError(f"the option {name} is {form.what}, not {repr(value)[:60]}")


def not_json(request: Request) -> str | None:
    """What is wrong with the schemas of a request, where they are not JSON."""
    schemas = [(f"tools.{tool.name}", tool.parameters) for tool in request.tools]
    if request.response_schema is not None:
        schemas.append(("response_schema", request.response_schema))
    for where, schema in schemas:
        try:
            json.dumps(schema, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            return (
                f"{where}: this is not JSON ({error}): build it of dicts, lists, strings, "
                "numbers, booleans and None"
            )
    return None


class _Form(NamedTuple):
    what: str
    fits: Callable[[Any], bool]


def _seconds(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 < value <= 10**8


def _names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(each, str) for each in cast("Sequence[object]", value)
    )


def _label(value: Any) -> bool:
    return value is None or (
        isinstance(value, str) and len(value) <= 200 and not _NOT_IN_LABELS.search(value)
    )


def _policy(value: Any) -> bool:
    return isinstance(value, str) and value in get_args(CachePolicy)


def _guard(value: Any) -> bool:
    return value is None or isinstance(value, Guard)


def _id(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False


_TEXT = _Form("at most 200 characters without control characters", _label)
_SECONDS = _Form("a number of seconds above 0", _seconds)
_FORMS: Mapping[str, _Form] = {
    "fallback": _Form("a list of names of models", _names),
    "cache": _Form("off, read, write or both", _policy),
    "cache_ttl_s": _SECONDS,
    "timeout_s": _SECONDS,
    "guard": _Form("a Guard or None", _guard),
    "call_id": _Form("a UUID, as of `new_id()`", _id),
    "actor": _TEXT,
    "correlation_id": _TEXT,
    "causation_id": _TEXT,
    "trace_id": _TEXT,
}
