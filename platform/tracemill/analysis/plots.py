"""The plots: bars, stacked bars, lines, intervals, a histogram, a heat map; all in the house style.

Many series become the largest and `others`; each plot is told its unit, period and n.
"""
# matplotlib's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tracemill.analysis.house_style import (
    ACCENT,
    COLOURS,
    FAINT,
    INK,
    LETTER,
    REST,
    cut,
    figure,
    nothing,
    png,
    short,
)

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ACCENT", "COLOURS", "FAINT", "INK", "bars", "figure", "heat", "histogram", "intervals"]
__all__ += ["lines", "nothing", "png", "stacked"]

MOST_BARS = 20
OTHERS = "others"


def bars(
    title: str,
    labels: Sequence[str],
    values: Sequence[float],
    *,
    unit: str,
    period: str,
    n: int,
    of: str = "calls",
) -> "Figure":
    """A horizontal bar for each label, the first on top; those behind the 20th in one bar."""
    if not labels:
        return nothing(title, unit, period, n, of)
    names, lengths = [cut(label) for label in labels], [float(value) for value in values]
    if len(names) > MOST_BARS:
        rest = len(names) - MOST_BARS + 1
        names = [*names[: MOST_BARS - 1], f"{rest:,} {OTHERS}"]
        lengths = [*lengths[: MOST_BARS - 1], sum(lengths[MOST_BARS - 1 :])]
    drawn, axes = figure(title, unit, period, n, of, **_room(names))
    colours = [REST if name.endswith(f" {OTHERS}") else ACCENT for name in names]
    shown = axes.barh(range(len(names)), lengths, color=colours, height=0.7)
    axes.bar_label(
        shown, labels=[short(value) for value in lengths], padding=4, color=INK, fontsize=8.5
    )
    _rows(axes, names)
    axes.margins(x=0.14)
    axes.set_xlabel(unit, color=INK, fontsize=9)
    return drawn


def stacked(
    title: str,
    places: Sequence[Any],
    series: "Mapping[str, Sequence[float]]",
    *,
    unit: str,
    period: str,
    n: int,
    of: str = "calls",
) -> "Figure":
    """A bar for each place, such as a day, in parts; the largest series have colours."""
    if not places or not series:
        return nothing(title, unit, period, n, of)
    parts = gathered(series)
    drawn, axes = figure(title, unit, period, n, of, right=_legend_room(parts))
    width, base = _bar_width(places), [0.0] * len(places)
    for colour, (name, values) in zip(_colours(parts), parts.items(), strict=True):
        axes.bar(places, values, width=width, bottom=base, color=colour, label=name)
        base = [b + v for b, v in zip(base, values, strict=True)]
    _finish(axes, parts, unit, places)
    return drawn


def lines(
    title: str,
    places: Sequence[Any],
    series: "Mapping[str, Sequence[float | None]]",
    *,
    unit: str,
    period: str,
    n: int,
    of: str = "calls",
    x_unit: str = "",
    bands: "Mapping[str, tuple[Sequence[float], Sequence[float]]] | None" = None,
    marks: Sequence[tuple[Any, float, str]] = (),
) -> "Figure":
    """A line for each series; None leaves a gap.

    Args:
        title: of the plot.
        places: along the axis: days, moments or numbers.
        series: name -> values, one for each place. Of more than six the largest are shown.
        unit: of the values.
        period: from when to when.
        n: how many `of` they are made of.
        of: what n counts.
        x_unit: of the places, where they are no times.
        bands: name -> (lower, upper), drawn pale in the colour of the series.
        marks: (place, value, words), drawn as red rings with their words.
    """
    known = {name: values for name, values in series.items() if any(v is not None for v in values)}
    if not places or not known:
        return nothing(title, unit, period, n, of)
    chosen = _largest(known)
    drawn, axes = figure(title, unit, period, n, of, right=_legend_room(chosen))
    for colour, (name, values) in zip(_colours(chosen), chosen.items(), strict=True):
        gaps = [math.nan if value is None else float(value) for value in values]
        axes.plot(places, gaps, color=colour, label=name, linewidth=1.6, marker="o", markersize=3)
        if bands and name in bands:
            axes.fill_between(places, *bands[name], color=colour, alpha=0.18, linewidth=0)
    for place, value, words in marks:
        axes.plot(place, value, "o", color="#d55e00", fillstyle="none", markersize=10)
        axes.annotate(
            words, (place, value), (0, 9), textcoords="offset points", ha="center",
            color=INK, fontsize=8,
        )  # fmt: skip
    _finish(axes, chosen, unit, places)
    if x_unit:
        axes.set_xlabel(x_unit, color=INK, fontsize=9)
    return drawn


def intervals(
    title: str,
    rows: Sequence[tuple[str, float, float, float]],
    *,
    unit: str,
    period: str,
    n: int,
    of: str = "calls",
    mark: float | None = None,
) -> "Figure":
    """Figures as points with their intervals: label, value, low, high; the first row on top.

    `mark` is a value that they are held against. The first 20 are shown.
    """
    rows = [row for row in rows if all(math.isfinite(value) for value in row[1:])]
    if not rows:
        return nothing(title, unit, period, n, of)
    left_out, rows = len(rows) - MOST_BARS, rows[:MOST_BARS]
    names = [cut(label) for label, *_ in rows]
    drawn, axes = figure(title, unit, period, n, of, **_room(names))
    for place, (_, value, low, high) in enumerate(rows):
        axes.plot((low, high), (place, place), color=ACCENT, linewidth=3, alpha=0.45)
        axes.plot(value, place, "o", color=ACCENT)
        axes.annotate(
            short(value), (max(value, high), place), (7, -3), textcoords="offset points",
            color=INK, fontsize=8.5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
    if mark is not None:
        axes.axvline(mark, color=INK, linewidth=1, linestyle="--")
    _rows(axes, names)
    axes.margins(x=0.14)
    more = f"; {left_out} more are not drawn" if left_out > 0 else ""
    axes.set_xlabel(unit + more, color=INK, fontsize=9)
    return drawn


def histogram(
    title: str,
    values: "Sequence[float] | pl.Series",
    *,
    unit: str,
    period: str,
    n: int,
    of: str = "calls",
    bins: int = 40,
) -> "Figure":
    """How many lie where; what is beyond the 99th percentile is gathered in the last bar."""
    import numpy as np

    known = np.array([v for v in values if v is not None], dtype=float)
    if not len(known):
        return nothing(title, unit, period, n, of)
    drawn, axes = figure(title, unit, period, n, of)
    # Of fewer than a hundred the last hundredth is none of them.
    most = float(np.quantile(known, 0.99)) if len(known) >= 100 else float(known.max())
    beyond = int((known > most).sum())
    axes.hist(np.minimum(known, most), bins=bins, color=ACCENT)
    axes.set_xlabel(
        unit + (f"; {beyond:,} beyond {short(most)} are in the last bar" if beyond else ""),
        color=INK,
        fontsize=9,
    )
    axes.set_ylabel(of, color=INK, fontsize=9)
    return drawn


def heat(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    unit: str,
    period: str,
    n: int,
    of: str = "calls",
) -> "Figure":
    """A coloured field for each row and column, with its figure in it; None is empty."""
    if not rows or not columns:
        return nothing(title, unit, period, n, of)
    from matplotlib.colors import LinearSegmentedColormap

    names = [cut(label) for label in rows]
    drawn, axes = figure(title, unit, period, n, of, **_room(names, extra=0.5))
    shade = LinearSegmentedColormap.from_list("house", ["#f2f6fa", ACCENT])
    grid = [[math.nan if v is None else float(v) for v in row] for row in values]
    most = max((v for row in grid for v in row if math.isfinite(v)), default=1.0) or 1.0
    axes.imshow(grid, cmap=shade, aspect="auto", vmin=min(0.0, most), vmax=most)
    for y, row in enumerate(grid):
        for x, value in enumerate(row):
            if math.isfinite(value) and len(columns) <= 16:
                colour = "white" if value > 0.6 * most else INK
                axes.text(x, y, short(value), ha="center", va="center", color=colour, fontsize=8)
    axes.set_yticks(range(len(names)), names)
    step = math.ceil(len(columns) / 12)
    axes.set_xticks(
        range(0, len(columns), step),
        ["\n".join(textwrap.wrap(cut(c, 24), 12)) for c in columns[::step]],
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return drawn


def gathered(
    series: "Mapping[str, Sequence[float]]", most: int = len(COLOURS)
) -> "Mapping[str, Sequence[float]]":
    """The largest series by their sums, and all others as one."""
    ranked = sorted(series, key=lambda name: -sum(series[name]))
    if len(ranked) <= most:
        return {name: series[name] for name in ranked}
    rest = [series[name] for name in ranked[most - 1 :]]
    summed = [sum(values) for values in zip(*rest, strict=True)]
    return {name: series[name] for name in ranked[: most - 1]} | {f"{len(rest):,} {OTHERS}": summed}


def _largest(
    series: "Mapping[str, Sequence[float | None]]",
) -> "Mapping[str, Sequence[float | None]]":
    most = len(COLOURS)
    ranked = sorted(series, key=lambda name: -max(v for v in series[name] if v is not None))
    return {name: series[name] for name in (series if len(series) <= most else ranked[:most])}


def _room(names: Sequence[str], extra: float = 0.0) -> dict[str, float]:
    longest = max(map(len, names))
    return {"left": 0.3 + LETTER * longest, "height": 1.25 + 0.27 * max(len(names), 2) + extra}


def _rows(axes: "Axes", names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _colours(series: "Mapping[str, Any]") -> list[str]:
    return [REST if name.endswith(f" {OTHERS}") else COLOURS[i] for i, name in enumerate(series)]


def _legend_room(series: "Mapping[str, Any]") -> float:
    longest = max(len(cut(name, 26)) for name in series)
    return 0.25 if len(series) == 1 else 0.6 + LETTER * longest


def _finish(axes: "Axes", series: "Mapping[str, Any]", unit: str, places: Sequence[Any]) -> None:
    from datetime import date

    axes.set_ylabel(unit, color=INK, fontsize=9)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    if len(series) > 1:
        handles, names = axes.get_legend_handles_labels()
        axes.legend(
            handles[::-1], [cut(name, 26) for name in names[::-1]], loc="upper left",
            bbox_to_anchor=(1.01, 1.02), frameon=False, fontsize=8.5, handlelength=1.2,
        )  # fmt: skip
    if isinstance(places[0], date):
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(minticks=2, maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.xaxis.get_offset_text().set_fontsize(8.5)
        if len(places) == 1:
            ticks: Any = [places[0]]
            axes.set_xticks(ticks, [f"{places[0]:%Y-%m-%d}"])
            axes.margins(x=2)


def _bar_width(places: Sequence[Any]) -> float:
    """In days where places are days: a timedelta of hours would be lost beside dates."""
    from datetime import date, timedelta

    if not isinstance(places[0], date):
        return 0.8
    apart = min((b - a for a, b in pairwise(places)), default=timedelta(1))
    return 0.85 * (apart / timedelta(1))
