"""Forks and threads: parent and child go on with the same object, and neither harms the other."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.log.made import harvested, indexed, many
from tracemill.errors import UsageError
from tracemill.events import new_id
from tracemill.log import EventLog

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork:DeprecationWarning",  # Python 3.12 and later
    "ignore:Using fork:RuntimeWarning",
)


FORKS = 8
"""Of a process whose threads write and ask meanwhile."""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


def forked(work: Callable[[], object]) -> int:
    """Do `work` in a forked child; gives its process id. Whatever it raises ends it with status 1."""
    child = _fork()
    if child == 0:
        status = 1
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)  # a child that hangs has failed
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def _fork() -> int:
    while True:
        try:
            return os.fork()
        except RuntimeError as error:
            # filelock, once another test has imported it, allows one fork at a time.
            if "filelock" not in str(error):
                raise


def ended_well(*children: int) -> bool:
    return [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)


def test_parent_and_child_append_to_the_same_log(log: EventLog) -> None:
    log.append(many(5))

    def work() -> None:
        for event in many(50):
            log.append(event)
        assert log.verify().ok
        log.close()

    children = [forked(work) for _ in range(3)]
    for event in many(50):
        log.append(event)
    assert ended_well(*children)
    assert [r.position for r in log.read()] == list(range(1, 206))
    assert log.verify().problems == ()


def test_a_fork_while_threads_append_and_ask_neither_hangs_nor_loses(log: EventLog) -> None:
    log.append(many(5))
    log.arrow("FROM events")  # what is imported in the middle of a fork is Python's affair
    stop, acknowledged = threading.Event(), []

    def write() -> None:
        while not stop.is_set():
            acknowledged.extend(log.append(many(3)))

    def ask() -> None:
        while not stop.is_set():
            n, m = (
                log.arrow("SELECT count(*) n, max(position) m FROM events").to_pylist()[0].values()
            )
            assert n == m

    def work() -> None:
        first = log.append([harvested(), indexed()])
        assert [r.position for r in log.read(first[0] - 1, until=first[0])] == first[:1]
        answer = log.arrow("SELECT count(*) FROM events WHERE position = ?", [first[0]])
        assert answer.to_pylist()[0].popitem()[1] == 1

    threads = [threading.Thread(target=t) for t in (write, write, ask)]
    for thread in threads:
        thread.start()
    try:
        assert all(ended_well(forked(work)) for _ in range(FORKS))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    records = list(log.read())
    assert [r.position for r in records] == list(range(1, len(records) + 1))
    assert len(records) == 5 + len(acknowledged) + 2 * FORKS
    assert log.verify().problems == ()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_way_to_start_a_process_works(log: EventLog, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    log.append(many(5))
    log.arrow("FROM events")
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=_append, args=(log.folder,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert log.position() == 15
    assert log.verify().ok


def _append(folder: Path) -> None:
    with EventLog(folder) as log:
        log.append(many(10))
        assert log.arrow("SELECT count(*) FROM events").to_pylist()[0].popitem()[1] == 15


def test_ids_differ_between_parent_and_children() -> None:
    new_id()
    read, write = os.pipe()

    def work() -> None:
        os.write(write, "".join(new_id() + "\n" for _ in range(50)).encode())

    assert ended_well(*[forked(work) for _ in range(4)])
    os.close(write)
    with os.fdopen(read) as lines:
        ids = [*lines.read().split(), *[new_id() for _ in range(50)]]
    assert len(set(ids)) == 250


def test_a_subscriber_misses_nothing_over_a_fork(log: EventLog) -> None:
    log.append(many(2))
    events = log.subscribe(poll_s=0.001)
    assert [next(events).position for _ in range(2)] == [1, 2]
    assert ended_well(forked(lambda: log.append(many(3))))
    assert [next(events).position for _ in range(3)] == [3, 4, 5]


def test_an_answer_after_a_close_or_a_fork_is_fresh(log: EventLog) -> None:
    """The number by which SQLite tells that something changed starts anew with each connection."""
    with EventLog(log.folder) as other:
        for close in (log.close, lambda: ended_well(forked(lambda: None))):
            for _ in range(4):
                other.append(harvested())
                assert log.sql("SELECT count(*) FROM events").item() == other.position()
                close()


def test_where_polars_would_hang_the_child_is_told(log: EventLog) -> None:
    log.append(many(2))
    log.frame().collect()

    def work() -> None:
        assert len(list(log.read())) == 2
        with pytest.raises(UsageError, match="spawn"):
            log.sql("FROM events")

    assert ended_well(forked(work))


def test_threads_may_fork_at_once_while_others_open_logs(tmp_path: Path) -> None:
    logs = [EventLog(tmp_path / f"log {n}") for n in range(3)]
    stop, ended = threading.Event(), []

    def open_and_write() -> None:
        while not stop.is_set():
            for n in range(5):
                EventLog(tmp_path / f"other {n}").append(harvested())

    def fork() -> None:
        for _ in range(12):
            ended.append(ended_well(forked(lambda: [log.append(harvested()) for log in logs])))

    opener = threading.Thread(target=open_and_write)
    forkers = [threading.Thread(target=fork) for _ in range(3)]
    for thread in (opener, *forkers):
        thread.start()
    for thread in forkers:
        thread.join()
    stop.set()
    opener.join()
    assert ended == [True] * 36
    for log in logs:
        assert log.position() == 36
        assert log.verify().problems == ()
        log.close()
