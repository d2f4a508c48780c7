"""What is emptied is gone from every file, and the log still keeps all its laws."""

import os
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from tests.log.made import NOON, call, events, harvested, indexed
from tests.log.remains import found_in
from tracemill.errors import UnknownKind, UsageError
from tracemill.events import (
    KINDS,
    EventRemoved,
    FeedbackGiven,
    FileBatchRequested,
    GuardDecided,
    Happened,
    LlmCallCached,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallStarted,
    LogErased,
    ModelPromoted,
    Positions,
    PromptVersionAdded,
    RagAnswered,
    new_id,
)
from tracemill.log import EventLog, Older, rows, segments, tables
from tracemill.log.figures import FIGURES, STATE, emptied, free_fields
from tracemill.log.journal import Journal
from tracemill.log.persons import word_of
from tracemill.messages import Message, Usage

FULL = bool(os.environ.get("TRACEMILL_TEST_FULL"))
PLANTED = "zebrafink"
quick = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# What stays of an event


def _raw(event: Happened) -> tuple[Any, ...]:
    draft = rows.draft(event)
    place = (7, draft.event_id, draft.kind, draft.schema_version, draft.stream, 3)
    return (*place, 1_772_366_400_000_000, draft.occurred_us, *draft.rest, b"d" * 16)


def _planted(value: Any) -> Any:
    if isinstance(value, str):
        return f"{PLANTED} {len(value)}"
    if isinstance(value, list):
        return [_planted(each) for each in value]
    if isinstance(value, dict):
        return {f"{PLANTED} {i}": _planted(each) for i, each in enumerate(value.values())}
    return value


def _full_of_names(event: Happened) -> tuple[Any, ...]:
    """The row of an event whose every free text is the planted one."""
    row = dict(zip(rows.COLUMNS, _raw(event), strict=True))
    payload = from_json(row["payload"])
    for name in free_fields(row["kind"]) & payload.keys():
        payload[name] = _planted(payload[name])
    if "usage" in payload:
        payload["usage"]["raw"] = {"said": PLANTED}
    row["payload"] = to_json(payload).decode()
    row |= dict.fromkeys(
        (*rows.ENVELOPE, "user_id", "conversation_id", "key_id", "metadata"), PLANTED
    )
    return tuple(row.values())


@pytest.mark.parametrize("kind", KINDS)
@settings(quick, max_examples=20 if FULL else 2)
@given(data=st.data())
def test_no_name_and_no_text_stays_in_an_event_of_any_kind(kind: str, data: st.DataObject) -> None:
    event = data.draw(events([kind]))
    before = _full_of_names(event)
    for figures in (True, False):
        after = emptied(before, figures=figures)
        assert PLANTED not in str(after)
        assert emptied(after, figures=figures) == after
        kept = {"position", "event_id", "stream", "version", "recorded_at", "digest"}
        places = [i for i, name in enumerate(rows.COLUMNS) if name in kept]
        assert [after[i] for i in places] == [before[i] for i in places]
        read = rows.recorded(rows.from_journal(after)).event
        assert read.erased
        if figures or KINDS[kind].keep or kind == "log.event_removed":
            assert type(read) is type(event)
        else:
            assert isinstance(read, EventRemoved)
            assert read.was == kind


@settings(quick, max_examples=15)
@given(events(["llm.call.finished", "llm.call.failed", "llm.call.aborted"]))
def test_figures_of_a_call_stay_what_they_were(event: Happened) -> None:
    free = free_fields(getattr(event, "kind")) | {"error_message"}  # noqa: B009
    before, after = _raw(event), emptied(_raw(event), figures=True)
    for name, old, new in zip(rows.COLUMNS, before, after, strict=True):
        if name in rows.HOT:
            assert new in (None, "") if name in free else new == old, name


def test_the_allow_list_names_only_fields_that_exist() -> None:
    nested = {"billed", "test", "split", "sha256", "rows"}
    fields = {name for cls in KINDS.values() for name in cls.model_fields}
    assert (FIGURES | STATE) - fields <= nested
    assert {"messages", "content", "error_message", "metadata", "question"}.isdisjoint(FIGURES)


def test_what_state_is_made_of_stays() -> None:
    prompt = PromptVersionAdded(
        name="p", version="v", template="hi {x}", system="s", variables={"x": "string"},
        description="by Ann", actor="ann",
    )  # fmt: skip
    left = rows.recorded(rows.from_journal(emptied(_raw(prompt), figures=False))).event
    gone = {"description": "", "actor": None, "erased": True}
    assert left == prompt.model_copy(update=gone)


# What stays in the files


def _talk(name: str, at: datetime = NOON) -> list[Happened]:
    """A call of somebody, whose every text is planted."""
    same: dict[str, Any] = {
        "call_id": new_id(), "provider": "local", "request_model": "m", "user_id": name,
        "conversation_id": f"{name} 1", "metadata": {"who": name}, "occurred_at": at, "actor": name,
    }  # fmt: skip
    return [
        LlmCallStarted(messages=(Message(role="user", content=f"I am {name}"),), **same),
        LlmCallFinished(
            response_model="m", content=f"Hello {name}", finish_reasons=("stop",), latency_ms=2,
            usage=Usage(input_tokens=5, output_tokens=2, raw={"id": name}),
            cost_usd=Decimal("0.25"), **same,
        ),
    ]  # fmt: skip


def _everywhere(folder: Path) -> tuple[EventLog, list[int]]:
    """A log that holds the planted word in every kind of place; and where."""
    log = EventLog(folder)
    places: list[int] = []

    def add(*made: Happened) -> None:
        places.extend(log.append(made))

    for part in range(3):
        add(*_talk(PLANTED))
        log.append([*_talk("someone else"), harvested(part), indexed(part)])
        add(indexed(part).model_copy(update={"event_id": new_id(), "actor": PLANTED}))
        log.fold()
        if part == 1:
            log.compact()  # the two before live on for a day
    orphan = log.segments()[0]
    (orphan.parent / f"{orphan.name[:26]}abcdef.parquet").write_bytes(orphan.read_bytes())
    (orphan.parent / f".{orphan.name}.1234.tmp").write_bytes(orphan.read_bytes())
    add(*_talk(PLANTED))
    log.append(_talk("someone else"))
    log.append(call(None, prompt="nothing of it"))
    return log, places


def test_no_byte_of_any_file_holds_what_was_emptied(tmp_path: Path) -> None:
    log, places = _everywhere(tmp_path / "log")
    other = EventLog(log.folder)
    costs = log.sql("FROM costs_by_day").drop(["day"])
    others = [r for r in log.read() if r.position not in places]
    assert other.arrow("FROM events").num_rows == log.position()
    assert found_in(tmp_path, PLANTED)

    done = log.erase(places, reason="forgotten", figures=True, actor="the office")

    assert (done.events, done.segments) == (11, 2)
    assert found_in(tmp_path, PLANTED) == []
    assert found_in(tmp_path, "someone else")
    assert log.verify().problems == ()
    for reader in (log, other):
        assert PLANTED not in str(reader.arrow("FROM events").to_pylist())
        assert reader.frame().collect().height == log.position()
    assert [r for r in log.read() if r.position not in {*places, *done.positions}] == others
    assert log.sql("FROM costs_by_day").drop(["day"]).equals(costs)
    assert [r.event.erased for r in log.read() if r.position in places] == [True] * 11
    assert [r.version for r in log.read(stream="index:installed")] == list(range(1, 7))
    [voucher] = [r.event for r in log.read(kinds=["log.erased"])]
    assert isinstance(voucher, LogErased)
    assert voucher.counts == {"index.built": 3, "llm.call.finished": 4, "llm.call.started": 4}

    # Done is done; the same ids are still known; and the log goes on.
    assert log.erase(places, reason="forgotten", figures=True).events == 0
    event = next(r.event for r in log.read() if r.position == places[0])
    assert log.append(event) == [places[0]]
    assert log.append(harvested()) == [done.positions[0] + 1]
    log.fold()
    log.compact()
    assert found_in(tmp_path, PLANTED) == []
    assert log.verify().problems == ()


def test_figures_may_go_later(tmp_path: Path) -> None:
    with EventLog(tmp_path / "log") as log:
        log.append(_talk("ann"))
        log.fold()
        assert log.erase([1, 2], reason="retention", figures=True).events == 2
        assert log.erase([1, 2], reason="retention", figures=False).counts == {
            "llm.call.finished": 1,
            "llm.call.started": 1,
        }
        first, second, *_ = log.read()
        assert isinstance(first.event, EventRemoved)
        assert (first.event.was, second.version) == ("llm.call.started", 2)
        assert first.stream == second.stream
        assert first.stream.startswith("call:")
        assert log.verify().problems == ()
        assert log.sql("FROM calls").height == 0


def test_an_index_of_failures_forgets_too(tmp_path: Path) -> None:
    with EventLog(tmp_path / "log") as log:
        log.append(call(None, prompt=f"the {PLANTED} question of somebody"))
        assert log.find_similar_failures(f"{PLANTED} question")["prompt"][0]
        log.erase([1, 2], reason="forgotten", figures=True)
        assert PLANTED not in str(log.find_similar_failures("a question").to_dicts())


# Retention


def test_old_events_go_by_kind_and_age(tmp_path: Path) -> None:
    with EventLog(tmp_path / "log") as log:
        log.append(_talk("ann", NOON - timedelta(days=9)))
        log.append([*_talk("bob"), harvested(occurred_at=NOON - timedelta(days=9)), indexed()])
        log.fold()
        old = Older(NOON - timedelta(days=1), ("llm.call.*", "feedback*", "log.*")[:1])
        assert log.erase(old, reason="retention", figures=True).counts == {
            "llm.call.finished": 1,
            "llm.call.started": 1,
        }
        everything = Older(datetime(2100, 1, 1, tzinfo=UTC))
        assert log.erase(everything, reason="retention", figures=False).counts == {
            "llm.call.finished": 2,
            "llm.call.started": 2,
            "source.harvested": 1,
        }
        assert [r.event.kind for r in log.read() if r.event.keep] == [  # type: ignore[attr-defined]
            "index.built",
            "log.erased",
            "log.erased",
        ]
        assert log.verify().problems == ()


@pytest.mark.parametrize(
    ("which", "words"),
    [
        (Older(NOON, ("model.*",)), "model.* is never emptied because of its age"),
        (Older(NOON, ("index.built",)), "index.built is never emptied"),
        (Older(NOON, ("lmm.*",)), "no event is called 'lmm.*'"),
        (Older(NOON.replace(tzinfo=None)), "no time zone"),
        ([1, 2], "position 2 (index.built) is never emptied"),
        ([3], "there is no position 3: the log has 1 to 2"),
    ],
)
def test_what_must_stay_is_refused(tmp_path: Path, which: Any, words: str) -> None:
    with EventLog(tmp_path / "log") as log:
        log.append([harvested(), indexed()])
        with pytest.raises(UsageError) as error:
            log.erase(which, reason="retention", figures=True)
        assert words in str(error.value)
        assert log.position() == 2


def test_an_event_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    log.append([harvested(), harvested(1)])
    raw = list(_raw(harvested(2)))
    with pytest.raises(UnknownKind):
        emptied((*raw[:2], "from.the.future", *raw[3:]), figures=True)
    with pytest.raises(UnknownKind):
        emptied((*raw[:3], 99, *raw[4:]), figures=False)


# Verifying


def test_nobody_can_empty_or_alter_a_row_unseen(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    log.append([*_talk("ann"), *_talk("bob")])
    log.close()
    journal = Journal(log.folder)
    first = journal.following(0, 1)[0]

    def put(raw: tuple[Any, ...]) -> tuple[str, ...]:
        with journal.writing() as work:
            tables.empty(work, [raw], 1, 1)
        return log.verify().problems

    assert put(emptied(first, figures=True)) == (
        "position 1: was emptied, and no log.erased says so",
    )
    log.append(
        LogErased(
            reason="forgotten", positions=(Positions(first=2, last=9),), figures=True, counts={}
        )
    )
    assert len(put(emptied(first, figures=True))) == 1
    log.append(
        LogErased(
            reason="forgotten", positions=(Positions(first=1, last=1),), figures=True, counts={}
        )
    )
    assert put(emptied(first, figures=True)) == ()
    altered = emptied(first, figures=True)
    changed = (
        altered[-2]
        .replace('"m"', '"n"')
        .replace('"request_model"', '"question":"?","request_model"')
    )
    assert "position 1: does not match its digest" in put((*altered[:-2], changed, altered[-1]))
    journal.close()


# Others who read meanwhile


def test_readers_find_what_they_look_for_while_files_go(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    for _ in range(4):
        log.append([*_talk("ann"), *_talk("bob")])
        log.fold()
    end, errors, rounds = log.position(), list[str](), [0, 0]
    stop = threading.Event()

    def ask() -> None:
        reader = EventLog(log.folder)
        try:
            while not stop.is_set():
                table = reader.arrow(
                    "SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM events"
                )
                if not table["n"][0].as_py() == table["ids"][0].as_py() >= end:
                    errors.append(f"{table.to_pylist()}")
                rounds[0] += 1
        except Exception as error:  # noqa: BLE001 (any error at all is a finding)
            errors.append(repr(error))

    def page() -> None:
        reader = EventLog(log.folder)
        try:
            while not stop.is_set():
                seen = [record.position for record in reader.read(until=end)]
                if seen != list(range(1, end + 1)):
                    errors.append(f"read {seen}")
                rounds[1] += 1
        except Exception as error:  # noqa: BLE001 (any error at all is a finding)
            errors.append(repr(error))

    threads = [threading.Thread(target=each) for each in (ask, page)]
    for thread in threads:
        thread.start()
    for offset in range(2):
        log.erase(range(1 + offset, end + 1, 2), reason="forgotten", figures=offset % 2 == 0)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert min(rounds) > 0
    assert log.verify().problems == ()


def test_a_question_names_a_file_that_is_truly_missing(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    log.append(_talk("ann"))
    log.fold()
    log.segments()[0].unlink()
    with pytest.raises(Exception, match="is missing: it holds the events 1 to 2"):
        log.arrow("FROM events")


# A person


def test_a_person_is_found_wherever_they_are(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    ann, joanne, bob = _talk("ann"), _talk("joanne"), _talk("bob")
    ann_call, bob_call = (each[0].call_id for each in (ann, bob))  # type: ignore[attr-defined]
    hers: list[Happened] = [
        *ann,
        GuardDecided(call_id=ann_call, rule="pii", side="input", action="flagged", message="m"),
        FeedbackGiven(call_id=ann_call, score=1, comment="from bob", user_id="bob"),
        FeedbackGiven(call_id=bob_call, score=1, user_id="ann"),
        RagAnswered(
            index="i", index_digest="d", question="?", call_id=ann_call, chunk_ids=(), scores=(),
            not_found=True, latency_ms=1,
        ),
        LlmCallCached(
            call_id=new_id(), provider="p", request_model="m", cached_call_id=ann_call,
            latency_ms=1, user_id="bob",
        ),
        ModelPromoted(name="m", digest="d", reason="because Bob asked ann.", actor="bob"),
        harvested(actor="ann"),
        harvested(actor="scripts of ann"),
        LlmCallFailed(
            call_id=new_id(), provider="p", request_model="m", latency_ms=1, error_type="timeout",
            error_message='no "ann" here\nann\tthere',
        ),
    ]  # fmt: skip
    not_hers: list[Happened] = [
        *joanne,
        *bob,
        FeedbackGiven(call_id=bob_call, score=1, comment="ann@example.org, ann-marie, Ann, anna"),
        harvested(name="ann"),  # a name of a thing
        call(prompt="hello")[0],
    ]
    mixed = [event for pair in zip(hers, [*not_hers, *hers], strict=False) for event in pair]
    log.append(mixed)
    log.fold()
    log.append([*hers, *not_hers])  # those that are there already are not appended again
    expected = {r.position for r in log.read() if r.event in hers}
    held = log.of_person("ann")
    assert set(held.positions) == expected
    assert held.positions == tuple(sorted(expected))
    assert held.call_ids == (ann_call,)
    assert log.of_person("nobody").positions == ()
    assert log.of_person("user").positions == ()
    log.erase(held.positions, reason="forgotten", figures=True)
    assert log.of_person("ann") == ((), ())
    assert log.verify().problems == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ann", True), ("by ann.", True), ("ann, bob", True), ("<ann>", True), ("user:ann", True),
        ("joanne", False), ("anna", False), ("ann@x.org", False), ("x@ann", False),
        ("ann-marie", False), ("mary-ann", False), ("ann.smith", False), ("ann_1", False),
        ("änn ann", True), ("éann", False), ("-ann-", True), ("Ann", False),
    ],
)  # fmt: skip
def test_a_word_of_its_own(text: str, found: bool) -> None:
    assert bool(word_of("ann").search(text)) is found
    assert bool(word_of("a.n+1@x").search(text.replace("ann", "a.n+1@x"))) is found


def test_a_killed_eraser_leaves_a_list_that_a_fold_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, places = _everywhere(tmp_path / "log")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(segments, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            log.erase(places, reason="forgotten", figures=True)
    assert found_in(tmp_path, PLANTED)
    log.fold()
    assert found_in(tmp_path, PLANTED) == []
    assert len(list(log.read(kinds=["log.erased"]))) == 1
    assert log.verify().problems == ()


def test_a_batch_of_files_can_still_be_written_when_its_tags_are_gone(tmp_path: Path) -> None:
    asked = FileBatchRequested(
        batch_id=new_id(),
        input_file_id=new_id(),
        endpoint="/v1/chat/completions",
        completion_window="24h",
        total=1,
        metadata={"for": "ann@example.org"},
    )
    with EventLog(tmp_path / "log") as log:
        positions = log.append(asked)
        log.erase(positions, reason="forgotten", figures=True)
        [left] = [each.event for each in log.read(stream=asked.stream)]
    assert left == asked.model_copy(update={"metadata": {}, "erased": True})
