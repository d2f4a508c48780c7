"""The ways of finding near-duplicates that are compared, each run in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.near_truth import Truth
from benchmarks.processes import uv
from benchmarks.report import ROOT, console, number

PEERS = Path(__file__).parent / "peers"
CACHE = Path(tempfile.gettempdir()) / "tracemill-benchmarks"
"""Corpora and their exact answers, which take a minute to make."""
THRESHOLD = 0.8
OURS = "**tracemill**, component"


@dataclass(frozen=True)
class Way:
    """A library and how it is used."""

    name: str
    script: str | None
    """In `peers/`; None for ours."""
    argument: str


WAYS = (
    Way(OURS, None, "component"),
    Way("**tracemill**, star", None, "star"),
    Way("**tracemill**, deduplicate(records)", None, "records"),
    Way("Daft 0.7, 16x8", "near_daft.py", "16x8"),
    Way("Daft 0.7, 9x13", "near_daft.py", "9x13"),
    Way("rensa 0.5, full set, 16 bands", "near_rensa.py", "full-16"),
    Way("rensa 0.5, full set, 8 bands", "near_rensa.py", "full-8"),
    Way("rensa 0.5, rho, 16 bands", "near_rensa.py", "rho-16"),
    Way("rensa 0.5, rho, 8 bands", "near_rensa.py", "rho-8"),
    Way("rensa 0.5, its deduplicator, 16 bands", "near_rensa.py", "keep-16"),
    Way("FastSketchLSH 1.0, 16 bands", "near_fastsketch.py", "16"),
    Way("datasketch 2.0, xxh3", "near_datasketch.py", "xxh3"),
    Way("datasketch 2.0, as it comes", "near_datasketch.py", "default"),
    Way("text-dedup 0.4, xxh3, 2 processes", "near_textdedup.py", "all"),
)


@dataclass(frozen=True)
class Outcome:
    """What a way said, and what it took."""

    way: Way
    stages: dict[str, float]
    """Seconds."""
    memory_mb: float
    flags: NDArray[np.bool_] | None
    """Which texts have a near-duplicate; None where the way does not say."""
    groups: NDArray[np.int64] | None
    """The group of each text, below 0 for one that is dropped; None where the way does not say."""

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(self.stages.values())

    def kept(self) -> int | None:
        """Texts that are left."""
        return None if self.groups is None else len(np.unique(self.groups[self.groups >= 0]))

    def judged(self, true: Truth) -> tuple[float, float]:
        """Precision and recall; a way without flags has those that it drops, and no recall."""
        twin = true.best() > 0
        if self.flags is not None:
            return _share(twin[self.flags]), _share(self.flags[twin])
        assert self.groups is not None
        return _share(twin[self.groups < 0]), float("nan")


def _share(of: NDArray[np.bool_]) -> float:
    return float(of.mean()) if len(of) else 1.0


def figures(found: Outcome, texts: pa.ChunkedArray, true: Truth) -> tuple[str, ...]:
    """A row: name, documents/s, MB/s, memory, precision, recall, kept, seconds by stage."""
    precision, recall = found.judged(true)
    kept = found.kept()
    stages = ", ".join(f"{name} {number(took)}" for name, took in found.stages.items())
    return (
        found.way.name,
        number(len(texts) / found.seconds),
        number(texts.nbytes / 1e6 / found.seconds),
        f"{found.memory_mb:,.0f} MB",
        f"{precision:.4f}",
        "" if np.isnan(recall) else f"{recall:.4f}",
        "flags only" if kept is None else f"{kept:,}",
        f"{number(found.seconds)} s" + (f": {stages}" if len(found.stages) > 1 else ""),
    )


def run(way: Way, parquet: Path, rounds: int) -> Outcome | None:
    """Let a way have the texts; None, with the reason on the screen, where it cannot run."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.npz"
        told = tell(way, str(parquet), str(answer), str(rounds))
        if told is None:
            return None
        said = np.load(answer)
        flags, groups = said.get("flags"), said.get("groups")
    console.print(f"{way.name}: {number(sum(told['stages'].values()))} s")
    return Outcome(way, told["stages"], told["memory_mb"], flags, groups)


def tell(way: Way, *arguments: str, **environment: str) -> dict[str, Any] | None:
    """The last line that a way's process prints, as JSON."""
    command = _command(way.script)
    if command is None:
        console.print(f"{way.name} is left out: no uv on the PATH or in .uv/")
        return None
    done = subprocess.run(
        [*command, way.argument, *arguments],
        cwd=ROOT,
        env={**os.environ, "DO_NOT_TRACK": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        console.print(f"{way.name} is left out: {done.stderr.strip().splitlines()[-1:]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


@cache
def _command(script: str | None) -> tuple[str, ...] | None:
    if script is None:
        return sys.executable, "-m", "benchmarks.near_ours"
    peer = uv()
    return (*peer, str(PEERS / script)) if peer else None
