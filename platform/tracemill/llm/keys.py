"""Keys of providers: read when a call is made, and kept out of everything that is written or shown.

A key is a `SecretStr` until the header is written, so that no repr and no debugger shows it. What
comes back may repeat it, whole or cut: `without` and `without_in` take it out again.
"""

import os
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar, cast

from pydantic import SecretStr

from tracemill.errors import CallFailed
from tracemill.events import Happened
from tracemill.llm import providers
from tracemill.llm.providers import Provider

_PIECE = 8
"""So many letters of a key in a row are a piece of it; fewer may be a word."""
_SHORTEST = 6
"""What is shorter, such as `x`, guards nothing and may be part of any word."""
_PLACE = "[key]"
_PLAIN = frozenset({bool, int, float, datetime, Decimal})
E_ = TypeVar("E_", bound=Happened)


def of(name: str) -> SecretStr | None:
    """The key that a call to this model would send, if there is one; never raises."""
    provider = providers.PROVIDERS.get(name.partition("/")[0])
    key = os.environ.get(provider.key_from, "").strip() if provider and provider.key_from else ""
    return SecretStr(key) if key else None


def needed(prefix: str, provider: Provider) -> SecretStr | None:
    """From the environment, at each call: a key that is changed there holds at once.

    Raises `CallFailed` (`missing_key`).
    """
    secret = of(f"{prefix}/")
    key = secret.get_secret_value() if secret else ""
    if key and not (key.isascii() and key.isprintable()):
        raise CallFailed(
            "missing_key",
            f"{provider.key_from} holds characters that no key has: set it again, without quotes "
            "or line breaks",
        )
    if not key and provider.key_needed:
        raise CallFailed(
            "missing_key",
            f"{prefix} needs a key: set {provider.key_from} in the environment, "
            "or use a model of local/, which needs none",
        )
    return secret


def without(text: str, secret: SecretStr | None) -> str:
    """The text without the key, and without pieces of it: messages are cut anywhere."""
    key = secret.get_secret_value() if secret else ""
    if len(key) < _SHORTEST:
        return text
    text = text.replace(key, _PLACE)
    pieces = {key[at : at + _PIECE] for at in range(len(key) - _PIECE + 1)}
    kept: list[str] = []
    at = done = 0
    while at <= len(text) - _PIECE:
        if text[at : at + _PIECE] not in pieces:
            at += 1
            continue
        end = at + _PIECE
        while text[end - _PIECE + 1 : end + 1] in pieces:
            end += 1
        kept += [text[done:at], _PLACE]
        at = done = end
    return "".join([*kept, text[done:]])


def without_in(event: E_, secret: SecretStr | None) -> E_:
    """The event without the key in any of its texts: a server may send it back anywhere."""
    key = secret.get_secret_value() if secret else ""
    if len(key) < _SHORTEST:
        return event
    if not _holds(event, key):
        return event
    return type(event).model_validate(_without(event.model_dump(), key))


def _holds(value: Any, key: str) -> bool:
    """Looked for where it lies: to write the event out for that takes ten times as long."""
    if isinstance(value, str):
        return key in value
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value)
        return _any_holds(members.keys(), key) or _any_holds(members.values(), key)
    if isinstance(value, list | tuple):
        return _any_holds(cast("list[Any]", value), key)
    # Not `isinstance(value, BaseModel)`, which asks pydantic in Python.
    fields = getattr(value, "__dict__", None)
    return key in str(value) if fields is None else _any_holds(fields.values(), key)


def _any_holds(values: Iterable[Any], key: str) -> bool:
    for value in values:
        if value is not None and type(value) not in _PLAIN and _holds(value, key):
            return True
    return False


def _without(value: Any, key: str) -> Any:
    match value:
        case str():
            return value.replace(key, _PLACE)
        case dict():
            members = cast("dict[Any, Any]", value).items()
            return {_without(name, key): _without(each, key) for name, each in members}
        case list() | tuple():
            return [_without(each, key) for each in cast("list[Any]", value)]
        case _:
            return value
