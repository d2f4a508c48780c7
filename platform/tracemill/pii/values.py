"""JSON with every text in it changed: as a value, and as a text that stays JSON."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from tracemill.pii.redaction import Change, Redacted, redact


class RedactedValue(NamedTuple):
    """A JSON value without what was found in it."""

    value: Any
    counts: Mapping[str, int]
    """How often each kind was found."""


def redact_value(value: Any) -> RedactedValue:
    """`redact` for every text inside a JSON value, names included; a number that is a card's or
    an account's becomes the placeholder."""
    counts: Counter[str] = Counter()
    return RedactedValue(_changed(value, redact, counts), dict(counts))


def redact_json(text: str, change: Change = redact) -> Redacted:
    """As `change` for a text that is JSON, after which it still is; texts in it that are JSON too.

    What is found only with the name of its member beside it, as a password is, goes as well.
    Any other text is changed as it stands.
    """
    counts: Counter[str] = Counter()
    try:
        value = json.loads(text)
        new = _changed(value, lambda inner: _nested(inner, change), counts)
    except (ValueError, RecursionError):
        return change(text)
    out = text if new == value else _dumped(new)
    whole, more = change(out)
    return Redacted(_still_json(out, whole) if more else out, counts + Counter(more))


def _nested(text: str, change: Change) -> Redacted:
    return redact_json(text, change) if text[:1] in {"{", "["} else change(text)


def _changed(value: Any, change: Change, counts: Counter[str]) -> Any:
    match value:
        case str():
            text, more = change(value)
            counts.update(more)
            return text
        case dict():
            members = cast("dict[str, Any]", value).items()
            return {_changed(k, change, counts): _changed(v, change, counts) for k, v in members}
        case list() | tuple():
            return [_changed(item, change, counts) for item in cast("list[Any]", value)]
        case int() if abs(value) >= 10**11:
            text, more = change(str(value))
            counts.update(more)
            return text if more else value
        case _:
            return value


def _dumped(value: Any) -> str:
    """JSON as people read it; half a pair of surrogates, which UTF-8 has not, stays escaped."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def _still_json(before: str, after: str) -> str:
    """What the change made of JSON, mended where a bare number became something else."""
    if after == before:
        return before
    for text in (after, _BARE.sub(r'\1"\2"', after)):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            continue
        return text
    return _dumped(after)


_BARE = re.compile(r"([:\[,]\s*)(\[[a-z_]+\]|\+?[0-9][0-9 -]*(?![0-9.eE]))(?=\s*[,}\]])")
