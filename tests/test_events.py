"""Events: what every class promises."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from tests.log.made import call, events, harvested
from tracemill.events import (
    KINDS,
    Event,
    Happened,
    LlmCallFinished,
    LlmCallStarted,
    new_id,
    parse,
)
from tracemill.log import EventLog
from tracemill.messages import Message


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_past_fact_with_a_documented_class_and_fields(kind: str) -> None:
    cls = KINDS[kind]
    assert cls.__doc__
    assert cls.__doc__.strip().endswith(".")
    for name, field in cls.model_fields.items():
        if name != "kind":
            assert field.description, f"{cls.__name__}.{name} says nothing of itself"
    assert cls.schema_version >= 1
    assert kind == kind.lower()
    assert "." in kind


def test_the_union_holds_every_class_of_its_own_kind_once() -> None:
    classes = get_args(get_args(Event)[0])
    assert len({c.model_fields["kind"].default for c in classes}) == len(classes)
    leaves = {c for c in _subclasses(Happened) if "kind" in c.model_fields}
    assert {c for c in leaves if c.__module__.startswith("tracemill.events.")} == set(classes)


def _subclasses(cls: type[Happened]) -> set[type[Happened]]:
    return {s for c in cls.__subclasses__() for s in (c, *_subclasses(c))}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(events())
def test_an_event_is_parsed_by_its_kind_and_equals_itself(event: Happened) -> None:
    assert parse(event.model_dump()) == event
    assert type(event).model_validate_json(event.model_dump_json()) == event
    assert event.stream
    assert "\n" not in event.stream


def test_events_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        harvested(1).items = 2  # type: ignore[misc]


def test_a_misspelt_field_or_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="itmes"):
        harvested(1, itmes=2)
    with pytest.raises(ValidationError, match="kind"):
        parse({"kind": "source.harvestd"})


def test_times_are_utc_and_naive_ones_are_refused() -> None:
    berlin = timezone(timedelta(hours=2))
    event = harvested(occurred_at=datetime(2026, 5, 1, 1, tzinfo=berlin))
    assert event.occurred_at == datetime(2026, 4, 30, 23, tzinfo=UTC)
    assert event.occurred_at.tzinfo is UTC
    with pytest.raises(ValidationError, match="timezone"):
        harvested(occurred_at=datetime(2026, 5, 1))  # noqa: DTZ001


@pytest.mark.parametrize("bad", ["a\nb", "\x00", "a\x1f", "x" * 201])
def test_a_label_is_one_short_line(bad: str) -> None:
    with pytest.raises(ValidationError):
        harvested(name=bad)
    with pytest.raises(ValidationError):
        harvested(actor=bad)


def test_ids_are_written_in_one_way() -> None:
    plain = new_id()
    for form in (plain.upper(), plain.replace("-", ""), f"{{{plain}}}"):
        assert harvested(event_id=form).event_id == plain
    with pytest.raises(ValidationError):
        harvested(event_id="one")


@pytest.mark.parametrize("cost", ["-1", "NaN", "Infinity", "1000000000"])
def test_a_cost_is_an_amount_of_money(cost: str) -> None:
    finished = call()[1]
    assert isinstance(finished, LlmCallFinished)
    with pytest.raises(ValidationError):
        LlmCallFinished.model_validate(finished.model_dump() | {"cost_usd": cost})


@pytest.mark.parametrize("latency", ["nan", "inf", "-1"])
def test_a_latency_is_a_finite_duration(latency: str) -> None:
    with pytest.raises(ValidationError):
        LlmCallFinished.model_validate(call()[1].model_dump() | {"latency_ms": float(latency)})


def test_a_later_event_has_a_later_id() -> None:
    ids = [harvested().event_id for _ in range(100)]
    assert sorted(ids, key=lambda i: i[:13]) == ids


def test_half_a_character_is_recorded_as_a_replacement(tmp_path: Path) -> None:
    call_id = new_id()
    cut = Message(role="user", content="smile \ud83d, whole \U0001f600")
    started = LlmCallStarted(call_id=call_id, provider="local", request_model="m", messages=(cut,))
    with EventLog(tmp_path / "log") as log:
        log.append(started)
        (recorded,) = log.read()
        assert log.verify().ok
    assert isinstance(recorded.event, LlmCallStarted)
    assert recorded.event.event_id == started.event_id
    assert recorded.event.messages[0].content == "smile \ufffd, whole \U0001f600"
