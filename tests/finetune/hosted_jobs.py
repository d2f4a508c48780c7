"""Fine-tunes at a server of the tests: examples on the disk, and what a trainer is told of a job."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from tracemill.corpus.records import Record, pair, record_frame
from tracemill.corpus.write import write_splits
from tracemill.events import new_id
from tracemill.finetune.providers import JobSpec, TrainingFile
from tracemill.settings import Settings

BASES = {
    "openai": "gpt-4.1-mini-2025-04-14",
    "azure": "gpt-4.1-mini-2025-04-14",
    "together": "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference",
    "fireworks": "llama-v3p1-8b-instruct",
}


def row(number: int) -> dict[str, Any]:
    """An example in OpenAI's form."""
    asked = {"role": "user", "content": f"Which package has the class number {number}?"}
    return {"messages": [asked, {"role": "assistant", "content": f"package-{number % 3}"}]}


def file_of(folder: Path, rows: list[Any], split: str = "train") -> TrainingFile:
    """A file of examples; texts are lines as they are."""
    lines = [each if isinstance(each, str) else json.dumps(each) for each in rows]
    data = "".join(f"{line}\n" for line in lines).encode()
    path = folder / f"{split}.jsonl"
    path.write_bytes(data)
    return TrainingFile(path, split, hashlib.sha256(data).hexdigest(), len(rows), len(data))


def job_of(
    folder: Path,
    provider: str,
    *,
    rows: list[Any] | None = None,
    validation: bool = True,
    hyperparameters: Mapping[str, bool | int | float | str] | None = None,
    **more: Any,
) -> JobSpec:
    """What a trainer is told of a job."""
    told: dict[str, Any] = {
        "job_id": new_id(),
        "name": "routing",
        "base_model": BASES[provider],
        "method": "supervised",
        "hyperparameters": hyperparameters or {},
        "seed": 7,
        "suffix": "routing",
        "dataset": "demo",
        "dataset_digest": "d" * 64,
        "training": file_of(folder, [row(n) for n in range(12)] if rows is None else rows),
        "validation": file_of(folder, [row(20)], "validation") if validation else None,
    }
    return JobSpec(**told | more)


def write_demo(settings: Settings) -> None:
    """A data set with a few records in each split."""
    when = datetime(2026, 3, 1, tzinfo=UTC)
    made = [
        Record(
            pair(f"Which package has the class number {n}?", f"package-{n % 3}"),
            "t",
            f"t:{n}",
            when,
        )
        for n in range(30)
    ]
    splits = pl.Series((["train"] * 4 + ["validation"]) * 6)
    frame = record_frame(made).with_columns(group_id="record_id").with_columns(split=splits)
    write_splits(iter([frame]), settings.splits, name="demo", inputs={"a": "d1"}, salt="7")
