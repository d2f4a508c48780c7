"""The house style: every plot says unit, period and n, shows its data, and fits its labels."""

import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.analysis.asked import call, opened
from tracemill.analysis import plots
from tracemill.errors import UsageError

ABOUT: dict[str, Any] = {"unit": "USD", "period": "2026-03-01 to 2026-03-08 UTC", "n": 1234}
SUBTITLE = "USD · 2026-03-01 to 2026-03-08 UTC · n = 1,234 calls"
DAYS = [date(2026, 3, 1) + timedelta(days=i) for i in range(7)]
LONG = "a model with a name that is far too long for any axis, " * 3


def texts(drawn: Figure) -> list[str]:
    return [text.get_text() for text in drawn.findobj(Text) if text.get_text()]


def drawings() -> dict[str, Figure]:
    many = {f"{LONG} {i}": [float(i + day) for day in range(7)] for i in range(9)}
    return {
        "bars": plots.bars(
            "T", [f"{LONG} {i}" for i in range(30)], list(range(30, 0, -1)), **ABOUT
        ),
        "one bar": plots.bars("T", ["x"], [0.0], **ABOUT),
        "stacked": plots.stacked("T", DAYS, many, **ABOUT),
        "one day": plots.stacked("T", DAYS[:1], {"": [3.0]}, **ABOUT),
        "lines": plots.lines(
            "T", DAYS, {k: [*v[:3], None, *v[4:]] for k, v in many.items()}, **ABOUT
        ),
        "marked": plots.lines(
            "T",
            [1, 2, 3],
            {"a": [1.0, 5.0, 1.0]},
            **ABOUT,
            x_unit="weeks",
            bands={"a": ([0.5, 0.5, 0.5], [2.0, 2.0, 2.0])},
            marks=[(2, 5.0, "far above")],
        ),
        "intervals": plots.intervals(
            "T", [(LONG, 0.5, 0.4, 0.6), ("b", 0.1, 0, 1)], **ABOUT, mark=0
        ),
        "histogram": plots.histogram("T", [float(i % 50) for i in range(500)] + [1e6], **ABOUT),
        "heat": plots.heat("T", [LONG, "b"], [LONG, "y", "z"], [[1, None, 3], [0, 5, 6]], **ABOUT),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    return drawings()


@pytest.mark.parametrize("name", sorted(drawings()))
def test_a_plot_says_its_unit_period_and_n(drawn: dict[str, Figure], name: str):
    said = texts(drawn[name])
    assert {"T", SUBTITLE} <= set(said)
    assert len(drawn[name].axes) == 1


@pytest.mark.parametrize("name", sorted(drawings()))
def test_all_text_is_inside_the_picture_and_no_two_overlap(drawn: dict[str, Figure], name: str):
    figure = drawn[name]
    figure.draw_without_rendering()
    boxes = [
        (text.get_text(), text.get_window_extent())
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible()
    ]
    width, height = figure.canvas.get_width_height()
    axes = figure.axes[0]
    low, high = sorted(axes.get_xlim())
    ticks = {t.get_text() for t in axes.get_xticklabels() if not low <= t.get_position()[0] <= high}
    low, high = sorted(axes.get_ylim())
    ticks |= {
        t.get_text() for t in axes.get_yticklabels() if not low <= t.get_position()[1] <= high
    }
    boxes = [(text, box) for text, box in boxes if text not in ticks]
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for place, (text, box) in enumerate(boxes):
        for other, beside in boxes[:place]:
            inner = box.shrunk(0.8, 0.8), beside.shrunk(0.8, 0.8)
            assert not inner[0].overlaps(inner[1]), (text, other)


def test_bars_are_as_long_as_their_values_and_the_rest_is_gathered(drawn: dict[str, Figure]):
    widths = [patch.get_width() for patch in drawn["bars"].axes[0].patches]  # pyright: ignore
    assert widths == [*range(30, 11, -1), sum(range(1, 12))]
    labels = [text.get_text() for text in drawn["bars"].axes[0].get_yticklabels()]
    assert labels[-1] == "11 others"
    assert all(len(label) <= 34 for label in labels)


def test_stacked_bars_hold_all_series_and_days_are_as_wide_as_days(drawn: dict[str, Figure]):
    bars = drawn["stacked"].axes[0].patches
    assert len(bars) == 6 * 7
    whole = sum(bar.get_height() for bar in bars)  # pyright: ignore
    assert whole == sum(i + day for i in range(9) for day in range(7))
    assert {round(bar.get_width(), 2) for bar in bars} == {0.85}  # pyright: ignore
    legend = drawn["stacked"].axes[0].get_legend()
    assert legend is not None
    assert "4 others" in [text.get_text() for text in legend.get_texts()]


def test_what_lies_far_out_is_in_the_last_bar_of_a_histogram_and_told(drawn: dict[str, Figure]):
    axes = drawn["histogram"].axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == 501  # pyright: ignore
    assert axes.get_xlabel() == "USD; 1 beyond 49 are in the last bar"
    assert axes.get_xlim()[1] < 60


@pytest.mark.parametrize(
    "empty",
    [
        lambda: plots.bars("T", [], [], **ABOUT),
        lambda: plots.stacked("T", [], {}, **ABOUT),
        lambda: plots.lines("T", DAYS, {"a": [None] * 7}, **ABOUT),
        lambda: plots.intervals("T", [("a", float("nan"), 0, 1)], **ABOUT),
        lambda: plots.histogram("T", [], **ABOUT),
        lambda: plots.heat("T", [], [], [], **ABOUT),
    ],
)
def test_a_plot_of_nothing_says_so(empty: Any):
    figure = empty()
    assert "nothing to show: no calls in this period" in texts(figure)
    assert not figure.axes[0].axison


def test_every_table_draws_itself_also_in_a_notebook_without_pyplot(tmp_path: Path):
    events = [
        event
        for i in range(40)
        for event in call(day=i % 9, model=f"openai/gpt-5.4-$m_{i % 8}$", latency_ms=i + 1)
    ]
    tm = opened(tmp_path, [*events, *call(answer=None), *call(model="openai/gpt-5.4")])
    tables = [
        tm.costs(),
        tm.costs("model"),
        tm.costs(["month", "status"]),
        tm.latency(),
        tm.latency(["day", "model"]),
        tm.errors(),
        tm.errors("day"),
        tm.errors("error_type"),
        tm.calls(),
        tm.costs(since="2020-01-01", until="2020-01-02"),
    ]
    for table in tables:
        figure = table.plot()
        assert {table.title, table.subtitle} <= set(texts(figure))
        marks = [*figure.axes[0].patches, *figure.axes[0].lines]
        assert bool(marks) == bool(len(table))
    picture = tables[0].plot()._repr_png_()  # pyright: ignore
    assert picture.startswith(b"\x89PNG")


def test_without_matplotlib_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    table = opened(tmp_path, call()).costs()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'tracemill\[plots\]'") as error:
        table.plot()
    assert "\n" not in str(error.value)
    assert "gpt-5.4-mini" in repr(table)
