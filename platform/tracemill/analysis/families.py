"""Families of near-duplicates as a picture: each record a dot, each likeness a line with its figure."""
# matplotlib's types are partial:
# pyright: reportUnknownMemberType=false

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracemill.analysis.dataset import Family
from tracemill.analysis.plots import ACCENT, FAINT, INK, figure, nothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS, APART, RADIUS = 3, 3.3, 1.0
LABELLED = 6
"""Of a family with more lines than these, only those to the record that stayed have figures."""


def clusters(title: str, families: Sequence[Family], *, period: str) -> "Figure":
    """Each family a small graph; the record that stayed is dark and has its size beside it.

    Lines are drawn between all that were compared, with the Jaccard similarity of word 5-grams.

    Args:
        title: of the plot.
        families: at most as many as are to be seen; three stand in a row.
        period: when the records are from, or another word about them.
    """
    unit, n = "Jaccard similarity of word 5-grams", sum(len(each.members) for each in families)
    if not families:
        return nothing(title, unit, period, 0, "records", why="no near-duplicates were found")
    rows = math.ceil(len(families) / COLUMNS)
    drawn, axes = figure(title, unit, period, n, "records", left=0.1, height=1.1 + 1.9 * rows)
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-APART / 2, APART * (COLUMNS - 0.5))
    axes.set_ylim(-APART * (rows - 0.5), APART / 2)
    for number, family in enumerate(families):
        down, across = divmod(number, COLUMNS)
        _family(axes, family, (APART * across, -APART * down))
    return drawn


def _family(axes: "Axes", family: Family, centre: tuple[float, float]) -> None:
    places = dict(zip(family.members, _places(len(family.members), centre), strict=True))
    for one, other, jaccard in family.pairs:
        (x, y), (to_x, to_y) = places[one], places[other]
        axes.plot((x, to_x), (y, to_y), color=FAINT, linewidth=0.6 + 2.2 * jaccard, zorder=1)
        crowded = len(family.pairs) > LABELLED
        if crowded and family.kept_id not in (one, other):
            continue
        # Lines that cross do so in the middle, and those from one dot are apart at their ends.
        share = 0.5 if len(places) < 4 else 0.66 if crowded else 0.38
        axes.text(
            x + share * (to_x - x), y + share * (to_y - y), f"{jaccard:.2f}", fontsize=7.5,
            color=INK, ha="center", va="center", zorder=3,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
    for member, (x, y) in places.items():
        stays = member == family.kept_id
        axes.plot(
            x, y, "o", markersize=13 if stays else 9, zorder=2,
            color=INK if stays else ACCENT, markeredgecolor="white",
        )  # fmt: skip
    words = f"{family.kept_id[:6]} stayed for {len(family.members) - 1} more"
    axes.text(centre[0], centre[1] - RADIUS - 0.42, words, ha="center", fontsize=8, color=INK)


def _places(count: int, centre: tuple[float, float]) -> list[tuple[float, float]]:
    """Points on a circle, the first on top."""
    angles = [math.pi / 2 + 2 * math.pi * each / count for each in range(count)]
    return [(centre[0] + RADIUS * math.cos(a), centre[1] + RADIUS * math.sin(a)) for a in angles]
