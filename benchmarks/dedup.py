"""Near-duplicates beside other libraries: `python -m benchmarks.dedup [--quick] [--real] [--scale]`.

Everybody gets the same 55,000 texts, in a process alone, and is held against the exact answer. Then what
a process pays first and what a new day pays. `--real` adds real sets from ../shared/data, `--scale` goes
from ten thousand to a million documents and plots it. Writes `results/dedup.md`; nothing passes or fails.
"""

import argparse
import os
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import near_corpus, near_growth, near_real, report
from benchmarks.near_truth import BINS, Truth, truth
from benchmarks.near_ways import CACHE, OURS, THRESHOLD, WAYS, Outcome, figures, run
from benchmarks.report import Table, console, number


def main() -> None:
    """Run everything and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dedup", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="11,000 documents, one round")
    parser.add_argument("--real", action="store_true", help="real sets too")
    parser.add_argument("--scale", action="store_true", help="to a million documents")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    CACHE.mkdir(exist_ok=True)
    began = time.monotonic()
    growth = near_growth.goals(CACHE, 100_000 if options.quick else 1_000_000)
    tables = [*_side_by_side(options.quick), growth]
    if options.real:
        tables += near_real.tables(CACHE)
    if options.scale:
        tables.append(near_growth.scaling(CACHE))
    heading = (
        f"`python -m benchmarks.dedup{''.join(f' {flag}' for flag in sys.argv[1:])}` "
        f"on {report.machine()}; {time.monotonic() - began:,.0f} s."
    )
    for table in tables:
        table.show()
    console.print(heading)
    path = report.write("dedup", heading, tables)
    if not options.quick:
        report.quote("dedup", path.read_text(encoding="utf-8"))


def _side_by_side(quick: bool) -> list[Table]:
    """Speed, memory and answers on the planted corpus; then recall by similarity; then the goals."""
    path = near_corpus.corpus(CACHE, 11_000 if quick else 55_000)
    texts = pq.read_table(path)["text"]
    true = truth(texts, THRESHOLD, CACHE)
    outcomes = [found for way in WAYS if (found := run(way, path, rounds=1 if quick else 3))]
    return [
        _figures(texts, true, outcomes),
        _by_similarity(true, outcomes),
        _ratios(texts, true, outcomes),
    ]


def _figures(texts: pa.ChunkedArray, true: Truth, outcomes: list[Outcome]) -> Table:
    best = true.best()
    return Table(
        f"{len(texts):,} texts, {texts.nbytes / 1e6:,.0f} MB: from texts to which are duplicates",
        ("", "documents/s", "MB/s", "memory", "precision", "recall", "kept", "seconds by stage"),
        [figures(found, texts, true) for found in outcomes],
        "The fastest of three rounds in one process after a warm-up on 6,000 texts. Memory: anonymous, "
        "beyond the texts, imports and threads included. Precision and recall: is a text flagged "
        f"exactly when another one's word 5-grams are as like as Jaccard {THRESHOLD} "
        f"({(best > 0).sum():,} are, in {len(true.pairs):,} pairs). Kept should be {true.kept():,}, one "
        "of each chain of such pairs; star and rensa's deduplicator decide pair by pair.",
    )


def _by_similarity(true: Truth, outcomes: list[Outcome]) -> Table:
    best = true.best()
    bins = [(best >= low) & (best < high) for low, high in BINS]
    rows = [
        (found.way.name, *(f"{found.flags[each].mean():.4f}" for each in bins))
        for found in outcomes
        if found.flags is not None
    ]
    names = [f"{low:.2f} to {high:.2f}" if low < 1 else "1" for low, high in BINS]
    columns = [f"{name} ({each.sum():,})" for name, each in zip(names, bins, strict=True)]
    return Table(
        "Share of duplicates found, by the similarity to the nearest text",
        ("", *columns),
        rows,
    )


def _ratios(texts: pa.ChunkedArray, true: Truth, outcomes: list[Outcome]) -> Table:
    by_name = {found.way.name: found for found in outcomes}
    ours = by_name[OURS]
    rows = [
        (
            f"documents/s over {name}",
            f">= {goal}x",
            f"{number(by_name[name].seconds / ours.seconds)}x",
        )
        for name, goal in (
            ("datasketch 2.0, as it comes", 30),
            ("rensa 0.5, full set, 16 bands", 8),
            ("Daft 0.7, 16x8", 4),
        )
        if name in by_name
    ]
    precision, recall = ours.judged(true)
    rows += [("precision", "1.000", f"{precision:.4f}"), ("recall", ">= 0.999", f"{recall:.4f}")]
    return Table("Goals", ("", "goal", "measured"), rows)


if __name__ == "__main__":
    main()
