"""Where in a text something stands that a rule describes.

Words are looked for before patterns; numbers are tried only where a group of digits begins.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from tracemill.pii.rules import GAP, LETTERS, RULES, Rule

Span = tuple[int, int, int]
"""Start, end and the place of the rule in the table."""
Root = tuple[str, tuple[tuple[int, tuple[str, ...]], ...]]
"""A word, and for each rule by its place the needles in which the word is."""


class Found(NamedTuple):
    """A place in a text."""

    kind: str
    """One of `KINDS`."""
    start: int
    end: int
    """Behind the last character."""


def find(text: str) -> tuple[Found, ...]:
    """Everything found in a text, in order; places that overlap are one."""
    lower = _lower(text)
    some = _DIGIT.search(text)
    numbers = _numbers(text, some.start()) if some else []
    found = _worded(text, lower, bool(numbers))
    if some:
        found += _numbered(text, numbers)
        found += _lettered(text, some.start())
    return _disjoint(found) if found else ()


def _lower(text: str) -> str:
    """In small letters, each at its place."""
    if not text.isascii():
        text = text.translate(_NOT_LATIN)
    return text.lower()


def _numbers(text: str, begin: int) -> list[int]:
    """Where groups of digits begin, of which there are enough close together for a number."""
    return [
        group.start()
        for run in _MANY_DIGITS.finditer(text, begin)
        for group in _GROUP.finditer(text, *run.span())
    ]


def _numbered(text: str, numbers: list[int]) -> list[Span]:
    """What is found at groups of digits, or a little before them."""
    found: list[Span] = []
    done: dict[int, int] = {}
    for at in numbers:
        for ahead, rules in _NUMBERED:
            start = at - ahead
            if start >= 0:
                for order in rules.get(text[start], ()):
                    place = _place(order, text, start)
                    if place and start >= done.get(order, 0):
                        found.append(place)
                        done[order] = place[1]
    return found


def _lettered(text: str, begin: int) -> list[Span]:
    """What is found at a letter before two digits."""
    groups = [group.start() for group in _PAIR.finditer(text, begin)]
    after = [at for at in groups if at and text[at - 1] in LETTERS]
    return [
        place
        for order, ahead in (_LETTERED if after else ())
        for place in _places(order, text, (at - ahead for at in after if at >= ahead))
    ]


def _worded(text: str, lower: str, numbers: bool) -> list[Span]:
    """What is found where a word says so."""
    heard = [
        entries
        for mark, words in _WORDED
        if mark in lower
        for word, entries in words
        if word in lower
    ]
    found: list[Span] = []
    for order, needles in chain.from_iterable(heard):
        if numbers or not RULES[order].digits:
            found += _needled(order, needles, text, lower)
    return found


def _needled(order: int, needles: tuple[str, ...], text: str, lower: str) -> list[Span]:
    rule = RULES[order]
    found: list[Span] = []
    if rule.gate is not None and rule.gate.search(text) is None:
        return found
    for needle in needles:
        if needle in lower:
            found += _places(order, text, _near(rule, text, lower, needle))
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


def _places(order: int, text: str, starts: Iterable[int]) -> list[Span]:
    found: list[Span] = []
    done = 0
    for at in starts:
        if at >= done and (place := _place(order, text, at)):
            found.append(place)
            done = place[1]
    return found


def _place(order: int, text: str, at: int) -> Span | None:
    rule = RULES[order]
    if not (caught := rule.pattern.match(text, at)):
        return None
    start, end = caught.span(rule.group)
    return (start, end, order) if rule.holds is None or rule.holds(text[start:end]) else None


def _disjoint(places: list[Span]) -> tuple[Found, ...]:
    """Places in order, overlapping ones joined under the rule that stands first in the table."""
    joined: list[Span] = []
    for start, end, order in sorted(places):
        if joined and start < joined[-1][1]:
            first, reach, before = joined.pop()
            joined.append((first, max(reach, end), min(before, order)))
        else:
            joined.append((start, end, order))
    return tuple(Found(RULES[order].kind, start, end) for start, end, order in joined)


def _by_ahead() -> Iterator[tuple[int, dict[str, tuple[int, ...]]]]:
    """By how far before digits a match may begin: what with, and rules by their place."""
    numbered = [(i, rule) for i, rule in enumerate(RULES) if not rule.needles and not rule.lettered]
    for ahead in sorted({ahead for _, rule in numbered for ahead in rule.ahead}, reverse=True):
        rules: dict[str, list[int]] = {}
        for order, rule in numbered:
            if ahead in rule.ahead:
                for first in rule.first:
                    rules.setdefault(first, []).append(order)
        yield ahead, {first: tuple(orders) for first, orders in rules.items()}


def _by_mark() -> dict[str, list[Root]]:
    """By the rarest of their characters: all words, and the needles that hold them."""
    words: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
    for order, rule in enumerate(RULES):
        left = rule.needles
        for root in rule.roots:
            if needles := tuple(needle for needle in left if root in needle):
                words.setdefault(root, []).append((order, needles))
                left = tuple(needle for needle in left if root not in needle)
    marks: dict[str, list[Root]] = {}
    for word, entries in words.items():
        mark = min(word, key=_COMMON.find)
        marks.setdefault(mark, []).append((word, tuple(entries)))
    return marks


# The one capital that becomes two characters, and a sign that becomes the letter k.
_NOT_LATIN = {0x130: "?", 0x212A: "?"}
_DIGIT = re.compile("[0-9]")
_GROUP = re.compile("[0-9]+")
_PAIR = re.compile("[0-9]{2,}")
_MANY_DIGITS = re.compile(
    rf"[0-9](?:{GAP}[0-9]){{5,}}|[0-9]{{1,3}}\.[0-9]{{1,3}}\.[0-9]{{1,3}}\.[0-9]"
)
# One character is found far sooner than many words: where it is missing, they need no look.
_COMMON = "@=_:zqxjkv-bpygwfmucldrhsnio.ate"
_WORDED = tuple((mark, tuple(words)) for mark, words in _by_mark().items())
_NUMBERED = tuple(_by_ahead())
_LETTERED = tuple(
    (i, ahead) for i, rule in enumerate(RULES) if rule.lettered for ahead in rule.ahead
)
