"""Laws that hold for any events and any order of appending, folding and merging."""

import tempfile
from collections import defaultdict
from datetime import UTC, date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.log.made import call, events, harvested
from tracemill import prices
from tracemill.errors import LogDamaged
from tracemill.events import KINDS, Happened, LlmCallFailed, LlmCallFinished, LlmCallStarted
from tracemill.log import EventLog, rows
from tracemill.log.upcast import STEPS, upcast

quick = settings(
    max_examples=20,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes with a real log
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


EACH = [events([kind]) for kind in KINDS]


@st.composite
def one_of_each(draw: st.DrawFn, kinds: list[st.SearchStrategy[Happened]]) -> list[Happened]:
    """An event of every kind, in any order."""
    return draw(st.permutations([draw(each) for each in kinds]))


# All kinds in one example are more than hypothesis takes: it would throw nearly all of them away.
@pytest.mark.parametrize("part", range(6))
@settings(quick, max_examples=3)
@given(data=st.data())
def test_any_event_of_any_kind_comes_back_as_it_was(part: int, data: st.DataObject) -> None:
    made = data.draw(one_of_each(EACH[part::6]))
    with tempfile.TemporaryDirectory() as folder, EventLog(Path(folder) / "log") as log:
        made = list({event.event_id: event for event in made}.values())
        log.append(made[:4])
        log.fold()
        log.append(made[4:8])
        assert [r.event for r in log.read()] == made[:8]
        log.fold()
        log.compact()
        log.append(made[8:])
        assert [r.event for r in log.read()] == made
        assert log.append(made) == list(range(1, len(made) + 1))
        assert made[0] in [r.event for r in log.read(stream=made[0].stream)]
        for view in ("events", "calls", "costs_by_day", "failures"):
            log.sql(f"SELECT * FROM {view}")  # noqa: S608
        assert log.frame().collect().height == len(made)
        assert log.verify().problems == ()


# Replay equals state


class Day(NamedTuple):
    calls: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    recorded_usd: Decimal = Decimal(0)
    cost_usd: Decimal = Decimal(0)
    unpriced: int = 0

    def plus(self, event: LlmCallFinished | LlmCallFailed) -> "Day":
        if isinstance(event, LlmCallFailed):
            return self._replace(calls=self.calls + 1, failed=self.failed + 1)
        model, usage = event.request_model, event.usage
        usd = prices.cost(event.provider, model, usage, event.occurred_at).usd
        return Day(
            self.calls + 1,
            self.failed,
            self.input_tokens + event.usage.input_tokens,
            self.output_tokens + event.usage.output_tokens,
            self.recorded_usd + (event.cost_usd or 0),
            self.cost_usd + (usd or 0),
            self.unpriced + (usd is None),
        )


def replay(log: EventLog) -> tuple[dict[tuple[date, str, str], Day], dict[str, dict[str, Any]]]:
    """`costs_by_day` and `calls`, worked out event by event."""
    days: defaultdict[tuple[date, str, str], Day] = defaultdict(Day)
    calls: dict[str, dict[str, Any]] = {}
    for record in log.read():
        event = record.event
        if isinstance(event, LlmCallStarted):
            calls[event.call_id] = {
                "started_at": event.occurred_at,
                "status": "running",
                "prompt": event.messages[-1].content,
            }
        if isinstance(event, LlmCallFinished | LlmCallFailed):
            key = event.occurred_at.date(), event.provider, event.request_model
            days[key] = days[key].plus(event)
            finished = isinstance(event, LlmCallFinished)
            calls[event.call_id] |= {
                "status": "finished" if finished else "failed",
                "latency_ms": event.latency_ms,
                "cost_usd": event.cost_usd if finished else None,
                "answer": event.content if finished else None,
                "error_type": None if finished else event.error_type,
            }
    return dict(days), calls


def asked(log: EventLog) -> tuple[dict[tuple[date, str, str], Day], dict[str, dict[str, Any]]]:
    days = {
        (row["day"], row["provider"], row["request_model"]): Day(*[row[f] for f in Day._fields])
        for row in log.sql("FROM costs_by_day").iter_rows(named=True)
    }
    calls: dict[str, dict[str, Any]] = {}
    for row in log.sql("FROM calls").iter_rows(named=True):
        wanted = ["started_at", "status", "prompt"]
        if row["status"] != "running":
            wanted += ["latency_ms", "cost_usd", "answer", "error_type"]
        calls[row["call_id"]] = {name: row[name] for name in wanted}
    return days, calls


made_calls = st.builds(
    call,
    st.none() | st.text(max_size=20),
    model=st.sampled_from(["extract", "large"]),
    at=st.datetimes(timezones=st.just(UTC)).map(
        lambda m: m.replace(year=2026, month=1, day=1 + m.day % 3)
    ),
    cost=st.none() | st.decimals(min_value=0, max_value=100, places=9),
    tokens=st.integers(0, 10**12),
    prompt=st.text(max_size=20),
)
steps = st.one_of(
    st.tuples(st.just("append"), made_calls),
    st.tuples(st.just("start only"), made_calls),
    st.tuples(st.just("append"), st.lists(st.builds(harvested, st.integers(0, 9)), max_size=3)),
    st.tuples(st.sampled_from(["fold", "compact", "gc", "close"]), st.none()),
)


@settings(quick, max_examples=12)
@given(st.lists(steps, min_size=1, max_size=14))
def test_the_views_are_what_a_replay_gives(order: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder, EventLog(Path(folder) / "log") as log:
        pinned: list[tuple[int, Any]] = []
        for what, made in order:
            if what == "append":
                log.append(made)
            elif what == "start only":
                log.append(made[:1])
            elif what == "gc":
                log.gc(grace_s=0)
            else:
                getattr(log, what)()
            if what == "fold":
                pinned.append((log.position(), log.sql("FROM costs_by_day ORDER BY ALL")))
        assert asked(log) == replay(log)
        for position, answer in pinned:
            again = log.sql("FROM costs_by_day ORDER BY ALL", until=position)
            assert again.equals(answer)
        assert log.verify().problems == ()


# Digests


@quick
@given(events(), events(), st.binary(max_size=16))
def test_a_digest_vouches_for_the_row_and_for_what_came_before(
    one: Happened, other: Happened, before: bytes
) -> None:
    first, second = _row(one), _row(other)
    digest = rows.digest(before, first)
    assert len(digest) == 16
    assert digest == rows.digest(before, first)
    assert (digest == rows.digest(before, second)) == (first == second)
    assert digest != rows.digest(before + b"x", first)
    assert digest != rows.digest(before, (2, *first[1:]))
    assert digest != rows.digest(before, (*first[:5], 2, *first[6:]))


def _row(event: Happened) -> tuple[Any, ...]:
    draft = rows.draft(event)
    head = (1, draft.event_id, draft.kind, draft.schema_version, draft.stream, 1, 0)
    return (*head, draft.occurred_us, *draft.rest, b"")


@quick
@given(st.lists(events(), max_size=5))
def test_rows_survive_the_way_to_columns_and_back(given_events: list[Happened]) -> None:
    raws = [(*_row(e)[:-1], bytes(16)) for e in given_events]
    assert rows.to_journal(rows.to_arrow(raws)) == raws


# Old versions

HISTORY = {
    ("tea.made", 1): lambda p: {"sugar_g": p["spoons"] * 4},
    ("tea.made", 2): lambda p: {**p, "milk": False},
    ("tea.drunk", 1): lambda p: {},
}


def test_an_old_payload_is_lifted_step_by_step() -> None:
    assert upcast("tea.made", 1, {"spoons": 2}, HISTORY) == {"sugar_g": 8, "milk": False}
    assert upcast("tea.made", 2, {"sugar_g": 5}, HISTORY) == {"sugar_g": 5, "milk": False}
    assert upcast("tea.made", 3, {"sugar_g": 5, "milk": True}, HISTORY) == {
        "sugar_g": 5,
        "milk": True,
    }
    assert upcast("tea.spilt", 1, {"spoons": 2}, HISTORY) == {"spoons": 2}


def test_every_step_leads_to_the_version_of_today() -> None:
    for kind, cls in KINDS.items():
        lifted = [version for k, version in STEPS if k == kind]
        assert sorted(lifted) == list(range(1, cls.schema_version)), kind


def test_a_payload_that_its_kind_does_not_allow_is_damage() -> None:
    row = rows.from_journal(_row(harvested(1)))
    with pytest.raises(LogDamaged, match=r"position 1 .*items"):
        rows.recorded({**row, "payload": '{"name":"a","items":-1,"quarantined":0,"digest":"d"}'})
    with pytest.raises(LogDamaged, match=r"position 1 .*payload"):
        rows.recorded({**row, "payload": '{"name":'})
