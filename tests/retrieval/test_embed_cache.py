"""The cache gives each vector to whom it belongs, whoever else writes, dies or damages the file."""

import logging
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import apsw
import numpy as np
import pytest

from benchmarks.kill_index import PRELOADED
from tracemill.errors import InputError
from tracemill.retrieval.embed import Computed, Embedded, InputKind, Model, embed, model
from tracemill.retrieval.embed.cache import FILE, Kept, halves, whole

others = multiprocessing.get_context("forkserver")
others.set_forkserver_preload([*PRELOADED, "pytest"])
LIGHT = model("local/wordllama")
TEXTS = ["the log keeps the fact", "", "a journal 😀", "the log keeps the fact"]
HOUR_S = 3_600


@pytest.fixture(autouse=True)
def no_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "tracemill.cache")


def counting(identity: str = "numbers", dimensions: int = 4, batch: int = 1024) -> Model:
    """A model that says how often it was asked for a text: the vectors differ each time."""
    asked: dict[str, int] = {}

    def run(texts: Sequence[str], kind: InputKind) -> Computed:
        for text in texts:
            asked[text] = asked.get(text, 0) + 1
        rows = [[asked[text], *range(1, dimensions)] for text in texts]
        return Computed(np.array(rows, dtype=np.float32))

    return Model(identity, dimensions, 10, 0.5, identity, LIGHT.starts, run, batch)


def test_a_text_is_computed_once_whoever_asks(tmp_path: Path):
    first = embed(TEXTS, model=LIGHT, cache=tmp_path)
    again = embed([*TEXTS, "a new one"], model=LIGHT, cache=tmp_path)
    assert (first.computed, again.computed) == (2, 1)
    assert np.array_equal(again.vectors[:4], first.vectors)
    assert embed(["a new one"], model=LIGHT, cache=tmp_path).computed == 0


def test_with_or_without_a_cache_the_vectors_are_the_same(tmp_path: Path):
    texts = [f"text {n}" for n in range(50)]
    plain = embed(texts, model=LIGHT).vectors
    assert np.array_equal(embed(texts, model=LIGHT, cache=tmp_path).vectors, plain)
    assert np.array_equal(embed(texts, model=LIGHT, cache=tmp_path).vectors, plain)


def test_half_precision_keeps_the_direction():
    vectors = np.concatenate([LIGHT.compute(["one", "two words"]), np.zeros((1, 256), np.float32)])
    assert np.allclose((whole(halves(vectors)) * vectors).sum(axis=1), [1, 1, 0], atol=1e-6)
    assert np.array_equal(whole(halves(whole(halves(vectors)))), whole(halves(vectors)))


def test_models_dimensions_and_kinds_are_kept_apart(tmp_path: Path):
    def asked(model: Model, kind: InputKind = "document") -> int:
        return embed(["text"], model=model, kind=kind, cache=tmp_path).computed

    numbers = counting()
    assert [asked(numbers), asked(numbers)] == [1, 0]
    assert [asked(numbers, "query"), asked(numbers, "query"), asked(numbers)] == [1, 0, 0]
    assert [asked(counting("others")), asked(counting("numbers", 8)), asked(numbers)] == [1, 1, 0]
    assert asked(counting("numbers")) == 0  # the same model in another object
    assert asked(LIGHT) == 1


def test_questions_are_not_kept_where_computing_is_quicker(tmp_path: Path):
    for _ in range(2):
        assert embed(["text"], model=LIGHT, kind="query", cache=tmp_path).computed == 1
    assert not (tmp_path / FILE).exists()


def test_what_was_computed_before_a_failure_is_kept(tmp_path: Path):
    numbers = counting(batch=2)

    def run(texts: Sequence[str], kind: InputKind) -> Computed:
        if "e" in texts:
            raise InputError("no more")
        return numbers.run(texts, kind)

    with pytest.raises(InputError, match="no more"):
        embed([*"abcdef"], model=replace(numbers, run=run), cache=tmp_path)
    assert embed([*"abcdef"], model=numbers, cache=tmp_path).computed == 2


def test_many_threads_may_fill_one_cache(tmp_path: Path):
    batches = [[f"text {n}" for n in range(start, start + 20)] for start in range(0, 80, 10)]

    def fill(texts: list[str]) -> Embedded:
        return embed(texts, model=LIGHT, cache=tmp_path)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fill, batches))
    for texts, embedded in zip(batches, found, strict=True):
        assert np.array_equal(embedded.vectors, embed(texts, model=LIGHT).vectors)
    assert fill([text for texts in batches for text in texts]).computed == 0


# Other processes


def fill(folder: Path, first: int, count: int) -> None:
    embed([f"text {n}" for n in range(first, first + count)], model=counting(), cache=folder)


def fill_for_ever(folder: Path, first: int, begun: "multiprocessing.SimpleQueue[int]") -> None:
    for n in range(10**9):
        fill(folder, first + 100 * n, 100)
        if n == 3:
            begun.put(first)


def test_processes_share_a_cache_and_lose_nothing(tmp_path: Path):
    children = [others.Process(target=fill, args=(tmp_path, 500 * n, 1000)) for n in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    texts = [f"text {n}" for n in range(2000)]
    assert embed(texts, model=counting(), cache=tmp_path).computed == 0


def test_processes_that_are_killed_while_they_write_leave_a_sound_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    begun = others.SimpleQueue()
    children = [
        others.Process(target=fill_for_ever, args=(tmp_path, n * 10**6, begun), daemon=True)
        for n in range(2)
    ]
    for child in children:
        child.start()
    for _ in children:
        begun.get()
    for child in children:
        child.kill()
        child.join(60)
    for n in range(2):
        texts = [f"text {n * 10**6 + at}" for at in range(400)]
        found = embed(texts, model=counting(), cache=tmp_path)
        assert found.computed == 0
        assert np.array_equal(found.vectors, embed(texts, model=counting()).vectors)
    assert caplog.text == ""
    assert apsw.Connection(str(tmp_path / FILE)).pragma("integrity_check") == "ok"


@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork:DeprecationWarning",  # Python 3.12 and later
    "ignore:Using fork:RuntimeWarning",
)
def test_a_forked_child_uses_the_cache_too(tmp_path: Path):
    fill(tmp_path, 0, 10)
    child = multiprocessing.get_context("fork").Process(target=fill, args=(tmp_path, 5, 10))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    texts = [f"text {n}" for n in range(15)]
    assert embed(texts, model=counting(), cache=tmp_path).computed == 0


# Damage


def test_a_damaged_file_is_set_aside_and_fills_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    first = embed(["text"], model=LIGHT, cache=tmp_path)
    Kept(tmp_path, LIGHT, "document")._database.close()
    (tmp_path / FILE).write_bytes(b"no database " * 1000)
    again = embed(["text"], model=LIGHT, cache=tmp_path)
    assert (again.computed, np.array_equal(again.vectors, first.vectors)) == (1, True)
    assert f"the embedding cache {tmp_path / FILE} cannot be used" in caplog.text
    assert (tmp_path / "embeddings.damaged.db").exists()
    assert embed(["text"], model=LIGHT, cache=tmp_path).computed == 0


@pytest.mark.parametrize("vector", [b"\0" * 512, b"short", b""])
def test_a_row_that_was_altered_is_computed_again(tmp_path: Path, vector: bytes):
    first = embed(["one", "two"], model=LIGHT, cache=tmp_path)
    connection = apsw.Connection(str(tmp_path / FILE))
    connection.execute("UPDATE vector SET vector = ? WHERE id = 1", (vector,)).fetchall()
    connection.close()
    again = embed(["one", "two"], model=LIGHT, cache=tmp_path)
    assert (again.computed, np.array_equal(again.vectors, first.vectors)) == (1, True)
    assert embed(["one", "two"], model=LIGHT, cache=tmp_path).computed == 0


def test_a_folder_that_cannot_be_written_costs_only_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "cache").write_text("a file where a folder should be")
    found = embed(["text"], model=LIGHT, cache=tmp_path / "cache")
    assert np.array_equal(found.vectors, embed(["text"], model=LIGHT).vectors)
    assert "is not used" in caplog.text


# Bounds


def test_the_file_is_bounded_and_what_was_used_last_stays(tmp_path: Path):
    now, room = [10**9], 300_000
    kept = Kept(tmp_path, LIGHT, "document", max_bytes=room, clock=lambda: now[0])
    vectors = halves(LIGHT.compute([f"text {n}" for n in range(100)]))

    def texts(group: int) -> list[str]:
        return [f"{group} {n}" for n in range(100)]

    kept.write(texts(0), vectors)
    for group in range(1, 12):
        now[0] += HOUR_S
        assert kept.read(texts(0))[0].all()  # used again and again
        kept.write(texts(group), vectors)
    there = [int(kept.read(texts(group))[0].sum()) for group in range(12)]
    assert (there[0], there[11], there[1]) == (100, 100, 0)
    assert there[1:] == sorted(there[1:])
    connection = apsw.Connection(str(tmp_path / FILE))
    pages = connection.pragma("page_count")
    assert isinstance(pages, int)
    assert pages * 4096 <= room * 1.5
    known, found = kept.read([*texts(11), "not there"])
    assert known.tolist() == [True] * 100 + [False]
    assert np.array_equal(found, vectors)


def test_more_than_there_is_room_for_is_no_failure(tmp_path: Path):
    kept = Kept(tmp_path, LIGHT, "document", max_bytes=1)
    kept.write(["one"], halves(LIGHT.compute(["one"])))
    assert not kept.read(["one"])[0].any()
