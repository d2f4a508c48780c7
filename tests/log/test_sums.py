"""Sums beside sealed files say what the rows say, whatever is folded, merged, emptied, lost or priced."""

import random
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.events import (
    Happened,
    LlmCallAborted,
    LlmCallCached,
    LlmCallCrashed,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallStarted,
    new_id,
)
from tracemill.log import EventLog, sums, views
from tracemill.messages import Usage

FIRST = datetime(2026, 10, 1, tzinfo=UTC)
VIEWS = sorted(
    name
    for name in views.definitions()
    if views.ask_for_sums(f"FROM {name}")  # those that stand on sums
)
MODELS = (
    *(("openai", "gpt-5.4"), ("anthropic", "claude-sonnet-5-5"), ("gcp.gemini", "gemini-2.5-pro")),
    *(("deepseek", "deepseek-chat"), ("vllm", "nobody-knows")),
)
OURS = """
[[price]]
provider = "openai"
model = "gpt-5.4"
input = 1000
"""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "LEAST_ROWS", 1)


def story(seed: int, calls: int) -> list[Happened]:
    """Calls of every kind, as they overlap."""
    draw, told = random.Random(seed), list[tuple[float, int, Happened]]()
    for number in range(calls):
        begin_s = draw.random() * 40 * 86_400
        for after_s, event in call(draw, FIRST + timedelta(seconds=begin_s)):
            told.append((begin_s + after_s, number, event))
    return [event for *_, event in sorted(told, key=lambda each: each[:2])]


def call(draw: random.Random, begin: datetime) -> Iterator[tuple[float, Happened]]:
    provider, model = draw.choice(MODELS)
    name = draw.choice((None, "answer", "route"))
    same: dict[str, Any] = {
        "call_id": new_id(),
        "occurred_at": begin,
        "provider": provider,
        "request_model": model,
        "user_id": draw.choice((None, "ann", "bob", "cem")),
        "key_id": draw.choice((None, "k1")),
        "prompt_name": name,
        "prompt_version": name and draw.choice(("1a", "2b")),
        "metadata": draw.choice(({}, {"team": "a"}, {"team": "b", "x": "y"})),
    }
    fate = draw.random()
    if fate < 0.1:
        yield 0, LlmCallCached(messages=(), cached_call_id=new_id(), latency_ms=1, saved_usd=Decimal("0.25"), **same)  # fmt: skip
        return
    yield 0, LlmCallStarted(messages=(), **same)
    if fate < 0.2:
        return
    same["occurred_at"] = begin + timedelta(hours=30 * draw.random())
    after_s = (same["occurred_at"] - begin).total_seconds()
    if fate < 0.3:
        yield after_s, LlmCallFailed(error_type=draw.choice(("timeout", "overloaded")), error_message="no", latency_ms=1, **same)  # fmt: skip
        return
    if fate < 0.35:
        known = {k: v for k, v in same.items() if k in LlmCallCrashed.model_fields}
        yield after_s, LlmCallCrashed(process="gone", **known)
        return
    ended: dict[str, Any] = {"usage": usage(draw), "latency_ms": draw.randrange(900), **same}
    ended["response_model"] = draw.choice((model, model, "unheard-of"))
    ended["service_tier"] = draw.choice((None, None, "batch"))
    ended["cost_usd"] = draw.choice((None, Decimal("0.001")))
    if fate < 0.45:
        why = draw.choice(("interrupted", "connection"))
        yield after_s, LlmCallAborted(error_type=why, error_message="cut", content="", **ended)
        return
    yield after_s, LlmCallFinished(content="", finish_reasons=("stop",), **ended)


def usage(draw: random.Random) -> Usage:
    read, written = int(10 ** draw.uniform(1, 5.7)), int(10 ** draw.uniform(0, 4))
    hit = int(read * draw.random() * 1.05) if draw.random() < 0.4 else 0
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cache_read_input_tokens=hit,
        cache_write_input_tokens=draw.choice((0, 0, (read - hit) // 2 if hit < read else 0)),
        reasoning_output_tokens=int(written * draw.random() * 1.02),
        billed=draw.choice(({}, {}, {}, {"web_search_requests": 2}, {"unheard_of": 1})),
        estimated=draw.random() < 0.1,
    )


def written(folder: Path, events: Sequence[Happened], cuts: Sequence[int]) -> EventLog:
    """A log that was folded at these places; what is behind the last one is not sealed."""
    log = EventLog(folder, fold_after_events=10**9)
    places = [0, *sorted(cuts), len(events)]
    for begin, end in pairwise(places):
        log.append(events[begin:end])
        if end != len(events):
            log.fold()
    return log


def told(log: EventLog, names: Sequence[str], until: int | None = None) -> dict[str, list[str]]:
    return {
        name: sorted(map(repr, log.sql(f"FROM {name}", until=until).iter_rows())) for name in names
    }


def from_rows(
    log: EventLog, names: Sequence[str], until: int | None = None
) -> dict[str, list[str]]:
    """The same of the rows alone."""
    folder = log.folder / sums.FOLDER
    folder.rename(log.folder / "aside")
    with EventLog(log.folder, fold_after_events=10**9, prices=log._prices) as other:  # pyright: ignore[reportPrivateUsage]
        answers = told(other, names, until)
    (log.folder / "aside").rename(folder)
    return answers


def kept(log: EventLog) -> list[Path]:
    return sorted((log.folder / sums.FOLDER).glob("*.parquet"))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with written(tmp_path / "log", story(1, 300), (200,)) as log:
        yield log


def test_every_view_over_sums_says_what_the_rows_say(log: EventLog) -> None:
    assert {"costs_by_user", "cache_savings", "completeness", "error_rates", "calls"} <= {*VIEWS}
    assert [path.name[:25] for path in kept(log)] == [path.name[:25] for path in log.segments()]
    assert told(log, VIEWS) == from_rows(log, VIEWS)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 99), cuts=st.sets(st.integers(1, 60), max_size=4), data=st.data())
def test_any_log_at_any_moment(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cuts: set[int], data: st.DataObject
) -> None:
    names = ["costs_by_prompt", "completeness"]
    events = story(seed, 50)
    cuts = {cut for cut in cuts if cut < len(events)} or {30}
    with written(tmp_path_factory.mktemp("any") / "log", events, sorted(cuts)) as log:
        until = data.draw(st.none() | st.integers(1, len(events)))
        assert told(log, names, until) == from_rows(log, names, until)


FEW = ["costs_by_user", "completeness"]


def test_merged_emptied_and_left_half_made(log: EventLog) -> None:
    before = told(log, FEW)
    log.fold()
    assert told(log, FEW) == before
    assert log.compact() == 2
    assert told(log, FEW) == before == from_rows(log, FEW)
    [path] = kept(log)
    assert path.name.startswith(log.segments()[0].stem)
    (path.parent / f".{path.name}.12345678.tmp").write_bytes(b"half")
    path.unlink()  # as if it had been killed before it was renamed
    assert told(log, FEW) == before
    log.append(story(2, 5))
    log.fold()
    assert len(kept(log)) == len([*path.parent.iterdir()]) == 2
    log.erase(log.of_person("ann").positions, reason="forgotten", figures=True)
    assert len(kept(log)) == 2
    assert not any(b"ann" in path.read_bytes() for path in kept(log))
    assert told(log, FEW) == from_rows(log, FEW) != before


def test_sums_that_go_while_they_are_asked_are_done_without(log: EventLog) -> None:
    before = told(log, FEW)
    shutil.rmtree(log.folder / sums.FOLDER)
    assert told(log, FEW) == before


def test_other_prices_make_other_sums(log: EventLog, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(OURS, encoding="utf-8")
    before, costs = told(log, ["costs_by_user"]), ["costs_by_user"]
    with EventLog(log.folder, fold_after_events=10**9, prices=prices) as dear:
        anew = told(dear, costs)
        assert anew == from_rows(dear, costs) != before
        dear.fold()
        assert len(kept(log)) == 3
        assert told(dear, costs) == anew
    assert told(log, costs) == before
