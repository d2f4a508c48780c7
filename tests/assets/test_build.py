"""`tracemill build` and `demo`: the exit code, the screen, the history, and what is left alone."""

import io

import dagster as dg
import pytest
from rich.console import Console
from rich.text import Text

from assets import service
from assets.build import build, selected
from assets.run import demo
from tests.conftest import FULL
from tracemill.errors import UsageError
from tracemill.log import EventLog
from tracemill.settings import Settings

DATA = 'group:"sources" or group:"corpus" or group:"retrieval" or group:"log"'


def screen(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=terminal)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_build_says_what_it_made_and_the_next_that_nothing_changed(
    settings: Settings, capfd: pytest.CaptureFixture[str]
):
    first, second = screen(), screen()
    assert build(settings, DATA, first) == 0
    assert build(settings, DATA, second) == 0
    assert "✓ corpus/unique_records              7" in text(first)
    assert "✓ unique_records: no_record_lost  8 in = 7 kept + 1 dropped" in text(first)
    assert "✗ raw_records: nothing_quarantined warns  1 refused" in text(first)
    assert "done: 22 built, 0 unchanged, 2 warnings in" in text(first)
    assert "= corpus/unique_records              7  unchanged" in text(second)
    assert "done: 0 built, 22 unchanged, 2 warnings in" in text(second)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_has_a_bar_and_the_warehouse_keeps_the_history(settings: Settings):
    console = screen(terminal=True)
    build(settings, "sources", console)
    assert "2/2" in text(console)
    build(settings, "raw_records", screen())
    with dg.DagsterInstance.from_config(str(service.home(settings))) as history:
        runs = [(run.status, len(run.asset_selection or ())) for run in history.get_runs()]
    assert runs == [(dg.DagsterRunStatus.SUCCESS, 1), (dg.DagsterRunStatus.SUCCESS, 2)]


def test_a_failure_is_one_line_skips_what_follows_and_ends_with_1(settings: Settings):
    build(settings, "sources", screen())
    (settings.kept("unique_records") / "all.parquet").mkdir(parents=True)
    console = screen()
    assert build(settings, "corpus", console) == 1
    lines = [line.strip() for line in text(console).splitlines()]
    assert any(
        line.startswith("✗ corpus/unique_records") and "unique_records" in line for line in lines
    )
    assert any(line.startswith("- corpus/training_splits") for line in lines)
    assert lines[-1].startswith("failed: 3 built, 0 unchanged, 1 failed, 4 skipped in")


def names(lines: list[str], mark: str) -> list[str]:
    """Assets with this mark on the screen."""
    return [line.split()[1] for line in lines if line.startswith(f"  {mark} ")]


def test_what_fails_keeps_only_what_needs_it_from_being_tried(settings: Settings):
    (settings.kept("unique_records") / "all.parquet").mkdir(parents=True)
    console = screen()
    assert build(settings, DATA, console) == 1
    lines = text(console).splitlines()
    assert names(lines, "✗") == ["corpus/unique_records"]
    assert names(lines, "-") == [
        *("corpus/decontaminated_records", "corpus/distinct_records", "corpus/quarantine"),
        *("corpus/training_splits", "log/calls", "log/costs"),
        *("log/daily_costs", "log/daily_failures", "log/daily_latency", "log/daily_lengths"),
        "log/log_fold",
    ]
    assert {"retrieval/chunk_index", "retrieval/evaluation"} <= {*names(lines, "✓")}
    assert lines[-1].startswith("failed: 10 built, 0 unchanged, 1 failed, 11 skipped")


def test_a_wrong_recipe_of_records_stops_no_collection_and_the_other_way_round(settings: Settings):
    wrong = settings.raw_records / "house.yaml"
    wrong.write_text("colums: {}\n", encoding="utf-8")
    first, second = screen(), screen()
    assert build(settings, "retrieval", first) == 0
    assert build(settings, DATA, second) == 1
    [told] = [line for line in text(second).splitlines() if "✗" in line]
    assert told.startswith("  ✗ records: ")
    assert "colums: there is no such field" in told
    wrong.unlink()
    (settings.raw_documents / "documents.yaml").write_text("chunkin: {}\n", encoding="utf-8")
    third = screen()
    assert build(settings, DATA, third) == 1
    assert "corpus/training_splits" in names(text(third).splitlines(), "✓")
    assert "log/log_fold" in names(text(third).splitlines(), "-")


@pytest.mark.parametrize(
    ("selection", "count", "new"),
    # The days of the log are not in what the fixture built.
    [("retrieval", 5, 0), ("+chunk_index", 5, 0), ("chunk_index", 1, 0), ("log", 7, 4)],
)
def test_a_part_is_built_as_one(built: Settings, selection: str, count: int, new: int):
    console = screen(terminal=True)
    assert build(built, selection, console) == 0
    assert f"{count}/{count}" in text(console)
    assert f"{new} built, {count - new} unchanged" in Text.from_ansi(text(console)).plain


def test_what_was_not_built_before_is_named(settings: Settings):
    console = screen()
    assert build(settings, "evaluation", console) == 1
    assert "what comes before this asset has not read it yet" in text(console)


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        ("reports", ["failures", "first_look", "spend", "training_data"]),
        ("training_splits", ["training_splits"]),
        ("corpus/training_splits", ["training_splits"]),
        (
            "+unique_records",
            [
                *("clean_records", "fitting_records", "installed_records", "protected_records"),
                *("raw_records", "unique_records"),
            ],
        ),
        ("log/calls+", ["calls", "costs", "failures", "first_look", "spend"]),
        ("calls", ["calls"]),
        (
            'group:"sources" and kind:"parquet"',
            ["installed_records", "raw_records"],
        ),
    ],
)
def test_a_selection_names_assets(selection: str, names: list[str]):
    assert sorted(key.path[-1] for key in selected(selection)) == names


def test_no_selection_is_everything_but_housekeeping_and_a_star_is_everything():
    assert len(selected(None)) == 30
    assert len(selected("*")) == 35


@pytest.mark.parametrize("selection", ["nonsense", "((", "group:nonsense", ""])
def test_a_selection_of_nothing_says_what_there_is(settings: Settings, selection: str):
    with pytest.raises(
        UsageError, match="corpus, housekeeping, log, models, reports, retrieval, sources"
    ):
        build(settings, selection, screen())


def test_a_demo_asks_records_and_tells_what_it_cost_and_asks_nothing_twice(settings: Settings):
    first, second = screen(), screen()
    assert demo(settings, first) == 0
    assert "7 asked in" in text(first)
    assert "local/extract" in text(first)
    assert "openai/" in text(first)
    assert "✓ reports/first_look" in text(first)
    if not FULL:
        return  # the rest takes 13 s
    with EventLog.open(settings) as log:
        asked = log.sql("SELECT count(*) FROM events WHERE kind = 'rag.answered'").item()
        assert demo(settings, second) == 0
        again = log.sql("SELECT count(*) FROM events WHERE kind = 'rag.answered'").item()
    assert "7 were put to this version of the index before: not asked again" in text(second)
    assert again == asked + 1
