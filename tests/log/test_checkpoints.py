"""The WAL begins anew, by a thread that nobody waits for, and by who appends where that is stuck."""

import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.log.made import harvested
from tracemill import EventLog
from tracemill.log import checkpoints


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventLog]:
    monkeypatch.setattr(checkpoints, "_PAGES", 40)
    monkeypatch.setattr(checkpoints, "_MOST_PAGES", 120)
    with EventLog(tmp_path / "log") as log:
        yield log


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tracemill checkpoint"]


def test_the_wal_begins_anew_while_others_append(log: EventLog):
    made = log._journal._checkpoints
    for _ in range(3):
        while not threads():
            log.append(harvested())
        for thread in threads():
            thread.join()
        log.append(harvested())
        assert made._pages < 40
    assert log.position() == len(list(log.read()))
    assert log.verify().problems == ()


def test_where_the_thread_is_stuck_who_appends_does_it(log: EventLog):
    made = log._journal._checkpoints
    wal = log.folder / "journal.db-wal"
    with made.idle:
        for _ in range(200):
            log.append(harvested())
    assert wal.stat().st_size < 200 * 4096
    assert log.verify().problems == ()


def test_a_fork_waits_for_it_and_the_child_makes_its_own(log: EventLog):
    for _ in range(3):
        while not threads():
            log.append(harvested())
        with warnings.catch_warnings(action="ignore"):  # that there are threads
            child = os.fork()
        if not child:
            try:
                while not threads():
                    log.append(harvested())
                for thread in threads():
                    thread.join()
            finally:
                os._exit(len(log._journal.problems()))
        assert os.waitpid(child, 0)[1] == 0
    assert log.verify().problems == ()
