"""A table with what makes its figures readable: a title, a unit, a period, and how many they are of.

It shows itself: as text in a terminal, as a table in a notebook, and as a plot when asked.
"""

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

from tracemill.errors import UsageError

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

SHOWN = 20
"""How many rows are shown; the frame holds all."""
_WIDTH, _SHORT = 60, 24
_UNBROKEN = ";white-space:pre"


@dataclass(frozen=True)
class Drawing:
    """How a table is drawn."""

    kind: Literal["bars", "stacked", "lines", "intervals", "histogram", "heat"]
    y: str
    """The column that is measured."""
    x: tuple[str, ...] = ()
    """The columns along the axis: a time, or what a bar stands for."""
    by: tuple[str, ...] = ()
    """The columns that make the series."""
    ends: tuple[str, str] | None = None
    """Of intervals: the columns of the lower and the upper end."""


@dataclass(frozen=True, repr=False)
class Table:
    """An answer: rows, and what they are of."""

    frame: "pl.DataFrame"
    title: str
    unit: str
    """Of what `.plot()` draws, as USD, ms, % of calls."""
    period: str
    """From when to when, in words."""
    n: int
    """How many `of` the figures are made of."""
    of: str = "calls"
    note: str = ""
    """How much of it is known."""
    drawing: Drawing | None = None

    def __len__(self) -> int:
        return self.frame.height

    def __getitem__(self, column: str) -> "pl.Series":
        return self.frame[column]

    @property
    def columns(self) -> list[str]:
        return self.frame.columns

    @property
    def subtitle(self) -> str:
        """Unit, period and n in one line."""
        return told(self.unit, self.period, self.n, self.of)

    def plot(self) -> "Figure":
        """The table drawn in the house style. Raises `UsageError` without matplotlib."""
        from tracemill.analysis.drawn import draw

        if self.drawing is None:
            raise UsageError(f"nothing of {self.title!r} is to be drawn: its .frame holds the rows")
        return draw(self, self.drawing)

    def __repr__(self) -> str:
        body = table_text(self.frame) if len(self) else "  no rows"
        lines = [self.title, self.subtitle, "", body]
        return "\n".join(lines + ([_more(self)] if _more(self) else []) + _noted(self.note))

    def _repr_html_(self) -> str:
        return "".join(
            [
                f"<div><strong>{escape(self.title)}</strong><br>",
                f"<small>{escape(self.subtitle)}</small>",
                rows_html(self.frame) if len(self) else "<p>no rows</p>",
                f"<p><small>{escape(_more(self))}</small></p>" if _more(self) else "",
                f"<p><small>{escape(self.note)}</small></p>" if self.note else "",
                "</div>",
            ]
        )


def told(unit: str, period: str, n: int, of: str) -> str:
    """The line under a title."""
    word = of[:-1] if n == 1 and of.endswith("s") else of
    return " · ".join(part for part in (unit, period, f"n = {n:,} {word}") if part)


def table_text(frame: "pl.DataFrame") -> str:
    """The first and the last rows, for a terminal."""
    import polars as pl

    with pl.Config(
        tbl_rows=SHOWN,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        tbl_width_chars=140,
        tbl_cols=12,
        tbl_formatting="NOTHING",
        fmt_str_lengths=40,
    ):
        return str(readable(frame))


def readable(frame: "pl.DataFrame") -> "pl.DataFrame":
    """For eyes: numbers with few digits, times to the second. Not for reckoning."""
    import polars as pl
    import polars.selectors as cs

    return frame.with_columns(
        cs.decimal().cast(pl.Float64).round_sig_figs(6),
        cs.float().round_sig_figs(6),
        cs.datetime().dt.strftime("%Y-%m-%d %H:%M:%S"),
    )


def rows_html(frame: "pl.DataFrame") -> str:
    """The first rows as an HTML table; long texts are cut, and whole in their titles."""
    shown = readable(frame.head(SHOWN))
    right = [dtype.is_numeric() for dtype in shown.dtypes]
    head = "".join(
        f'<th style="text-align:{"right" if numeric else "left"}">{escape(name)}</th>'
        for name, numeric in zip(shown.columns, right, strict=True)
    )
    body = "".join("<tr>" + "".join(map(_cell, row, right)) + "</tr>" for row in shown.iter_rows())
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object, right: bool) -> str:
    if value is None:
        return "<td></td>"
    text = _number(value) if isinstance(value, int | float) else str(value)
    # Short texts stay in a line: a model's name, a time, bars of text with blanks between.
    style = "text-align:right" if right else "text-align:left" + _UNBROKEN * (len(text) <= _SHORT)
    align = f' style="{style}"'
    if len(text) <= _WIDTH:
        return f"<td{align}>{escape(text)}</td>"
    return f'<td{align} title="{escape(text[:2000])}">{escape(text[: _WIDTH - 1])}…</td>'


def _number(value: float) -> str:
    return str(value) if isinstance(value, bool) else f"{value:,}"


def _more(table: Table) -> str:
    left = len(table) - SHOWN
    return f"… and {left:,} more row{'s' if left > 1 else ''} in .frame" if left > 0 else ""


def _noted(note: str) -> list[str]:
    return ["", note] if note else []
