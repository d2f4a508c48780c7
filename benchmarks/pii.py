"""Measure how well and how fast personal data is found, beside Presidio and scrubadub.

    python -m benchmarks.pii [--quick]

Prints tables and writes `results/pii.md`. Nothing here passes or fails.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from pydoc_data.topics import topics

import polars as pl

from benchmarks import report
from benchmarks.report import ROOT, Table, console, number
from tests.pii.labelled import Labelled, labelled
from tracemill.corpus.personal import protect
from tracemill.corpus.records import Message, Record, record_frame
from tracemill.pii import KINDS, find

PEERS = Path(__file__).parent / "peers" / "pii_finders.py"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
Place = tuple[str, int, int]


def texts() -> tuple[Labelled, ...]:
    """The labelled set; `.example` as `.network`, since one peer looks domains up in a list."""
    return tuple(row._replace(text=row.text.replace(".example", ".network")) for row in labelled())


def ours(row: Labelled) -> list[Place]:
    """What tracemill finds."""
    return [(place.kind, place.start, place.end) for place in find(row.text)]


def scores(rows: Sequence[Labelled], found: Sequence[Iterable[Place]]) -> Iterator[list[str]]:
    """Per kind and over all: items, precision, recall and exact recall; overlap of places counts."""
    items, hit, exact, told, true = Counter(), Counter(), Counter(), Counter(), Counter()
    for row, places in zip(rows, found, strict=True):
        wanted = [span for span in row.spans if span.kind != "no"]
        for span in wanted:
            near = [p for p in places if p[1] < span.end and span.start < p[2]]
            items[span.kind] += 1
            hit[span.kind] += bool(near)
            exact[span.kind] += any(p[1:] == span[1:] for p in near)
        for kind, start, end in places:
            told[kind] += 1
            true[kind] += any(s.start < end and start < s.end for s in wanted)
    for name, kinds in [*((kind, [kind]) for kind in KINDS), ("all", list(KINDS))]:
        counts = [
            sum(counter[kind] for kind in kinds) for counter in (items, told, true, hit, exact)
        ]
        wanted, said, right, caught, whole = counts
        yield [
            name,
            number(wanted),
            share(right, said),
            share(caught, wanted),
            share(whole, wanted),
        ]


def share(part: int, whole: int) -> str:
    """`0.987`, or `-` where there is nothing."""
    return f"{part / whole:.3f}" if whole else "-"


def quality(rows: Sequence[Labelled]) -> Iterator[Table]:
    """Both halves of the set by kind."""
    for half, said in (("tuned", "looked at while rules were made"), ("held_out", "not looked at")):
        some = [row for row in rows if row.half == half]
        negatives = [(row, span) for row in some for span in row.spans if span.kind == "no"]
        taken = sum(
            any(start < span.end and span.start < end for _, start, end in ours(row))
            for row, span in negatives
        )
        yield Table(
            f"tracemill, {len(some)} texts {said}",
            ("", "items", "precision", "recall", "recall, exact ends"),
            list(scores(some, [ours(row) for row in some])),
            f"{taken} of {len(negatives)} hard negatives were taken for something.",
        )


def peers(rows: Sequence[Labelled]) -> Table:
    """The same texts given to others, in environments of their own."""
    began = time.process_time()
    mine = [ours(row) for row in rows]
    sides = [("tracemill", mine, time.process_time() - began)]
    sides += [(name, *found) for name in ("presidio", "scrubadub") if (found := _peer(name, rows))]
    tables = [list(scores(rows, found)) for _, found, _ in sides]
    lines = [
        [kind[0][0], kind[0][1], *(f"{row[2]} / {row[3]}" for row in kind)]
        for kind in zip(*tables, strict=True)
    ]
    lines.append(["texts/s", "", *(number(len(rows) / took) for _, _, took in sides)])
    return Table(
        f"Precision / recall on all {len(rows)} texts",
        ("", "items", *(name for name, _, _ in sides)),
        lines,
        "Places that overlap count. Presidio 2.2.366: its recognisers that need no language model, "
        "scores >= 0.4, phones of its default regions; scrubadub 2.0.1: its defaults. Neither "
        "looks for keys; the set was written for this project.",
    )


def _peer(name: str, rows: Sequence[Labelled]) -> tuple[list[list[Place]], float] | None:
    path = f"{os.environ.get('PATH', '')}:{ROOT / '.uv'}:{ROOT / '.uv' / 'bin'}"
    uv = shutil.which("uv", path=path)
    if uv is None:
        console.print(f"{name} is left out: no uv on the PATH or in .uv/")
        return None
    done = subprocess.run(
        [uv, "run", "--quiet", "--no-project", "--script", str(PEERS), name],
        input=json.dumps([row.text for row in rows]),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        console.print(f"{name} is left out: {done.stderr.strip().splitlines()[-1]}")
        return None
    told = json.loads(done.stdout.splitlines()[-1])
    return [[(k, start, end) for k, start, end in places] for places in told["found"]], told[
        "seconds"
    ]


def speed(rows: Sequence[Labelled], records: int) -> Table:
    """`protect` over records of 1 KB, of which more and more hold something."""
    whole = "\n".join(topics.values())
    cuts = [whole[at : at + 900] for at in range(0, len(whole) - 1000, 997)]
    lines = []
    for every in (1_000, 100, 10):
        frame = record_frame([_record(cuts, rows, i, every) for i in range(records)])
        lines += [
            [f"1 in {every:,} planted, {action}", *_timed(frame, lambda f, a=action: protect(f, a))]
            for action in ("redact", "pseudonym", "drop")
        ]
    return Table(
        f"{records:,} records of 1 KB of Python's language reference",
        ("", "records/s of CPU", "MB/s of CPU", "records with something"),
        lines,
        "One thread's worth: processor seconds of the whole process, best of three.",
    )


def _record(cuts: Sequence[str], rows: Sequence[Labelled], i: int, every: int) -> Record:
    planted = f"\n{rows[i // every % len(rows)].text}" if i % every == 0 else ""
    said = (
        Message("user", f"What is number {i}?"),
        Message("assistant", cuts[i % len(cuts)] + planted),
    )
    return Record(said, "reference", f"{i}", NOW)


def _timed(frame: pl.DataFrame, step: Callable[[pl.DataFrame], object]) -> list[str]:
    best, size = (
        float("inf"),
        frame["messages"].explode().struct.field("content").str.len_bytes().sum(),
    )
    for _ in range(3):
        began = time.process_time()
        step(frame)
        best = min(best, time.process_time() - began)
    held = protect(frame, "drop").dropped.height
    return [number(frame.height / best), number(int(size) / 1e6 / best), number(held)]


def main() -> None:
    """Run everything, print it, write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer records")
    quick = parser.parse_args().quick
    began = time.perf_counter()
    rows = texts()
    tables = [*quality(rows), peers(rows), speed(rows, 5_000 if quick else 20_000)]
    for table in tables:
        table.show()
    took = time.perf_counter() - began
    heading = f"`python -m benchmarks.pii` on {report.machine()}; {took:.0f} s."
    if not quick:
        console.print(f"Written to {report.write('pii', heading, tables)}")


if __name__ == "__main__":
    main()
