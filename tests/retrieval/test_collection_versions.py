"""Versions are swapped whole, damaged ones are not served, and readers keep what they opened."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from tests.retrieval.passages import directions, numbered
from tracemill.errors import InputError
from tracemill.llm import words
from tracemill.retrieval.collection import Collection, contents, create, open_collection, versions
from tracemill.retrieval.collection.check import check

CHUNKS, VECTORS = numbered(200), directions(200)


@pytest.fixture(autouse=True, scope="module")
def _small_collections_have_graphs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "EXACT_BELOW", 50)
        yield


def build(folder: Path, count: int) -> Collection:
    return create(folder, "docs", exist_ok=True).replace(CHUNKS[:count], VECTORS[:count])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexes")
    build(folder, 100)
    build(folder, 120)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy of a collection whose last version holds 120 chunks, and the one before it 100."""
    return shutil.copytree(built, tmp_path / "indexes")


def version(folder: Path) -> Path:
    return folder / "docs" / versions.served(folder / "docs")[0]


FILES = [
    "chunks.parquet",
    "vectors.npy",
    "labels.npy",
    "moments.npy",
    "graph.hnsw",
    "manifest.json",
]


def flip(path: Path) -> None:
    spoiled = bytearray(path.read_bytes())
    spoiled[len(spoiled) // 2] ^= 1
    path.write_bytes(spoiled)


@pytest.mark.parametrize("spoil", [flip, Path.unlink, lambda path: path.write_bytes(b"PAR1")])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_version_gives_way_to_the_one_before(
    folder: Path, name: str, spoil: Callable[[Path], object]
):
    version_name = version(folder).name
    spoil(folder / "docs" / version_name / name)
    opened = open_collection(folder, "docs")
    assert len(opened) == 100
    assert opened.degraded is not None
    assert f"{version_name}/{name} is" in opened.degraded
    assert "\n" not in opened.degraded
    assert opened.search(VECTORS[7], 1)["chunk_id"].to_list() == ["c:00007"]
    mended = build(folder, 120)
    assert (mended.degraded, len(open_collection(folder, "docs"))) == (None, 120)
    assert all(one.ok for one in check(folder, "docs")[:5])


def test_every_file_of_a_version_is_in_its_manifest(folder: Path):
    home = version(folder)
    files = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    assert files == {*open_collection(folder, "docs").manifest.files, "manifest.json"}
    assert set(FILES) < files


def test_files_of_another_collection_are_foreign(folder: Path, tmp_path: Path):
    other = create(tmp_path, "other").replace(CHUNKS[50:170], VECTORS[50:170])
    for name in ("graph.hnsw", "vectors.npy"):
        shutil.copy(tmp_path / "other" / other.digest / name, version(folder) / name)
        assert len(open_collection(folder, "docs")) == 100
        build(folder, 120)


def test_a_manifest_that_says_something_else_is_refused(folder: Path):
    path = version(folder) / "manifest.json"
    for change, says in (
        ({"format": 99}, "its format is 99, not 2"),
        ({"digest": "0" * 16}, f"it is that of version {'0' * 16}"),
        ({"files": None}, "is not a version's manifest"),
        ({"files": {"../x": {"bytes": 1, "sha256": ""}}}, "outside its folder"),
        ({"surprise": 1}, "surprise"),
    ):
        written = path.read_text()
        path.write_text(versions.sealed(_unsealed(written) | change))
        opened = open_collection(folder, "docs")
        assert says in (opened.degraded or "")
        path.write_text(written)
    assert open_collection(folder, "docs").degraded is None


def _unsealed(text: str) -> dict[str, object]:
    raw = json.loads(text)
    del raw["seal"]
    return raw


def test_without_a_whole_version_nothing_is_opened(folder: Path):
    for path in (folder / "docs").glob("*/chunks.parquet"):
        path.unlink()
    with pytest.raises(
        InputError, match=r"'docs' has no whole version: .* is missing .*; build it"
    ):
        open_collection(folder, "docs")
    assert len(build(folder, 90)) == 90


def test_a_pointer_that_is_lost_is_told(folder: Path):
    current = folder / "docs" / "current"
    for text in ("", "../../etc\n", "0123456789abcdef\n"):
        current.write_text(text)
        if text.startswith("0"):
            with pytest.raises(InputError, match="0123456789abcdef"):
                open_collection(folder, "docs")
        else:
            opened = open_collection(folder, "docs")
            assert (len(opened), "current names no version" in str(opened.degraded)) == (120, True)
    assert len(build(folder, 120)) == 120
    assert open_collection(folder, "docs").degraded is None


def test_small_changes_to_an_older_version_are_refused(folder: Path):
    flip(version(folder) / "vectors.npy")
    with pytest.raises(InputError, match=r"its last changes would be lost"):
        open_collection(folder, "docs").delete(chunk_ids=["c:00001"])


def test_a_version_that_was_never_served_is_no_reserve(folder: Path):
    open_collection(folder, "docs").replace(CHUNKS[:10], VECTORS[:10], serve=False)
    flip(version(folder) / "vectors.npy")
    assert len(open_collection(folder, "docs")) == 100


def test_old_versions_go_and_the_last_ones_stay(folder: Path):
    digests = [build(folder, count).digest for count in (60, 61, 62, 63, 64)]
    left = {path.name for path in (folder / "docs").iterdir() if path.is_dir()}
    assert set(digests[-versions.KEPT :]) <= left
    assert len(left) < versions.KEPT + versions.STAGED + 1
    assert (folder / "docs" / "current").read_text().split() == digests[: -versions.KEPT - 1 : -1]


def test_going_back_to_an_old_version_writes_only_the_pointer(folder: Path):
    first = open_collection(folder, "docs").digest
    files = {path: path.stat().st_mtime_ns for path in (folder / "docs" / first).rglob("*")}
    build(folder, 60)
    assert build(folder, 120).digest == first
    assert files == {path: path.stat().st_mtime_ns for path in (folder / "docs" / first).rglob("*")}


def test_words_that_are_found_in_another_way_make_another_version(folder: Path):
    was = build(folder, 120).digest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "VERSION", words.VERSION + 1)
        with pytest.raises(InputError, match="build the collection again"):
            open_collection(folder, "docs", version=was)
        again = build(folder, 120)
        assert again.digest != was
        assert open_collection(folder, "docs").search("seven")["rank"].to_list()


def test_the_graph_that_others_search_is_left_as_it_is(folder: Path):
    held = build(folder, 120)
    held.contents.graph.set_ef(77)
    again = held.upsert(CHUNKS[:120].with_columns(source=pl.lit("elsewhere")), VECTORS[:120])
    assert again.digest != held.digest
    assert held.contents.graph.ef == 77


def test_readers_keep_what_they_opened_when_its_files_go(folder: Path):
    opened = open_collection(folder, "docs")
    before = opened.search_many(VECTORS[:20], 5), opened.search("passage number 17")
    shutil.rmtree(folder)
    after = opened.search_many(VECTORS[:20], 5), opened.search("passage number 17")
    assert all(one.equals(other) for one, other in zip(before[0], after[0], strict=True))
    assert before[1].equals(after[1])
    assert opened.recall_check() == opened.recall_at_10


def test_what_a_killed_writer_left_is_swept_by_the_next(folder: Path):
    left = folder / "docs" / ".0123456789abcdef.12345678.tmp"
    left.mkdir()
    (left / "vectors.npy").write_bytes(b"half")
    others = folder / "docs" / ".chunks.parquet.12345678.tmp"
    others.write_bytes(b"of somebody else")
    build(folder, 60)
    assert (left.exists(), others.exists()) == (False, True)


STEPS = ["aside", "files_of", "place", "point", "forget"]


@pytest.mark.parametrize("step", STEPS)
def test_a_write_that_stops_before_any_step_leaves_a_whole_version(
    folder: Path, step: str, monkeypatch: pytest.MonkeyPatch
):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(versions, step, stop)
        with pytest.raises(KeyboardInterrupt):
            build(folder, 150)
    assert len(open_collection(folder, "docs")) == (150 if step == "forget" else 120)
    assert open_collection(folder, "docs").degraded is None
    assert not [path for path in (folder / "docs").glob(".*.tmp") if path.is_dir()]
    assert len(build(folder, 150)) == 150


def test_many_may_write_and_read_at_once(tmp_path: Path):
    create(tmp_path, "docs").replace(CHUNKS[:60], VECTORS[:60])

    def change(part: int) -> int:
        rows = slice(60 + 20 * part, 80 + 20 * part)
        opened = open_collection(tmp_path, "docs")
        return len(opened.add(CHUNKS[rows], VECTORS[rows]))

    def read(_: int) -> int:
        opened = open_collection(tmp_path, "docs")
        assert opened.degraded is None
        assert len(opened) == len(opened.contents.vectors) == len(opened.contents.words)
        assert opened.search(VECTORS[5], 1)["chunk_id"].to_list() == ["c:00005"]
        return len(opened)

    with ThreadPoolExecutor(8) as pool:
        lengths, seen = pool.map(change, range(7)), pool.map(read, range(30))
        assert sorted(lengths) == list(range(80, 201, 20))
        assert set(seen) <= set(range(60, 201, 20))
    assert len(open_collection(tmp_path, "docs")) == 200


def test_a_version_that_goes_while_it_is_opened_is_looked_for_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """As when a reader is slow and four versions are written meanwhile."""
    load, waited = contents.load, [0]

    def slow(path: Path, manifest: versions.Manifest) -> contents.Contents:
        if not waited[0]:
            waited[0] = 1
            for count in (70, 71, 72, 73, 74, 75, 76):
                build(folder, count)
            assert not path.exists()
        return load(path, manifest)

    monkeypatch.setattr(contents, "load", slow)
    opened = open_collection(folder, "docs")
    assert (len(opened), opened.degraded, waited) == (76, None, [1])


def test_check_finds_what_opening_does_not(folder: Path):
    home = folder / "docs"
    assert {one.what: one.ok for one in check(folder, "docs")} == dict.fromkeys(
        ("version", "digests", "chunks", "vectors", "recall", "fresh"), True
    )
    # Bytes that change without a trace in size or time are seen by their digest alone.
    path = version(folder) / "vectors.npy"
    found = path.stat()
    flip(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert next(one.what for one in check(folder, "docs") if not one.ok) == "digests"
    flip(path)
    CHUNKS[5:130].write_parquet(home / "chunks.parquet")
    [stale] = [one for one in check(folder, "docs") if not one.ok]
    assert (stale.what, stale.detail[:60]) == (
        "fresh",
        "10 chunks that were cut are not indexed, 5 indexed ones are ",
    )


def test_a_disk_that_takes_no_more_leaves_the_version_that_serves(folder: Path) -> None:
    served = versions.served(folder / "docs")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"could not be written .* make room .* last version"):
            build(folder, 140)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert versions.served(folder / "docs") == served
    assert not [left for left in folder.rglob(".*") if left.is_dir()]
    assert len(build(folder, 140)) == 140
