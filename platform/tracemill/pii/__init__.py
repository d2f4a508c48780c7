"""Finds what identifies a person or opens a door: e-mail, phone, IBAN, card, IP, keys, passwords.

One table of rules: a cheap needle, a pattern of bounded reach, a check of the sums that such
numbers carry. Every pattern takes linear time, and what was redacted once stays as it is.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from tracemill.pii.rules import KINDS, RULES, Rule

__all__ = ["KINDS", "RULES", "Found", "Redacted", "RedactedValue"]
__all__ += ["find", "redact", "redact_value", "replaced"]


class Found(NamedTuple):
    """A place in a text."""

    kind: str
    """One of `KINDS`."""
    start: int
    end: int
    """Behind the last character."""


class Redacted(NamedTuple):
    """A text without what was found in it."""

    text: str
    counts: Mapping[str, int]
    """How often each kind was found."""


class RedactedValue(NamedTuple):
    """A JSON value without what was found in it."""

    value: Any
    counts: Mapping[str, int]
    """How often each kind was found."""


def find(text: str) -> tuple[Found, ...]:
    """Everything found in a text, in order; places that overlap are one."""
    found: list[tuple[int, int, int]] = []
    lower = _lower(text)
    digits = any(map(text.__contains__, "0123456789"))
    numbers = _numbers(text) if digits else []
    marks = {mark for mark in _MARKS if mark in lower}
    for order, rule, needed in _NEEDLED:
        if needed <= marks and (numbers or not rule.digits) and _may_hold(rule, text, lower):
            for needle in rule.needles:
                if needle in lower:
                    found += _places(rule, order, text, _near(rule, text, lower, needle))
    if digits:
        lettered = [group.end() - 2 for group in _LETTERED.finditer(text)]
        for order, rule in _NUMBERED:
            groups = lettered if rule.lettered else numbers
            starts = (at - ahead for at in groups for ahead in rule.ahead)
            found += _places(rule, order, text, starts)
    return _disjoint(found) if found else ()


def redact(text: str) -> Redacted:
    """The text with a placeholder such as `[email]` for everything that `find` finds.

    Redacting again changes nothing.
    """
    found = find(text)
    if not found:
        return Redacted(text, {})
    new = replaced(text, ((place, f"[{place.kind}]") for place in found))
    return Redacted(new, Counter(place.kind for place in found))


def replaced(text: str, places: "Iterator[tuple[Found, str]]") -> str:
    """The text with another in each of the places, which are in order and apart."""
    pieces: list[str] = []
    done = 0
    for (_, start, end), new in places:
        pieces += [text[done:start], new]
        done = end
    return "".join([*pieces, text[done:]])


def redact_value(value: Any) -> RedactedValue:
    """`redact` for every text inside a JSON value, names included; a number that is a card's or
    an account's becomes the placeholder."""
    counts: Counter[str] = Counter()
    return RedactedValue(_redacted(value, counts), dict(counts))


def _redacted(value: Any, counts: Counter[str]) -> Any:
    match value:
        case str():
            text, more = redact(value)
            counts.update(more)
            return text
        case dict():
            members = cast("dict[str, Any]", value).items()
            return {_redacted(name, counts): _redacted(item, counts) for name, item in members}
        case list() | tuple():
            return [_redacted(item, counts) for item in cast("list[Any]", value)]
        case int() if abs(value) >= 10**11:
            text, more = redact(str(value))
            counts.update(more)
            return text if more else value
        case _:
            return value


def _lower(text: str) -> str:
    """In small letters, each at its place: the one capital that becomes two characters stays."""
    lower = text.lower()
    return lower if len(lower) == len(text) else text.replace("\u0130", "i").lower()


def _numbers(text: str) -> list[int]:
    """Where groups of digits begin, of which there are enough close together for a number."""
    return [
        group.start()
        for run in _MANY_DIGITS.finditer(text)
        for group in _GROUP.finditer(text, *run.span())
    ]


def _may_hold(rule: Rule, text: str, lower: str) -> bool:
    if rule.gate is not None:
        return rule.gate.search(text) is not None
    return not rule.roots or any(map(lower.__contains__, rule.roots))


def _near(rule: Rule, text: str, lower: str, needle: str) -> Iterator[int]:
    """Where a match may begin: at each needle, or before it by what may stand there."""
    at = lower.find(needle)
    done = 0
    while at >= 0:
        start = at
        while start > done and at - start < rule.reach and text[start - 1] in rule.left:
            start -= 1
        yield from range(start, at + 1) if rule.reach else (at,)
        done = at + 1
        at = lower.find(needle, done)


def _places(
    rule: Rule, order: int, text: str, starts: Iterator[int]
) -> Iterator[tuple[int, int, int]]:
    match, holds = rule.pattern.match, rule.holds
    done = 0
    for at in starts:
        if at >= done and (caught := match(text, at)):
            start, end = caught.span(rule.group)
            if holds is None or holds(text[start:end]):
                yield start, end, order
                done = end


def _disjoint(places: list[tuple[int, int, int]]) -> tuple[Found, ...]:
    """Places in order, overlapping ones joined under the rule that stands first in the table."""
    joined: list[tuple[int, int, int]] = []
    for start, end, order in sorted(places):
        if joined and start < joined[-1][1]:
            first, reach, before = joined.pop()
            joined.append((first, max(reach, end), min(before, order)))
        else:
            joined.append((start, end, order))
    return tuple(Found(RULES[order].kind, start, end) for start, end, order in joined)


_GROUP = re.compile(r"[0-9]+")
_LETTERED = re.compile(r"(?<=[A-Za-z])[0-9]{2}")
_MANY_DIGITS = re.compile(
    r"[0-9](?:[^\w\n]{0,3}[0-9]){5,}|[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"
)
_MARKS = "-_.@:="
# One character is found far sooner than a word: where it is missing, its rules need no look.
_NEEDLED = tuple(
    (order, rule, frozenset(m for m in _MARKS if all(m in needle for needle in rule.needles)))
    for order, rule in enumerate(RULES)
    if rule.needles
)
_NUMBERED = tuple((order, rule) for order, rule in enumerate(RULES) if not rule.needles)
