"""Workers are watched: what a file does to one of them costs that file alone."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.retrieval import made_files
from tests.retrieval.made_files import SENTENCE
from tracemill.retrieval.extract.files import Read
from tracemill.retrieval.extract.pool import ENDED, Limits, Pool, Unopened

GOOD = {
    "a.pdf": made_files.pdf([(24, "Pumps"), (11, SENTENCE)], [(11, SENTENCE)]),
    "a.docx": made_files.docx(),
    "a.pptx": made_files.pptx(("Pumps", SENTENCE)),
    "a.xlsx": made_files.xlsx({"Parts": [["Part", "Price"], ["Seal", "12"]]}),
    "a.epub": made_files.epub(SENTENCE),
    "a.html": b"<html><body><h1>Pumps</h1><p>Oil them.</p></body></html>",
    "a.ipynb": made_files.notebook(("code", "1 + 1", "2")),
    "a.rtf": rb"{\rtf1 A pump.}",
    "a.md": b"---\ntitle: a\n---\n# Pumps\n\n| a |\n| - |\n| b |\n",
    "a.rst": b"Pumps\n=====\n\nOil them.\n",
}
SUFFIXES = (*(Path(name).suffix for name in GOOD), ".doc", ".eml", ".csv", ".gz", ".py", "", ".ods")
SLOW = b"<html>" + b"<meta " * 150_000
"""A page that takes minutes: each tag without an end is sought to the end of the page."""


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(Limits(timeout_s=20), 1) as pool:
        yield pool


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def made(folder: Path, **files: bytes) -> list[Path]:
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return [folder / name.replace("_", ".") for name in files]


def reasons(found: "list[Read | Unopened]") -> list[str]:
    return [each.reason for each in found]


def assert_is_one_of_both(found: Read | Unopened) -> None:
    assert isinstance(found, Read)
    if found.extracted is None:
        assert found.reason
        assert "\n" not in found.reason
        return
    text = found.extracted.text
    assert text.strip()
    assert not {"\r", "\0", "\ufeff"} & set(text)
    assert [text[page.start - 1] for page in found.extracted.pages if page.start] == ["\n"] * (
        len(found.extracted.pages) - 1
    )
    json.dumps(found.extracted.metadata, ensure_ascii=False).encode()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=st.binary(max_size=400), suffix=st.sampled_from(SUFFIXES))
def test_any_bytes_under_any_name_are_a_document_or_a_refusal(
    pool: Pool, folder: Path, content: bytes, suffix: str
) -> None:
    (folder / f"any{suffix}").write_bytes(content)
    assert_is_one_of_both(next(pool.read([folder / f"any{suffix}"])))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(sorted(GOOD)),
    cut=st.floats(0, 1),
    noise=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=5),
)
def test_a_damaged_document_is_a_document_or_a_refusal(
    pool: Pool, folder: Path, name: str, cut: float, noise: list[tuple[float, bytes]]
) -> None:
    content = bytearray(GOOD[name])
    for place, odd in noise:
        at = int(place * len(content))
        content[at : at + len(odd)] = odd
    (folder / f"cut{name}").write_bytes(
        content[: int(cut * len(content))] if cut > 0.2 else content
    )
    assert_is_one_of_both(next(pool.read([folder / f"cut{name}"])))


def test_results_come_in_the_order_of_the_files(pool: Pool, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.txt" for number in range(30)]
    for number, path in enumerate(paths):
        path.write_text(f"number {number}")
    with Pool(Limits(), 2) as two:
        found = list(two.read(paths))
    texts = [each.extracted.text for each in found if isinstance(each, Read) and each.extracted]
    assert texts == [f"number {number}" for number in range(30)]


def test_many_files_pass_through_one_worker(tmp_path: Path) -> None:
    """Packed ones among them, and texts whose language must be told: they reserve much memory."""
    text = "Der Händler prüft die Größe und geht später über die Straße."
    paths = [tmp_path / f"{number}.txt.gz" for number in range(40)]
    for number, path in enumerate(paths):
        path.write_bytes(gzip.compress(f"{number} {text}".encode("cp1252")))
    with Pool(Limits(), 1) as pool:
        assert reasons(list(pool.read(paths))) == [""] * 40


def test_a_file_that_hangs_costs_only_itself(tmp_path: Path) -> None:
    paths = made(tmp_path, a_txt=b"one", b_html=SLOW, c_txt=b"two")
    with Pool(Limits(timeout_s=0.4), 1) as pool:
        found = list(pool.read(paths))
    hung = "reading took over 0.4 s: split it, or raise timeout_s"
    assert reasons(found) == ["", hung, ""]


def test_a_file_that_takes_too_much_memory_costs_only_itself(tmp_path: Path) -> None:
    large = "Ünter der Pümpe. ".encode() * 6_000_000
    paths = made(tmp_path, a_txt=b"one", b_txt=large, c_txt=b"two")
    with Pool(Limits(max_bytes=len(large), memory_bytes=200_000_000), 1) as pool:
        found = list(pool.read(paths))
    much = "reading it took over 200,000,000 bytes of memory: split it, or raise memory_bytes"
    assert reasons(found) == ["", much, ""]


def children() -> list[psutil.Process]:
    """Workers that live; what other tests have left to be buried has no command line any more."""
    return [
        each
        for each in psutil.Process().children()
        if each.status() != psutil.STATUS_ZOMBIE
        and "tracemill.retrieval.extract.worker" in each.cmdline()
    ]


def test_a_crash_costs_only_the_file_that_was_read(tmp_path: Path) -> None:
    paths = made(tmp_path, a_txt=b"one", b_html=SLOW, c_txt=b"two")
    before = {each.pid for each in children()}
    with Pool(Limits(), 1) as pool:
        found = pool.read(paths[:1])
        first = next(found)
        (worker,) = (each for each in children() if each.pid not in before)
        # It arrives while the second file is read, or just before; both ends are the same.
        crash = threading.Timer(0.3, lambda: worker.send_signal(signal.SIGSEGV))
        crash.start()
        rest = list(pool.read(paths[1:]))
        crash.join()
    crashed = "broken: reading it crashed the process (SIGSEGV): open it and save it anew"
    assert reasons([first, *rest]) == ["", crashed, ""]


def test_the_death_of_an_idle_worker_costs_no_file(tmp_path: Path) -> None:
    paths = made(tmp_path, a_txt=b"one", b_txt=b"two")
    before = {each.pid for each in children()}
    with Pool(Limits(), 1) as pool:
        first = list(pool.read(paths[:1]))
        (worker,) = (each for each in children() if each.pid not in before)
        worker.kill()
        assert reasons(first + list(pool.read(paths[1:]))) == ["", ""]


def test_workers_that_someone_else_ends_prove_nothing_of_their_file(tmp_path: Path) -> None:
    before = {each.pid for each in children()}
    done = threading.Event()

    def end_busy_ones() -> None:
        while not done.wait(0.05):
            for worker in children():
                # So much no worker needs for its start: it takes 0.1 s.
                if worker.pid not in before and worker.cpu_times().user > 0.5:
                    worker.kill()

    with Pool(Limits(), 1) as pool:
        list(pool.read(made(tmp_path, a_txt=b"one")))
        thread = threading.Thread(target=end_busy_ones)
        thread.start()
        try:
            assert list(pool.read(made(tmp_path, b_html=SLOW))) == [Unopened(ENDED)]
        finally:
            done.set()
            thread.join()


def test_no_worker_is_left_behind(tmp_path: Path) -> None:
    before = {each.pid for each in children()}
    with Pool(Limits(), 2) as pool:
        list(pool.read(made(tmp_path, a_txt=b"one", b_txt=b"two")))
    assert {each.pid for each in children()} == before


def test_workers_of_a_killed_process_end(tmp_path: Path) -> None:
    """One idle, one busy with a file that hangs."""
    script = """
import sys
from pathlib import Path
from tracemill.retrieval.extract.pool import Limits, Worker
import threading
limits = Limits(timeout_s=1)
workers = Worker(limits), Worker(limits)
for worker in workers:
    worker.read(Path(sys.argv[1]))
threading.Thread(target=workers[0].read, args=(Path(sys.argv[2]),)).start()
print(*(worker._process.pid for worker in workers), flush=True)
threading.Event().wait()
"""
    good, slow = made(tmp_path, a_txt=b"one", b_html=SLOW)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(good), str(slow)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        process.kill()
    _, alive = psutil.wait_procs(workers, timeout=15)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


def test_a_file_that_cannot_be_opened_is_no_broken_file(pool: Pool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    found = list(pool.read([tmp_path / "a.txt", tmp_path / "none.txt"]))
    gone = Unopened("cannot be opened: No such file or directory")
    assert found == [Unopened("no regular file"), gone]


def test_workers_do_not_see_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    before = {each.pid for each in children()}
    with Pool(Limits(), 1) as pool:
        list(pool.read(made(tmp_path, a_txt=b"one")))
        (worker,) = (each for each in children() if each.pid not in before)
        assert "SOME_API_KEY" not in worker.environ()
