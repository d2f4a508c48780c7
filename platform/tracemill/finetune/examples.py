"""The examples of a fine-tune: records of a split as chat rows, in a file named by what it holds.

The bytes depend on the split and the recipe alone, so the same request gives the same file.
"""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tracemill.corpus.export import json_lines
from tracemill.corpus.records import STANDING
from tracemill.corpus.tables import read_batches
from tracemill.corpus.write import Dataset, current
from tracemill.errors import InputError
from tracemill.files import sha256_of, sync
from tracemill.finetune.providers import TrainingFile
from tracemill.finetune.recipe import Examples, FineTune
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl


def write_examples(
    settings: Settings,
    name: str,
    recipe: FineTune,
    split: str,
    dataset: Dataset | None = None,
) -> TrainingFile:
    """Write the records of a split as `{"messages": [...]}`, a line each.

    With the target `label`, the label stands where the assistant's last turn did. Memory stays
    flat: a batch of records at a time.

    Args:
        settings: say where the splits are, and where the file goes.
        name: of the model, for what is said of mistakes.
        recipe: which records, and what of them.
        split: a name among the data set's.
        dataset: a version of the data set; None: the one in force.

    Raises `InputError` where there is no such split. That none of its records is wanted shows in
    `rows`.
    """
    dataset = dataset or current(settings.splits)
    if split not in dataset.rows:
        there = ", ".join(dataset.rows)
        raise InputError(f"model {name!r}: the data set has no split {split!r}; it has {there}")
    labels = _labels(dataset, recipe) if recipe.examples.target == "label" else None
    folder = settings.models / "examples"
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{uuid.uuid4().hex[:8]}.tmp"
    try:
        rows = _write(_frames(dataset, split, recipe.examples, labels), aside)
        return _named(aside, settings, split, rows)
    finally:
        aside.unlink(missing_ok=True)


def examples_path(settings: Settings, sha256: str) -> Path:
    """Where the file of examples with this digest is."""
    return settings.models / "examples" / f"{sha256}.jsonl"


def chosen(frame: "pl.DataFrame", examples: Examples) -> "pl.DataFrame":
    """The records of a frame that are learned from, with their messages as they are shown.

    The last message is the assistant's: what is to be learned.
    """
    import polars as pl

    role = pl.col("messages").list.last().struct.field("role")
    if examples.origins:
        frame = frame.filter(pl.col("origin").is_in(list(examples.origins)))
    if examples.target == "label":
        frame = frame.filter(pl.col("label").is_not_null() & (pl.col("label") != ""))
        if examples.shown == "answer":
            said = pl.col("messages").list.last().struct.field("content")
            frame = frame.filter((role == "assistant") & (said != ""))
        frame = frame.with_columns(messages=_labelled(examples))
    frame = frame.filter(role == "assistant")
    if not examples.system:
        frame = frame.with_columns(messages=_without_system())
    if examples.instructions:
        frame = frame.with_columns(messages=_instructed(examples.instructions))
    return frame.filter(pl.col("messages").list.len() > 1)


def _frames(
    dataset: Dataset, split: str, examples: Examples, labels: frozenset[str] | None
) -> "Iterator[pl.DataFrame]":
    import polars as pl

    for frame in read_batches([dataset.path / f"{split}.parquet"]):
        wanted = frame if labels is None else frame.filter(pl.col("label").is_in(sorted(labels)))
        if wanted.height and (rows := chosen(wanted, examples)).height:
            yield rows


def _labels(dataset: Dataset, recipe: FineTune) -> frozenset[str]:
    """Those that are frequent enough where the model learns, for all splits alike."""
    import polars as pl

    table = pl.scan_parquet(dataset.path / f"{recipe.train}.parquet", glob=False)
    if recipe.examples.origins:
        table = table.filter(pl.col("origin").is_in(list(recipe.examples.origins)))
    often = pl.len() >= recipe.examples.min_per_label
    found = table.group_by("label").agg(often.alias("often")).filter("often").collect()
    return frozenset(label for label in found["label"] if label)


def _write(frames: "Iterator[pl.DataFrame]", path: Path) -> int:
    rows = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for frame in frames:
            for line in json_lines(frame, "openai"):
                file.write(line)
                file.write("\n")
            rows += frame.height
    return rows


def _named(aside: Path, settings: Settings, split: str, rows: int) -> TrainingFile:
    sync(aside)
    digest, size = sha256_of(aside), aside.stat().st_size
    path = examples_path(settings, digest)
    aside.replace(path)
    sync(path.parent)
    return TrainingFile(path, split, digest, rows, size)


def _labelled(examples: Examples) -> "pl.Expr":
    """The messages, with the label where the assistant's last turn was; or that turn, and the label."""
    import polars as pl

    turns = pl.col("messages")
    label = _said("assistant", pl.col("label"))
    if examples.shown == "answer":
        return pl.concat_list(_said("user", turns.list.last().struct.field("content")), label)
    answered = turns.list.last().struct.field("role") == "assistant"
    asked = pl.when(answered).then(turns.list.head(turns.list.len() - 1)).otherwise(turns)
    return pl.concat_list(asked, label)


def _without_system() -> "pl.Expr":
    import polars as pl

    turn = pl.element()
    return pl.col("messages").list.filter(~turn.struct.field("role").is_in(list(STANDING)))


def _instructed(instructions: str) -> "pl.Expr":
    """One system message first: trainers read no second one."""
    import polars as pl

    turns = pl.col("messages")
    opened = turns.list.first().struct.field("role").is_in(list(STANDING))
    own = turns.list.first().struct.field("content")
    text = pl.when(opened).then(pl.format("{}\n\n{}", pl.lit(instructions), own))
    rest = pl.when(opened).then(turns.list.slice(1)).otherwise(turns)
    return pl.concat_list(_said("system", text.otherwise(pl.lit(instructions))), rest)


def _said(role: str, content: "pl.Expr") -> "pl.Expr":
    """A message as a column, with the fields that records have."""
    import polars as pl

    none = {name: pl.lit(None, dtype=pl.String) for name in ("name", "tool_calls", "tool_call_id")}
    return pl.struct(
        pl.lit(role).alias("role"),
        content.alias("content"),
        *(value.alias(name) for name, value in none.items()),
        pl.lit(None, dtype=pl.Int8).alias("weight"),
    )


def few_answers(path: Path) -> dict[str, int]:
    """How often each answer of a file stands there, where there are few and short ones: labels."""
    from tracemill.corpus.validation.measure import Answers

    answers = Answers()
    with path.open(encoding="utf-8") as file:
        for line in file:
            answers.add(json.loads(line)["messages"][-1])
    return answers.counts()
