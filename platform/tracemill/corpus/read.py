"""A user's own files: records from JSONL, JSON, CSV and Parquet.

Nothing is lost silently: every row that is not blank becomes one of `kept` or of `quarantined`.
Names that end in `.gz` or `.zst` are unpacked on the way. Plain rows are taken as columns, all
others one by one: the result is the same, which the tests hold it to.
"""

import os
import unicodedata
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.corpus import chat, fields, records
from tracemill.corpus.columns import Place, records_of
from tracemill.corpus.formats import PACKED, UNREADABLE, Line, Rows, cut, refused, suffix
from tracemill.corpus.json_array import json_array
from tracemill.corpus.json_rows import jsonl
from tracemill.corpus.recipe import Source, source_recipe
from tracemill.corpus.records import BATCH_ROWS, Batch, Record, Refusal
from tracemill.corpus.table_rows import csv_rows, parquet_rows, tsv_rows
from tracemill.errors import InputError

if TYPE_CHECKING:
    import polars as pl

READERS: dict[str, Callable[[Path, Source, bool], Iterator[Rows]]] = {
    ".jsonl": jsonl,
    ".ndjson": jsonl,
    ".json": json_array,
    ".csv": csv_rows,
    ".tsv": tsv_rows,
    ".parquet": parquet_rows,
}
"""Suffix -> how to read such a file."""
NOT_DATA = ("readme", "license", "licence", "changelog", "notice")
"""Files of these names, with any suffix but those of `READERS`, say something about the data."""
MOST_NAME_BYTES = 200
"""Of an origin: tables that are written aside need some more, and file systems take 255."""
MAX_BATCH_BYTES = 64 << 20


class Origin(NamedTuple):
    """One source in raw/records."""

    path: Path
    """A file, or a folder with files."""
    recipe: Source
    recipe_path: Path
    """Where the recipe is, or would be."""


def origins(raw_folder: Path, built_in: Collection[str] = ()) -> dict[str, Origin]:
    """What lies in raw/records: name without suffixes -> file or folder, with its recipe.

    `built_in` are names of origins that lie elsewhere: recipes for them may be here, data may not.

    Raises InputError where two entries have the same name, a recipe has no data, or is wrong.
    """
    found: dict[str, Path] = {}
    entries = sorted(raw_folder.iterdir()) if raw_folder.is_dir() else []
    for entry in entries:
        if _is_data(entry.name):
            name = _origin_name(entry)
            if not _is_nameable(name):
                raise InputError(
                    f"{raw_folder} has {entry.name!r}: a name of at most {MOST_NAME_BYTES} bytes, "
                    "in UTF-8 and without control characters, is needed: rename it"
                )
            if name in built_in:
                raise InputError(f"{entry}: {name!r} is the name of a source of ours: rename it")
            if name in found:
                raise InputError(
                    f"{raw_folder} has {found[name].name} and {entry.name}, which would both be "
                    f"the origin {name!r}: rename one, or put both into a folder {name}"
                )
            found[name] = entry
    for entry in entries:
        if _is_recipe(entry.name) and entry.stem not in {*found, *built_in}:
            raise InputError(f"{entry} is a recipe for nothing: no {entry.stem} lies beside it")
    return {name: _origin(name, path) for name, path in sorted(found.items())}


def _origin(name: str, path: Path) -> Origin:
    where = [path.parent / f"{name}{suffix}" for suffix in (".yaml", ".yml")]
    recipe_path = next((each for each in where if each.is_file()), where[0])
    return Origin(path, source_recipe(recipe_path), recipe_path)


def _origin_name(path: Path) -> str:
    name = path.name
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).stem if path.is_file() else path.name


def _is_nameable(name: str) -> bool:
    plain = all(unicodedata.category(letter) not in ("Cc", "Cs") for letter in name)
    return plain and len(name.encode()) <= MOST_NAME_BYTES


def _is_recipe(name: str) -> bool:
    return Path(name).suffix.lower() in (".yaml", ".yml") and not name.startswith(".")


def _is_data(name: str) -> bool:
    is_note = name.lower().partition(".")[0] in NOT_DATA and suffix(Path(name)) not in READERS
    return not (name.startswith(".") or _is_recipe(name) or is_note)


def read_records(
    path: Path,
    origin: str | None = None,
    recipe: Source | None = None,
    *,
    by_columns: bool = True,
) -> Iterator[Batch]:
    """The records in a file, or in all files of a folder and below, in the order of their names.

    `recipe` says how rows are laid out; without it each row is looked at. `origin` is the name of
    the source as a whole; without it the path's. A row that names no source has file and line for
    one, one without a time the file's. `by_columns=False` reads all rows one by one. There is
    always at least one batch; none has more than `BATCH_ROWS` records.

    Raises InputError when the path does not exist.
    """
    named, recipe = origin or _origin_name(path), recipe or Source()
    return _batches(
        batch
        for file, name in _files(path)
        if _is_data(Path(name).name) or name == path.name
        for batch in _of_file(file, name, named, recipe, by_columns)
    )


def _of_file(
    file: Path | str, name: str, origin: str, recipe: Source, by_columns: bool
) -> Iterator[Batch]:
    place = Place(origin, name, datetime.now(UTC), recipe)
    if isinstance(file, str):
        yield _batch(refused(1, file), place, whole_file=True)
        return
    reader = READERS.get(suffix(file))
    if reader is None:
        reason = f"not a kind of file that holds records: {', '.join(READERS)}"
        yield _batch(refused(1, reason), place, whole_file=True)
        return
    last = 0
    try:
        place = place._replace(modified=datetime.fromtimestamp(file.stat().st_mtime, UTC))
        for rows in reader(file, recipe, by_columns):
            last = rows.numbers[-1] if len(rows.numbers) else last
            yield _batch(rows, place)
    except UNREADABLE as error:
        yield _batch(refused(last + 1, cut(error)), place)


def _batch(rows: Rows, place: Place, *, whole_file: bool = False) -> Batch:
    """Rows as records: by columns where they are plain, else one by one."""
    import polars as pl

    frame, indices = _by_columns(rows, place)
    taken = set(indices)
    alone: list[tuple[int, Record]] = []
    refusals: list[Refusal] = []
    for index in range(len(rows.numbers)) if len(taken) < len(rows.numbers) else ():
        if index in taken:
            continue
        number, line = rows.numbers[index], rows.line(index)
        try:
            alone.append((index, _record(line, number, place)))
        except InputError as error:
            where = None if whole_file else number
            refusals.append(records.refusal(place.file, where, str(error), line.text))
    if alone:
        others = records.record_frame([each for _, each in alone])
        order = pl.Series([*indices, *(index for index, _ in alone)]).arg_sort()
        frame = pl.concat([frame, others])[order]
    return Batch(frame, records.refusal_frame(refusals))


def _by_columns(rows: Rows, place: Place) -> "tuple[pl.DataFrame, list[int]]":
    import polars as pl

    if rows.frame is None or rows.frame.is_empty():
        return records.record_frame([]), []
    places = pl.Series(range(len(rows.numbers)) if rows.places is None else rows.places)
    lines = pl.Series(rows.numbers)[places]
    frame, plain = records_of(rows.frame, lines, place)
    return frame, places.filter(plain).to_list()


def _record(line: Line, number: int, place: Place) -> Record:
    if line.row is None:
        raise InputError(line.problem)
    row = _known(line.row, place.recipe)
    names = fields.names(place.recipe)
    said = chat.conversation(row, place.recipe)
    given = {
        column: fields.identifier(fields.first(row, names[column]), column) for column in fields.IDS
    }
    return Record(
        said.messages,
        place.origin,
        given["source"] or f"{place.file}:{number}",
        fields.timestamp(fields.first(row, names["timestamp"])) or place.modified,
        said.tools,
        conversation_id=given["conversation_id"],
        user_id=given["user_id"],
        label=given["label"],
        rating=fields.rating(fields.first(row, names["rating"])),
        licence=given["licence"] or place.recipe.licence,
    )


def _known(row: dict[str, Any], recipe: Source) -> dict[str, Any]:
    """The row; with its fields in lower case where no answer is found under their own names."""
    names = fields.names(recipe)
    columns = ("messages", "assistant_response")
    if any(fields.first(row, names[column]) is not None for column in columns):
        return row
    return {**{key.strip().lower(): value for key, value in row.items()}, **row}


def _batches(parts: Iterator[Batch]) -> Iterator[Batch]:
    """Small batches together, large ones cut; an empty one when there are none."""
    import polars as pl

    empty = Batch(records.record_frame([]), records.refusal_frame([]))
    waiting: list[Batch] = []
    rows = size = emitted = 0

    def together() -> Batch:
        return Batch(*(pl.concat([empty[n], *(part[n] for part in waiting)]) for n in (0, 1)))

    for part in parts:
        waiting.append(part)
        rows += max(part.kept.height, part.quarantined.height)
        size += int(part.kept.estimated_size())
        if rows < BATCH_ROWS and size < MAX_BATCH_BYTES:
            continue
        whole = together()
        full = whole.kept.height // BATCH_ROWS * BATCH_ROWS
        end = full if size < MAX_BATCH_BYTES and full else whole.kept.height
        for start in range(0, max(end, 1), BATCH_ROWS):
            quarantined = whole.quarantined if start == 0 else empty.quarantined
            yield Batch(whole.kept[start : min(end, start + BATCH_ROWS)], quarantined)
            emitted += 1
        waiting = [Batch(whole.kept[end:], empty.quarantined)]
        rows, size = waiting[0].kept.height, int(waiting[0].kept.estimated_size())
    if rows or not emitted:
        yield together()


def _files(path: Path) -> Iterator[tuple[Path | str, str]]:
    """Each file, or why it is none, with the name it has in reports: relative to the folder."""
    if path.is_dir():
        yield from _below(path, "", ())
    elif path.exists():
        yield path, path.name
    else:
        raise InputError(f"no file or folder {path}: nothing to read")


def _below(
    folder: Path, prefix: str, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[Path | str, str]]:
    """The files in a folder and in those below it. Links are followed, but not in circles."""
    try:
        here = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda each: each.name)
    except OSError as error:
        yield f"the folder cannot be read: {error.strerror}", prefix.rstrip("/") or folder.name
        return
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        yield "a link that leads back to a folder above it", prefix.rstrip("/")
        return
    for entry in entries:
        name = prefix + entry.name
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield from _below(Path(entry.path), f"{name}/", (*above, identity))
        elif not Path(entry.path).is_file():
            yield "a link to nothing, or no regular file", name
        else:
            yield Path(entry.path), name


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself.
        return False
