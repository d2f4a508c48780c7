"""What commands print: tables for people, JSON and CSV for programs, progress on stderr.

In JSON, times and decimals are text: a reader that takes numbers as floats must not lose a cent.
"""

import csv
import re
import sys
from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import polars as pl

ROWS_SHOWN = 40
"""A table for people stops here."""
_PIPE_WIDTH = 160
_LAST_WIDTH = 24  # of the last column, where others can be cut for it
_CUT_WIDTH = 12  # no other column is cut further
_NO_LESS = 8
# Control characters but for tab and newline, halves of characters, and what turns the direction.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


def print_json(value: object) -> None:
    """One JSON text on one line."""
    from pydantic_core import to_json

    text = to_json(_exact(value), inf_nan_mode="null", bytes_mode="hex", fallback=str)
    print(text.decode())


def _exact(value: object) -> object:
    """Decimals in full: 0.000000012, where `str` would say 1.2E-8."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict):
        return {name: _exact(item) for name, item in cast("dict[str, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_exact(item) for item in cast("Sequence[object]", value)]
    return value


def print_frame(frame: "pl.DataFrame", *, as_json: bool, as_csv: bool) -> None:
    """A frame as JSON lines, as CSV with a header, or as a table of the first rows."""
    if as_json:
        for row in frame.iter_rows(named=True):
            print_json(row)
    elif as_csv:
        from pydantic_core import to_json

        write = csv.writer(sys.stdout, lineterminator="\n").writerow
        write(frame.columns)
        for row in frame.iter_rows():
            exact = (_exact(value) for value in row)
            write([to_json(v).decode() if isinstance(v, (list, dict)) else v for v in exact])
    else:
        numbers = [kind.is_numeric() for kind in frame.dtypes]
        print_table(frame.columns, frame.head(ROWS_SHOWN).iter_rows(), right=numbers)
        if frame.height > ROWS_SHOWN:
            note = f"{ROWS_SHOWN} of {frame.height:,} rows; --json or --csv gives them all"
            print(note, file=sys.stderr)


def print_lines(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Container[str] = (),
    least: Sequence[int] = (),
) -> None:
    """One line for each row, however long its texts are: what does not fit is cut.

    The last column takes what is left of the terminal, or of `_PIPE_WIDTH`; without `columns` there
    is no header. `least` are widths of columns, so that lines printed one by one stand in line.
    """
    console = Console(highlight=False, soft_wrap=True)
    total = console.width if console.is_terminal else _PIPE_WIDTH
    cells = [[plain(cell) for cell in row] for row in rows]
    shown = [list(columns), *cells] if columns else cells
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    widths = [max(pair) for pair in zip(widths, least, strict=True)] if least else widths
    while (rest := total - sum(widths[:-1]) - 2 * (len(widths) - 1)) < _LAST_WIDTH:
        widest = max(range(len(widths) - 1), key=widths.__getitem__)
        if widths[widest] <= _CUT_WIDTH:
            break
        widths[widest] -= 1
    widths[-1] = max(rest, _NO_LESS)
    for number, row in enumerate(shown):
        parts = [
            _fitted(cell, width, to_the_right=bool(columns) and columns[i] in right)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        header = bool(columns) and number == 0
        console.print(Text("  ".join(parts).rstrip(), style="bold" if header else ""))


def _fitted(cell: str, width: int, *, to_the_right: bool) -> str:
    if cell_len(cell) > width:
        return set_cell_size(cell, width - 1).rstrip() + "…"
    blanks = " " * (width - cell_len(cell))
    return blanks + cell if to_the_right else cell + blanks


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[bool] | None = None
) -> None:
    """A table as wide as the terminal; as wide as it needs to be when it goes to a file or pipe."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if right and right[index] else "left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    print_rich(table)


def print_rich(table: Table) -> None:
    """Print to stdout, unwrapped when nobody looks."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_needed(table))
    console.print(table)


def _needed(table: Table) -> int:
    wide = Console(width=1_000_000)
    return max(20, wide.measure(table).maximum)


def _cell(value: object) -> Text:
    return Text("null", style="dim") if value is None else Text(plain(value))


def plain(value: object) -> str:
    """A value as a person reads it, on one line."""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, str):
        return harmless(" ".join(value.split()))
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return ", ".join(f"{name} {plain(item)}" for name, item in items)
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in cast("Sequence[object]", value))
    return str(value)


def harmless(text: str) -> str:
    """The text with whatever could steer a terminal written out, as `\\x1b`; lines stay lines."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_facts(facts: Mapping[str, str]) -> None:
    """Names and values, below each other."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in facts.items():
        table.add_row(name, Text(text))
    print_rich(table)


@contextmanager
def progress(what: str, total: int | None = None) -> Generator[Callable[[int], None]]:
    """Yields a function to call with each number of events done.

    It moves a bar on stderr that leaves nothing behind; without a terminal there it does nothing.
    """
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)
