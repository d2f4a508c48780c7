"""Records of comma-separated values: each is a block, so that none is cut."""

import csv
import re
from collections.abc import Iterator

from tracemill.retrieval.blocks.marks import Begin, shown


def separated(text: str) -> Iterator[Begin]:
    header, start = "", 0
    for number, end in enumerate(_records(text)):
        if number == 0:
            header = shown(" | ".join(_fields(text[:end])))
        yield Begin(start, "table", header=header, goes_on=number > 0)
        start = end


def _records(text: str) -> Iterator[int]:
    """Where each record ends; a newline between quotes ends none."""
    quoted, at = False, 0
    for line in re.finditer("\n", text):
        quoted ^= text.count('"', at, line.start()) % 2 == 1
        at = line.end()
        if not quoted:
            yield at


def _fields(record: str) -> list[str]:
    delimiter = max(",;\t|", key=record.count)
    try:
        return [field.strip() for field in next(csv.reader([record], delimiter=delimiter))]
    except (csv.Error, StopIteration):
        return [record.strip()]
