"""What people, disks and other programs do to a log: a clear error, and nothing acknowledged is lost."""

import fcntl
import gc
import os
import random
import re
import shutil
import struct
import subprocess
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import psutil
import pytest

from tests.log.made import call, harvested, indexed, many
from tests.log.other import Other
from tracemill.errors import (
    JournalReplaced,
    LogDamaged,
    LogError,
    LogFull,
    LogNotWritable,
    NotLocal,
    UnknownKind,
)
from tracemill.events import LogTailLost
from tracemill.log import EventLog

SIDE_FILES = ["journal.db-wal", "journal.db-shm", "journal.lock"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "warehouse" / "log"


def filled(folder: Path, sealed: int = 60, unsealed: int = 40) -> None:
    """A closed log with a segment, kept rows and a tail."""
    with EventLog(folder) as log:
        log.append([*many(sealed - 1), indexed(1)])
        log.fold()
        log.append(many(unsealed))


def refuses(error: type[Exception], act: Callable[[], object]) -> str:
    """The one clear line with which this is refused."""
    with pytest.raises(error) as caught:
        act()
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) > 20
    return line


def mount(folder: Path, *options: str) -> None:
    """Mount a small memory disk; skips the test where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mount is refused here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount(disk, "size=2m")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


# Files deleted while the log is open


FIRST = ["owner", "neighbour", "newcomer", "reader"]
DELETED = [
    *[(names, who) for names in (SIDE_FILES[:1], SIDE_FILES[:2]) for who in FIRST],
    *[(names, who) for names in (SIDE_FILES[1:2], SIDE_FILES[2:]) for who in ("owner", "newcomer")],
]


@pytest.mark.parametrize(
    ("names", "who_is_first"), DELETED, ids=lambda v: "+".join([*v]) if isinstance(v, list) else v
)
def test_a_side_file_deleted_under_two_processes_costs_nothing(
    folder: Path, names: list[str], who_is_first: str
) -> None:
    with Other(folder) as neighbour, EventLog(folder) as log:
        log.append(many(20))
        assert neighbour.do("append", 1) == 21
        assert neighbour.do("position") == 21
        for name in names:
            (folder / name).unlink()
        if who_is_first == "owner":
            assert log.append(many(5))[-1] == 26
            assert neighbour.do("append", 1) == 27
        elif who_is_first == "neighbour":
            assert neighbour.do("append", 3) == 24
            assert log.append(many(3))[-1] == 27
        elif who_is_first == "reader":
            assert neighbour.do("position") == 21
            assert len(list(log.read())) == 21
            assert log.append(many(6))[-1] == 27
        else:
            with Other(folder) as newcomer:
                # It cannot see what only the others still hold; then it must store nothing.
                answer = newcomer.do("append", 1)
                assert isinstance(answer, LogDamaged | JournalReplaced) or answer == 22
                assert log.append(many(26 - log.position()))[-1] == 26
                assert newcomer.do("append", 1) == 27
        assert neighbour.do("append", 1) == 28
        assert log.append(harvested()) == [29]
        assert neighbour.do("verify") == ()
    with EventLog(folder) as again:
        assert [r.position for r in again.read()] == list(range(1, 30))
        assert again.verify().problems == ()


def test_a_fork_or_a_close_saves_what_was_deleted_under_it(folder: Path) -> None:
    with EventLog(folder) as log:
        log.append(many(10))
        (folder / "journal.db-wal").unlink()
        if (child := os.fork()) == 0:
            os._exit(0 if log.append(harvested()) == [11] else 1)
        assert os.waitpid(child, 0)[1] == 0
        log.append(many(3))
        (folder / "journal.db-wal").unlink()
    with EventLog(folder) as log:
        assert log.append(harvested()) == [15]
        assert log.verify().problems == ()


def test_the_journal_deleted_while_it_is_open_is_said_and_not_begun_anew(folder: Path) -> None:
    with EventLog(folder) as log:
        log.append(many(10))
        (folder / "journal.db").unlink()
        assert "events 1 to 10" in refuses(LogDamaged, lambda: log.append(harvested()))
        assert "events 1 to 10" in refuses(LogDamaged, lambda: list(log.read()))
        refuses(LogDamaged, lambda: log.sql("FROM events"))
    assert not (folder / "journal.db").exists()


# Files deleted while nobody has the log open


@pytest.mark.parametrize("name", SIDE_FILES)
def test_a_side_file_deleted_after_the_end_costs_nothing(folder: Path, name: str) -> None:
    filled(folder)
    (folder / name).unlink()
    with EventLog(folder) as log:
        assert log.append(harvested()) == [101]
        assert log.verify().problems == ()


def test_a_deleted_journal_is_not_begun_anew(folder: Path) -> None:
    filled(folder)
    (folder / "journal.db").unlink()
    log = EventLog(folder)
    assert "events 1 to 100" in refuses(LogDamaged, lambda: log.append(harvested()))
    (folder / "journal.lock").unlink()
    assert "segments" in refuses(LogDamaged, lambda: log.append(harvested()))


def test_a_deleted_segment_is_named(folder: Path) -> None:
    filled(folder)
    with EventLog(folder) as log:
        path = log.segments()[0]
        path.unlink()
        assert path.name in refuses(LogDamaged, lambda: list(log.read()))
        assert [p for p in log.verify().problems if path.name in p and "missing" in p]
        assert path.name in refuses(LogError, lambda: log.sql("SELECT count(*) FROM events"))
        assert [r.position for r in log.read(60)] == list(range(61, 101))
        assert log.append(harvested()) == [101]


# Damaged bytes


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def test_a_flipped_bit_in_a_segment_is_named_and_never_merged(folder: Path) -> None:
    filled(folder)
    with EventLog(folder) as log:
        log.fold()
        path = log.segments()[0]
        for offset in (5, path.stat().st_size // 2, path.stat().st_size - 40):
            flip(path, offset)
            assert [p for p in log.verify().problems if path.name in p]
            assert path.name in refuses(LogDamaged, log.compact)
            flip(path, offset)
        assert log.verify().problems == ()
        assert log.compact() == 2


def test_a_flipped_bit_in_the_journal_is_found_or_harmless(folder: Path, tmp_path: Path) -> None:
    """Wherever it is: a payload, a typed column, an id, a version, the frame of a page."""
    filled(folder)
    with EventLog(folder) as log:
        before, last = answers(log), list(log.read(97))
    for name in SIDE_FILES[:2]:
        (folder / name).unlink()  # or readers would take the pages from there
    whole = (folder / "journal.db").read_bytes()
    choice = random.Random(1)
    places = choice.sample([i for i, byte in enumerate(whole) if byte], 30)
    ids = [bytes.fromhex(r.event.event_id.replace("-", "")) for r in last]
    places += [found.start() + 14 for i in ids for found in re.finditer(re.escape(i), whole)]
    silent: list[int] = []
    for number, place in enumerate(places):
        copy = tmp_path / f"copy {number}" / "log"
        shutil.copytree(folder, copy)
        flip(copy / "journal.db", place)
        log = EventLog(copy)
        if not problems_of(log):
            try:
                same = answers(log) == before
            except LogError:
                same = True
            if not same:
                silent.append(place)
        log.close()
    assert silent == []


def problems_of(log: EventLog) -> tuple[str, ...]:
    try:
        return log.verify().problems
    except LogError as error:
        return (str(error),)


def answers(log: EventLog) -> tuple[object, ...]:
    """What a log says to all questions that its journal decides."""
    whole = list(log.read())
    retries = log.append([r.event for r in whole])
    return (whole, retries, log.sql("FROM events ORDER BY 1").rows(), log.pins())


def test_a_torn_end_of_the_wal_is_noticed(folder: Path) -> None:
    _without_checkpoint(folder, 50)
    with (folder / "journal.db-wal").open("r+b") as wal:
        wal.truncate(wal.seek(0, os.SEEK_END) - 3_000)
    log = EventLog(folder)
    assert "which were acknowledged" in refuses(LogDamaged, lambda: log.append(harvested()))
    refuses(LogDamaged, log.position)


def test_a_lost_tail_after_the_machine_went_down_becomes_an_event(folder: Path) -> None:
    _without_checkpoint(folder, 50)
    (folder / "journal.lock").write_bytes(struct.pack("<q16s", 50, b"an earlier boot!"))
    with (folder / "journal.db-wal").open("r+b") as wal:
        wal.truncate(wal.seek(0, os.SEEK_END) - 30_000)
    with EventLog(folder) as log:
        survived = log.position()
        assert 0 < survived < 50
        log.append(harvested(7))
        tail = [r.event for r in log.read(survived)]
        assert isinstance(tail[0], LogTailLost)
        assert (tail[0].after_position, tail[0].through_position) == (survived, 50)
        assert len(tail) == 2
        assert log.append(harvested()) == [survived + 3]
        assert log.verify().problems == ()


def _without_checkpoint(folder: Path, count: int) -> None:
    """A log whose last process was killed: nothing has moved from the WAL into the database."""
    if (child := os.fork()) == 0:
        log = EventLog(folder)
        for event in many(count):
            log.append(event)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)


# Disks and file systems


def test_a_full_disk_refuses_clearly_and_loses_nothing(disk: Path) -> None:
    log, stored = EventLog(disk / "warehouse" / "log"), 0

    def fill(count: int, actor: str | None) -> None:
        nonlocal stored
        while True:
            log.append([harvested(i, actor=actor) for i in range(count)])
            stored += count

    assert "full" in refuses(LogFull, lambda: fill(10, "a" * 180))
    refuses(LogFull, lambda: fill(1, None))  # where ten do not fit, one may
    assert stored > 100
    assert log.position() == len(list(log.read())) == stored
    refuses(LogFull, log.fold)
    refuses(LogFull, lambda: log.append(harvested()))
    assert log.verify().problems == ()
    assert list((log.folder / "segments").iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
    assert log.append(harvested()) == [stored + 1]
    assert log.fold() == stored + 1
    assert log.verify().problems == ()
    log.close()


@pytest.mark.parametrize("ended", ["closed", "killed"])
def test_a_read_only_folder_can_be_read_but_not_written(disk: Path, ended: str) -> None:
    folder = disk / "log"
    subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
    if ended == "closed":
        filled(folder, 20, 10)
    else:
        _without_checkpoint(folder, 30)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    log = EventLog(folder)
    assert len(list(log.read())) == 30
    assert log.sql("SELECT count(*) FROM events").item() == 30
    assert log.verify().problems == ()
    assert "read-only" in refuses(LogNotWritable, lambda: log.append(harvested())).lower()
    refuses(LogNotWritable, log.fold)
    refuses(LogNotWritable, lambda: log.pin("now"))
    log.close()
    refuses(LogNotWritable, lambda: EventLog(disk / "another"))


def test_a_read_only_folder_without_side_files_can_be_read(disk: Path) -> None:
    folder = disk / "log"
    subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
    filled(folder, 20, 10)
    (folder / "journal.db-wal").unlink()
    (folder / "journal.db-shm").unlink()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    log = EventLog(folder)
    assert len(list(log.read())) == 30


@pytest.mark.parametrize("system", ["nfs4", "cifs", "9p", "fuse.sshfs"])
def test_a_network_file_system_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    partition = namedtuple("partition", "mountpoint fstype")
    mounts = [partition("/", "ext4"), partition(str(folder.parent), system)]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    line = refuses(NotLocal, lambda: EventLog(folder).append(harvested()))
    assert system in line
    assert "TRACEMILL_WAREHOUSE" in line
    assert not (folder / "journal.db").exists()


# Copies


def test_a_copied_warehouse_works_where_it_is(folder: Path, tmp_path: Path) -> None:
    filled(folder)
    copy = tmp_path / "elsewhere [old] it's" / "log"
    shutil.copytree(folder.parent, copy.parent)
    shutil.rmtree(folder.parent)
    with EventLog(copy) as log:
        assert log.append(call())[-1] == 102
        assert log.fold() == 42
        assert log.sql("SELECT count(*) FROM events").item() == 102
        assert log.frame().collect().height == 102
        assert log.verify().problems == ()
    with duckdb.connect(str(copy.parent / "log.duckdb"), read_only=True) as catalogue:
        assert catalogue.sql("SELECT count(*) FROM events").fetchall() == [(102,)]
        assert catalogue.sql("SELECT count(*) FROM calls").fetchall() == [(1,)]


def test_a_copy_made_while_someone_wrote_is_refused(folder: Path, tmp_path: Path) -> None:
    filled(folder)
    early = tmp_path / "journal.db"
    shutil.copy(folder / "journal.db", early)
    with EventLog(folder) as log:
        log.append(many(500))
    copy = tmp_path / "copy" / "log"
    shutil.copytree(folder, copy)
    shutil.copy(early, copy / "journal.db")
    (copy / "journal.db-wal").unlink()
    log = EventLog(copy)
    assert "copy made while someone wrote" in refuses(LogDamaged, lambda: log.append(harvested()))
    refuses(LogDamaged, lambda: list(log.read()))


def test_another_log_put_in_its_place_is_read_as_what_it_is(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "log"
    filled(other, 3, 2)
    with EventLog(folder) as log:
        log.append(many(50))
        assert log.sql("SELECT count(*) FROM events").item() == 50
        folder.rename(tmp_path / "away")
        shutil.copytree(other, folder)
        assert log.sql("SELECT count(*), max(position) FROM events").row(0) == (5, 5)
        assert log.append(harvested()) == [6]


# The future


def test_a_kind_from_the_future_asks_for_an_upgrade_and_harms_nothing_else(folder: Path) -> None:
    with EventLog(folder) as log:
        log.append(many(3))
        _append_from_the_future(log, kind="llm.dreamt")
        assert log.append(harvested()) == [5]
        assert "llm.dreamt" in refuses(UnknownKind, lambda: list(log.read()))
        assert [r.position for r in log.read(4)] == [5]
        assert log.sql("SELECT count(*) FROM events").item() == 5
        assert log.verify().problems == ()
        assert log.fold() == 5
        assert log.verify().problems == ()


def test_a_later_version_of_a_kind_asks_for_an_upgrade(folder: Path) -> None:
    with EventLog(folder) as log:
        _append_from_the_future(log, schema_version=2)
        assert "version 2" in refuses(UnknownKind, lambda: list(log.read()))
        assert log.verify().problems == ()


def _append_from_the_future(log: EventLog, **changes: object) -> None:
    from tracemill.log import rows

    log._journal.append([rows.draft(harvested())._replace(**changes)], {}, "kill")  # type: ignore[arg-type]


def test_locks_of_the_fold_do_not_outlive_it_in_a_forked_child(folder: Path) -> None:
    children: list[int] = []
    with EventLog(folder) as log:
        log.append(many(5))
        go_on, wait = os.pipe()

        def fork_in_the_middle(_: int) -> None:
            if (child := os.fork()) == 0:
                os.close(wait)
                os.read(go_on, 1)
                os._exit(0)
            children.append(child)

        log.fold(fork_in_the_middle)
        log.append(many(5))
        assert log.fold(wait=False) == 5
        os.close(wait)
        for child in children:
            os.waitpid(child, 0)


def test_logs_that_nobody_closed_leave_no_file_open(folder: Path) -> None:
    def open_files() -> int:
        return len([f for f in psutil.Process().open_files() if str(folder) in f.path])

    for i in range(20):
        EventLog(folder).append(harvested(i))
    gc.collect()
    assert open_files() == 0


def test_writers_wait_for_their_turn(folder: Path) -> None:
    with EventLog(folder) as log:
        log.append(many(1))
        waiting = threading.Thread(target=log.append, args=(harvested(),))
        with (folder / "journal.lock").open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waiting.start()
            waiting.join(0.2)
            assert waiting.is_alive()
        waiting.join(10)
        assert log.position() == 2
