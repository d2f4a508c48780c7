"""The response cache in a file: the contract, its size, and what may happen to a file."""

import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.llm.cache.caller import HOUR_S, KEY, WITHIN_S, answered, one_flight, put_for_ever, until
from tests.llm.cache.contract import CacheContract, ProcessesContract, spawn
from tracemill.llm.cache import Cache, FileCache
from tracemill.messages import Response

DB = "responses.db"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def held(folder: Path) -> int:
    """The bytes of the pages in use, as another process sees them."""
    connection = apsw.Connection(str(folder / DB))
    used = connection.pragma("page_count") - connection.pragma("freelist_count")
    return used * connection.pragma("page_size")


def change(folder: Path, query: str, *values: object) -> None:
    connection = apsw.Connection(str(folder / DB))
    connection.set_busy_timeout(5000)
    connection.execute(query, values).fetchall()  # type: ignore[arg-type]
    connection.close()


class TestFileCache(CacheContract, ProcessesContract):
    SHORT_S = 10.0

    @pytest.fixture
    def where(self, folder: Path) -> str:
        return str(folder / DB)

    @pytest.fixture
    def cache(self, folder: Path, clock: Clock) -> Iterator[Cache]:
        # Other instances on the folder go by the real clock: this one begins with it.
        import time

        clock.now = time.time()
        self.clock = clock
        cache = FileCache(folder / DB, clock=clock)
        self.folder = folder
        yield cache
        cache.close()

    def pass_short(self) -> None:
        self.clock.now += self.SHORT_S

    def plant(self, cache: Cache, key: str, value: bytes) -> None:
        assert cache.lead("open it", HOUR_S)
        change(self.folder, "DELETE FROM lease WHERE key = 'open it'")
        change(self.folder, "DELETE FROM entry WHERE key = ?", key)
        insert = "INSERT INTO entry VALUES (?, ?, ?, ?, 0)"
        change(self.folder, insert, key, value, zlib.crc32(value), self.clock.now + HOUR_S)


# Size

LARGE = answered("x" * 20_000)


def test_what_was_used_longest_ago_makes_room(folder: Path) -> None:
    cache = FileCache(folder / DB, max_bytes=150_000)
    for key in "abcd":
        cache.put(key, LARGE, HOUR_S)
    assert cache.get("a") == LARGE
    for key in "efgh":
        cache.put(key, LARGE, HOUR_S)
    kept = [key for key in "bcdaefgh" if cache.get(key)]
    assert 4 <= len(kept) < 8
    assert kept == list("bcdaefgh"[-len(kept) :])
    assert held(folder) <= 150_000
    cache.close()
    assert (folder / DB).stat().st_size < 180_000


def test_what_has_expired_goes_before_what_was_used_longest_ago(folder: Path, clock: Clock) -> None:
    cache = FileCache(folder / DB, max_bytes=90_000, clock=clock)
    cache.put("a", LARGE, HOUR_S)
    cache.put("b", LARGE, 10)
    clock.now += 10
    cache.put("c", LARGE, HOUR_S)
    assert [key for key in "abc" if cache.get(key)] == ["a", "c"]
    cache.put("d", LARGE, HOUR_S)
    assert [key for key in "abcd" if cache.get(key)] == ["c", "d"]


def test_an_answer_larger_than_half_the_cache_displaces_nothing(folder: Path) -> None:
    cache = FileCache(folder / DB, max_bytes=90_000)
    cache.put("a", LARGE, HOUR_S)
    cache.put("b", answered("x" * 45_000), HOUR_S)
    assert [key for key in "ab" if cache.get(key)] == ["a"]


def test_a_smaller_bound_is_kept_to_from_the_next_answer_on(folder: Path) -> None:
    cache = FileCache(folder / DB)
    for n in range(20):
        cache.put(str(n), LARGE, HOUR_S)
    assert held(folder) > 400_000
    FileCache(folder / DB, max_bytes=100_000).put("last", LARGE, HOUR_S)
    assert held(folder) <= 100_000
    assert cache.get("last")


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # emptied each time
)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.sampled_from("abcdefgh"), st.integers(1, 40_000)),
            st.tuples(st.just("get"), st.sampled_from("abcdefgh"), st.just(0)),
        ),
        max_size=30,
    )
)
def test_it_is_a_dict_that_forgets_what_was_used_longest_ago(
    folder: Path, steps: list[tuple[str, str, int]]
) -> None:
    cache = FileCache(folder / DB, max_bytes=150_000)
    cache.get("open it")
    change(folder, "DELETE FROM entry")
    kept: dict[str, Response] = {}  # oldest use first
    for what, key, length in steps:
        if what == "put":
            kept.pop(key, None)
            kept[key] = answered("x" * length)
            cache.put(key, kept[key], HOUR_S)
            there = _keys(folder)
            assert list(kept)[-len(there) :] == there
            everything = sum(8192 + len(answer.text) for answer in kept.values())
            assert len(there) == len(kept) or everything > 100_000
            kept = {key: kept[key] for key in there}
        else:
            assert cache.get(key) == kept.get(key)
            if key in kept:
                kept[key] = kept.pop(key)
        assert held(folder) <= 150_000
    assert _keys(folder) == list(kept)
    cache.close()


def _keys(folder: Path) -> list[str]:
    connection = apsw.Connection(str(folder / DB))
    return [str(key) for (key,) in connection.execute("SELECT key FROM entry ORDER BY used")]


# Time


def test_a_clock_that_is_set_back_does_not_keep_a_lease_alive(folder: Path, clock: Clock) -> None:
    cache = FileCache(folder / DB, clock=clock)
    assert cache.lead(KEY, 60)
    clock.now -= 0.5  # as clocks are corrected
    assert cache.lead(KEY, 60) is None
    clock.now -= 24 * 3600
    assert cache.lead(KEY, 60)


# What may happen to a file


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database at all\n" * 1000)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _scribbled(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 512)


def _of_another_version(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 99)
    connection.close()


@pytest.mark.parametrize("damage", [_garbage, _cut, _scribbled, _of_another_version])
def test_a_damaged_file_is_set_aside_and_begun_anew(
    folder: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    cache = FileCache(folder / DB)
    for n in range(100):
        cache.put(str(n), answered(str(n)), HOUR_S)
    cache.close()
    damage(folder / DB)
    with caplog.at_level(logging.WARNING, "tracemill.cache"):
        found = {n: cache.get(str(n)) for n in range(100)}
    assert all(answer in (None, answered(str(n))) for n, answer in found.items())
    assert None in found.values()
    (record,) = caplog.records
    assert "set aside as responses.damaged.db, and begun anew" in record.getMessage()
    assert (folder / "responses.damaged.db").exists()
    cache.put("new", answered("new"), HOUR_S)
    assert FileCache(folder / DB).get("new") == answered("new")
    assert cache.lead(KEY, HOUR_S)


def test_who_comes_second_does_not_set_the_new_file_aside(folder: Path) -> None:
    first, second = FileCache(folder / DB), FileCache(folder / DB)
    for n in range(100):
        first.put(str(n), answered(str(n)), HOUR_S)
    first.close()
    assert second.get("7")
    second.close()
    _garbage(folder / DB)
    assert first.get("7") is None
    first.put("new", answered("new"), HOUR_S)
    damaged = (folder / "responses.damaged.db").read_bytes()
    second._database._set_aside(apsw.CorruptError("seen before the first one began anew"))
    assert (folder / "responses.damaged.db").read_bytes() == damaged
    assert second.get("new") == answered("new")


def test_an_answer_whose_letters_have_changed_on_the_disk_is_not_given(folder: Path) -> None:
    cache = FileCache(folder / DB)
    cache.put(KEY, answered("the cat"), HOUR_S)
    change(folder, "UPDATE entry SET value = CAST(replace(value, 'cat', 'bat') AS BLOB)")
    assert cache.get(KEY) is None
    assert _keys(folder) == []


def test_a_file_that_is_deleted_while_it_is_open_is_begun_anew(folder: Path) -> None:
    cache, other = FileCache(folder / DB), FileCache(folder / DB)
    cache.put(KEY, answered(), HOUR_S)
    assert other.get(KEY)
    for path in folder.iterdir():
        path.unlink()
    assert cache.get(KEY) is None
    cache.put(KEY, answered("again"), HOUR_S)
    assert other.get(KEY) == answered("again")
    other.close()
    assert FileCache(folder / DB).get(KEY) == answered("again")


def test_a_folder_that_cannot_be_is_a_miss_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = FileCache(tmp_path / "file" / DB)
    with caplog.at_level(logging.WARNING, "tracemill.cache"):
        assert cache.get(KEY) is None
        cache.put(KEY, answered(), HOUR_S)
        token = cache.lead(KEY, HOUR_S)
        assert token
        cache.release(KEY, token)
    assert len(caplog.records) == 4
    assert "is not used: [Errno 17] File exists" in caplog.text


def test_a_file_that_somebody_holds_is_read_and_otherwise_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tracemill.log.database._WAIT_MS", 1)
    cache = FileCache(folder / DB)
    cache.put(KEY, answered(), HOUR_S)
    other = apsw.Connection(str(folder / DB))
    other.execute("BEGIN IMMEDIATE").fetchall()
    assert cache.get(KEY) == answered()
    cache.put("other", answered(), HOUR_S)
    assert cache.lead("other", HOUR_S)
    assert "is not used: database is locked" in caplog.text
    other.execute("COMMIT").fetchall()
    assert cache.get("other") is None
    cache.put("other", answered(), HOUR_S)
    assert cache.get("other") == answered()


def test_a_full_disk_is_a_miss_and_what_is_there_is_still_given(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = FileCache(folder / DB)
    cache.put(KEY, answered(), HOUR_S)
    connection = cache._database._opened()
    pages = connection.pragma("page_count")
    connection.pragma("max_page_count", pages)
    cache.put("large", answered("x" * 100_000), HOUR_S)
    assert "is not used: database or disk is full" in caplog.text
    assert cache.get(KEY) == answered()
    assert cache.get("large") is None


def test_processes_that_are_killed_while_they_write_leave_a_sound_file(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun = spawn.SimpleQueue()
    where = str(folder / DB)
    children = [
        spawn.Process(target=put_for_ever, args=(where, begun), daemon=True) for _ in range(3)
    ]
    for child in children:
        child.start()
    for _ in children:  # all of them, before any is killed: it may hold the queue's lock
        begun.get()
    for child in children:
        child.kill()
        child.join(WITHIN_S)
    cache = FileCache(folder / DB)
    found = [cache.get(str(n)) for n in range(50)]
    assert all(found)
    cache.put(KEY, answered(), HOUR_S)
    assert cache.get(KEY) == answered()
    assert caplog.text == ""
    connection = apsw.Connection(where)
    assert connection.pragma("integrity_check") == "ok"


def test_many_open_a_new_folder_at_once(folder: Path) -> None:
    together = threading.Barrier(16)

    def open_and_put(n: int) -> None:
        cache = FileCache(folder / DB)
        together.wait()
        cache.put(str(n), answered(str(n)), HOUR_S)
        cache.close()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(open_and_put, range(16)))
    cache = FileCache(folder / DB)
    assert [cache.get(str(n)) for n in range(16)] == [answered(str(n)) for n in range(16)]


@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork:DeprecationWarning",  # Python 3.12 and later
    "ignore:Using fork:RuntimeWarning",
)
def test_forks_while_threads_use_it_neither_hang_nor_damage_it(folder: Path) -> None:
    cache = FileCache(folder / DB)
    stop = threading.Event()

    def use_it(thread: int) -> int:
        rounds = 0
        while not stop.is_set():
            key = f"{thread} {rounds}"
            assert one_flight(cache, key, answered) == answered()
            rounds += 1
        return rounds

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(use_it, n) for n in range(4)]
        try:
            for _ in range(10):
                until(lambda: cache.get("0 0"))
                assert _ended_well(_forked(cache))
        finally:
            stop.set()
    assert all(future.result() for future in running)
    connection = apsw.Connection(str(folder / DB))
    assert connection.pragma("integrity_check") == "ok"


def _forked(cache: FileCache) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            cache.put("child", answered("child"), HOUR_S)
            assert cache.get("child") == answered("child")
            status = 0
        finally:
            os._exit(status)
    return child


def _ended_well(child: int) -> bool:
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork:DeprecationWarning",  # Python 3.12 and later
    "ignore:Using fork:RuntimeWarning",
)
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see open files")
def test_a_child_inherits_no_open_file(folder: Path) -> None:
    # SQLite in the child would take the locks of its parent for its own.
    cache = FileCache(folder / DB)
    cache.put(KEY, answered(), HOUR_S)
    assert any(DB in name for name in _open_files())
    child = os.fork()
    if child == 0:
        os._exit(any(DB in name for name in _open_files()))
    assert _ended_well(child)
    assert cache.get(KEY) == answered()


def _open_files() -> list[str]:
    names: list[str] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            names.append(os.readlink(descriptor))
    return names
