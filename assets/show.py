"""What an asset's page shows: a sample as a Markdown table, and plots as pictures in Markdown."""

import base64
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, ACCENT, FAINT = "#1f2933", "#2b6cb0", "#cbd2d9"


def sample(frame: "pl.DataFrame", rows: int = 5, width: int = 60) -> str:
    """The first rows as a Markdown table; long texts are cut to `width` characters."""
    head = frame.head(rows)
    lines = [head.columns, ["---"] * head.width, *head.iter_rows()]
    return "\n".join(
        "| " + " | ".join(_cell(cell, width) for cell in line) + " |" for line in lines
    )


def _cell(value: object, width: int) -> str:
    from tracemill.pii import redact

    # Dagster keeps pages for ever, those of records from before personal data was taken out too.
    text = redact(" ".join(str("" if value is None else value).split())).text
    cut = text if len(text) <= width else text[: width - 1] + "…"
    return cut.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")


def bars(title: str, labels: Sequence[str], values: Sequence[float], unit: str) -> str:
    """A horizontal bar chart, the first label on top."""
    return _bars(title, tuple(labels), tuple(values), unit)


@lru_cache(256)  # Most counts are what they were, and to draw them takes longer than to count.
def _bars(title: str, labels: tuple[str, ...], values: tuple[float, ...], unit: str) -> str:
    short = [label if len(label) <= 40 else f"{label[:39]}…" for label in labels]
    longest = max((len(label) for label in short), default=0)
    figure, axes = _plot(title, left=0.2 + 0.085 * longest, height=0.9 + 0.32 * max(len(labels), 2))
    drawn = axes.barh(range(len(short)), list(values), color=ACCENT, tick_label=short)
    axes.bar_label(drawn, labels=[f"{value:,.6g}" for value in values], padding=4, color=INK)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel(unit)
    return _picture(title, figure)


def histogram(title: str, values: "pl.Series", unit: str, bins: int = 40) -> str:
    """How many lie where; the top hundredth is gathered in the last bar."""
    figure, axes = _plot(title)
    most = values.quantile(0.99)
    clipped = values if most is None else values.clip(upper_bound=most)
    axes.hist(clipped.to_numpy(), bins=bins, color=ACCENT)
    axes.set_xlabel(unit)
    axes.set_ylabel("count")
    return _picture(title, figure)


def days(title: str, when: "pl.Series", values: "pl.Series", unit: str) -> str:
    """A column for each day."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    figure, axes = _plot(title)
    axes.bar(when.to_list(), values.to_list(), color=ACCENT, width=0.8)
    locator = AutoDateLocator(maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_ylabel(unit)
    return _picture(title, figure)


def lines(
    title: str, curves: Mapping[str, Sequence[tuple[float, float]]], units: tuple[str, str]
) -> str:
    """Curves over the same axis, each named at its end; `units` of x and y."""
    figure, axes = _plot(title)
    for color, (name, points) in zip((ACCENT, INK, FAINT), curves.items(), strict=False):
        if points:
            axes.plot(*zip(*points, strict=True), color=color, marker="o", markersize=3)
            axes.annotate(name, points[-1], xytext=(6, 0), textcoords="offset points", color=color)
    axes.margins(x=0.12)
    axes.set_xlabel(units[0])
    axes.set_ylabel(units[1])
    return _picture(title, figure)


def intervals(
    title: str,
    rows: Sequence[tuple[str, float, float, float]],
    unit: str,
    mark: float | None = None,
) -> str:
    """Figures as points with their intervals: label, value, low, high; the first row on top.

    `mark` is a value that they are held against.
    """
    longest = max((len(label) for label, *_ in rows), default=0)
    figure, axes = _plot(title, left=0.2 + 0.085 * longest, height=0.9 + 0.32 * max(len(rows), 2))
    for at, (_, value, low, high) in enumerate(rows):
        axes.plot((low, high), (at, at), color=ACCENT, linewidth=3, alpha=0.5)
        axes.plot(value, at, "o", color=ACCENT)
        axes.annotate(f"{value:.3g}", (high, at), (6, -3), textcoords="offset points", color=INK)
    if mark is not None:
        axes.axvline(mark, color=INK, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.margins(x=0.15)
    axes.set_xlabel(unit)
    return _picture(title, figure)


def _plot(title: str, left: float = 0.75, height: float = 2.6) -> "tuple[Figure, Axes]":
    """An empty plot; `left` and `height` in inches. Fixed margins: a layout engine draws twice."""
    from matplotlib.figure import Figure

    width, below, above = 7.2, 0.5, 0.35
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left / width, below / height, 1 - 0.2 / width, 1 - above / height)
    axes = figure.subplots()
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)
    return figure, axes


def _picture(title: str, figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return f"![{title}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"
