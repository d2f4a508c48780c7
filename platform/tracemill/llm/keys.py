"""Keys of providers: read when a call is made, and kept out of everything that is written or shown.

A key is a `SecretStr` until the header is written, so that no repr and no debugger shows it. What
comes back may repeat it, whole or cut: `without` and `without_in` take it out again.
"""

from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar, cast

from pydantic import SecretStr

from tracemill.errors import CallFailed
from tracemill.events import Happened
from tracemill.llm import keyring, providers
from tracemill.llm.providers import Provider

_PIECE = 8
"""So many letters of a key in a row are a piece of it; fewer may be a word."""
_SHORTEST = 6
"""What is shorter, such as `x`, guards nothing and may be part of any word."""
_PLACE = "[key]"
_PLAIN = frozenset({bool, int, float, datetime, Decimal})
E_ = TypeVar("E_", bound=Happened)


def of(name: str) -> SecretStr | None:
    """A key of the provider of this model, if there is one; never raises."""
    provider = providers.PROVIDERS.get(name.partition("/")[0])
    if not provider or not provider.key_from:
        return None
    with suppress(CallFailed):
        if found := keyring.keys_in(provider.key_from):
            return SecretStr(found[0])
    return None


def needed(prefix: str, provider: Provider) -> SecretStr | None:
    """The key for a call, read at each: what is changed there holds at once. Several take turns.

    Raises `CallFailed` (`missing_key`).
    """
    found = keyring.keys_in(provider.key_from) if provider.key_from else ()
    if not found:
        if not provider.key_needed:
            return None
        raise CallFailed(
            "missing_key",
            f"{prefix} needs a key: set {provider.key_from} in the environment, "
            "or use a model of local/, which needs none",
        )
    return _checked(provider, keyring.in_turn(provider.key_from, found))


def another(provider: Provider, tried: Collection[SecretStr]) -> SecretStr | None:
    """A key for the same call after others were refused or limited: one that does not rest. None:
    there is none. Raises as `needed`."""
    found = keyring.keys_in(provider.key_from) if provider.key_from else ()
    refused = {key.get_secret_value() for key in tried}
    left = keyring.ready(key for key in found if key not in refused)
    return _checked(provider, keyring.in_turn(provider.key_from, left)) if left else None


def _checked(provider: Provider, key: str) -> SecretStr:
    if not (key.isascii() and key.isprintable()):
        raise CallFailed(
            "missing_key",
            f"{provider.key_from} holds characters that no key has: set it again, without quotes "
            "or line breaks",
        )
    return SecretStr(key)


def refused(secret: SecretStr | None, error: CallFailed) -> None:
    """A call with this key failed: where the key is why, others of the provider go first."""
    if secret is not None and error.status is not None:
        keyring.refused(secret.get_secret_value(), error)


def without(text: str, secret: SecretStr | None) -> str:
    """The text without the key, without others of its provider, and without pieces of them: messages
    are cut anywhere."""
    for key in keyring.alike(secret.get_secret_value()) if secret else ():
        text = _without_one(text, key)
    return text


def _without_one(text: str, key: str) -> str:
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
    for key in keyring.alike(secret.get_secret_value()) if secret else ():
        if len(key) >= _SHORTEST and _holds(event, key):
            event = type(event).model_validate(_without(event.model_dump(), key))
    return event


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
