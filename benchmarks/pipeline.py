"""A million raw records to a data set, asset by asset: `python -m benchmarks.pipeline [--quick]`.

Chat records in one JSONL file (`write`): one in ten comes again word for word, three in twenty in other
words here and there, one in a hundred names an address, one in fifty is junk. Each asset is built with
its checks in a process of its own, then all of them in one process, as `tracemill build` would. Writes
`results/pipeline.md`; nothing passes or fails.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from benchmarks import near_corpus, report
from benchmarks.near_corpus import Draw, Words
from benchmarks.report import Table, console, number
from tracemill.settings import Settings

TARGET = "+quarantine"
"""The training splits, and beside them all that was left out."""
RECORDS, QUICK = 1_000_000, 50_000
_BLOCK = 10_000
_JUNK = (
    '{"messages": [',
    '{"messages": []}',
    '{"messages": [{"role": "user", "content": "and?"}]}',
)


class Told(NamedTuple):
    """What a process said of the build that it did."""

    seconds: float
    cpu_s: float
    """Of all threads, user and system."""
    anonymous_mb: float
    """The most RssAnon: what cannot be dropped and read again. Python and its imports are in it."""
    resident_mb: float
    """The most RSS: mapped files as well."""


def main() -> None:
    """Make the records, build the assets, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} records")
    parser.add_argument("--records", type=int, metavar="N", help=f"rather than {RECORDS:,}")
    parser.add_argument("--step", nargs=2, metavar=("WAREHOUSE", "ASSET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(_built(Path(options.step[0]), options.step[1])))
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    records = options.records or (QUICK if options.quick else RECORDS)
    with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=report.ROOT / "warehouse") as folder:
        alone, together = Path(folder, "alone"), Path(folder, "together")
        raw = write(alone / "raw" / "records" / "chat.jsonl", records)
        (together / "raw" / "records").mkdir(parents=True)
        shutil.copy2(raw, together / "raw" / "records")
        kernels = _process(alone, None)
        tables = [_assets(alone, records), _whole(together, records, kernels)]
        tables.append(_made(alone, together))
    command = "python -m benchmarks.pipeline" + (
        f" --records {records}" if records != RECORDS else ""
    )
    heading = f"`{command}` on {report.machine()}."
    for table in tables:
        table.show()
    console.print(heading)
    path = report.write("pipeline", heading, tables)
    if records == RECORDS:
        report.quote(
            "pipeline", path.read_text(encoding="utf-8"), report.ROOT / "docs/performance.md"
        )


def write(path: Path, records: int) -> Path:
    """So many chat records as JSON lines, the same on every run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for block in range(-(-records // _BLOCK)):
            lines = _lines(Draw(1, block))
            file.writelines(
                next(lines) + "\n" for _ in range(min(_BLOCK, records - block * _BLOCK))
            )
    return path


def _lines(draw: Draw) -> Iterator[str]:
    drawn = list(_turns(draw, _BLOCK))
    asked, answered = (_texts([pair[side] for pair in drawn]) for side in (0, 1))
    for place, (question, answer) in enumerate(zip(asked, answered, strict=True)):
        chance = draw.random.random()
        if chance < 0.02:
            yield _JUNK[place % len(_JUNK)]
            continue
        if chance < 0.03:
            answer += (
                f" Write to ann.example{place}@mail.example or call +49 30 901820{place % 90 + 10}."
            )
        turns = (("user", question), ("assistant", answer))
        yield json.dumps(
            {"messages": [{"role": role, "content": text} for role, text in turns]},
            ensure_ascii=False,
        )


def _turns(draw: Draw, count: int) -> Iterator[tuple[Words, Words]]:
    """Questions and answers: a quarter of them are others over again."""
    made: list[tuple[Words, Words]] = []
    for _ in range(count):
        chance = draw.random.random()
        if made and chance < 0.25:
            question, answer = made[int(draw.random.integers(len(made)))]
            near = chance >= 0.1
            made.append(
                (question, draw.like(answer, draw.random.uniform(0.85, 0.97)) if near else answer)
            )
        else:
            made.append((draw.words(int(draw.random.integers(8, 60))), draw.words(draw.length())))
        yield made[-1]


def _texts(made: list[Words]) -> list[str]:
    return near_corpus.joined(made, pa.array(near_corpus.vocabulary()[0])).to_pylist()


def _assets(warehouse: Path, records: int) -> Table:
    """Asset by asset: each with its checks, in a process of its own."""
    size = (warehouse / "raw" / "records" / "chat.jsonl").stat().st_size
    told = {asset: _process(warehouse, asset) for asset in _ordered()}
    rows = [_row(asset, each, records) for asset, each in told.items()]
    seconds, cpu_s = (sum(each[at] for each in told.values()) for at in (0, 1))
    whole = Told(seconds, cpu_s, 0, 0)
    rows.append((*_row("all of them", whole, records)[:-2], "", ""))
    return Table(
        f"{records:,} records, {size / 1e6:,.0f} MB of JSONL, asset by asset",
        ("asset", *_COLUMNS),
        rows,
        "Each in a process of its own, from the start of the build to its end, checks included. "
        "Starting Python and loading compiled kernels is not in the times of the table, save where an "
        "asset loads them first; their memory is.",
    )


def _whole(warehouse: Path, records: int, kernels: Told) -> Table:
    told = _process(warehouse, TARGET)
    memory = _row("", kernels, records)[-2:]
    rows = [
        _row("the same, all in one process", told, records),
        ("compiling and loading kernels, before", f"{kernels.seconds:.1f} s", "", "", *memory),
    ]
    note = (
        "The second line is what the first build on a machine adds; the kernels are then on disk."
    )
    return Table(f"`tracemill build {TARGET}`", ("", *_COLUMNS), rows, note)


_COLUMNS = ("took", "raw records/s", "CPU, µs a record", "MB anonymous, at most", "MB resident")


def _row(name: str, told: Told, records: int) -> tuple[str, ...]:
    return (
        name,
        f"{told.seconds:.1f} s",
        number(records / told.seconds),
        f"{told.cpu_s / records * 1e6:.1f}",
        number(told.anonymous_mb),
        number(told.resident_mb),
    )


def _made(*warehouses: Path) -> Table:
    """What came out, in each warehouse: it has to be the same."""
    from tracemill.corpus.write import current

    rows: list[tuple[str, ...]] = []
    for warehouse in warehouses:
        built = current(warehouse / "corpus" / "splits")
        counts = [f"{split} {count:,}" for split, count in built.rows.items()]
        disk = sum(each.stat().st_size for each in warehouse.rglob("*") if each.is_file())
        rows.append((warehouse.name, ", ".join(counts), built.digest[:16], f"{disk / 1e6:,.0f} MB"))
    columns = ("assets", "records", "version", "on disk, raw file and all steps")
    return Table("What came out", columns, rows)


def _ordered() -> list[str]:
    """The assets of the target, in their order."""
    from assets.build import selected
    from assets.definitions import defs

    wanted = set(selected(TARGET))
    order = defs.resolve_asset_graph().toposorted_asset_keys
    return [key.to_user_string() for key in order if key in wanted]


def _process(warehouse: Path, asset: str | None) -> Told:
    """Build an asset, or load the kernels, in another process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pipeline", "--step", str(warehouse), asset or ""],
        cwd=report.ROOT,
        # Kernels that were compiled before are not looked at.
        env=os.environ | {"NUMBA_CACHE_DIR": str(warehouse.parent / "kernels")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{asset or 'kernels'} failed: {(done.stdout + done.stderr)[-4000:]}")
    return Told(*json.loads(done.stdout.splitlines()[-1]))


def _built(warehouse: Path, asset: str) -> Told:
    """Build here, when all that any build imports has been imported."""
    from assets.build import build
    from benchmarks.peers.near import anonymous_mb, memory

    def make(folder: Path, selection: str) -> None:
        # No harvest: what is installed here is not what is measured.
        if build(Settings(warehouse=folder, harvest_installed=False), selection):
            raise SystemExit(1)

    with tempfile.TemporaryDirectory() as empty, redirect_stdout(sys.stderr):
        make(Path(empty), "installed_records")
        before = anonymous_mb()
        began, used = time.perf_counter(), time.process_time()
        with memory() as most:
            make(warehouse, asset) if asset else _load_kernels(Path(empty))
            took, cpu_s = time.perf_counter() - began, time.process_time() - used
            anonymous = before + most()
    return Told(took, cpu_s, anonymous, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def _load_kernels(folder: Path) -> None:
    """Use each compiled kernel once."""
    import polars as pl

    from tracemill.corpus import dedup, quality, sketch
    from tracemill.corpus.records import Record, pair, record_frame

    said = [f"{word} and one or two more words of text" for word in ("first", "second", "first")]
    records = [Record(pair(text, text), "", "", datetime.now(UTC)) for text in said]
    frame = record_frame(records)
    quality.statistics(pl.Series(said), plain=False)
    index = dedup.NearIndex(folder / "near", plain=False)
    documents = dedup.documents(frame, "both")
    index.add(documents, sketch.sketch(documents["text"], plain=False))
    index.decisions()


if __name__ == "__main__":
    main()
