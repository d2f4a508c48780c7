"""A user's own files: records from JSONL, JSON, CSV and Parquet; documents from md, rst and txt.

Nothing is lost silently: every line that is not blank becomes a row of `kept` or of `quarantined`.
A name that ends in `.gz` is unpacked on the way. Hidden files are not looked at.
"""

import gzip
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from tracemill.corpus import records
from tracemill.corpus.formats import READERS, Line
from tracemill.corpus.records import Batch, Document, Record, Refusal
from tracemill.errors import InputError

if TYPE_CHECKING:
    import polars as pl

ALIASES = {
    "user_query": ("user_query", "prompt", "instruction", "question"),
    "assistant_response": ("assistant_response", "completion", "output", "answer"),
    "context": ("context", "input"),
    "source": ("source",),
    "timestamp": ("timestamp", "created_at"),
}
"""Column -> the names it goes by in files, the first that is present wins. Others are ignored."""

DOCUMENT_FORMATS = {".md": "markdown", ".markdown": "markdown", ".rst": "rst", ".txt": "text"}
DOCUMENTS_A_BATCH = 200
Row = TypeVar("Row")
UNREADABLE = (OSError, EOFError, zlib.error, ValueError)


def read_records(path: Path) -> Iterator[Batch]:
    """The records in a file, or in all files of a folder and below, in the order of their names.

    A record needs a question and an answer under one of the names in `ALIASES`; `context`,
    `source` (else file and line) and `timestamp` (ISO 8601 or Unix seconds; without a zone UTC;
    else the file's time) may be missing. There is always at least one batch.

    Raises InputError when the path does not exist.
    """
    taken = (each for file, name in _files(path) for each in _records_of(file, name))
    for part in _parts(taken, records.BATCH_ROWS):
        kept = [each for each in part if isinstance(each, Record)]
        yield Batch(records.record_frame(kept), _refusals(part))


def read_documents(path: Path) -> Iterator[Batch]:
    """The documents in a file or folder, as `read_records`; `kept` has a document's columns."""
    taken = (_document_of(file, name) for file, name in _files(path))
    for part in _parts(taken, DOCUMENTS_A_BATCH):
        kept = [each for each in part if isinstance(each, Document)]
        yield Batch(records.document_frame(kept), _refusals(part))


def _refusals(part: "list[Any]") -> "pl.DataFrame":
    return records.refusal_frame([each for each in part if isinstance(each, Refusal)])


def _parts(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    """Lists of `size` rows; an empty one when there are none."""
    part = list(islice(rows, size))
    yield part
    while part := list(islice(rows, size)):
        yield part


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """Each file with the name it has in reports: relative to the folder."""
    if path.is_file():
        yield path, path.name
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path)
            if file.is_file() and not any(part.startswith(".") for part in name.parts):
                yield file, name.as_posix()
    else:
        raise InputError(f"no file or folder {path}: nothing to read")


def _suffix(path: Path) -> str:
    """The suffix that says what is in it: `.jsonl` for `a.JSONL.gz`."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _records_of(path: Path, name: str) -> Iterator[Record | Refusal]:
    reader = READERS.get(_suffix(path))
    if reader is None:
        known = ", ".join(READERS)
        yield records.refusal(name, None, f"not a kind of file that holds records: {known}")
        return
    modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    number = 0
    try:
        with _open(path) as file:
            for line in reader(file):
                number = line.number
                yield _record_of(line, name, modified)
    except UNREADABLE as error:
        yield records.refusal(name, number + 1, f"the file cannot be read from here on: {error}")


def _record_of(line: Line, name: str, modified: datetime) -> Record | Refusal:
    try:
        if line.row is None:
            raise InputError(line.problem)
        fields = _fields(line.row)
        return records.record(
            _text(fields["user_query"], "user_query"),
            _text(fields["assistant_response"], "assistant_response"),
            _text(fields["context"] or "", "context", may_be_empty=True),
            _text(fields["source"] or f"{name}:{line.number}", "source"),
            _timestamp(fields["timestamp"]) or modified,
        )
    except InputError as error:
        return records.refusal(name, line.number, str(error), line.text or repr(line.row))


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    """Our columns from a row under any of their names; None where there is none."""
    present = {key.strip().lower(): value for key, value in row.items()}
    return {
        column: next((present[name] for name in names if present.get(name) is not None), None)
        for column, names in ALIASES.items()
    }


def _text(value: Any, column: str, *, may_be_empty: bool = False) -> str:
    if value is None:
        raise InputError(f"no {column} (known as {', '.join(ALIASES[column])})")
    if not isinstance(value, str):
        raise InputError(f"{column} is {type(value).__name__}, not text")
    if not may_be_empty and not value.strip():
        raise InputError(f"{column} is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{column} is not valid UTF-8") from None
    return value


def _timestamp(value: Any) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        if type(value) in (int, float):
            return datetime.fromtimestamp(value, UTC)
        when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        reason = f"timestamp {value!r} is neither ISO 8601 nor Unix seconds"
        raise InputError(reason) from None


def _document_of(path: Path, name: str) -> Document | Refusal:
    format = DOCUMENT_FORMATS.get(_suffix(path))
    if format is None:
        known = ", ".join(DOCUMENT_FORMATS)
        return records.refusal(name, None, f"not a kind of file that holds a document: {known}")
    try:
        with _open(path) as file:
            text = file.read().decode("utf-8-sig")
    except UNREADABLE as error:
        return records.refusal(name, None, f"the file cannot be read: {error}")
    if not text.strip():
        return records.refusal(name, None, "the file is empty")
    title = name.removesuffix(".gz").rpartition(".")[0]
    return records.document(title, name, format, text)
