"""Whoever is killed while it empties or restores leaves a log that the next run completes."""

import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kill import Death, die_at
from tests.log.made import call, harvested, indexed
from tests.log.remains import found_in
from tracemill.events import new_id
from tracemill.log import EventLog, restore

FULL = bool(os.environ.get("TRACEMILL_TEST_FULL"))
PLANTED = "zebrafink"
ERASE = [
    Death("begin_erasing", 1, after=True),
    Death("replace_segments", 2, after=True),
    Death("empty", 1, after=True),
    Death("empty", 3, after=False),
    Death("unlink", 2, after=False),
    Death("scrub", 1, after=True),
]
RESTORE = [
    *(Death("_exchange", 1, after) for after in (False, True)),
    Death("rename", 1, after=True),
]
if FULL:
    steps = ("empty", "replace_segments", "forget", "set_mark", "_write_parquet", "sha256_of")
    ERASE += [
        Death(mark, call_, after)
        for mark in (*steps, "rename", "unlink", "fsync", "write_catalogue", "end_erasing")
        for call_ in (1, 2, 3)
        for after in (False, True)
    ]
    RESTORE += [
        Death(mark, call_, after)
        for mark in ("copy_file", "rename", "fsync", "unlink")
        for call_ in (1, 2, 3)
        for after in (False, True)
    ]


def _killed_at(death: Death, work: Callable[..., Any], *arguments: Any) -> int | None:
    """Do the work in a process that kills itself at the step; returns its exit code."""

    def run() -> None:
        die_at(death)
        work(*arguments)

    process: Any = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    return process.exitcode


def _erase(folder: Path, places: list[int]) -> None:
    EventLog(folder).erase(places, reason="forgotten", figures=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A log with planted events in two segments, in a kept stream and in the tail; a backup."""
    folder = tmp_path_factory.mktemp("made")
    log = EventLog(folder / "log")
    places: list[int] = []
    for part in range(3):
        places += log.append(call(PLANTED, prompt=PLANTED))
        log.append([*call("other"), harvested(part)])
        places += log.append(
            indexed(part).model_copy(update={"actor": PLANTED, "event_id": new_id()})
        )
        if part < 2:
            log.fold()
    log.backup(folder / "backups" / "one")
    log.append(harvested(9))
    log.close()
    return folder, places


@pytest.mark.parametrize("death", ERASE, ids=str)
def test_a_killed_eraser_loses_nothing_and_leaves_nothing(
    made: tuple[Path, list[int]], tmp_path: Path, death: Death
) -> None:
    origin, places = made
    shutil.copytree(origin / "log", tmp_path / "log")
    with EventLog(tmp_path / "log") as log:
        before = [(r.position, r.stream, r.version, r.event.event_id) for r in log.read()]
    code = _killed_at(death, _erase, log.folder, places)
    assert code == -9 or (FULL and code == 0)
    with EventLog(tmp_path / "log") as log:
        assert log.verify().problems == ()
        log.erase(places, reason="forgotten", figures=True)
        after = [(r.position, r.stream, r.version, r.event.event_id) for r in log.read()]
        assert after[: len(before)] == before
        assert len(list(log.read(kinds=["log.erased"]))) == 1
        assert len(after) == len(before) + 1
        assert [r.position for r in log.read() if r.event.erased] == sorted(places)
        assert log.verify().problems == ()
        log.gc(grace_s=0)
    assert found_in(tmp_path, PLANTED) == []


@pytest.mark.parametrize("death", RESTORE, ids=str)
def test_a_killed_restore_leaves_the_old_log_or_the_new_one(
    made: tuple[Path, list[int]], tmp_path: Path, death: Death
) -> None:
    origin, _ = made
    shutil.copytree(origin / "log", tmp_path / "log")
    target = tmp_path / "log"
    with EventLog(target) as log:
        end = log.position()
    copy = origin / "backups" / "one"
    code = _killed_at(death, lambda: restore(copy, target, replace=True))
    assert code == -9 or (FULL and code == 0)
    with EventLog(target) as log:
        assert log.position() in (end, end - 2)
        assert log.verify().problems == ()
    restore(copy, target, replace=True)
    with EventLog(target) as log:
        assert log.position() == end - 2
        assert log.append(harvested()) == [end - 1]
        assert log.verify().problems == ()
    whole = [EventLog(path).position() for path in tmp_path.glob("log.before-*")]
    assert end in whole
    assert list(tmp_path.glob("log.restoring-*")) == []
