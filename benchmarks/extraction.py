"""Files to text by type, beside other libraries: `python -m benchmarks.extraction [--quick]`.

Ours reads a folder as a build does: in worker processes that can be killed, with limits of time and
memory, digests, languages and dates. The others read the same files one after another in one process
of uv's making. Writes `results/extraction.md`; nothing passes or fails.
"""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import report
from benchmarks.extraction_files import TYPES, Files, files
from benchmarks.near_ways import CACHE, PEERS
from benchmarks.peers.extract_with import TOOLS
from benchmarks.processes import PYTHON, told, uv
from benchmarks.report import Table, console, number

OURS = "**tracemill**"
ROUNDS = 3


@dataclass(frozen=True)
class Read:
    """What a tool made of the files of a type."""

    tool: str
    files: Files
    seconds: float
    cpu_s: float
    words: int
    failed: int
    memory_mb: float

    @property
    def rate(self) -> float:
        """Megabytes of files a second."""
        return self.files.megabytes / self.seconds


def main() -> None:
    """Read every type by everybody, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extraction", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ten files of a type, one round")
    quick = parser.parse_args().quick
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    CACHE.mkdir(exist_ok=True)
    began = time.monotonic()
    found = [files(type, CACHE, 10 if quick else 100) for type in TYPES]
    reads = [read for each in found for read in _all(each, 1 if quick else ROUNDS)]
    tables = [_summary(found, reads), _details(reads)]
    heading = (
        f"`python -m benchmarks.extraction{' --quick' if quick else ''}` on {report.machine()}; "
        f"{time.monotonic() - began:,.0f} s."
    )
    for table in tables:
        table.show()
    console.print(heading)
    report.write("extraction", heading, tables)
    if not quick:
        report.quote("extraction", f"{heading}\n\n{tables[0].markdown()}")


def _all(each: Files, rounds: int) -> Iterator[Read]:
    """Ours, then every tool that reads this type and can be had."""
    commands: dict[str, tuple[str, ...] | None] = {OURS: (*PYTHON, "benchmarks.extraction_ours")}
    for name, tool in TOOLS.items():
        if each.type in tool.formats:
            before = uv(*tool.requirements)
            commands[name] = before and (*before, str(PEERS / "extract_with.py"), name)
    for name, command in commands.items():
        whole = command and (*command, str(each.folder), str(rounds))
        if said := told(f"{name} for {each.type}", whole):
            yield Read(name, each, **said)


def _summary(found: list[Files], reads: list[Read]) -> Table:
    rows = [_row(each, {read.tool: read for read in reads if read.files == each}) for each in found]
    absent = [name for name in TOOLS if name not in {read.tool for read in reads}]
    return Table(
        "Files to text, by type: MB of files a second",
        (
            "",
            "files",
            "MB",
            "tracemill",
            "files/s",
            "memory",
            "kreuzberg",
            "markitdown",
            "others",
        ),
        rows,
        "The fastest of three rounds, warm. tracemill: a folder that was never read, with a worker "
        "process for each core that is killed at a limit, digests, languages, dates and the frame "
        "of documents; kreuzberg alone is the library beneath most of it, in one process and "
        "one thread as all the others. Memory: of the largest process. Files: see "
        "`benchmarks/extraction_files.py`." + (f" Not here: {', '.join(absent)}." * bool(absent)),
    )


def _row(each: Files, by_tool: dict[str, Read]) -> tuple[str, ...]:
    ours = by_tool.get(OURS)
    head = (each.type, f"{each.count:,}", number(each.megabytes))
    own = ("", "", "")
    if ours:
        own = number(ours.rate), number(each.count / ours.seconds), f"{ours.memory_mb:,.0f} MB"
    named = [by_tool.pop(name, None) for name in (OURS, "kreuzberg", "markitdown")][1:]
    others = ", ".join(f"{name} {number(read.rate)}" for name, read in by_tool.items())
    return *head, *own, *(number(read.rate) if read else "" for read in named), others


def _details(reads: list[Read]) -> Table:
    rows = [
        (
            f"{read.files.type}: {read.tool}",
            number(read.rate),
            number(read.files.count / read.seconds),
            number(read.files.megabytes / read.cpu_s),
            f"{read.words:,}",
            f"{read.failed:,}",
            f"{read.memory_mb:,.0f} MB",
        )
        for read in reads
    ]
    columns = ("", "MB/s", "files/s", "MB a CPU second", "words", "not read", "memory")
    note = (
        "Words tell whether two tools read the same: ours and kreuzberg keep tables and links, "
        "trafilatura takes the main text of a page only. CPU seconds are of all processes."
    )
    return Table("Everybody, by type", columns, rows, note)


if __name__ == "__main__":
    main()
