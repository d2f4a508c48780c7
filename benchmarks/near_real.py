"""Near-duplicates in real sets: the same ways, and what a random split of them leaks.

The sets lie in `../shared/data` or in the folder that `TRACEMILL_TEST_DATA` names; without them there is
nothing here. Truth follows tracemill's words: Chinese and Japanese are words by characters.
"""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.near_corpus import write
from benchmarks.near_ours import search
from benchmarks.near_truth import Truth, truth
from benchmarks.near_ways import OURS, THRESHOLD, WAYS, Outcome, figures, run
from benchmarks.peers.near import Clock
from benchmarks.report import ROOT, Table, console
from tracemill.corpus.sketch import words
from tracemill.corpus.split import split

SETS = {
    "scancode": "licence notices",
    "sgd": "task dialogues",
    "taskmaster4": "orders of coffee",
    "gsm8k": "questions of arithmetic",
}
SHOWN = (OURS, "Daft 0.7, 16x8", "rensa 0.5, full set, 16 bands", "datasketch 2.0, as it comes")


def data() -> Path:
    """Where the real sets are, if they are."""
    return Path(os.environ.get("TRACEMILL_TEST_DATA", ROOT.parent / "shared" / "data"))


def corpus(name: str, folder: Path) -> Path | None:
    """A set as Parquet; None, said on the screen, where it is not."""
    source, path = data() / name / "records.jsonl.gz", folder / f"near-{name}.parquet"
    if not source.exists():
        console.print(f"{name} is left out: no {source}")
        return None
    if not path.exists():
        with gzip.open(source, "rt", encoding="utf-8") as file:
            texts = [_text(json.loads(line)) for line in file]
        write(path, pa.chunked_array([pa.array(texts, pa.large_string())]))
    return path


def _text(record: dict[str, Any]) -> str:
    if "text" in record:
        return record["text"]
    return "\n".join(turn["content"] or "" for turn in record["messages"])


def tables(folder: Path) -> list[Table]:
    """One of figures for all sets, one of leaks."""
    ways = [way for way in WAYS if way.name in SHOWN]
    speed: list[tuple[str, ...]] = []
    leaks: list[tuple[str, ...]] = []
    for name, what in SETS.items():
        path = corpus(name, folder)
        if path is None:
            continue
        texts = pq.read_table(path)["text"]
        true = truth(texts, THRESHOLD, folder, words)
        for way in ways:
            if found := run(way, path, rounds=3):
                speed.append((f"{name}: {way.name}", *_row(found, texts, true)))
        leaks.append((f"{name}, {what}", f"{len(texts):,}", *_leak(texts, true)))
    return [
        Table(
            "Real sets",
            ("", "documents/s", "MB/s", "memory", "precision", "recall", "kept", "should be kept"),
            speed,
            "As above. Python splits Chinese into words only where there are spaces, and so do they; "
            "ours takes each of its characters as a word, and so does the truth here.",
        ),
        Table(
            "A split of nine to one: test records with a near-duplicate in train",
            ("", "records", "random split", "tracemill's split"),
            leaks,
        ),
    ]


def _row(found: Outcome, texts: pa.ChunkedArray, true: Truth) -> tuple[str, ...]:
    return *figures(found, texts, true)[1:7], f"{true.kept():,}"


def _leak(texts: pa.ChunkedArray, true: Truth) -> tuple[str, str]:
    random = np.random.default_rng(0).random(len(texts)) < 0.1
    return _leaked(random, true), _leaked(_ours(texts), true)


def _ours(texts: pa.ChunkedArray) -> np.ndarray:
    """Which texts are in the test set of a split by near-duplicates."""
    _, groups = search(texts.combine_chunks(), Clock(), "component")
    frame = pl.DataFrame({"record_id": np.arange(len(texts))}).cast(pl.String)
    clusters = pl.Series(groups).cast(pl.String)
    kept = split(frame, {"train": 0.9, "test": 0.1}, by=("duplicates",), clusters=clusters).kept
    return frame.join(kept, on="record_id", maintain_order="left")["split"].to_numpy() == "test"


def _leaked(test: np.ndarray, true: Truth) -> str:
    ends = true.pairs["left"].to_numpy(), true.pairs["right"].to_numpy()
    across = test[ends[0]] != test[ends[1]]
    leaked = np.unique(np.concatenate([end[across & test[end]] for end in ends]))
    return f"{len(leaked):,} of {test.sum():,} ({len(leaked) / test.sum():.1%})"
