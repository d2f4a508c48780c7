"""Measure the event log beside other stores, in one run on one machine: `make bench`.

    python -m benchmarks.log [--quick] [--large]

Prints tables and writes `results/log.md`, which the README quotes. Nothing here passes or fails.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import appends, comparisons, questions, report
from benchmarks.report import Table, console
from benchmarks.workload import write_text

SCRATCH = report.ROOT / "warehouse"  # the disk that a real log is on


def main() -> None:
    """Run everything and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.log", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the work: for a first look"
    )
    parser.add_argument("--large", action="store_true", help="also group 10 million events (12 GB)")
    options = parser.parse_args()
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix=".benchmark-", dir=SCRATCH))
    try:
        tables = [measure() for measure in _measures(scratch, options.quick, options.large)]
    finally:
        shutil.rmtree(scratch)
    flags = "".join(f" {argument}" for argument in sys.argv[1:])
    heading = f"`python -m benchmarks.log{flags}` on {report.machine()}; {time.monotonic() - began:,.0f} s."
    console.print(heading)
    path = report.write("log", heading, tables)
    if not options.quick:
        report.quote("log", path.read_text(encoding="utf-8"))


def _measures(scratch: Path, quick: bool, large: bool) -> list[Callable[[], Table]]:
    text = write_text(scratch / "text.txt")
    share = 10 if quick else 1

    def shown(measure: Callable[[], Table]) -> Callable[[], Table]:
        def run() -> Table:
            with console.status("measuring"):
                table = measure()
            table.show()
            return table

        return run

    measures = [
        lambda: appends.single_appends(scratch, text, 60_000 // share),
        lambda: appends.batched_appends(scratch, text, 50_000 // share),
        lambda: appends.threaded_appends(scratch, text, 16_000 // share),
        lambda: comparisons.side_by_side(
            scratch, text, events=15_000 // share, calls=1_000 // share
        ),
        lambda: questions.housekeeping(scratch, text, 100_000 // share),
        lambda: questions.group_by(scratch, text, 1_000_000 // share, beside_sqlite=True),
    ]
    if large:
        measures.append(lambda: questions.group_by(scratch, text, 10_000_000, beside_sqlite=False))
    return [shown(measure) for measure in measures]


if __name__ == "__main__":
    main()
