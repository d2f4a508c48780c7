"""Appends of coroutines: one commit for all of one turn, each with its own outcome."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracemill import EventLog
from tracemill.errors import LogError, VersionConflict
from tracemill.events import FeedbackGiven, new_id
from tracemill.log.journal import Journal


def feedback(call_id: str = "") -> FeedbackGiven:
    return FeedbackGiven(call_id=call_id or new_id(), score=1.0)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events each commit had."""
    sizes: list[int] = []
    insert = Journal._insert

    def counted(journal: Journal, group: list) -> None:
        sizes.append(sum(len(append.drafts) for request in group for append in request.appends))
        insert(journal, group)

    monkeypatch.setattr(Journal, "_insert", counted)
    return sizes


def test_a_turn_of_the_loop_is_one_commit(log: EventLog, commits: list[int]):
    events = [feedback() for _ in range(30)]

    async def all_() -> list[list[int]]:
        return await asyncio.gather(*map(log.aappend, events))

    positions = asyncio.run(all_())
    assert commits == [30]
    assert positions == [[n] for n in range(1, 31)]
    assert [recorded.event for recorded in log.read()] == events


def test_who_comes_too_late_is_told_alone(log: EventLog):
    call = new_id()
    first, late, other = feedback(call), feedback(call), feedback()
    expected = {first.stream: 0}

    async def all_() -> list[object]:
        appends = [log.aappend(event, expected=expected) for event in (first, late)]
        return await asyncio.gather(*appends, log.aappend(other), return_exceptions=True)

    found = asyncio.run(all_())
    assert (found[0], found[2]) == ([1], [2])
    assert isinstance(found[1], VersionConflict)
    assert [recorded.event for recorded in log.read()] == [first, other]


def test_a_disk_that_refuses_is_told_to_all(log: EventLog, monkeypatch: pytest.MonkeyPatch):
    def refuse(journal: Journal, group: object) -> None:
        raise LogError("no")

    async def all_() -> list[object]:
        appends = [log.aappend(feedback()) for _ in range(3)]
        return await asyncio.gather(*appends, return_exceptions=True)

    with monkeypatch.context() as broken:
        broken.setattr(Journal, "_insert", refuse)
        assert [str(error) for error in asyncio.run(all_())] == ["no"] * 3
    assert asyncio.run(all_()) == [[1], [2], [3]]


def test_who_is_cancelled_leaves_it_recorded(log: EventLog):
    events = [feedback() for _ in range(3)]

    async def all_() -> list[object]:
        tasks = [asyncio.create_task(log.aappend(event)) for event in events]
        await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(all_())
    assert isinstance(found[1], asyncio.CancelledError)
    assert [recorded.event for recorded in log.read()] == events
