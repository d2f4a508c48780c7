"""The contract of an event log: what any store must do, whatever it is made of.

A store passes when a subclass of `EventLogContract` says how to open it and nothing else.
"""

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnContext
from pathlib import Path

import polars as pl
import pytest

from tests.log.made import call, harvested, indexed, many
from tracemill.errors import UsageError, VersionConflict
from tracemill.events import KINDS, Happened, Recorded, new_id
from tracemill.log import EventLog

Store = Callable[[Path], EventLog]

# What may have happened to the first events before somebody reads: a place for each kind of row.
STAGES: dict[str, Callable[[EventLog, list[Happened]], object]] = {
    "unsealed": lambda log, events: log.append(events),
    "sealed": lambda log, events: (log.append(events), log.fold()),
    "half sealed": lambda log, events: (
        log.append(events[:7]),
        log.fold(),
        log.append(events[7:]),
    ),
    "compacted": lambda log, events: (
        [(log.append(part), log.fold()) for part in (events[:3], events[3:8], events[8:11])],
        log.compact(),
        log.gc(grace_s=0),
        log.append(events[11:]),
    ),
}


def versions(log: EventLog) -> dict[str, list[int]]:
    """The versions of each stream, in the order of the log."""
    found: dict[str, list[int]] = {}
    for record in log.read():
        found.setdefault(record.stream, []).append(record.version)
    return found


def assert_sound(log: EventLog, count: int) -> None:
    """Positions and versions without gap or repeat, and every hash is right."""
    assert [r.position for r in log.read()] == list(range(1, count + 1))
    assert all(v == list(range(1, len(v) + 1)) for v in versions(log).values())
    times = [r.recorded_at for r in log.read()]
    assert times == sorted(times)
    assert log.verify().problems == ()


def _append_singly(store: Store, folder: Path, first: int, count: int) -> None:
    with store(folder) as log:
        for event in many(count, start=first):
            log.append(event)


def _append_same(store: Store, folder: Path, event: Happened, answer: "multiprocessing.SimpleQueue[list[int]]") -> None:  # fmt: skip
    with store(folder) as log:
        answer.put(log.append(event))


def _count_up(store: Store, folder: Path, times: int) -> None:
    with store(folder) as log:
        for _ in range(times):
            _add_one(log)


def _add_one(log: EventLog) -> None:
    """Read the counter, decide, append; again if someone was faster."""
    while True:
        last = [r.version for r in log.read(stream="index:counter")]
        try:
            log.append(
                indexed(len(last) + 1, name="counter"), expected={"index:counter": len(last)}
            )
        except VersionConflict:
            continue
        return


class EventLogContract:
    """Every test opens its store in an empty folder."""

    store: Store

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "log"

    @pytest.fixture
    def log(self, folder: Path) -> Iterator[EventLog]:
        with type(self).store(folder) as log:
            yield log

    @pytest.fixture
    def other(self, log: EventLog, folder: Path) -> Iterator[EventLog]:
        """A second object on the same folder in the same process."""
        with type(self).store(folder) as other:
            yield other

    @pytest.fixture
    def spawn(self) -> SpawnContext:
        return multiprocessing.get_context("spawn")

    # Append

    def test_an_empty_log_answers_everything(self, log: EventLog) -> None:
        assert log.position() == 0
        assert list(log.read()) == []
        assert log.sql("SELECT count(*) FROM events").item() == 0
        assert log.frame().collect().height == 0
        assert log.fold() == 0
        assert log.verify().ok

    def test_what_is_appended_is_read_back_with_its_place(self, log: EventLog) -> None:
        first, second, third = harvested(1), indexed(2), harvested(3)
        assert log.append([first, second]) == [1, 2]
        assert log.append(third) == [3]
        read = list(log.read())
        assert [r._replace(recorded_at=read[0].recorded_at) for r in read] == [
            Recorded(1, "source:records", 1, read[0].recorded_at, first),
            Recorded(2, "index:installed", 1, read[0].recorded_at, second),
            Recorded(3, "source:records", 2, read[0].recorded_at, third),
        ]
        assert log.position() == 3

    def test_events_may_come_from_a_generator(self, log: EventLog) -> None:
        assert log.append(harvested(i) for i in range(3)) == [1, 2, 3]

    def test_an_empty_append_changes_nothing(self, log: EventLog) -> None:
        assert log.append([]) == []
        assert log.append([], expected={"source:records": 7}) == []
        assert log.position() == 0

    def test_both_durabilities_store(self, log: EventLog) -> None:
        assert log.append(harvested(1), durability="power") == [1]
        assert log.append(harvested(2), durability="kill") == [2]
        with pytest.raises(UsageError, match="'kill' or 'power', not 'Power'"):
            log.append(harvested(3), durability="Power")  # type: ignore[arg-type]
        assert_sound(log, 2)

    def test_a_closed_log_opens_itself_again(self, log: EventLog) -> None:
        log.append(many(3))
        log.close()
        assert len(list(log.read())) == 3
        log.close()
        assert log.append(harvested()) == [4]

    def test_a_new_object_sees_all_of_the_past(self, log: EventLog, folder: Path) -> None:
        events = many(5)
        log.append(events)
        log.close()
        with type(self).store(folder) as again:
            assert [r.event for r in again.read()] == events

    def test_the_time_of_recording_never_goes_back(
        self, log: EventLog, other: EventLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import time

        log.append(harvested(1))
        monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
        other.append(harvested(2))
        log.fold()
        log.append(harvested(3))
        assert_sound(log, 3)

    # Exactly once

    @pytest.mark.parametrize("sealed", [False, True])
    def test_the_same_event_again_gives_its_old_position(
        self, log: EventLog, other: EventLog, sealed: bool
    ) -> None:
        events = many(4)
        log.append(events)
        if sealed:
            log.fold()
            log.compact()
        assert log.append(events[2]) == [3]
        assert other.append([harvested(), events[0], events[3]]) == [5, 1, 4]
        assert_sound(log, 5)

    def test_the_same_event_twice_in_one_batch_is_one_event(self, log: EventLog) -> None:
        one, two = many(2)
        assert log.append([one, two, one, two, two]) == [1, 2, 1, 2, 2]
        assert_sound(log, 2)

    def test_the_same_event_from_another_process_is_one_event(
        self, log: EventLog, folder: Path, spawn: SpawnContext
    ) -> None:
        event, answer = harvested(1), spawn.SimpleQueue()
        log.append([harvested(0), event])
        child = spawn.Process(target=_append_same, args=(type(self).store, folder, event, answer))
        child.start()
        assert answer.get() == [2]
        child.join()
        assert log.position() == 2

    # Expected versions

    def test_the_expected_version_lets_the_append_through(self, log: EventLog) -> None:
        assert log.append(harvested(1), expected={"source:records": 0}) == [1]
        assert log.append(harvested(2), expected={"source:records": 1, "index:none": 0}) == [2]

    @pytest.mark.parametrize("wrong", [0, 1, 3])
    def test_another_version_stores_nothing_and_says_what_it_is(
        self, log: EventLog, wrong: int
    ) -> None:
        log.append([harvested(1), harvested(2)])
        with pytest.raises(VersionConflict, match="at version 2") as caught:
            log.append([indexed(), harvested(3)], expected={"source:records": wrong})
        assert (caught.value.stream, caught.value.expected, caught.value.actual) == (
            "source:records",
            wrong,
            2,
        )
        assert log.position() == 2
        assert versions(log) == {"source:records": [1, 2]}

    def test_of_several_streams_all_must_be_as_expected(self, log: EventLog) -> None:
        log.append([harvested(1), indexed(1)])
        with pytest.raises(VersionConflict):
            log.append(harvested(2), expected={"source:records": 1, "index:installed": 0})
        assert log.position() == 2

    def test_the_retry_of_an_own_append_is_no_conflict(self, log: EventLog) -> None:
        batch = [harvested(1), harvested(2)]
        assert log.append(batch, expected={"source:records": 0}) == [1, 2]
        assert log.append(batch, expected={"source:records": 0}) == [1, 2]
        with pytest.raises(VersionConflict):
            log.append([*batch, harvested(3)], expected={"source:records": 0})
        assert log.position() == 2

    def test_of_many_who_decide_on_the_same_version_one_wins(
        self, folder: Path, spawn: SpawnContext
    ) -> None:
        store = type(self).store
        child = spawn.Process(target=_count_up, args=(store, folder, 20))
        child.start()
        threads = [threading.Thread(target=_count_up, args=(store, folder, 10)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for runner in (*threads, child):
            runner.join()
        with store(folder) as log:
            counted = [r.event.chunks for r in log.read(stream="index:counter")]  # type: ignore[attr-defined]
            assert counted == list(range(1, 51))
            assert_sound(log, 50)

    def test_versions_count_each_stream_for_itself(self, log: EventLog) -> None:
        events = many(10)
        log.append(events[:4])
        log.fold()
        log.append(events[4:])
        assert versions(log) == {
            "source:source 0": [1, 2, 3, 4],
            "source:source 1": [1, 2, 3],
            "source:source 2": [1, 2, 3],
        }

    # Read

    @pytest.mark.parametrize("stage", STAGES)
    def test_every_way_of_reading_agrees(self, log: EventLog, stage: str) -> None:
        events = [*many(6), indexed(1), *call(), *many(3), *call(None), indexed(2)]
        STAGES[stage](log, events)
        whole = list(log.read())
        assert [r.event for r in whole] == events
        for after in (0, 1, 7, 8, 14, 99):
            assert list(log.read(after)) == whole[after:]
            assert list(log.read(after, until=9)) == whole[after:9]
        assert list(log.read(-3)) == whole
        for kinds in (["index.built"], ["llm.call.started", "llm.call.failed"], list(KINDS)):
            mine = [r for r in whole if r.event.kind in kinds]  # type: ignore[attr-defined]
            assert list(log.read(kinds=kinds)) == mine
        for stream in {r.stream for r in whole} | {"nobody"}:
            mine = [r for r in whole if r.stream == stream]
            assert list(log.read(stream=stream)) == mine
            assert list(log.read(4, stream=stream, until=11)) == [
                r for r in mine if 4 < r.position <= 11
            ]

    @pytest.mark.parametrize("stage", STAGES)
    def test_tables_agree_with_what_is_read(self, log: EventLog, stage: str) -> None:
        STAGES[stage](log, [*many(6), indexed(1), *call(), *many(3), *call(None), indexed(2)])
        columns = [
            "position",
            "event_id",
            "kind",
            "stream",
            "version",
            "recorded_at",
            "occurred_at",
        ]
        expected = pl.DataFrame(
            [
                (
                    *(r.position, r.event.event_id, r.event.kind, r.stream, r.version),  # type: ignore[attr-defined]
                    *(r.recorded_at, r.event.occurred_at),
                )
                for r in log.read()
            ],
            schema=columns,
            orient="row",
        )
        by_sql = log.sql("SELECT * FROM events ORDER BY position")
        assert by_sql.select(columns).equals(expected.cast(by_sql.select(columns).schema))
        assert log.frame().sort("position").collect().equals(by_sql)
        assert pl.DataFrame(log.arrow("SELECT * FROM events ORDER BY position")).equals(by_sql)
        some = by_sql.filter((pl.col("position") > 3) & (pl.col("position") <= 12))
        kinds = ["index.built", "llm.call.finished"]
        assert log.frame(after=3, until=12).sort("position").collect().equals(some)
        assert log.sql("FROM events WHERE position > 3 ORDER BY 1", until=12).equals(some)
        assert (
            log.frame(kinds)
            .sort("position")
            .collect()
            .equals(by_sql.filter(pl.col("kind").is_in(kinds)))
        )

    def test_parameters_are_bound_not_pasted(self, log: EventLog) -> None:
        log.append(harvested(1, name="it's"))
        query = "SELECT count(*) FROM events WHERE stream = ?"
        assert log.sql(query, ["source:it's"]).item() == 1
        assert log.sql(query, ["' OR 1 = 1 --"]).item() == 0

    def test_a_query_that_does_not_run_is_the_callers_error(self, log: EventLog) -> None:
        log.append(harvested(1))
        for query in ("SELEC", "FROM nowhere", "SELECT CAST(kind AS INTEGER) FROM events"):
            with pytest.raises(UsageError, match="does not run"):
                log.sql(query)
        with pytest.raises(UsageError, match="two columns named 'kind'"):
            log.sql("SELECT a.kind, b.kind FROM events AS a, events AS b")
        assert log.sql("SELECT count(*) FROM events").item() == 1

    def test_a_kind_that_does_not_exist_is_refused(self, log: EventLog) -> None:
        for ask in (log.read, log.subscribe):
            with pytest.raises(UsageError, match=r"index\.built"):
                next(ask(kinds=["index.build"]))
        with pytest.raises(UsageError, match=r"index\.built"):
            log.frame(["index.build"])

    # The past

    def test_a_pin_shows_the_same_past_for_ever(self, log: EventLog) -> None:
        log.append([*call(), *call(None), *many(4)])
        assert log.pin("before") == 8
        query = "SELECT * FROM {} ORDER BY ALL"
        tables = ("events", "calls", "costs_by_day", "failures")
        then = [log.sql(query.format(table)) for table in tables]
        for _ in range(3):
            log.append([*call(), *call(None)])
            log.fold()
        log.compact()
        log.gc(grace_s=0)
        log.append(call())
        position = log.pins()["before"]
        now = [log.sql(query.format(table), until=position) for table in tables]
        assert all(a.equals(b) for a, b in zip(then, now, strict=True))
        assert log.frame(until=position).sort("position").collect().equals(then[0])

    def test_pins_have_names_and_move(self, log: EventLog, other: EventLog) -> None:
        log.append(many(5))
        assert (log.pin("b", 2), log.pin("a"), log.pin("b", 4), log.pin("zero", 0)) == (2, 5, 4, 0)
        assert other.pins() == {"a": 5, "b": 4, "zero": 0}
        for position in (-1, 6):
            with pytest.raises(UsageError, match="ends at 5"):
                log.pin("c", position)

    # Subscribe

    def test_a_subscriber_sees_everything_once_and_in_order(
        self, log: EventLog, other: EventLog
    ) -> None:
        log.append(many(5))
        events = log.subscribe(2, poll_s=0.001)
        seen = [next(events).position for _ in range(3)]
        for round_ in range(4):
            other.append(many(5))
            if round_ == 1:
                other.fold()
            if round_ == 2:
                other.fold()
                other.compact()
                other.gc(grace_s=0)
            seen += [next(events).position for _ in range(5)]
        assert seen == list(range(3, 26))

    def test_a_subscriber_sees_what_threads_append_while_it_is_folded_away(
        self, log: EventLog, other: EventLog
    ) -> None:
        def write() -> None:
            for batch in range(40):
                other.append(many(5, start=5 * batch))
                if batch % 10 == 9:
                    other.fold()

        writer = threading.Thread(target=write)
        writer.start()
        events = log.subscribe(poll_s=0.001)
        assert [next(events).position for _ in range(200)] == list(range(1, 201))
        writer.join()

    def test_a_subscriber_hears_only_the_kinds_it_asked_for(self, log: EventLog) -> None:
        log.append([*many(3), indexed(1), harvested(), indexed(2)])
        events = log.subscribe(kinds=["index.built"])
        assert [next(events).position for _ in range(2)] == [4, 6]

    def test_a_subscriber_ends_when_it_is_told_to(self, log: EventLog) -> None:
        log.append(many(2))
        stop = threading.Event()
        seen: list[int] = []
        for record in log.subscribe(stop=stop):
            seen.append(record.position)
            if len(seen) == 2:
                stop.set()
        assert seen == [1, 2]

    # Housekeeping

    def test_folding_compacting_and_deleting_change_no_answer(self, log: EventLog) -> None:
        for part in range(4):
            log.append([*many(10, start=10 * part), indexed(part), *call()])
            assert log.fold() == 13
        assert log.fold() == 0
        before, answers = list(log.read()), log.sql("FROM calls ORDER BY ALL")
        assert len(log.segments()) == 4
        assert log.compact() == 4
        assert len(log.segments()) == 1
        assert log.gc() == 0
        assert list(log.read()) == before
        assert log.gc(grace_s=0) == 4
        assert log.compact() == 0
        assert list(log.read()) == before
        assert log.sql("FROM calls ORDER BY ALL").equals(answers)
        assert_sound(log, 52)

    def test_a_fold_says_how_far_it_is(self, log: EventLog) -> None:
        log.append(many(12))
        done: list[int] = []
        log.fold(done.append)
        assert sum(done) == 12

    def test_a_long_tail_is_sealed_without_anybody_asking(self, folder: Path) -> None:
        with EventLog(folder, fold_after_events=20) as log:
            log.append(many(30))
            last = next(r for r in log.read(after=29))
            deadline, waited = threading.Event(), 0
            while not log.segments() and waited < 300:
                deadline.wait(0.1)
                waited += 1
            assert len(log.segments()) == 1
            assert last.position == 30
            assert_sound(log, 30)

    # Many at once

    def test_threads_share_one_object_and_their_commits(self, log: EventLog) -> None:
        positions: dict[int, list[int]] = {}

        def write(number: int) -> None:
            mine = [log.append(harvested(i, name=f"thread {number}"))[0] for i in range(40)]
            positions[number] = mine

        threads = [threading.Thread(target=write, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(p for mine in positions.values() for p in mine) == list(range(1, 641))
        for number, mine in positions.items():
            stream = list(log.read(stream=f"source:thread {number}"))
            assert [r.position for r in stream] == mine
            assert [r.event.items for r in stream] == list(range(40))  # type: ignore[attr-defined]
        assert_sound(log, 640)

    def test_a_conflict_in_one_thread_harms_no_other(self, log: EventLog) -> None:
        log.append(harvested())
        conflicts: list[VersionConflict] = []

        def write(number: int) -> None:
            for i in range(20):
                if number % 2:
                    log.append(harvested(i, name=f"thread {number}"))
                    continue
                try:
                    log.append(harvested(i), expected={"source:records": 0})
                except VersionConflict as conflict:
                    conflicts.append(conflict)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(conflicts) == 80
        assert_sound(log, 81)

    def test_processes_and_objects_write_side_by_side_while_it_is_folded(
        self,
        log: EventLog,
        folder: Path,
        spawn: SpawnContext,
    ) -> None:
        store = type(self).store
        children = [
            spawn.Process(target=_append_singly, args=(store, folder, 1000 * n, 100))
            for n in range(2)
        ]
        threads = [
            threading.Thread(target=_append_singly, args=(store, folder, 10_000 * n, 100))
            for n in range(1, 3)
        ]
        for runner in (*children, *threads):
            runner.start()
        while any(runner.is_alive() for runner in (*children, *threads)):
            log.fold()
            count = log.sql("SELECT count(*), max(position) FROM events").row(0)
            assert count[0] == (count[1] or 0)
            children[0].join(0.05)
        for runner in (*children, *threads):
            runner.join()
        assert [c.exitcode for c in children] == [0, 0]
        assert_sound(log, 400)

    def test_verify_is_right_while_others_write_and_fold(
        self, log: EventLog, other: EventLog
    ) -> None:
        log.append(many(50))
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                other.append(many(7))
                other.fold()
                other.compact()
                other.gc(grace_s=0)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            found = [log.verify().problems for _ in range(8)]
        finally:
            stop.set()
            writer.join()
        assert found == [()] * 8

    def test_ids_are_unique_and_ordered_in_time(self) -> None:
        ids = [new_id() for _ in range(1000)]
        assert len(set(ids)) == 1000
        assert [i[:8] for i in ids] == sorted(i[:8] for i in ids)
