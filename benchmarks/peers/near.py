"""What every peer in search of near-duplicates shares: how it is timed, and how its answer is told.

    SCRIPT WAY PARQUET ANSWER ROUNDS

The clock starts when the texts lie in memory as Arrow. Seconds are of the fastest round, memory is
of the greediest: anonymous memory of this process and its children over what it had with the texts, before
it imported the library.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread

WORDS = 5
ENOUGH_S = 20


class Clock:
    """Seconds by stage: each call ends the stage that it names."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what was until now."""
        self._last = time.perf_counter()
        self.stages: dict[str, float] = {}

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0) + now - self._last
        self._last = now


def main(ways: dict[str, Callable], columns: Sequence[str] = ("text",)) -> None:
    """`ways`: name -> function of the column and a clock; it returns flags and groups, or None for one."""
    import pyarrow.parquet as pq

    way, parquet, answer, rounds = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    texts = pq.read_table(parquet, columns=list(columns))["text"].combine_chunks()
    texts = getattr(texts, "chunks", [texts])[0]
    took: list[dict[str, float]] = []
    with memory() as most:
        found = ways[way](texts[:6_000], Clock())
        began = time.perf_counter()
        while len(took) < rounds and (not took or time.perf_counter() - began < ENOUGH_S):
            clock = Clock()
            found = ways[way](texts, clock)
            took.append(clock.stages)
    tell(answer, took, found, most())


def tell(answer: Path, took: list[dict[str, float]], found: tuple, memory_mb: float) -> None:
    """Write the flags and groups, print the seconds of the fastest round."""
    import numpy as np

    flags, groups = found
    arrays = {"flags": flags, "groups": groups}
    np.savez(answer, **{name: array for name, array in arrays.items() if array is not None})
    stages = min(took, key=lambda each: sum(each.values()))
    print(json.dumps({"stages": stages, "memory_mb": memory_mb, "rounds": len(took)}))


@contextmanager
def memory() -> Iterator[Callable[[], float]]:
    """The most that this process and its children took beyond what it had at first, in MB."""
    before = anonymous_mb()
    most, over = [before], Event()

    def watch() -> None:
        while not over.wait(0.01):
            most[0] = max(most[0], anonymous_mb())

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: most[0] - before
    finally:
        over.set()
        watcher.join()


def anonymous_mb(process: str = "self") -> float:
    """RssAnon of a process and its children; where there is no /proc, the greatest RSS so far."""
    if not Path("/proc/self/status").exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    try:
        status = Path(f"/proc/{process}/status").read_text()
        children = " ".join(p.read_text() for p in Path(f"/proc/{process}/task").glob("*/children"))
    except OSError:  # a child that has ended meanwhile
        return 0
    own = next((line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")), 0)
    return int(own) / 1024 + sum(map(anonymous_mb, children.split()))


def shingles(text: str) -> list[str]:
    """Word 5-grams, as this comparison defines them for all libraries that take tokens."""
    words = text.lower().split()
    return [" ".join(words[i : i + WORDS]) for i in range(max(len(words) - WORDS + 1, 1))]


def components(texts: int, buckets: Sequence[Sequence[int]]):
    """Flags and groups of texts that share a bucket, whatever their similarity."""
    import numpy as np

    parent = list(range(texts))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = at = parent[parent[at]]
        return at

    for bucket in buckets:
        for left, right in pairwise(bucket):
            a, b = root(left), root(right)
            parent[max(a, b)] = min(a, b)
    groups = np.array([root(at) for at in range(texts)])
    return np.bincount(groups, minlength=texts)[groups] > 1, groups
