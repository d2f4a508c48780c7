"""Eight readers, in processes and in threads, ask while a builder puts version after version in place."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import polars as pl
import pytest

from benchmarks.kill_index import PRELOADED, chunks
from tracemill.retrieval.collection import Collection, contents, create, open_collection
from tracemill.retrieval.embed import model
from tracemill.retrieval.frames import searchable

EDITIONS = 5
COUNT = 90
READERS = 4
"""Of each kind."""
QUESTION = "Edition of exceptions in a with statement"


class Seen(NamedTuple):
    """What a reader found: of each version that it opened, the chunks that were answers."""

    answers: dict[str, set[str]]
    """Digest -> ids."""
    counts: dict[str, set[int]]
    """Digest -> chunks."""
    rounds: int
    faults: list[str]


def read(folder: Path, opened: Callable[[], object], over: Callable[[], bool]) -> Seen:
    """Open and ask until it is over, and then once more; the first version stays open throughout."""
    seen, rounds, last = Seen({}, {}, 0, []), 0, False
    first = open_collection(folder, "read")
    answered = ask(first)
    opened()
    while not last:
        last = over()
        current = open_collection(folder, "read")
        if current.degraded:
            seen.faults.append(current.degraded)
        for mode, found in ask(current).items():
            if not found.height:
                seen.faults.append(f"{mode} finds nothing in {current.digest}")
            seen.answers.setdefault(current.digest, set()).update(found["chunk_id"])
        seen.counts.setdefault(current.digest, set()).add(current.count())
        again = ask(first)
        if not all(again[mode].equals(found) for mode, found in answered.items()):
            seen.faults.append(f"{first.digest}, held open, answers otherwise than at first")
        rounds += 1
    return seen._replace(rounds=rounds)


def ask(collection: Collection) -> dict[str, pl.DataFrame]:
    return {
        mode: collection.search(QUESTION, 8, mode=mode) for mode in ("hybrid", "dense", "lexical")
    }


def read_in_a_process(folder: Path, pipe: Any, over: Any) -> None:
    pipe.send(read(folder, lambda: pipe.send("opened"), over.is_set))


@contextmanager
def reading(folder: Path) -> Iterator[list[Callable[[], Seen]]]:
    """Readers that have opened the collection; afterwards each tells what it saw."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, "pytest"])
    far, near, told = context.Event(), Event(), list[Callable[[], Seen]]()
    with ThreadPoolExecutor(READERS) as pool:
        processes: list[Any] = []
        try:
            ready: list[Callable[[], object]] = []
            for _ in range(READERS):
                heard, said = context.Pipe()
                arguments = (folder, said, far)
                processes.append(context.Process(target=read_in_a_process, args=arguments))
                processes[-1].start()
                said.close()
                ready.append(heard.recv)
                told.append(heard.recv)
                opened = Event()
                told.append(pool.submit(read, folder, opened.set, near.is_set).result)
                ready.append(opened.wait)
            for wait in ready:
                wait()
            yield told
        finally:
            far.set()
            near.set()
            for process in processes:
                process.join()


def test_nobody_meets_an_error_or_a_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contents, "EXACT_BELOW", 1)
    collection = create(tmp_path, "read", model="local/wordllama")
    ids: dict[str, set[str]] = {}

    def build(edition: int) -> None:
        nonlocal collection
        made = chunks(COUNT, edition)
        vectors = model("local/wordllama").compute(searchable(made).to_list())
        collection = collection.replace(made, vectors)
        ids[collection.digest] = set(made["chunk_id"])

    build(0)
    with reading(tmp_path) as told:
        for edition in range(1, EDITIONS):
            build(edition)
    seen = [tell() for tell in told]
    assert (len(ids), len(seen)) == (EDITIONS, 2 * READERS)
    for each in seen:
        assert each.faults == []
        assert collection.digest in each.answers
        for digest, answers in each.answers.items():
            assert answers <= ids[digest]
            assert each.counts[digest] == {COUNT}
    # Somebody opened a version between the first and the last, so reads and writes did meet.
    assert len(set().union(*(each.answers for each in seen))) > 2
