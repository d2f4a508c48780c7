"""A table as a plot: which of its columns are places, series and lengths."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracemill.analysis import plots
from tracemill.analysis.table import Drawing, Table

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure


def draw(table: Table, drawing: Drawing) -> "Figure":
    """A table as its drawing says."""
    about: dict[str, Any] = {
        "unit": table.unit,
        "period": table.period,
        "n": table.n,
        "of": table.of,
    }
    frame = table.frame.filter(table.frame[drawing.y].is_not_null())
    if not len(frame):
        return plots.nothing(table.title, **about)
    if drawing.kind == "histogram":
        return plots.histogram(table.title, frame[drawing.y], **about)
    if drawing.kind in ("stacked", "lines"):
        places, series = _series(frame, drawing)
        if drawing.kind == "lines":
            return plots.lines(table.title, places, series, **about)
        whole = {name: [value or 0.0 for value in values] for name, values in series.items()}
        return plots.stacked(table.title, places, whole, **about)
    labels = _labels(frame, drawing.x)
    values = frame[drawing.y].cast(float).to_list()
    if drawing.kind == "intervals" and drawing.ends:
        low, high = (frame[end].cast(float).to_list() for end in drawing.ends)
        return plots.intervals(
            table.title, list(zip(labels, values, low, high, strict=True)), **about
        )
    if drawing.kind == "heat":
        return _heat(table, frame, drawing, about)
    return plots.bars(table.title, labels, values, **about)


def _series(
    frame: "pl.DataFrame", drawing: Drawing
) -> "tuple[list[Any], dict[str, Sequence[float | None]]]":
    """Values by name, one for each place along the axis: every day from the first to the last."""
    import polars as pl

    x = drawing.x[0]
    named = pl.Series("series", _labels(frame, drawing.by) if drawing.by else [""] * len(frame))
    known: dict[tuple[Any, str], float] = {}
    for place, name, value in zip(frame[x], named, frame[drawing.y].cast(float), strict=True):
        known[place, name] = known.get((place, name), 0.0) + value
    places = sorted({place for place, _ in known if place is not None})
    if x == "day" and places:
        places = pl.date_range(places[0], places[-1], "1d", eager=True).to_list()
    names = list(dict.fromkeys(named))
    return places, {name: [known.get((place, name)) for place in places] for name in names}


def _heat(table: Table, frame: "pl.DataFrame", drawing: Drawing, about: dict[str, Any]) -> "Figure":
    rows, columns = _labels(frame, drawing.by), _labels(frame, drawing.x)
    known = dict(zip(zip(rows, columns, strict=True), frame[drawing.y].cast(float), strict=True))
    across, down = list(dict.fromkeys(columns)), list(dict.fromkeys(rows))
    values = [[known.get((row, column)) for column in across] for row in down]
    return plots.heat(table.title, down, across, values, **about)


def _labels(frame: "pl.DataFrame", columns: Sequence[str]) -> list[str]:
    rows = frame.select(columns).iter_rows()
    return [", ".join("none" if cell is None else str(cell) for cell in row) for row in rows]
