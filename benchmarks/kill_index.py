"""Kill processes that write a collection, at marked and at random moments, and look what is left.

`python -m benchmarks.kill_index --kills 50`: a victim replaces the version that serves by another one
and dies on the way; whoever opens the collection then must find the old version or the new one, whole:
every chunk, and every answer to a few questions. The write after that must sweep what was left over.
"""

import argparse
import importlib
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import polars as pl

from tracemill.errors import InputError
from tracemill.files import sha256_of
from tracemill.retrieval.collection import Collection, contents, create, open_collection
from tracemill.retrieval.embed import model
from tracemill.retrieval.frames import chunk_schema, searchable

MODULE = "tracemill.retrieval.collection."
MARKS = {
    # name -> (module, owner within it): the steps between which a death must not matter
    "files_of": (f"{MODULE}versions", None),
    "place": (f"{MODULE}versions", None),
    "point": (f"{MODULE}versions", None),
    "forget": (f"{MODULE}versions", None),
    "save": (f"{MODULE}graph", None),
    "write_text_atomically": (f"{MODULE}versions", None),
    "fsync": ("os", None),
    "rename": ("pathlib", "Path"),
    "rmtree": ("shutil", None),
}
CALLS = {"fsync": 12, "rename": 5, "write_text_atomically": 2, "rmtree": 2}
"""Of a step in one write; others have one."""
NAME = "killed"
FOREVER_S = 120
QUESTIONS = ("how is a list sorted", "exceptions in a with statement", "zzz")
PRELOADED = [
    *("tracemill.retrieval.collection", "tracemill.retrieval.embed", "pydoc_data.topics"),
    *("polars", "numpy", "hnswlib", "bm25s", "Stemmer"),
]
"""All that a victim imports: its life is the write alone, a tenth of a second instead of half of one."""


class Death(NamedTuple):
    """Where a victim kills itself."""

    mark: str
    call: int
    """At which call of it."""
    after: bool
    """After the step, or before it."""


@dataclass
class Outcome:
    """What the kills did."""

    kills: int = 0
    survived: int = 0
    """Victims that had ended before they were hit."""
    old: int = 0
    new: int = 0
    left: int = 0
    """Kills that left something to sweep."""
    longest_s: float = 0
    """Of a victim's life, from its first step on."""
    errors: list[str] = field(default_factory=list[str])
    died_at: Counter[str] = field(default_factory=Counter[str])

    @property
    def ok(self) -> bool:
        return not self.errors


def chunks(count: int, edition: int) -> pl.DataFrame:
    """Pieces of Python's reference; another edition has others in the place of every third."""
    rows = [_chunk(title, at, text) for at, (title, text) in enumerate(_pieces(count, edition))]
    return pl.DataFrame(rows, schema=chunk_schema())


def _pieces(count: int, edition: int) -> Iterator[tuple[str, str]]:
    cut = [
        (title, text[at : at + 200])
        for title, text in sorted(topics.items())
        for at in range(0, len(text) - 200, 200)
    ]
    for at in range(count):
        title, text = cut[at % len(cut)]
        again = "" if at < len(cut) else f" {at // len(cut)}"
        yield title, text + again + (f" Edition {edition}." if at % 3 == 0 else "")


def _chunk(title: str, at: int, text: str) -> dict[str, Any]:
    return {
        "chunk_id": f"c:{blake2b(f'{at} {text}'.encode(), digest_size=16).hexdigest()}",
        "document_id": title,
        "title": title,
        "headings": [],
        "source": f"topics: {title}",
        "format": "rst",
        "start": 0,
        "end": len(text),
        "tokens": len(text.split()),
        "metadata": "{}",
        "text": text,
    }


def write(folder: Path, edition: Path) -> Collection:
    """Let the collection hold an edition that `prepare` wrote; it is created where there is none."""
    import numpy as np

    try:
        collection = open_collection(folder, NAME)
    except InputError:
        collection = create(folder, NAME, model="local/wordllama")
    return collection.replace(
        pl.read_parquet(edition / "chunks.parquet"), np.load(edition / "vectors.npy")
    )


def victim(folder: Path, edition: Path, death: Death | None, graph_from: int, begun: Any) -> None:
    """Write, and die at the step in question or whenever somebody kills this process."""
    contents.EXACT_BELOW = graph_from
    if death:
        die_at(death)
    begun.send(True)
    write(folder, edition)


def die_at(death: Death) -> None:
    """Replace the step by one that kills this process at the call in question."""
    module, owner = MARKS[death.mark]
    home: Any = importlib.import_module(module)
    home = getattr(home, owner) if owner else home
    original: Callable[..., Any] = getattr(home, death.mark)
    calls = 0

    def step(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == death.call and not death.after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if calls == death.call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(home, death.mark, step)


# Over them


@dataclass(frozen=True)
class Whole:
    """A version as it must be found: its digest, its chunks, what it answers, its files."""

    digest: str
    chunks: pl.DataFrame
    answers: tuple[pl.DataFrame, ...]
    files: dict[str, str]
    """Name -> SHA-256."""

    def unlike(self, other: "Whole") -> list[str]:
        """What is not as in the other."""
        answers = zip(self.answers, other.answers, strict=True)
        equal = {
            "chunks": self.chunks.equals(other.chunks),
            "answers": all(one.equals(two) for one, two in answers),
            **{name: other.files.get(name) == digest for name, digest in self.files.items()},
            "names of files": self.files.keys() == other.files.keys(),
        }
        return [name for name, same in equal.items() if not same]


def whole(collection: Collection, folder: Path) -> Whole:
    """All that can be seen of an open collection."""
    answers = tuple(
        collection.search(question, 5, mode=mode)
        for question in QUESTIONS
        for mode in ("hybrid", "dense", "lexical")
    )
    version = folder / NAME / collection.digest
    files = {
        path.relative_to(version).as_posix(): sha256_of(path)
        for path in sorted(version.rglob("*"))
        if path.is_file()
    }
    return Whole(collection.digest, _all(collection), answers, files)


def _all(collection: Collection) -> pl.DataFrame:
    return collection.list(limit=collection.count()).sort("chunk_id")


class Field:
    """Where the kills happen: an old version that is copied for every victim, and what is right."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._editions = [_prepare(folder / f"edition-{each}", count, each) for each in (0, 1)]
        empty = create(folder / "empty", NAME, model="local/wordllama")
        self.empty = whole(empty, folder / "empty")
        self.old = self._written(folder / "old", 0)
        self.new = self._written(shutil.copytree(folder / "old", folder / "new"), 1)
        self.first = self._written(folder / "first", 1)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._context: Any = context

    def _written(self, folder: Path, edition: int) -> Whole:
        return whole(write(folder, self._editions[edition]), folder)

    def kill(self, outcome: Outcome, death: Death | None, after_s: float, *, first: bool) -> None:
        """One victim: on a copy of the old version, or where there is none yet."""
        place = self._folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        if not first:
            shutil.copytree(self._folder / "old", place)
        self._run(place, outcome, death, after_s)
        where = f"{death or f'after {after_s:.3f} s'}, {'first' if first else 'next'} version"
        try:
            self._judge(place, outcome, first=first)
        except Exception as error:  # noqa: BLE001 (any error at all is a finding)
            outcome.errors.append(f"{where}: {type(error).__name__}: {error}")

    def _run(self, place: Path, outcome: Outcome, death: Death | None, after_s: float) -> None:
        heard, told = self._context.Pipe()
        arguments = (place, self._editions[1], death, contents.EXACT_BELOW, told)
        process = self._context.Process(target=victim, args=arguments)
        process.start()
        heard.recv()
        began = time.perf_counter()
        process.join(after_s)
        outcome.longest_s = max(outcome.longest_s, time.perf_counter() - began)
        process.kill()
        process.join()
        killed = process.exitcode == -signal.SIGKILL
        outcome.kills += killed
        outcome.survived += process.exitcode == 0
        if not killed and process.exitcode:
            outcome.errors.append(f"a victim ended with {process.exitcode}")
        if killed:
            when = f"{'after' if death.after else 'before'} {death.mark}" if death else "at random"
            outcome.died_at[when] += 1

    def _judge(self, place: Path, outcome: Outcome, *, first: bool) -> None:
        """What is found is whole; the next write succeeds and leaves nothing over."""
        old, new = (self.empty, self.first) if first else (self.old, self.new)
        if first and not (place / NAME / "current").exists():
            outcome.old += 1
        else:
            found = open_collection(place, NAME)
            if found.degraded:
                raise AssertionError(found.degraded)
            self._compare(whole(found, place), old, new)
            outcome.new += found.digest == new.digest
            outcome.old += found.digest == old.digest
        outcome.left += any(path.name.startswith(".") for path in place.rglob("*"))
        after = write(place, self._editions[1])
        self._compare(whole(after, place), new)
        if over := _over(place, {old.digest, new.digest, self.empty.digest}):
            raise AssertionError(f"left over after the next write: {over}")

    @staticmethod
    def _compare(found: Whole, *allowed: Whole) -> None:
        for each in allowed:
            if each.digest == found.digest:
                if unlike := found.unlike(each):
                    raise AssertionError(f"version {found.digest} has other {unlike}")
                return
        raise AssertionError(f"version {found.digest} is neither the old nor the new one")


def _prepare(folder: Path, count: int, edition: int) -> Path:
    import numpy as np

    folder.mkdir(parents=True)
    given = chunks(count, edition)
    given.write_parquet(folder / "chunks.parquet")
    np.save(folder / "vectors.npy", model("local/wordllama").compute(searchable(given).to_list()))
    return folder


def _over(place: Path, digests: set[str]) -> list[str]:
    names = {path.name for path in (place / NAME).iterdir()} - {"current", "lock"} - digests
    return sorted(names | {path.name for path in place.rglob("*.tmp")})


def every_step() -> list[Death]:
    """Before and after each marked step, at each of its calls in a write."""
    return [
        Death(mark, call, after)
        for mark in MARKS
        for call in range(1, CALLS.get(mark, 1) + 1)
        for after in (False, True)
    ]


def torment(folder: Path, *, deaths: list[Death], kills: int, count: int, seed: int = 0) -> Outcome:
    """Kill at these steps, and so many times at random; each in turn of a first and a next version."""
    ground, outcome, choice = Field(folder, count), Outcome(), random.Random(seed)
    ground.kill(outcome, None, FOREVER_S, first=False)
    unhurt_s = outcome.longest_s
    for at, death in enumerate(deaths):
        ground.kill(outcome, death, FOREVER_S, first=at % 4 == 3)
    before = outcome.died_at["at random"]
    for tries in range(4 * kills):
        if outcome.died_at["at random"] - before >= kills:
            break
        ground.kill(outcome, None, choice.uniform(0, unhurt_s), first=tries % 4 == 3)
    return outcome


def main() -> None:
    """Kill, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_index", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="at random, beside all marked steps")
    parser.add_argument("--chunks", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for graph_from, said in ((1, "with a graph"), (10**9, "without a graph")):
        contents.EXACT_BELOW = graph_from
        deaths = every_step()
        with tempfile.TemporaryDirectory() as folder:
            outcome = torment(
                Path(folder),
                deaths=deaths,
                kills=options.kills,
                count=options.chunks,
                seed=options.seed,
            )
        print(f"{said}: {outcome}", flush=True)
        if not outcome.ok:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
