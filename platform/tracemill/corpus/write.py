"""Data sets on disk: versions named by what they hold, whole or absent, and never changed.

Rows are sorted outside memory, so that the bytes depend on which rows there are and not on their
order. The file `current` beside the versions says which one is in force.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tracemill.corpus.card import Measures, Story, card, croissant, facts, front_matter
from tracemill.corpus.shards import Sorter, write_split
from tracemill.corpus.split import RATIOS
from tracemill.corpus.tables import write_table
from tracemill.errors import InputError
from tracemill.files import sha256_of, sync, write_text_atomically

if TYPE_CHECKING:
    import polars as pl

MANIFEST, CARD, CARD_JSON, CROISSANT = "manifest.json", "README.md", "card.json", "croissant.json"
PLACED = "placed.parquet"


class Dataset(NamedTuple):
    """One version of a data set: a folder of files for each split, with manifest and card."""

    name: str
    digest: str
    """SHA-256 over names and digests of the files, as 64 hex digits; the folder has the first 16."""
    path: Path
    rows: dict[str, int]
    """Split -> its number of records."""


def write_splits(
    batches: "Iterable[pl.DataFrame]",
    folder: Path,
    *,
    name: str,
    inputs: Mapping[str, str],
    salt: str,
    splits: Iterable[str] = RATIOS,
    formats: Sequence[str] = ("openai",),
    story: Story | None = None,
) -> Dataset:
    """Write a version: `<split>.parquet` with all columns, `<format>/<split>.jsonl`, `hf/`, a card.

    The same rows in any order give the same version, which is then left as it is, with the card
    that it got first. `current` names it afterwards. Memory stays flat: rows are sorted in buckets.

    Args:
        batches: records with `group_id` and `split`; all batches have the same columns.
        folder: holds one folder for each version, and `current`.
        name: of the data set.
        inputs: what it was made from: name -> digest.
        salt: of the split: another one is another version.
        splits: are written even when they are empty.
        formats: `openai`, `anthropic`, `sharegpt` (JSONL), `hf` (a folder for `load_dataset`).
        story: what earlier steps did, for the card.

    Raises InputError when there is no batch, since a table without columns is no table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{uuid.uuid4().hex[:8]}.tmp"
    aside.mkdir()
    try:
        measures = Measures()
        rows = _write_files(batches, aside, splits, formats, measures)
        files = _digests(aside)
        digest = _digest(files, name=name, salt=salt)
        manifest = {"name": name, "digest": digest, "salt": salt, "rows": rows}
        manifest |= {"inputs": dict(inputs), "files": files}
        _describe(aside, manifest, measures, story or Story())
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
    return _dataset(folder / pointer.read_text(encoding="utf-8").strip())


def versions(folder: Path) -> tuple[Dataset, ...]:
    """Every version, the oldest first."""
    manifests = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime_ns)
    return tuple(_dataset(path.parent) for path in manifests)


def version(folder: Path, digest: str) -> Dataset:
    """The version whose digest begins like this.

    Raises InputError when none does, or several.
    """
    found = [each for each in versions(folder) if each.digest.startswith(digest)]
    if len(found) != 1:
        there = ", ".join(each.path.name for each in versions(folder)) or "none"
        raise InputError(
            f"{len(found) or 'no'} versions in {folder} begin with {digest!r}: there are {there}"
        )
    return found[0]


def settled(folder: Path, rule: str) -> "pl.DataFrame":
    """Which records were ever placed under a rule, in which split: `record_id`, `split`."""
    import polars as pl

    if not (folder / PLACED).exists():
        return pl.DataFrame(schema={"record_id": pl.String, "split": pl.String})
    placed = pl.scan_parquet(folder / PLACED, glob=False).filter(pl.col("rule") == rule)
    return placed.select("record_id", "split").collect()


def settle(folder: Path, rule: str, placed: "pl.DataFrame") -> None:
    """Remember where records were placed, for `settled`; who stands there already stays.

    Args:
        folder: of the data set.
        rule: what decided: records are held to their places under the same rule only. Settings of
            the split, as text.
        placed: `record_id` and `split`.
    """
    import polars as pl

    path = folder / PLACED
    fresh = placed.select("record_id", "split", rule=pl.lit(rule))
    old = pl.read_parquet(path, glob=False) if path.exists() else fresh.clear()
    fresh = fresh.join(old, on=["record_id", "rule"], how="anti")
    if fresh.height or not path.exists():
        write_table((part for part in (old, fresh)), path)


def _write_files(
    batches: "Iterable[pl.DataFrame]",
    aside: Path,
    splits: Iterable[str],
    formats: Sequence[str],
    measures: Measures,
) -> dict[str, int]:
    spill = aside / "spill"
    spill.mkdir()
    with Sorter(spill) as rows:
        for batch in batches:
            measures.add(batch)
            rows.add(batch)
        names = dict.fromkeys([*splits, *sorted(rows.splits())])
        counts = {
            name: write_split(rows.sorted(name), aside, name, formats, measures.used)
            for name in names
        }
    shutil.rmtree(spill)
    return counts


def _describe(aside: Path, manifest: dict[str, Any], measures: Measures, story: Story) -> None:
    """The card for people, the same for machines, and what a hub reads."""
    told = facts(manifest, measures, story)
    text = card(told)
    write_text_atomically(aside / CARD, text)
    write_text_atomically(aside / CARD_JSON, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    linked = json.dumps(croissant(told), indent=2, ensure_ascii=False) + "\n"
    write_text_atomically(aside / CROISSANT, linked)
    if (aside / "hf").is_dir():
        write_text_atomically(aside / "hf" / CARD, front_matter(told) + text)


def _dataset(path: Path) -> Dataset:
    try:
        manifest = cast("dict[str, Any]", json.loads((path / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path} has no {MANIFEST}: build the data set again") from None
    return Dataset(manifest["name"], manifest["digest"], path, manifest["rows"])


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def _digest(files: dict[str, str], **parts: str) -> str:
    return hashlib.sha256(json.dumps([files, parts], sort_keys=True).encode()).hexdigest()


def _publish(aside: Path, version: Path) -> Path:
    """Rename the finished folder; when another wrote the same version first, theirs stays."""
    for folder in (aside, *(path for path in aside.rglob("*") if path.is_dir())):
        sync(folder)
    try:
        aside.rename(version)
    except OSError:
        if not (version / MANIFEST).exists():
            raise
    sync(version.parent)
    return version
