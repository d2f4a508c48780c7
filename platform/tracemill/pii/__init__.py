"""Finds what identifies a person or opens a door: e-mail, phone, IBAN, card, IP, keys, passwords.

One table of rules: a cheap needle, a pattern of bounded reach, a check of the sums that such
numbers carry. Every pattern takes linear time, and what was redacted once stays as it is.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from tracemill.pii.rules import GAP, KINDS, RULES, Rule

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
    for needed, rules in _NEEDLED:
        if needed <= marks:
            for order, rule in rules:
                if numbers or not rule.digits:
                    found += _needled(rule, order, text, lower)
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
    """In small letters, each at its place."""
    if not text.isascii():
        text = text.translate(_NOT_LATIN)
    return text.lower()


def _numbers(text: str) -> list[int]:
    """Where groups of digits begin, of which there are enough close together for a number."""
    return [
        group.start()
        for run in _MANY_DIGITS.finditer(text)
        for group in _GROUP.finditer(text, *run.span())
    ]


def _needled(rule: Rule, order: int, text: str, lower: str) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    for root in rule.roots:
        if root in lower:
            break
    else:
        return found
    if rule.gate is not None and rule.gate.search(text) is None:
        return found
    for needle in rule.needles:
        if needle in lower:
            found += _places(rule, order, text, _near(rule, text, lower, needle))
    return found


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


# The one capital that becomes two characters, and a sign that becomes the letter k.
_NOT_LATIN = {0x130: "?", 0x212A: "?"}
_GROUP = re.compile(r"[0-9]+")
_LETTERED = re.compile(r"(?<=[A-Za-z])[0-9]{2}")
_MANY_DIGITS = re.compile(
    rf"[0-9](?:{GAP}[0-9]){{5,}}|[0-9]{{1,3}}\.[0-9]{{1,3}}\.[0-9]{{1,3}}\.[0-9]"
)
_MARKS = "-_.@:="
# One character is found far sooner than a word: where it is missing, its rules need no look.
_ALL_MARKS = [frozenset(m for m in _MARKS if all(m in n for n in r.needles)) for r in RULES]
_NEEDLED = tuple(
    (
        marks,
        tuple((i, rule) for i, rule in enumerate(RULES) if rule.needles and _ALL_MARKS[i] == marks),
    )
    for marks in dict.fromkeys(m for m, rule in zip(_ALL_MARKS, RULES, strict=True) if rule.needles)
)
_NUMBERED = tuple((i, rule) for i, rule in enumerate(RULES) if not rule.needles)
