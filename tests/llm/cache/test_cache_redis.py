"""The response cache in a real Redis: the contract, and what is particular to a server."""

import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.llm.cache.caller import HOUR_S, KEY, answered, until
from tests.llm.cache.contract import CacheContract, ProcessesContract
from tracemill.errors import UsageError
from tracemill.llm.cache import Cache, RedisCache

SERVER = shutil.which("redis-server")
needs_server = pytest.mark.skipif(
    SERVER is None, reason="no redis-server here: apt-get install redis-server"
)


@pytest.fixture(scope="module")
def socket() -> Iterator[Path]:
    # Not pytest's folder: the path of a socket may have 100 letters or so.
    folder = Path(tempfile.mkdtemp(prefix="redis"))
    path = folder / "s"
    server = subprocess.Popen(
        [SERVER or "", "--port", "0", "--unixsocket", path, "--dir", folder, "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        until(lambda: path.exists() or server.poll() is not None)
        assert server.poll() is None
        yield path
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


@pytest.fixture
def plain(socket: Path) -> Iterator[redis.Redis]:
    """A client of its own, that looks behind the cache."""
    with redis.Redis(unix_socket_path=str(socket)) as client:
        client.flushall()
        yield client


class OnRedis(CacheContract):
    SHORT_S = 0.05

    @pytest.fixture
    def cache(self, where: str) -> Iterator[Cache]:
        cache = RedisCache(where)
        yield cache
        cache.close()

    def pass_short(self) -> None:
        end = time.monotonic() + self.SHORT_S + 0.01
        until(lambda: time.monotonic() > end)

    def plant(self, cache: Cache, key: str, value: bytes) -> None:
        assert isinstance(cache, RedisCache)
        cache._redis.set(f"tracemill:{{{key}}}:response", value)


@needs_server
class TestRedisCache(OnRedis, ProcessesContract):
    @pytest.fixture
    def where(self, plain: redis.Redis, socket: Path) -> str:
        return f"unix://{socket}"


@needs_server
class TestRedisCacheOfStrings(OnRedis):
    """The same with `decode_responses`, as some put it into the URL: strings come for bytes."""

    @pytest.fixture
    def where(self, plain: redis.Redis, socket: Path) -> str:
        return f"unix://{socket}?decode_responses=true"


@needs_server
def test_values_are_json_and_everything_expires(plain: redis.Redis, socket: Path) -> None:
    cache = RedisCache(f"unix://{socket}")
    cache.put(KEY, answered(), HOUR_S)
    cache.lead("other", HOUR_S)
    names = sorted(plain.scan_iter())
    assert names == [
        f"tracemill:{{{KEY}}}:response".encode(),
        b"tracemill:{other}:lease",
    ]
    assert json.loads(plain.get(names[0]) or b"")["content"] == "yes"  # type: ignore[arg-type]
    assert all(0 < plain.pttl(name) <= HOUR_S * 1000 for name in names)  # type: ignore[operator]


@needs_server
def test_a_server_that_refuses_a_value_is_asked_again(
    plain: redis.Redis, socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = RedisCache(f"unix://{socket}")
    plain.config_set("maxmemory", "1")
    try:
        cache.put(KEY, answered(), HOUR_S)
    finally:
        plain.config_set("maxmemory", "0")
    assert "the response cache in Redis is not used: OutOfMemoryError" in caplog.text
    cache.put(KEY, answered(), HOUR_S)
    assert cache.get(KEY) == answered()


def test_a_server_that_is_away_is_a_miss_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = RedisCache(f"unix://:hush@{tmp_path}/none")
    with caplog.at_level(logging.WARNING, "tracemill.cache"):
        assert cache.get(KEY) is None
        cache.put(KEY, answered(), HOUR_S)
        assert cache.lead(KEY, HOUR_S)
        assert cache.lead(KEY, HOUR_S)
        cache.release(KEY, "token")
    (record,) = caplog.records
    assert record.getMessage().startswith("the response cache in Redis is not used: Connection")
    assert "hush" not in caplog.text


@needs_server
def test_a_server_that_comes_back_is_used_again(
    plain: redis.Redis, socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracemill.llm.cache.redis._PAUSE_S", 0)
    link = Path(tempfile.mkdtemp(prefix="redis")) / "s"
    cache = RedisCache(f"unix://{link}")
    cache.put(KEY, answered(), HOUR_S)
    assert cache.get(KEY) is None
    link.symlink_to(socket)
    cache.put(KEY, answered(), HOUR_S)
    assert cache.get(KEY) == answered()
    shutil.rmtree(link.parent)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(UsageError, match=r"pip install 'tracemill\[redis\]'"):
        RedisCache("redis://localhost")


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost"])
def test_a_url_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="URL of the response cache is none that Redis knows"):
        RedisCache(url)
