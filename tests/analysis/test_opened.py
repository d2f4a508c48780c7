"""`tracemill.open()`: it finds the warehouse, and answers what people ask first."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

import tracemill
from tests.analysis.asked import call, opened
from tracemill.analysis.opened import Opened
from tracemill.errors import UsageError, WarehouseNotFound
from tracemill.events import LlmCallCached, new_id

NOTHING_LEFT = {"first", "last"}


@pytest.fixture(autouse=True)
def _no_named_warehouse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACEMILL_WAREHOUSE", raising=False)


@pytest.fixture(scope="module")
def tm(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Three days: 4 calls of one model, 2 of a dearer one, one that nobody priced, one cached."""
    events = [
        *call(day=0, user_id="ann", key_id="k1", metadata={"team": "a/b", "x": "1"}, latency_ms=10),
        *call(day=0, user_id="bob", key_id="k2", metadata={"team": "c"}, latency_ms=20),
        *call(day=1, prompt_name="p", prompt_version="aabbccdd", latency_ms=30),
        *call(day=1, answer=None),
        *call(day=1, model="openai/gpt-5.4", conversation_id="c1", latency_ms=40),
        *call(day=2, model="openai/gpt-5.4", answer=None, error="rate_limited"),
        *call(day=2, model="home/made", latency_ms=50),
        LlmCallCached(
            call_id=new_id(),
            provider="openai",
            request_model="gpt-5.4",
            cached_call_id=new_id(),
            saved_usd=Decimal("0.5"),
            latency_ms=1,
            occurred_at=datetime(2026, 3, 3, 12, tzinfo=UTC),
        ),
    ]
    return opened(tmp_path_factory.mktemp("asked"), events)


def test_it_is_found_from_any_folder_below_and_by_its_own_name(tm: Opened):
    below = tm.settings.warehouse.parent / "notebooks" / "deep"
    below.mkdir(parents=True, exist_ok=True)
    found = [tracemill.open(each) for each in (below, tm.settings.warehouse, str(below))]
    assert [each.settings.warehouse for each in found] == [tm.settings.warehouse] * 3
    assert repr(found[0]) == f"{tm.settings.warehouse}: 15 events"


def test_where_there_is_none_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(WarehouseNotFound, match="tracemill init"):
        tracemill.open(tmp_path)
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(tmp_path / "none"))
    with pytest.raises(WarehouseNotFound, match="no warehouse at"):
        tracemill.open()
    assert list(tmp_path.iterdir()) == []


def test_costs_by_model_add_up_to_the_view_and_tell_what_is_not_priced(tm: Opened):
    found = tm.costs("model")
    per_call = tm.sql(
        "SELECT request_model AS model, sum(repriced_usd) AS usd FROM call_costs GROUP BY 1"
    )
    usd = dict(per_call.iter_rows())
    assert min(usd["gpt-5.4-mini"], usd["gpt-5.4"]) > 0
    rows = found.frame.with_columns(pl.col(pl.Decimal).cast(float)).sort("model").rows()
    assert rows == [
        ("gpt-5.4", 3, 1, 0, 1, 1000, 100, float(usd["gpt-5.4"]), 0.0, 0.5, 0),
        ("gpt-5.4-mini", 4, 1, 0, 0, 3000, 300, float(usd["gpt-5.4-mini"]), 0.0, 0.0, 0),
        ("made", 1, 0, 0, 0, 1000, 100, 0.0, 0.0, 0.0, 1),
    ]
    assert found["cost_usd"].to_list() == sorted(found["cost_usd"], reverse=True)
    assert (found.n, found.unit) == (8, "USD")
    assert found.period == "2026-03-01 12:00 to 2026-03-03 12:00 UTC"
    assert found.note.endswith("1 calls have no known price and are not in it")
    assert not NOTHING_LEFT & set(found.columns)


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        ("day", [(date(2026, 3, 1), 2), (date(2026, 3, 2), 3), (date(2026, 3, 3), 3)]),
        ("week", [(date(2026, 2, 23), 2), (date(2026, 3, 2), 6)]),
        ("month", [(date(2026, 3, 1), 8)]),
        ("provider", [("home", 1), ("openai", 7)]),
        ("key", [(None, 6), ("k1", 1), ("k2", 1)]),
        ("user", [(None, 6), ("ann", 1), ("bob", 1)]),
        ("prompt", [(None, 7), ("p", 1)]),
        ("prompt_version", [(None, 7), ("aabbccdd", 1)]),
        ("operation", [("chat", 8)]),
        ("status", [("cached", 1), ("failed", 2), ("finished", 5)]),
        ("tag:team", [(None, 6), ("a/b", 1), ("c", 1)]),
        ("tag:", [(None, 8)]),
        ('tag:o"; DROP~/', [(None, 8)]),
    ],
)
def test_calls_are_counted_by_each_key(tm: Opened, by: str, rows: list[tuple[object, int]]):
    found = tm.costs([by]).frame
    assert found.columns[0] == by
    assert sorted(found.select(by, "calls").rows(), key=str) == sorted(rows, key=str)


def test_another_key_is_refused_with_those_that_there_are(tm: Opened):
    for by in ("colour", "e.payload", "model; DROP"):
        with pytest.raises(UsageError, match=r"nothing is summed by .* there are day, week, month"):
            tm.costs(by)


@pytest.mark.parametrize(
    ("since", "until", "n"),
    [
        ("2026-03-02", None, 6),
        (None, "2026-03-02", 2),
        (date(2026, 3, 1), date(2026, 3, 2), 2),
        (datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 2, 12, tzinfo=UTC), 2),
        ("2026-03-01T13:00+01:00", "2026-03-01T12:00:01Z", 2),
        ("7d", None, None),
    ],
)
def test_a_period_holds_its_beginning_and_not_its_end(
    tm: Opened, since: str | date | None, until: str | date | None, n: int | None
):
    counts = {tm.costs("model", since, until).n, tm.errors("model", since, until).n}
    assert counts == ({n} if n is not None else {0})


@pytest.mark.parametrize(
    ("since", "until", "match"),
    [
        (datetime(2026, 3, 1), None, "since=.* has no time zone"),  # noqa: DTZ001
        ("yesterday", None, "since is an age, as 30m, 2h or 7d"),
        (None, "99999999999999999999d", "until is an age"),
        ("2026-03-02", "2026-03-02", "is not before until"),
    ],
)
def test_what_is_no_period_is_told(tm: Opened, since: str, until: str, match: str):
    with pytest.raises(UsageError, match=match):
        tm.costs("day", since, until)


def test_latency_is_that_of_finished_calls(tm: Opened):
    found = tm.latency()
    rows = found.frame.select("model", "calls", "p50_ms", "max_ms", "streamed").rows()
    assert sorted(rows) == [
        ("gpt-5.4", 1, 40.0, 40.0, 0),
        ("gpt-5.4-mini", 3, 20.0, 30.0, 0),
        ("made", 1, 50.0, 50.0, 0),
    ]
    assert (found.unit, found.n) == ("ms", 5)


def test_errors_are_shares_with_intervals_and_the_retries_spent(tm: Opened):
    found = tm.errors().frame.sort("model")
    assert found.select("model", "calls", "failed", "retries", "most_often").rows() == [
        ("gpt-5.4", 3, 1, 2, "rate_limited"),
        ("gpt-5.4-mini", 4, 1, 2, "timeout"),
        ("made", 1, 0, 0, None),
    ]
    assert found["failed_percent"].to_list() == pytest.approx([100 / 3, 25, 0])
    assert (found["low_percent"] <= found["failed_percent"]).all()
    assert (found["high_percent"] > found["failed_percent"]).all()


def test_errors_by_class_are_shares_of_all_calls_of_the_other_keys(tm: Opened):
    by_model = tm.errors(["model", "error_type"]).frame.sort("model")
    assert by_model.select("model", "error_type", "failed", "calls").rows() == [
        ("gpt-5.4", "rate_limited", 1, 3),
        ("gpt-5.4-mini", "timeout", 1, 4),
    ]
    alone = tm.errors("error_type")
    assert sorted(alone.frame.select("error_type", "failed", "calls").rows()) == [
        ("rate_limited", 1, 8),
        ("timeout", 1, 8),
    ]
    assert alone.n == 8


@pytest.mark.parametrize(
    ("asked", "n"),
    [
        ({}, 8),
        ({"model": "gpt-5.4"}, 3),
        ({"status": "failed"}, 2),
        ({"status": "cached"}, 1),
        ({"status": "running"}, 0),
        ({"status": "finished", "user": "ann", "tag": "team"}, 1),
        ({"user": "ann"}, 1),
        ({"conversation": "c1"}, 1),
        ({"tag": "team"}, 2),
        ({"tag": "team=a/b"}, 1),
        ({"tag": "team="}, 0),
        ({"prompt": "p"}, 1),
        ({"prompt": "p@aabb"}, 1),
        ({"prompt": "p@ff"}, 0),
        ({"since": "2026-03-02", "until": "2026-03-03"}, 3),
        ({"limit": 2}, 2),
    ],
)
def test_calls_are_found_by_what_they_have_newest_first(tm: Opened, asked: dict[str, str], n: int):
    found = tm.calls(**asked)  # pyright: ignore[reportArgumentType]
    assert len(found) == found.n == n
    times = found["started_at"].to_list()
    assert times == sorted(times, reverse=True)
    assert ("limit= gives more" in found.note) == (asked == {"limit": 2})


def test_calls_have_the_columns_of_the_view(tm: Opened):
    view = tm.sql("FROM calls ORDER BY started_at DESC, call_id DESC")
    assert tm.calls().frame.equals(view)
    with pytest.raises(UsageError, match="no call is 'broken': calls are running, finished"):
        tm.calls(status="broken")


def test_a_table_shows_itself_as_text_and_as_html(tm: Opened):
    found = tm.costs(["day", "model"])
    told = found.title + "\n" + found.subtitle
    assert repr(found).startswith(told)
    assert "USD · 2026-03-01 12:00 to 2026-03-03 12:00 UTC · n = 8 calls" in repr(found)
    assert found.note in repr(found)
    html = found._repr_html_()  # pyright: ignore[reportPrivateUsage]
    assert html.count("<tr>") == len(found) + 1
    assert "<script" not in html


def test_html_of_what_people_wrote_is_escaped_and_long_tables_are_cut(tmp_path: Path):
    calls = [event for i in range(30) for event in call(f"<script>{i}</script>" + "x" * 90)]
    found = opened(tmp_path, calls).calls()
    html = found._repr_html_()  # pyright: ignore[reportPrivateUsage]
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<tr>") == 21
    assert "and 10 more rows in .frame" in html
    assert "and 10 more rows in .frame" in repr(found)


def test_of_nothing_there_is_a_table_without_rows(tmp_path: Path):
    tm = opened(tmp_path)
    for found in (tm.costs(), tm.latency(), tm.errors(), tm.errors("error_type"), tm.calls()):
        assert (len(found), found.n) == (0, 0)
        assert "no rows" in repr(found)
        assert "no rows" in found._repr_html_()  # pyright: ignore[reportPrivateUsage]


def test_sql_answers_as_of_a_position(tm: Opened):
    assert tm.sql("SELECT count(*) AS n FROM events", until=4)["n"].to_list() == [4]
    assert tm.sql("SELECT ? AS it", ["x"])["it"].to_list() == ["x"]
