"""What a process pays first, what a new day pays, and how time grows with documents.

`python -m benchmarks.near_growth first|day PARQUET` is what runs in a process of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import near_corpus
from benchmarks.near_ways import OURS, THRESHOLD, WAYS, run
from benchmarks.peers.near import memory
from benchmarks.report import ROOT, Table, console, number

DAY = 50_000
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
PEERS_TO = 100_000
PLOT = ROOT / "benchmarks" / "results" / "dedup_scaling.png"


def goals(folder: Path, documents: int) -> Table:
    """Start-up and a new day against all earlier ones, beside what is wanted of them."""
    small = near_corpus.corpus(folder, 6_000)
    with tempfile.TemporaryDirectory() as cache:
        cold, _ = _process("first", small, cache)
        warm = min(_process("first", small, cache)[0] for _ in range(3))
    plain = min(_process("first", near_corpus.corpus(folder, 500), "")[0] for _ in range(3))
    _, told = _process("day", _mapped(near_corpus.corpus(folder, documents)), "")
    anonymous, per_document = told["memory_mb"], told["bytes"] / documents
    steps = ", ".join(f"{name} {number(took)}" for name, took in told["steps"].items())
    return Table(
        "The first time, and every day",
        ("", "goal", "measured"),
        [
            ("a new process, 500 texts: no kernel", "", f"{plain:.2f} s"),
            ("a new process, 6,000 texts, kernels cached", "<= 3 s", f"{warm:.2f} s"),
            ("a new process, 6,000 texts, kernels compiled", "<= 8 s", f"{cold:.2f} s"),
            (
                f"{DAY:,} texts against {told['before']:,} in the index: {steps}",
                "<= 1 s",
                f"{sum(told['steps'].values()):.2f} s",
            ),
            (f"the slowest of {documents // DAY} such days", "", f"{told['slowest_s']:.2f} s"),
            ("index on disk, a document", "<= 1.5 KB", f"{per_document / 1e3:.2f} KB"),
            (
                f"most anonymous memory while {documents:,} came in",
                "<= 1,200 MB a million",
                f"{anonymous:,.0f} MB",
            ),
            ("kept, day by day and in one pass", "equal", told["kept"]),
        ],
        f"A process: from its start to its end, Python and imports included. A day: {DAY:,} texts "
        "sketched, added, and all that they touch decided again; the index is files that are mapped "
        "into memory, and no earlier text is read. Anonymous memory: kernels and libraries included (about "
        "150 MB), the texts not, which are mapped too.",
    )


def _mapped(parquet: Path) -> Path:
    """The corpus in a file that is mapped into memory: what is measured is the index alone."""
    path = parquet.with_suffix(".arrow")
    if not path.exists():
        temporary = path.with_suffix(".part")
        file = pq.ParquetFile(parquet)
        with pa.ipc.new_file(str(temporary), file.schema_arrow) as writer:
            for batch in file.iter_batches(DAY):
                writer.write_batch(batch)
        temporary.rename(path)
    return path


def _days(path: Path) -> Iterator[pa.RecordBatch]:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return map(reader.get_batch, range(reader.num_record_batches))


def _process(what: str, path: Path, cache: str) -> tuple[float, dict[str, Any]]:
    environment = {**os.environ, **({"NUMBA_CACHE_DIR": cache} if cache else {})}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.near_growth", what, str(path)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return time.perf_counter() - began, json.loads(done.stdout.splitlines()[-1])


def _first(path: Path) -> dict[str, Any]:
    from benchmarks.near_ours import search
    from benchmarks.peers.near import Clock

    flags, _ = search(pq.read_table(path)["text"].combine_chunks(), Clock(), "component")
    return {"flagged": int(flags.sum())}


def _day(path: Path) -> dict[str, Any]:
    """Day after day into one index; seconds of the tenth, or the last."""
    import polars as pl

    from tracemill.corpus.near.index import NearIndex
    from tracemill.corpus.sketch import sketch

    days: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, memory() as most:
        index = NearIndex(Path(folder), threshold=THRESHOLD, policy="component")
        for batch in _days(path):
            marks = [time.perf_counter()]
            texts = batch["text"]
            sketches = sketch(texts)
            marks.append(time.perf_counter())
            index.add(documents(batch["id"].to_numpy(), sketches), sketches)
            marks.append(time.perf_counter())
            decided = index.decisions()
            marks.append(time.perf_counter())
            days.append(dict(zip(("sketch", "add", "decide"), np.diff(marks), strict=True)))
        size = sum(file.stat().st_size for file in Path(folder).rglob("*"))
        peak = most()
    kept = decided.filter(pl.col("kept_id") == pl.col("record_id"))["record_id"]
    return {
        "steps": days[:10][-1],
        "before": DAY * (len(days[:10]) - 1),
        "slowest_s": max(sum(day.values()) for day in days[1:] or days),
        "bytes": size,
        "memory_mb": peak,
        "kept": f"{len(kept):,} {_against_one_pass(path, set(kept))}",
    }


def documents(ids: Any, sketches: Any) -> Any:
    """What an index wants to know of texts beside their sketches."""
    import polars as pl

    return pl.DataFrame({"record_id": ids}).select(
        pl.col("record_id").cast(pl.String),
        source=pl.col("record_id").cast(pl.String),
        timestamp=pl.datetime(2026, 1, 1, time_zone="UTC"),
        length=pl.Series(np.diff(sketches.offsets)),
        quality=pl.lit(None, pl.Float64),
    )


def _against_one_pass(path: Path, kept: set[str]) -> str:
    from benchmarks.near_ours import search
    from benchmarks.peers.near import Clock

    texts = pa.Table.from_batches(_days(path))["text"]
    _, groups = search(texts.combine_chunks(), Clock(), "component")
    same = kept == {str(place) for place in np.unique(groups).tolist()}
    return "of both" if same else f"and {len(np.unique(groups)):,}"


def scaling(folder: Path) -> Table:
    """From ten thousand to a million documents, with a plot."""
    shown = (OURS, "Daft 0.7, 16x8", "rensa 0.5, full set, 16 bands", "datasketch 2.0, as it comes")
    ways = [way for way in WAYS if way.name in shown]
    took: dict[str, dict[int, float]] = {way.name: {} for way in ways}
    rows: list[tuple[str, ...]] = []
    for size in SIZES:
        path = near_corpus.corpus(folder, size)
        for way in ways:
            ours = way.script is None
            here = ours or size in (SIZES[0], PEERS_TO)
            found = run(way, path, rounds=3 if ours else 1) if here else None
            if found is None:
                continue
            took[way.name][size] = found.seconds
            if ours:
                cells = (found.seconds, size / found.seconds, found.memory_mb)
                rows.append((f"{size:,}", *map(number, cells)))
    _plot({name: by_size for name, by_size in took.items() if by_size})
    return Table(
        "From ten thousand to a million documents",
        ("documents", "seconds", "documents/s", "MB of memory"),
        rows,
        "![seconds by documents](dedup_scaling.png)",
    )


def _plot(took: dict[str, dict[int, float]]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for name, by_size in took.items():
        axes.loglog(list(by_size), list(by_size.values()), "o-", label=name.replace("*", ""))
    (size, seconds), *_ = took[OURS].items()
    ends = [size, SIZES[-1]]
    axes.loglog(ends, [seconds * end / size for end in ends], "k:", label="linear", linewidth=1)
    axes.set(xlabel="documents", ylabel="seconds")
    axes.set_title(f"Near-duplicates on {os.cpu_count()} cores")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(PLOT, dpi=110)
    console.print(f"Plotted in {PLOT.relative_to(ROOT)}")


if __name__ == "__main__":
    print(json.dumps({"first": _first, "day": _day}[sys.argv[1]](Path(sys.argv[2]))))
