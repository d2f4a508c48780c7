"""Sketches of ours and datasketch's own meet in its LSH tables, in memory and in a real Redis."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasketch
import polars as pl
import pytest

from tests.llm.cache.caller import until
from tracemill.corpus.sketch import MULTIPLIER, Sketches, murmur64a, sketch, to_minhash, words

SERVER = shutil.which("redis-server")
WORDS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "épsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
]
BASES = [
    " ".join(WORDS[at % 14] + str(at * base % 97) for at in range(80)) for base in range(1, 21)
]
TEXTS = [f"{base} {'again ' * times}" for base in BASES for times in range(3)]


@pytest.fixture(scope="module")
def found() -> Sketches:
    return sketch(pl.Series(TEXTS), plain=False)


def own(text: str) -> datasketch.MinHash:
    """By datasketch alone, from the definition in the docstring of `sketch`."""
    hashes = [murmur64a(word.encode()) for word in words(text)]
    shingles: set[int] = set()
    for start in range(len(hashes) - 4):
        rolled = 0
        for hashed in hashes[start : start + 5]:
            rolled = (rolled * MULTIPLIER + hashed) & (2**64 - 1)
        shingles.add(rolled >> 32)
    minhash = datasketch.MinHash(num_perm=128, hashfunc=int)
    minhash.update_batch(shingles)
    return minhash


@pytest.fixture(scope="module")
def storages() -> Iterator[dict[str, Any]]:
    """Where tables lie; the path of a socket may have 100 letters or so, so not pytest's folder."""
    folder = Path(tempfile.mkdtemp(prefix="redis"))
    path = folder / "s"
    command = [SERVER or "", "--port", "0", "--unixsocket", path, "--dir", folder, "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until(lambda: path.exists() or server.poll() is not None)
        assert server.poll() is None
        yield {"type": "redis", "redis": {"unix_socket_path": str(path)}}
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


def assert_agree(found: Sketches, storage: dict[str, Any] | None) -> None:
    """A table of either kind answers queries of the other as those of its own."""
    ours, theirs = [to_minhash(each) for each in found.signatures], [own(text) for text in TEXTS]
    for rows, queries in ((ours, theirs), (theirs, ours)):
        named = None if storage is None else {**storage, "basename": f"{id(rows)}".encode()}
        table: Any = datasketch.MinHashLSH(threshold=0.8, num_perm=128, storage_config=named)
        for key, row in enumerate(rows):
            table.insert(str(key), row)
        answers = [sorted(table.query(query)) for query in queries]
        assert answers == [sorted(table.query(row)) for row in rows]
        assert all(str(key) in answer for key, answer in enumerate(answers))
        assert any(len(answer) > 1 for answer in answers)
        for each in [table.keys, *table.hashtables]:
            if storage:
                each._redis.connection_pool.disconnect()


def test_in_memory(found: Sketches) -> None:
    assert_agree(found, None)


@pytest.mark.skipif(SERVER is None, reason="no redis-server here: apt-get install redis-server")
def test_in_redis(found: Sketches, storages: dict[str, Any]) -> None:
    assert_agree(found, storages)
