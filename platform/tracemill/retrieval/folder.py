"""A folder's documents as a table that follows the folder: only what changed is read.

A file whose size and time are as before keeps its row; one with the same bytes, under this name or
another, keeps its text; all others are read. Rows pass in batches, from the old table to the new.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from tracemill.corpus import languages, records, tables
from tracemill.files import sha256_of
from tracemill.retrieval.extract import Extracted, listing
from tracemill.retrieval.extract.earlier import SAME_TEXT, Earlier, Row, refused_frame
from tracemill.retrieval.extract.files import Read, too_large
from tracemill.retrieval.extract.listing import File
from tracemill.retrieval.extract.pool import Limits, Pool, Unopened
from tracemill.retrieval.frames import document_frame
from tracemill.retrieval.recipe import Extraction

if TYPE_CHECKING:
    import polars as pl

BATCH_FILES = 200
BATCH_BYTES = 32 << 20
NO_PROSE = ("code", "csv")
"""Formats whose language says nothing."""


class Update(NamedTuple):
    """What an update found. `documents` and `refused` are the rows of the two tables."""

    documents: int
    refused: int
    read: int
    """Files that were opened and read anew, whether or not they became documents."""
    unchanged: int
    renamed: int
    """Files whose text was known under another name."""
    deleted: int
    """Documents whose file is gone."""


class Step(NamedTuple):
    """What to do with a file: keep the row of an earlier document, refuse it, or read it."""

    file: File
    keep: str = ""
    refusal: Row | None = None
    is_new: bool = True
    """Whether the tables must be written for it."""


def update(
    folder: Path,
    *,
    source: str,
    documents: Path,
    refused: Path,
    extraction: Extraction | None = None,
    deep: bool = True,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Update:
    """Bring the table of a folder's documents up to date, and that of the files it could not read.

    Args:
        source: what stands before a document's path in its column `source`: the folder, as people
            know it.
        documents: a Parquet file with the columns of `document_schema`, by `document_id`. Beside it
            a small JSON file of the same name says how it was made; when extraction, or kreuzberg,
            is another than then, every file is read again.
        refused: a Parquet file: file, line (null), reason, text; bytes, modified_ns, sha256. A
            refused file that did not change is not read again, unless the limits changed.
        deep: also the folders below it.
        workers: processes that read; None: one a core, up to four.
        progress: called with files done and files in all.

    Where nothing changed, nothing is written. At most a batch of texts is held in memory.
    """
    extraction, started_ns = extraction or Extraction(), time.time_ns()
    limits = Limits(extraction.max_bytes, extraction.timeout_s, extraction.memory_bytes)
    earlier = Earlier(documents, refused, limits._asdict())
    found = listing.files(folder, extraction.include, extraction.exclude, deep=deep)
    plan = [_step(each, earlier, extraction.max_bytes) for each in found]
    gone = len(earlier.known.keys() - {each.document_id for each in found})
    old = earlier.refused.keys() - {each.document_id for each in found}
    if earlier.is_whole and refused.is_file() and not (gone or old or any(s.is_new for s in plan)):
        earlier.remember(started_ns)
        kept = sum(bool(step.keep) for step in plan)
        return Update(kept, len(plan) - kept, 0, kept, 0, 0)
    plan = [_again(step, earlier) for step in plan]
    earlier.forget()
    with Pool(limits, workers) as pool:
        made = Made(source, earlier, pool, progress)
        paths = {"documents": documents, "refused": refused}
        written = tables.write_tables(made.batches(plan), paths)
    earlier.remember(started_ns)
    rows = {name: table.rows for name, table in written.items()}
    return Update(**rows, **made.counts, deleted=gone)


def _step(file: File, earlier: Earlier, max_bytes: int) -> Step:
    known, refusal = earlier.known.get(file.document_id), earlier.refused.get(file.document_id)
    now = (file.bytes, file.modified_ns)
    problem = file.problem
    if not problem and file.bytes > max_bytes:
        problem = too_large(file.bytes, max_bytes)
    if problem:
        row = _refusal(file, problem)
        return Step(file, refusal=row, is_new=row != refusal)
    if earlier.is_settled(file.modified_ns):
        if known and (known.bytes, known.modified_ns) == now:
            return Step(file, keep=file.document_id, is_new=False)
        if refusal and (refusal["bytes"], refusal["modified_ns"]) == now:
            return Step(file, refusal=refusal, is_new=False)
    return _by_content(file, earlier)


def _by_content(file: File, earlier: Earlier) -> Step:
    """By the digest of the file, where one of the same size is known."""
    refusal = earlier.refused.get(file.document_id)
    if file.bytes not in earlier.sizes and not (refusal and refusal["bytes"] == file.bytes):
        return Step(file)
    try:
        digest = sha256_of(file.path)
    except OSError:
        return Step(file)
    known = earlier.known.get(file.document_id)
    if known and known.sha256 == digest:
        return Step(file, file.document_id, is_new=known.modified_ns != file.modified_ns)
    if refusal and refusal["sha256"] == digest:
        is_new = refusal["modified_ns"] != file.modified_ns
        return Step(file, "", refusal | {"modified_ns": file.modified_ns}, is_new)
    suffix = PurePosixPath(file.document_id).suffix.lower()
    return Step(file, keep=earlier.by_content.get((digest, suffix), ""))


def _again(step: Step, earlier: Earlier) -> Step:
    """The step when others changed: whose text a file repeats has to be found out anew."""
    refusal = step.refusal
    if refusal is None or not refusal["reason"].startswith(SAME_TEXT):
        return step
    suffix = PurePosixPath(step.file.document_id).suffix.lower()
    return Step(step.file, keep=earlier.by_content.get((refusal["sha256"], suffix), ""))


class Made:
    """The rows of a plan, batch by batch, and how they came about."""

    def __init__(
        self,
        source: str,
        earlier: Earlier,
        pool: Pool,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._source, self._earlier, self._pool = source, earlier, pool
        self._progress = progress
        self._seen: dict[bytes, str] = {}
        self.counts = {"read": 0, "unchanged": 0, "renamed": 0}

    def batches(self, plan: Sequence[Step]) -> "Iterator[Mapping[str, pl.DataFrame]]":
        """The next rows of the tables `documents` and `refused`; at first none."""
        yield {"documents": document_frame([]), "refused": refused_frame([])}
        read = self._pool.read(step.file.path for step in plan if _reads(step))
        done = 0
        for part in _parts(plan):
            rows, refusals = self._rows(part, read)
            frame = _with_languages(document_frame(rows))
            yield {"documents": frame, "refused": refused_frame(refusals)}
            done += len(part)
            if self._progress:
                self._progress(done, len(plan))

    def _rows(
        self, part: Sequence[Step], read: "Iterator[Read | Unopened]"
    ) -> tuple[list[Row], list[Row]]:
        kept = self._earlier.rows({step.keep for step in part if step.keep})
        rows: list[Row] = []
        refusals: list[Row] = []
        for step in part:
            row = step.refusal
            if row is None:
                row = self._kept(step, kept) if step.keep else self._read(step.file, next(read))
            (refusals if "reason" in row else rows).append(row)
        return rows, refusals

    def _kept(self, step: Step, kept: Mapping[str, Row]) -> Row:
        row = _moved(kept[step.keep], step.file, self._source)
        is_same = step.keep == step.file.document_id
        self.counts["unchanged" if is_same else "renamed"] += 1
        return self._first(step.file, row)

    def _read(self, file: File, read: Read | Unopened) -> Row:
        self.counts["read"] += 1
        if isinstance(read, Unopened):
            return _refusal(file, read.reason) | {"bytes": None, "modified_ns": None}
        file = file._replace(bytes=read.bytes, modified_ns=read.modified_ns)
        if read.extracted is None:
            return _refusal(file, read.reason, read.sample, read.sha256)
        return self._first(file, _row(file, read, read.extracted, self._source))

    def _first(self, file: File, row: Row) -> Row:
        """The row, or a refusal when an earlier one has the same text."""
        digest = hashlib.blake2b(row["text"].encode(), digest_size=16).digest()
        first = self._seen.setdefault(digest, file.document_id)
        if first == file.document_id:
            return row
        return _refusal(file, SAME_TEXT + first, row["text"], row["sha256"])


def _reads(step: Step) -> bool:
    return not step.keep and step.refusal is None


def _parts(plan: Sequence[Step]) -> Iterator[list[Step]]:
    part: list[Step] = []
    size = 0
    for step in plan:
        part.append(step)
        size += step.file.bytes
        if len(part) == BATCH_FILES or size > BATCH_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _row(file: File, read: Read, found: Extracted, source: str) -> Row:
    return {
        "document_id": file.document_id,
        "title": found.title or _name(file.document_id),
        "source": f"{source}/{file.document_id}",
        "format": found.format,
        "syntax": found.syntax,
        "language": found.language,
        "created_at": _moment(found.created_at),
        "modified_at": _moment(found.modified_at) or _file_time(file.modified_ns),
        "pages": [page._asdict() for page in found.pages] or None,
        "by_line": found.by_line,
        "metadata": json.dumps(found.metadata, ensure_ascii=False, sort_keys=True),
        "bytes": read.bytes,
        "sha256": read.sha256,
        "modified_ns": read.modified_ns,
        "text": found.text,
    }


def _moved(row: Row, file: File, source: str) -> Row:
    """An earlier row under the name and the time that its file has now."""
    name, was_ns = row["document_id"], row["modified_ns"]
    moved = row | {"document_id": file.document_id, "source": f"{source}/{file.document_id}"}
    if row["title"] == _name(name):
        moved["title"] = _name(file.document_id)
    if row["modified_at"] == _file_time(was_ns):
        moved["modified_at"] = _file_time(file.modified_ns)
    return moved | {"modified_ns": file.modified_ns}


def _refusal(file: File, reason: str, text: str = "", sha256: str | None = None) -> Row:
    short = records.refusal(file.document_id, None, reason, text)
    row: Row = short._asdict() | {"text": short.text or None}
    has_size = not file.problem
    return row | {
        "bytes": file.bytes if has_size else None,
        "modified_ns": file.modified_ns if has_size else None,
        "sha256": sha256,
    }


def _name(document_id: str) -> str:
    """The file's name without suffix, and all of it where nothing else is left."""
    path = PurePosixPath(document_id)
    return path.stem.strip() or path.name.strip() or document_id


def _moment(said: str | None) -> datetime | None:
    return datetime.fromisoformat(said) if said else None


def _file_time(modified_ns: int) -> datetime | None:
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=modified_ns // 1000)
    except OverflowError:
        return None


def _with_languages(frame: "pl.DataFrame") -> "pl.DataFrame":
    """By the text; where that tells nothing, as the document says."""
    import polars as pl

    prose = ~pl.col("format").is_in(NO_PROSE)
    texts = frame.select(pl.when(prose).then("text")).to_series()
    found = languages.identify(texts).alias("found")
    return frame.with_columns(pl.coalesce(found, "language").alias("language"))
