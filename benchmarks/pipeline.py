"""A million raw records to a data set, asset by asset: `python -m benchmarks.pipeline [--quick]`.

Chat records in one JSONL file: one in ten comes again word for word, three in twenty in other words here
and there, one in a hundred names an address, one in fifty is junk. Every asset is built in a process of
its own, as `tracemill build` would. Writes `results/pipeline.md`; nothing passes or fails.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks import near_corpus, report
from benchmarks.near_corpus import Draw, Words
from benchmarks.report import Table, console, number
from tracemill.settings import Settings

TARGET = "training_splits"
_BLOCK = 10_000
_JUNK = (
    '{"messages": [',
    '{"messages": []}',
    '{"messages": [{"role": "user", "content": "and?"}]}',
)


def main() -> None:
    """Make the records, build the assets, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the records")
    parser.add_argument("--step", nargs=2, metavar=("WAREHOUSE", "ASSET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(_built(Path(options.step[0]), options.step[1])))
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    records = 50_000 if options.quick else 1_000_000
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix=".benchmark-", dir=report.ROOT / "warehouse"))
    try:
        raw = scratch / "raw" / "records" / "chat.jsonl"
        raw.parent.mkdir(parents=True)
        write(raw, records)
        table = _table(scratch, records, raw.stat().st_size)
    finally:
        shutil.rmtree(scratch)
    heading = (
        f"`python -m benchmarks.pipeline{' --quick' if options.quick else ''}` on "
        f"{report.machine()}; {time.monotonic() - began:,.0f} s."
    )
    table.show()
    console.print(heading)
    path = report.write("pipeline", heading, [table])
    if not options.quick:
        report.quote("pipeline", path.read_text(encoding="utf-8"))


def write(path: Path, records: int) -> Path:
    """So many chat records as JSON lines, the same on every run."""
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


def _table(warehouse: Path, records: int, size: int) -> Table:
    rows: list[tuple[str, ...]] = []
    whole = 0.0
    for asset in _assets():
        told = _process(warehouse, asset)
        if told is None:
            break
        whole += told["seconds"]
        rate = number(records / told["seconds"])
        rows.append((asset, f"{told['seconds']:.1f} s", rate, *map(number, told["memory"])))
    rows.append(("all of them", f"{whole:.1f} s", number(records / whole), "", ""))
    return Table(
        f"{records:,} records, {size / 1e6:,.0f} MB of JSONL, asset by asset",
        ("asset", "took", "raw records/s", "MB anonymous, at most", "MB resident, at most"),
        rows,
        "Each in a process of its own, from the start of the build to its end, checks included; Python "
        "and its imports not, though their memory is. Resident counts mapped files as well.",
    )


def _assets() -> list[str]:
    """The assets that the training splits need, in their order."""
    from assets.build import selected
    from assets.definitions import defs

    wanted = set(selected(f"+{TARGET}"))
    order = defs.resolve_asset_graph().toposorted_asset_keys
    return [key.to_user_string() for key in order if key in wanted]


def _process(warehouse: Path, asset: str) -> dict[str, Any] | None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pipeline", "--step", str(warehouse), asset],
        cwd=report.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        console.print(f"{asset} failed: {(done.stdout + done.stderr).strip()[-2000:]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def _built(warehouse: Path, asset: str) -> dict[str, Any]:
    """Build one asset here: seconds, the most anonymous and resident memory in MB."""
    import psutil

    from assets.build import build
    from benchmarks.peers.near import memory

    before = psutil.Process().memory_info().rss / 1e6
    began = time.perf_counter()
    with memory() as most:
        code = build(Settings(warehouse=warehouse), asset)
        took = time.perf_counter() - began
        anonymous = most()
    if code:
        raise SystemExit(code)
    import resource

    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"seconds": took, "memory": (before + anonymous, resident)}


if __name__ == "__main__":
    main()
