"""Small data sets for fine-tunes: questions about four subjects, each word a hint."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from tracemill.corpus.records import Message
from tracemill.corpus.write import Dataset, write_splits
from tracemill.events import Happened
from tracemill.settings import Settings

SUBJECTS = {
    "weather": ("rain", "cloud", "storm", "sunny", "forecast"),
    "music": ("song", "album", "tune", "guitar", "concert"),
    "travel": ("train", "ticket", "hotel", "flight", "luggage"),
    "cooking": ("oven", "recipe", "flour", "simmer", "spice"),
}
TURN = pl.Struct({name: pl.Int8() if name == "weight" else pl.String() for name in Message._fields})


def turn(role: str, content: str | None, **more: Any) -> dict[str, Any]:
    return dict.fromkeys(Message._fields) | {"role": role, "content": content} | more


def record(at: int, split: str, **more: Any) -> dict[str, Any]:
    """A question with its subject as the label; the answer is a sentence."""
    chance = random.Random(at)
    label = chance.choice(sorted(SUBJECTS))
    words = " ".join(chance.choices(SUBJECTS[label], k=4))
    said = [
        turn("system", "Be brief."),
        turn("user", f"tell me about {words} {at}"),
        turn("assistant", f"It is about {label}."),
    ]
    row = {
        "record_id": f"r{at:06d}",
        "messages": said,
        "origin": "made" if at % 3 else "other",
        "source": f"made {at}",
        "tools": None,
        "label": label,
        "group_id": f"g{at:06d}",
        "split": split,
    }
    return row | more


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    overrides = {"messages": pl.List(TURN), "tools": pl.String, "label": pl.String}
    return pl.DataFrame(rows, schema_overrides=overrides)


def made(
    settings: Settings,
    train: int = 60,
    validation: int = 12,
    *,
    rows: list[dict[str, Any]] | None = None,
) -> Dataset:
    """Splits in force: so many records of each, or these."""
    sizes = {"train": train, "validation": validation, "test": 8}

    def batches() -> Iterator[pl.DataFrame]:
        if rows is not None:
            yield frame(rows)
            return
        at = 0
        for split, size in sizes.items():
            for start in range(0, size, 10_000):
                count = min(10_000, size - start)
                yield frame([record(at + each, split) for each in range(count)])
                at += count

    return write_splits(batches(), settings.splits, name="made", inputs={}, salt="0", splits=sizes)


def warehouse(folder: Path) -> Settings:
    return Settings(warehouse=folder / "warehouse").create()


def kind(event: Happened) -> str:
    return str(type(event).model_fields["kind"].default)
