"""Quality statistics beside datatrove's filters, per core: `python -m benchmarks.quality [--quick]`.

Ours computes the numbers of Gopher, C4 and FineWeb for every text in one pass; datatrove decides by
each of its four filters. Same texts, CPU seconds. Writes `results/quality.md`; nothing passes or fails.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from benchmarks import near_corpus, near_real, report
from benchmarks.near_ways import CACHE, Way, tell
from benchmarks.report import Table, console, number

ROUNDS = 5
GOAL = 50


def main() -> None:
    """Measure both on the planted corpus and on dialogues, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the texts")
    quick = parser.parse_args().quick
    CACHE.mkdir(exist_ok=True)
    began = time.monotonic()
    texts = 5_500 if quick else 55_000
    paths = {"planted corpus": near_corpus.corpus(CACHE, texts)}
    if real := near_real.corpus("sgd", CACHE):
        paths["SGD dialogues"] = real
    theirs = 500 if quick else 2_000
    tables = [_beside(name, path, theirs) for name, path in paths.items()]
    heading = (
        f"`python -m benchmarks.quality{' --quick' if quick else ''}` on {report.machine()}; "
        f"{time.monotonic() - began:,.0f} s."
    )
    for table in tables:
        table.show()
    console.print(heading)
    path = report.write("quality", heading, tables)
    if not quick:
        report.quote("quality", path.read_text(encoding="utf-8"))


def _beside(name: str, path: Path, theirs: int) -> Table:
    texts = pl.Series("text", pq.read_table(path)["text"])
    megabytes = int(texts.str.len_bytes().sum()) / 1e6 / len(texts)
    ours = len(texts) / _cpu_s(texts)
    rows = [("**tracemill**, all statistics", *_cells(ours, megabytes, ours))]
    rows += [
        (f"datatrove, {of}", *_cells(rate, megabytes, ours)) for of, rate in _filters(path, theirs)
    ]
    return Table(
        f"{name}: {len(texts):,} texts of {megabytes * 1e3:,.2f} KB, one core",
        ("", "texts/s", "MB/s", "ours is faster by"),
        rows,
        f"CPU time; ours the fastest of {ROUNDS}, datatrove 0.10.1 on the first {theirs:,} texts. It "
        "splits words by spaCy's tokenizer, ours at white space. Its filters stop at the first "
        f"rule that a text breaks; ours computes all numbers. Goal: {GOAL}x all four, which share one "
        "tokenised text.",
    )


def _cells(rate: float, megabytes: float, ours: float) -> Iterator[str]:
    yield from map(number, (rate, rate * megabytes))
    yield "" if rate == ours else f"{number(ours / rate)}x"


def _cpu_s(texts: pl.Series) -> float:
    """CPU seconds of the whole process, all its threads together: what one core would take."""
    from tracemill.corpus.quality import statistics

    work = partial(statistics, texts, plain=False)
    work()
    took: list[float] = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took)


def _filters(path: Path, texts: int) -> Iterator[tuple[str, float]]:
    """Texts a second of CPU, by filter."""
    told = tell(Way("datatrove 0.10.1", "datatrove_filters.py", str(path)), str(texts))
    for name, took in (told or {"cpu_s": {}})["cpu_s"].items():
        yield name, texts / took


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.exit(main())
