"""Precision and recall on texts of which it is known what they hold, each half for itself."""

from collections import Counter

import pytest

from tests.pii.labelled import Labelled, labelled
from tracemill.pii import KINDS, find

HALVES = ("tuned", "held_out")


def overlapping(row: Labelled, start: int, end: int) -> bool:
    return any(s.kind != "no" and start < s.end and s.start < end for s in row.spans)


def rows(half: str) -> list[Labelled]:
    return [row for row in labelled() if row.half == half]


def test_the_set_is_large_and_holds_every_kind() -> None:
    spans = Counter(span.kind for row in labelled() for span in row.spans)
    assert set(spans) == {*KINDS, "no"}
    assert len(labelled()) >= 600
    assert spans.total() - spans["no"] >= 600
    assert spans["no"] >= 300


@pytest.mark.parametrize("half", HALVES)
def test_what_is_found_is_there(half: str) -> None:
    found = [(row, place) for row in rows(half) for place in find(row.text)]
    false = [
        (place.kind, row.text[place.start : place.end])
        for row, place in found
        if not overlapping(row, place.start, place.end)
    ]
    assert len(false) <= 0.02 * len(found), false


@pytest.mark.parametrize("half", HALVES)
def test_what_is_there_is_found(half: str) -> None:
    wanted, missed = 0, list[tuple[str, str]]()
    for row in rows(half):
        places = find(row.text)
        for span in row.spans:
            if span.kind != "no":
                wanted += 1
                if not any(p.start < span.end and span.start < p.end for p in places):
                    missed.append((span.kind, row.text[span.start : span.end]))
    assert len(missed) <= 0.03 * wanted, missed
