"""Our reading of a folder in a process alone: `python -m benchmarks.extraction_ours FOLDER ROUNDS`."""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from tracemill.retrieval.folder import update


def main() -> None:
    """Read the folder as if never before; print the fastest round, words, refusals and memory."""
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    fastest = min((_round(folder) for _ in range(rounds)), key=lambda told: told["seconds"])
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    memory_mb = max(resource.getrusage(who).ru_maxrss for who in whose) / 1024
    print(json.dumps({**fastest, "memory_mb": memory_mb}))


def _round(folder: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        tables = [Path(place) / name for name in ("documents.parquet", "refused.parquet")]
        began, cpu = time.perf_counter(), os.times()
        update(folder, source="files", documents=tables[0], refused=tables[1])
        took, used = time.perf_counter() - began, os.times()
        documents, refused = map(pl.read_parquet, tables)
    cpu_s = sum(used[:4]) - sum(cpu[:4])
    words = sum(len(text.split()) for text in documents["text"])
    return {"seconds": took, "cpu_s": cpu_s, "words": words, "failed": refused.height}


if __name__ == "__main__":
    main()
