"""Taking a person out of files: what can be built again goes, a database loses rows or texts, and
files that users gave lose lines.
"""

import csv
import io
import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracemill.errors import InputError
from tracemill.files import write_atomically
from tracemill.operations.traces import Traces, cells
from tracemill.settings import Settings

if TYPE_CHECKING:
    import apsw

    from tracemill.log import EventLog

DERIVED = ("corpus", "indexes", "models", "quarantine", "reports")
"""Parts of the warehouse that are built again by `tracemill build`."""
FORGOTTEN = "[forgotten]"
_BESIDE = ("-wal", "-shm", "-journal")
_SQLITE = b"SQLite format 3\x00"


def data_sets(settings: Settings, traces: Traces) -> tuple[str, ...]:
    """Digests of the versions of the data set that hold the person."""
    from tracemill.corpus.write import versions

    held = [
        each.digest
        for each in (versions(settings.splits) if settings.splits.is_dir() else ())
        if any(traces.in_file(path) for path in each.path.rglob("*.parquet"))
    ]
    return tuple(sorted(held))


def trained_on(log: "EventLog", versions: Collection[str]) -> tuple[str, ...]:
    """Models that were trained on one of these versions, as name:digest."""
    from tracemill.finetune import registry

    known = registry.versions(log)
    return tuple(sorted(f"{v.name}:{v.digest}" for v in known if v.dataset_digest in versions))


def delete(settings: Settings, path: Path, _: Traces) -> int:
    """Delete a derived file; of a version of a data set or a collection the whole version.

    What was learned stays: a model's own files are not touched, its training data are.
    """
    models = settings.models
    if path.is_relative_to(models) and path.relative_to(models).parts[0] not in (
        "examples",
        "jobs",
    ):
        return 0
    folder = _version(settings, path)
    if folder is None:
        path.unlink(missing_ok=True)
        return 1
    pointer = folder.parent / "current"
    if pointer.is_file() and folder.name in pointer.read_text(encoding="utf-8"):
        pointer.unlink()
    shutil.rmtree(folder)
    return 1


def _version(settings: Settings, path: Path) -> Path | None:
    """The folder of the version that a file belongs to: it is whole or absent."""
    if path.is_relative_to(settings.splits):
        parts = path.relative_to(settings.splits).parts
        return settings.splits / parts[0] if len(parts) > 1 else None
    if path.is_relative_to(settings.indexes):
        parts = path.relative_to(settings.indexes).parts
        return settings.indexes / parts[0] / parts[1] if len(parts) > 2 else None
    return None


def empty(path: Path, traces: Traces, *, rows: bool) -> int:
    """Take a person out of a SQLite file, row by row (`rows`) or text by text; delete other files.

    Raises `InputError` while another process holds the file.
    """
    import apsw

    if path.name.endswith(_BESIDE):
        return 0
    with path.open("rb") as file:
        if file.read(16) != _SQLITE:
            file.close()
            path.unlink(missing_ok=True)
            return 1
    found = [(table, _hit(ids, texts, traces)) for table, ids, texts in cells(path)]
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(10_000)
        connection.execute("PRAGMA secure_delete = ON")
        with connection:
            for table, ids in found:
                for row_id in ids:
                    _empty_row(connection, table, row_id, traces, whole=rows)
        # What was deleted must not live on in free pages or in the journal of changes.
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except apsw.BusyError as error:
        raise InputError(
            f"{path} is in use: stop `tracemill ui` and whatever else works here, then run this again"
        ) from error
    finally:
        connection.close()
    return sum(len(ids) for _, ids in found)


def _hit(ids: list[int], texts: list[str], traces: Traces) -> list[int]:
    import polars as pl

    which = traces.which(pl.Series(texts, dtype=pl.String))
    return [row_id for row_id, hit in zip(ids, which, strict=True) if hit]


def _empty_row(
    connection: "apsw.Connection", table: str, row_id: int, traces: Traces, *, whole: bool
) -> None:
    if whole:
        connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (row_id,))  # noqa: S608
        return
    cursor = connection.execute(f"SELECT * FROM {table} WHERE rowid = ?", (row_id,))  # noqa: S608
    names = [column[0] for column in cursor.getdescription()]
    row = cast("tuple[Any, ...]", cursor.fetchone())
    for name, value in zip(names, row, strict=True):
        text = value.decode("utf-8", "ignore") if isinstance(value, bytes) else value
        if isinstance(text, str) and traces.are_in(text):
            quoted = name.replace('"', '""')
            connection.execute(
                f'UPDATE {table} SET "{quoted}" = ? WHERE rowid = ?',  # noqa: S608
                (emptied(text, traces), row_id),
            )


def emptied(text: str, traces: Traces) -> str:
    """A text without the person: of JSON only the texts within it that hold them are replaced."""
    try:
        value = json.loads(text)
    except ValueError:
        return FORGOTTEN
    return json.dumps(_without(value, traces)) if isinstance(value, dict | list) else FORGOTTEN


def _without(value: Any, traces: Traces) -> Any:
    match value:
        case dict():
            held = cast("dict[str, Any]", value)
            return {_without(key, traces): _without(each, traces) for key, each in held.items()}
        case list():
            return [_without(each, traces) for each in cast("list[Any]", value)]
        case str() if traces.are_in(value):
            return emptied(value, traces) if value[:1] in "[{" else FORGOTTEN
        case _:
            return value


def without_lines(path: Path, traces: Traces, kind: str | None = None) -> int:
    """Take the lines or rows that hold a person out of a user's file; returns how many.

    `kind` is the ending of its name, where its own says nothing. Raises `InputError` for a format
    that cannot be cut.
    """
    kind = kind or path.suffix.lower()
    if kind == ".parquet":
        return _without_parquet_rows(path, traces)
    if kind in (".csv", ".tsv"):
        return _without_csv_rows(path, traces, "\t" if kind == ".tsv" else ",")
    if kind in (".jsonl", ".ndjson"):
        return _without_text_lines(path, traces)
    raise InputError(
        f"{path} holds the person and cannot be cut by lines: edit or delete it, then run this again"
    )


def _without_text_lines(path: Path, traces: Traces) -> int:
    import polars as pl

    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    hit = traces.which(pl.Series(lines, dtype=pl.String))
    kept = "".join(line for line, gone in zip(lines, hit, strict=True) if not gone)
    write_atomically(path, lambda aside: aside.write_text(kept, encoding="utf-8"))
    return int(hit.sum())


def _without_csv_rows(path: Path, traces: Traces, delimiter: str) -> int:
    text = path.read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    kept = [row for row in rows if not traces.are_in("\n".join(row))]

    def write(aside: Path) -> None:
        with aside.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows(kept)

    write_atomically(path, write)
    return len(rows) - len(kept)


def _without_parquet_rows(path: Path, traces: Traces) -> int:
    import polars as pl

    frame = pl.read_parquet(path, glob=False)
    as_text = frame.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    hit = traces.which(as_text)
    write_atomically(path, frame.filter(~hit).write_parquet)
    return int(hit.sum())
