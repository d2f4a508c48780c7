"""How every plot looks: colours, a title, and below it unit, period and n.

Figures are objects without global state, drawn with fixed margins that labels fit into, as a layout
engine draws twice. Where there is nothing, a plot says so in words instead of empty axes.
"""
# matplotlib's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import io
from functools import cache
from typing import TYPE_CHECKING

from tracemill.analysis.table import told
from tracemill.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, ACCENT, FAINT = "#1f2933", "#2b6cb0", "#cbd2d9"
COLOURS = (ACCENT, "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""Told apart by colour-blind people too (Okabe and Ito 2008), the first darker."""
REST = "#9aa5b1"
"""Of what is gathered in `others`."""
LETTER = 0.083
"""Of a label, in inches."""
_WIDTH, _LONGEST = 7.6, 34


def figure(
    title: str,
    unit: str,
    period: str,
    n: int,
    of: str = "calls",
    *,
    left: float = 0.85,
    right: float = 0.25,
    height: float = 3.2,
) -> "tuple[Figure, Axes]":
    """Axes with a title, and unit, period and n below it; `left`, `right`, `height` in inches.

    Raises `UsageError` where matplotlib is not installed.
    """
    above, below = 0.62, 0.55
    drawn = _figure_class()(figsize=(_WIDTH, height))
    drawn.subplots_adjust(left / _WIDTH, below / height, 1 - right / _WIDTH, 1 - above / height)
    top = 1 - 0.1 / height
    drawn.text(
        0.12 / _WIDTH, top, cut(title, 76), va="top", color=INK, fontsize=11.5, weight="bold"
    )
    drawn.text(
        0.12 / _WIDTH,
        1 - 0.32 / height,
        told(unit, period, n, of),
        va="top",
        color=INK,
        fontsize=8.5,
        alpha=0.75,
    )
    axes = drawn.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8.5)
    return drawn, axes


def nothing(
    title: str, unit: str, period: str, n: int, of: str = "calls", why: str = ""
) -> "Figure":
    """What is shown where there is nothing to draw."""
    drawn, axes = figure(title, unit, period, n, of, height=1.5, left=0.12)
    axes.set_axis_off()
    words = f"nothing to show: {why or f'no {of} in this period'}"
    axes.text(0, 0.5, words, transform=axes.transAxes, color=INK, va="center")
    return drawn


def png(drawn: "Figure", dpi: int = 110) -> bytes:
    """A figure as a picture."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def cut(text: str, most: int = _LONGEST) -> str:
    """On one line, and not longer than a label may be."""
    # matplotlib would read what is between two of these as a formula.
    line = " ".join(text.split()).replace("$", r"\$")
    return line if len(line) <= most else f"{line[: most - 1]}…"


def short(value: float) -> str:
    """A number beside a bar."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _figure_class() -> "type[Figure]":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "plots need matplotlib, which is not installed: pip install 'tracemill[plots]'; "
            "the .frame of a table holds the same figures"
        ) from error
    return _shown(Figure)


@cache
def _shown(figure: "type[Figure]") -> "type[Figure]":
    class Plot(figure):
        """A figure that shows itself in any notebook, also where pyplot was never imported."""

        def _repr_png_(self) -> bytes:
            return png(self)

    return Plot
