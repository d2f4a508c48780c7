"""A folder's documents follow the folder, and only what changed is read."""

import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl
import psutil
import pytest

from tests.retrieval import made_files
from tests.retrieval.made_files import SENTENCE
from tracemill.retrieval import folder
from tracemill.retrieval.extract import listing
from tracemill.retrieval.extract.pool import Limits, Pool
from tracemill.retrieval.folder import Update
from tracemill.retrieval.frames import document_schema
from tracemill.retrieval.recipe import Extraction

LONG_AGO_S = 1_600_000_000


def _times(age_s: int) -> tuple[int, int]:
    time_ns = (LONG_AGO_S + age_s) * 1_000_000_000
    return time_ns, time_ns


class Place(NamedTuple):
    """A folder of files and its tables."""

    files: Path
    out: Path

    def write(self, name: str, content: str | bytes, age_s: int = 0) -> Path:
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        os.utime(path, ns=_times(age_s))
        return path

    def update(self, extraction: Extraction | None = None, *, deep: bool = True) -> Update:
        return folder.update(
            self.files,
            source="raw/documents/yard",
            documents=self.out / "documents.parquet",
            refused=self.out / "refused.parquet",
            extraction=extraction,
            deep=deep,
            workers=1,
        )

    @property
    def documents(self) -> pl.DataFrame:
        return pl.read_parquet(self.out / "documents.parquet")

    @property
    def refused(self) -> dict[str, str]:
        frame = pl.read_parquet(self.out / "refused.parquet")
        return dict(frame.select("file", "reason").iter_rows())

    @property
    def texts(self) -> dict[str, str]:
        return dict(self.documents.select("document_id", "text").iter_rows())


@pytest.fixture(scope="module", autouse=True)
def _shared_workers() -> Iterator[None]:
    """One for each limits: starting one for every update would be most of the time of these tests."""
    pools: dict[Limits, Pool] = {}
    with ExitStack() as open_ones, pytest.MonkeyPatch.context() as patch:

        def shared(limits: Limits, workers: int | None) -> AbstractContextManager[Pool]:
            if limits not in pools:
                pools[limits] = open_ones.enter_context(Pool(limits, 1))
            return nullcontext(pools[limits])

        patch.setattr(folder, "Pool", shared)
        yield


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "files").mkdir()
    return Place(tmp_path / "files", tmp_path / "out")


def test_a_document_has_all_columns(place: Place) -> None:
    path = place.write("care/pumps.md", f"---\nteam: yard\n---\n# Care of pumps\n\n{SENTENCE}\n")
    place.write("a.pdf", made_files.pdf([(11, SENTENCE)], [(11, "The end.")]))
    assert place.update() == Update(2, 0, 2, 0, 0, 0)
    frame = place.documents
    assert dict(frame.schema) == document_schema()
    modified = datetime.fromtimestamp(LONG_AGO_S, UTC)
    manual, care = frame.drop("sha256").to_dicts()
    assert care == {
        "document_id": "care/pumps.md",
        "title": "Care of pumps",
        "source": "raw/documents/yard/care/pumps.md",
        "format": "markdown",
        "syntax": "markdown",
        "language": "en",
        "created_at": None,
        "modified_at": modified,
        "pages": None,
        "by_line": True,
        "metadata": '{"team": "yard"}',
        "bytes": path.stat().st_size,
        "modified_ns": LONG_AGO_S * 1_000_000_000,
        "text": f"\n\n\n# Care of pumps\n\n{SENTENCE}\n",
    }
    assert manual["pages"] == [{"start": 0, "number": 1}, {"start": 57, "number": 2}]
    assert manual["created_at"] == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert manual["modified_at"] == modified


def test_only_what_changed_is_read(place: Place) -> None:
    for name in ("a", "b", "c", "d", "e"):
        place.write(f"{name}.md", f"{name} {SENTENCE}")
    assert place.update() == Update(5, 0, 5, 0, 0, 0)
    before = (place.out / "documents.parquet").stat()
    assert place.update() == Update(5, 0, 0, 5, 0, 0)
    assert (place.out / "documents.parquet").stat() == before

    place.write("a.md", "short", age_s=1)
    (place.files / "b.md").rename(place.files / "moved.md")
    (place.files / "c.md").unlink()
    os.utime(place.files / "d.md", ns=_times(9))
    assert place.update() == Update(4, 0, 1, 2, 1, 2)
    frame = place.documents.select("document_id", "title", "text", "source", "modified_at")
    assert frame.rows() == [
        ("a.md", "a", "short", "raw/documents/yard/a.md", _at(1)),
        ("d.md", "d", f"d {SENTENCE}", "raw/documents/yard/d.md", _at(9)),
        ("e.md", "e", f"e {SENTENCE}", "raw/documents/yard/e.md", _at(0)),
        ("moved.md", "moved", f"b {SENTENCE}", "raw/documents/yard/moved.md", _at(0)),
    ]


def _at(age_s: int) -> datetime:
    return datetime.fromtimestamp(LONG_AGO_S + age_s, UTC)


def test_an_edit_of_the_same_size_and_time_just_after_reading_is_seen(place: Place) -> None:
    path = place.write("a.md", "one")
    now = path.stat().st_ctime_ns
    os.utime(path, ns=(now, now))
    place.update()
    path.write_text("two")
    os.utime(path, ns=(now, now))
    assert place.update().read == 1
    assert place.texts == {"a.md": "two"}


def test_updates_one_after_the_other_end_as_one_from_scratch(place: Place, tmp_path: Path) -> None:
    choose = random.Random(5)
    names = [f"{folder}{number}.md" for folder in ("", "b/") for number in range(6)]
    for step in range(5):
        for name in choose.sample(names, 5):
            path = place.files / name
            if path.exists() and choose.random() < 0.3:
                path.unlink()
            else:
                content = choose.choice(
                    ["same text", f"text {choose.randrange(20)}", b"\x89PNG", ""]
                )
                place.write(name, content, age_s=step)
        place.update()
        scratch = Place(place.files, tmp_path / f"scratch{step}")
        scratch.update()
        assert place.documents.equals(scratch.documents)
        assert place.refused == scratch.refused


def test_of_two_files_with_the_same_text_the_first_is_kept(place: Place) -> None:
    place.write("b.md", "# Pumps\n")
    place.write("c.md", "# Pumps\r\n")
    place.update()
    assert (place.texts, place.refused) == ({"b.md": "# Pumps\n"}, {"c.md": "same text as b.md"})
    place.write("a.md", "# Pumps\n")
    place.update()
    assert place.refused == {"b.md": "same text as a.md", "c.md": "same text as a.md"}
    (place.files / "a.md").unlink()
    (place.files / "b.md").unlink()
    place.update()
    assert (place.texts, place.refused) == ({"c.md": "# Pumps\n"}, {})


def test_a_refused_file_is_read_again_only_when_it_or_the_limits_changed(place: Place) -> None:
    place.write("a.pdf", b"")
    place.write("b.md", "good")
    assert place.update() == Update(1, 1, 2, 0, 0, 0)
    assert place.update() == Update(1, 1, 0, 1, 0, 0)
    place.write("c.md", "new")
    assert place.update() == Update(2, 1, 1, 1, 0, 0)
    assert place.update(Extraction(timeout_s=60)).read == 1
    place.write("a.pdf", made_files.pdf([(11, SENTENCE)]), age_s=1)
    assert place.update(Extraction(timeout_s=60)) == Update(3, 0, 1, 2, 0, 0)


def test_a_document_that_breaks_leaves_the_table(place: Place) -> None:
    place.write("a.pdf", made_files.pdf([(11, SENTENCE)]))
    place.update()
    place.write("a.pdf", b"%PDF-1.4 ", age_s=1)
    assert place.update() == Update(0, 1, 1, 0, 0, 0)
    assert place.refused == {"a.pdf": "cut short: the end of the PDF is missing"}


def test_a_lower_limit_refuses_what_was_read(place: Place) -> None:
    place.write("a.md", "x" * 100)
    place.update()
    place.update(Extraction(max_bytes=99))
    reason = "too large: 100 bytes, more than max_bytes 99: split it, or raise that"
    assert (place.texts, place.refused) == ({}, {"a.md": reason})


def test_another_version_of_extraction_reads_all_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("a.md", "one")
    place.update()
    monkeypatch.setattr("tracemill.retrieval.extract._code", lambda: "another")
    assert place.update().read == 1


@pytest.mark.parametrize("damaged", ["documents.parquet", "documents.json", "refused.parquet"])
def test_damaged_tables_are_made_anew(place: Place, damaged: str) -> None:
    place.write("a.md", "one")
    place.write("b.md", "")
    place.update()
    (place.out / damaged).write_bytes(b"PAR1 of no use")
    place.update()
    assert (place.texts, place.refused) == ({"a.md": "one"}, {"b.md": "the file is empty"})


def test_hidden_and_temporary_files_are_passed_over(place: Place) -> None:
    names = [".hidden/a.md", ".a.md", "~$a.docx", "a.md~", "a.part", "__pycache__/a.pyc", "b/c.md"]
    for name in names:
        place.write(name, "text")
    place.update()
    assert (list(place.texts), place.refused) == (["b/c.md"], {})


def test_globs_choose_files(place: Place) -> None:
    for name in ("a.md", "a.txt", "guides/b.md", "guides/deep/c.md", "guides/deep/draft.md"):
        place.write(name, f"text of {name}")
    found = listing.files(place.files, ["guides/**/*.md", "?.txt"], ["**/draft.*"])
    names = [each.document_id for each in found]
    assert names == ["a.txt", "guides/b.md", "guides/deep/c.md"]


def test_loose_files_without_the_folders_and_recipes_beside_them(place: Place) -> None:
    for name in ("a.md", "yard.yaml", "yard/b.md"):
        place.write(name, f"text of {name}")
    place.update(deep=False)
    assert list(place.texts) == ["a.md"]


def test_links_do_not_multiply_a_folder_without_end(tmp_path: Path) -> None:
    for number in range(20):
        inner = tmp_path / f"f{number}"
        inner.mkdir()
        for name in "xy":
            (inner / name).symlink_to(tmp_path / f"f{number + 1}")
    (tmp_path / "f20").mkdir()
    (tmp_path / "f20" / "a.md").write_text("a")
    found = listing.files(tmp_path)
    assert len(found) < 500
    assert sum(each.path.name == "a.md" for each in found) == listing.MOST_WAYS
    assert {each.problem for each in found if each.problem} == {
        "a folder that links lead to in more than 10 ways: remove some"
    }


def test_folders_may_be_deeper_than_python_calls(tmp_path: Path) -> None:
    folders = [tmp_path]
    for _ in range(1200):
        folders.append(folders[-1] / "a")
        os.mkdir(folders[-1])
    try:
        (folders[-1] / "a.md").write_text("a")
        [found] = listing.files(tmp_path)
        assert found.document_id == "a/" * 1200 + "a.md"
    finally:  # Python's own rmtree cannot.
        (folders[-1] / "a.md").unlink()
        for folder in reversed(folders[1:]):
            os.rmdir(folder)


def test_links_are_followed_but_not_in_circles(place: Place) -> None:
    place.write("b/a.md", "text")
    (place.files / "b" / "up").symlink_to(place.files)
    (place.files / "gone.md").symlink_to(place.files / "none")
    (place.files / "self").symlink_to(place.files / "self")
    (place.files / "link.txt").symlink_to(place.files / "b" / "a.md")
    os.mkfifo(place.files / "pipe.md")
    place.update()
    assert place.texts == {"b/a.md": "text"}
    assert place.refused == {
        "b/up": "a link that leads back to a folder above it: remove it",
        "gone.md": "a link to nothing",
        "link.txt": "same text as b/a.md",
        "pipe.md": "no regular file",
        "self": "a link to nothing",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read_are_named(place: Place) -> None:
    place.write("a.md", "text").chmod(0)
    place.update()
    assert place.refused == {"a.md": "cannot be opened: Permission denied"}


def test_a_name_that_is_no_unicode_is_written_with_its_bytes(place: Place) -> None:
    name = os.fsencode(place.files) + b"/caf\xe9.md"
    with open(name, "wb") as file:
        file.write(b"text")
    place.update()
    assert place.texts == {"caf\\xe9.md": "text"}


def test_an_empty_folder_has_empty_tables(place: Place) -> None:
    assert place.update() == Update(0, 0, 0, 0, 0, 0)
    assert (place.texts, place.refused) == ({}, {})


def test_progress_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "BATCH_FILES", 2)
    for number in range(5):
        place.write(f"{number}.txt", f"text {number}")
    told: list[tuple[int, int]] = []
    folder.update(
        place.files,
        source="yard",
        documents=place.out / "documents.parquet",
        refused=place.out / "refused.parquet",
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(2, 5), (4, 5), (5, 5)]
    (place.files / "1.txt").unlink()
    place.write("4.txt", "new", age_s=1)
    assert place.update() == Update(4, 0, 1, 3, 0, 1)
    assert place.texts == {"0.txt": "text 0", "2.txt": "text 2", "3.txt": "text 3", "4.txt": "new"}


def test_broken_files_are_named_and_the_others_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By workers of its own, none of which is left."""
    monkeypatch.setattr(folder, "Pool", Pool)
    before = psutil.Process().children()
    good = made_files.docx()
    for number in range(10):
        place.write(f"good{number}.docx", made_files.docx(f"Pump {number}. {SENTENCE}"))
        place.write(f"cut{number}.docx", good[: 100 * number])
        place.write(f"image{number}.pdf", b"\x89PNG\r\n\x1a\n" + bytes([number]))
        place.write(f"locked{number}.pdf", made_files.pdf(trailer=made_files.ENCRYPTED))
    place.write("laughs.docx", made_files.laughs())
    place.write("bomb.docx", made_files.docx(document="<a>" + " " * 60_000_000))
    large = place.write("large.txt", b"")
    os.truncate(large, 200_000_000)
    assert place.update() == Update(10, 33, 42, 0, 0, 0)
    assert list(place.texts) == [f"good{number}.docx" for number in range(10)]
    assert all(place.refused.values())
    assert psutil.Process().children() == before
