"""A backup is a log that is known to be good; what is damaged is named; the way back is whole."""

import threading
from pathlib import Path

import pytest

from tests.log.made import call, harvested, indexed, many
from tracemill.errors import InputError, LogDamaged, UsageError
from tracemill.events import BackupMade
from tracemill.log import EventLog, backups, damage, prune, restore
from tracemill.log.backup import read


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with a log and a backup of it."""
    folder = tmp_path_factory.mktemp("backup") / "warehouse"
    with EventLog(folder / "log") as log:
        log.append([*call(), *many(5), indexed()])
        log.fold()
        log.append(call(None))
        log.backup(folder / "backups" / "one")
    return folder


def test_a_copy_made_while_others_append_is_a_prefix_of_the_log(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    log.append(many(200))
    log.fold()
    stop, enough = threading.Event(), threading.Event()

    def append() -> None:
        with EventLog(log.folder) as mine:
            while not stop.is_set():
                if mine.append(harvested())[0] >= 220:
                    enough.set()

    thread = threading.Thread(target=append)
    thread.start()
    try:
        assert enough.wait(60)
        made = log.backup(tmp_path / "backups" / "a")
    finally:
        stop.set()
        thread.join()
    assert 220 <= made.position <= log.position()
    assert damage(made) == []
    [event] = [r.event for r in log.read(kinds=["backup.made"])]
    assert isinstance(event, BackupMade)
    assert (event.backup, event.position, event.sha256) == (
        "a",
        made.position,
        made.manifest.sha256,
    )
    done = restore(made.folder, tmp_path / "restored" / "log")
    assert (done.position, done.events, done.aside) == (made.position, made.position, None)
    with EventLog(tmp_path / "restored" / "log") as copy:
        assert list(copy.read()) == list(log.read(until=made.position))
        later = next(iter(log.read(made.position))).event
        assert copy.append(later) == [made.position + 1]  # its id was not known any more
        earlier = next(iter(log.read())).event
        assert copy.append(earlier) == [1]
        assert copy.verify().problems == ()


def test_sealed_files_are_shared_between_copies_until_the_last_is_gone(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    log.append(many(9))
    log.fold()
    made = []
    for name in "abc":
        log.append(harvested())
        made.append(log.backup(tmp_path / "backups" / name, quick=name == "b"))
    assert [each.manifest.checked for each in made] == ["events", "hashes", "events"]
    assert backups(tmp_path / "backups") == made
    inodes = {path.stat().st_ino for path in tmp_path.glob("backups/*/segments/*")}
    assert len(inodes) == 1
    assert inodes != {path.stat().st_ino for path in log.segments()}
    assert prune(tmp_path / "backups", keep=1) == ["a", "b"]
    assert [each.name for each in backups(tmp_path / "backups")] == ["c"]
    assert damage(made[2]) == []
    # A shared file that has rotted is not shared again.
    rotten = next((made[2].folder / "segments").iterdir())
    _flip(rotten, 40)
    assert damage(log.backup(tmp_path / "backups" / "d")) == []


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset % len(data)] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
@pytest.mark.parametrize("which", ["journal.db", "segments/*.parquet", "backup.json"])
def test_damage_is_found_by_name(warehouse: Path, tmp_path: Path, which: str, harm: str) -> None:
    with EventLog(warehouse / "log") as log:
        made = log.backup(tmp_path / "copy", quick=True)
    [path] = made.folder.glob(which)
    if harm == "delete":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        _flip(path, path.stat().st_size // 2)
    with pytest.raises((InputError, LogDamaged)) as error:
        restore(made.folder, tmp_path / "log")
    assert path.name in str(error.value)
    assert not (tmp_path / "log").exists()
    if which == "backup.json":
        with pytest.raises(InputError):
            read(made.folder)
    else:
        assert [str(path) in line for line in damage(made)] == [True]


def test_a_damaged_log_makes_no_backup(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    log.append(many(9))
    log.fold()
    _flip(log.segments()[0], 99)
    with pytest.raises(LogDamaged, match=log.segments()[0].name):
        log.backup(tmp_path / "backups" / "a")
    assert backups(tmp_path / "backups") == []
    assert list((tmp_path / "backups").glob(".*.tmp")) == []


def test_a_restore_never_loses_what_the_backup_lacks(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    log.append(many(4))
    made = log.backup(tmp_path / "backups" / "a")
    log.append(harvested())
    with pytest.raises(UsageError, match="has 2 events that the backup a lacks"):
        restore(made.folder, log.folder)
    done = restore(made.folder, log.folder, replace=True)
    # The same object goes on with the log that is there now.
    assert log.position() == 4
    assert log.append(harvested()) == [5]
    assert log.verify().problems == ()
    assert done.aside
    assert EventLog(done.aside).position() == 6
    # Another history of the same length is not the same log.
    other = EventLog(tmp_path / "other")
    other.append(many(3))
    with pytest.raises(UsageError, match="has 3 events"):
        restore(made.folder, other.folder)
    # A log that the backup goes on from loses nothing.
    restore(made.folder, tmp_path / "short")
    assert restore(made.folder, tmp_path / "short").aside


def test_what_is_no_place_for_a_backup_is_refused(warehouse: Path, tmp_path: Path) -> None:
    with EventLog(warehouse / "log") as log:
        with pytest.raises(UsageError, match="there already"):
            log.backup(tmp_path)
        with pytest.raises(UsageError, match="within the log"):
            log.backup(log.folder / "copy")
    with pytest.raises(InputError, match="is no backup"):
        restore(tmp_path, tmp_path / "log")
    with pytest.raises(UsageError, match="at least one"):
        prune(tmp_path, keep=0)
