"""Tables and data sets on disk: whole or absent, named by what they hold.

A table is one Parquet file. A data set is a folder named by its digest, with a manifest; the file
`current` beside it says which version is in force.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tracemill.corpus.split import RATIOS
from tracemill.errors import InputError
from tracemill.files import sha256_of, sync, write_atomically, write_text_atomically

if TYPE_CHECKING:
    import polars as pl

MANIFEST = "manifest.json"


class Table(NamedTuple):
    """One Parquet file."""

    path: Path
    rows: int
    digest: str
    """SHA-256 of the file, as 64 hex digits."""


class Dataset(NamedTuple):
    """One version of a data set: a folder with two files for each split, and the manifest."""

    name: str
    digest: str
    """SHA-256 over names and digests of the files, as 64 hex digits; the folder has the first 16."""
    path: Path
    rows: dict[str, int]
    """Split -> its number of records."""


def write_table(table: "pl.DataFrame | Iterable[pl.DataFrame]", path: Path) -> Table:
    """Write a frame, or batches with the same columns, to one Parquet file (zstd).

    Batches are written as they come; only one is held. Raises InputError when there is none, since
    a table without columns is no table.
    """
    import polars as pl

    batches = [table] if isinstance(table, pl.DataFrame) else table
    rows = 0

    def write(aside: Path) -> None:
        nonlocal rows
        rows = _write_parquet(batches, aside, path)

    write_atomically(path, write)
    return Table(path, rows, sha256_of(path))


def write_splits(
    frame: "pl.DataFrame",
    folder: Path,
    *,
    name: str,
    inputs: Mapping[str, str],
    seed: str,
) -> Dataset:
    """Write each split as chat JSONL for training and as Parquet with all columns for lineage.

    The same rows give the same version, which is then left as it is. `current` names it afterwards.

    Args:
        frame: records with `group_id` and `split`, in any order.
        folder: holds one folder for each version, and `current`.
        name: of the data set, for its manifest.
        inputs: what it was made from: name -> digest.
        seed: the salt of the split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{uuid.uuid4().hex[:8]}.tmp"
    aside.mkdir()
    try:
        rows = _write_files(frame.sort("record_id"), aside)
        files = {path.name: sha256_of(path) for path in sorted(aside.iterdir())}
        digest = _digest(files, name=name, seed=seed)
        manifest = {"name": name, "digest": digest, "seed": seed, "rows": rows}
        manifest |= {"inputs": dict(inputs), "files": files}
        write_text_atomically(aside / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        version = _publish(aside, folder / digest[:16])
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    write_text_atomically(folder / "current", version.name + "\n")
    return Dataset(name, digest, version, rows)


def current(folder: Path) -> Dataset:
    """The version of a data set that is in force.

    Raises InputError when there is none.
    """
    pointer = folder / "current"
    if not pointer.exists():
        raise InputError(f"no data set in {folder}: build it first")
    path = folder / pointer.read_text(encoding="utf-8").strip()
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    return Dataset(manifest["name"], manifest["digest"], path, manifest["rows"])


def _write_files(frame: "pl.DataFrame", folder: Path) -> dict[str, int]:
    """`<split>.jsonl` and `<split>.parquet` for each split, the usual three even when empty."""
    import polars as pl

    rows: dict[str, int] = {}
    for split in dict.fromkeys([*RATIOS, *frame["split"].unique().sort()]):
        part = frame.filter(pl.col("split") == split)
        write_table(part, folder / f"{split}.parquet")
        write_atomically(folder / f"{split}.jsonl", part.select(_messages()).write_ndjson)
        rows[split] = part.height
    return rows


def _messages() -> "pl.Expr":
    """A record in OpenAI's chat form: the user says context and question, the assistant answers."""
    import polars as pl

    query, context = pl.col("user_query"), pl.col("context")
    asked = pl.when(context == "").then(query).otherwise(context + "\n\n" + query)
    turns = (("user", asked), ("assistant", pl.col("assistant_response")))
    structs = (pl.struct(role=pl.lit(role), content=content) for role, content in turns)
    return pl.concat_list(*structs).alias("messages")


def _digest(files: dict[str, str], **parts: str) -> str:
    return hashlib.sha256(json.dumps([files, parts], sort_keys=True).encode()).hexdigest()


def _publish(aside: Path, version: Path) -> Path:
    """Rename the finished folder; when another wrote the same version first, theirs stays."""
    sync(aside)
    try:
        aside.rename(version)
    except OSError:
        if not (version / MANIFEST).exists():
            raise
    sync(version.parent)
    return version


def _write_parquet(batches: "Iterable[pl.DataFrame]", aside: Path, path: Path) -> int:
    from pyarrow import parquet

    rows, writer = 0, None
    try:
        for batch in batches:
            arrow = batch.to_arrow()
            writer = writer or parquet.ParquetWriter(aside, arrow.schema, compression="zstd")
            writer.write_table(arrow)
            rows += batch.height
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise InputError(f"nothing to write to {path}: not even an empty batch with columns")
    return rows
