"""One file as a document: opened with care, its kind told, its text read. Runs in a worker."""

import gzip
import hashlib
import os
import stat
import zlib
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from tracemill.errors import InputError
from tracemill.files import sha256_of
from tracemill.retrieval.extract import Extracted, kinds
from tracemill.retrieval.extract.notebook import read_notebook
from tracemill.retrieval.extract.office import read_office
from tracemill.retrieval.extract.texts import read_text

PACKED = {".gz": "gzip", ".zst": "zstd"}
SAMPLE = 200


class Read(NamedTuple):
    """What came of one file; one of `extracted` and `reason` is set."""

    extracted: Extracted | None
    reason: str
    sample: str
    """The beginning of a file that was refused, where it is text."""
    bytes: int
    sha256: str
    modified_ns: int


def read_file(path: Path, max_bytes: int) -> Read:
    """The document in a file, or why there is none. Files ending in .gz and .zst are unpacked.

    Raises `InputError` when the file cannot be opened: that says nothing of what is in it.
    """
    content, size, modified_ns = _content(path, max_bytes)
    digest = hashlib.sha256(content).hexdigest()
    try:
        name, content = _unpacked(path.name, content, max_bytes)
        kind = kinds.kind_of(name, content)
        extracted = _extracted(kind, content)
        if not extracted.text or extracted.text.isspace():
            raise InputError("the file is empty: blanks only")
    except InputError as error:
        return Read(None, str(error), _sample(content), size, digest, modified_ns)
    return Read(extracted, "", "", size, digest, modified_ns)


def _extracted(kind: kinds.Kind, content: bytes) -> Extracted:
    if kind.mime:
        return read_office(kind, content)
    return read_notebook(content) if kind.format == "notebook" else read_text(kind, content)


def refused(path: Path, reason: str) -> Read:
    """Of a file that could not be read to its end, as it is now. Raises OSError."""
    about = path.stat()
    return Read(None, reason, "", about.st_size, sha256_of(path), about.st_mtime_ns)


def reply(read: Read) -> dict[str, Any]:
    """As plain values, to be sent as JSON."""
    plain = read._asdict()
    return plain | {"extracted": read.extracted._asdict() if read.extracted else None}


def _content(path: Path, max_bytes: int) -> tuple[bytes, int, int]:
    try:
        # Without O_NONBLOCK, opening a pipe that took the place of the file would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise InputError("no regular file")
            if about.st_size > max_bytes:
                raise InputError(too_large(about.st_size, max_bytes))
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"cannot be opened: {error.strerror or error}") from error
    if len(content) > max_bytes:
        raise InputError(too_large(len(content), max_bytes))
    return content, len(content), about.st_mtime_ns


def too_large(size: int, max_bytes: int) -> str:
    """The reason of a refusal."""
    return f"too large: {size:,} bytes, more than max_bytes {max_bytes:,}: split it, or raise that"


def _unpacked(name: str, content: bytes, max_bytes: int) -> tuple[str, bytes]:
    packing = PACKED.get(PurePath(name).suffix.lower())
    if packing is None or PurePath(name).stem.lower().endswith(".tar"):
        return name, content
    try:
        whole = _gunzip(content, max_bytes) if packing == "gzip" else _unzstd(content, max_bytes)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"broken or cut short: no whole {packing} file") from error
    if len(whole) > max_bytes:
        raise InputError(f"a bomb: {len(content):,} bytes unpack to over {max_bytes:,}")
    return PurePath(name).stem, whole


def _gunzip(content: bytes, max_bytes: int) -> bytes:
    import io

    with gzip.open(io.BytesIO(content)) as file:
        return file.read(max_bytes + 1)


def _unzstd(content: bytes, max_bytes: int) -> bytes:
    import pyarrow as pa

    with pa.CompressedInputStream(pa.BufferReader(content), "zstd") as file:
        return file.read(max_bytes + 1)


def _sample(content: bytes) -> str:
    head = content[: 4 * SAMPLE]
    if b"\0" in head or head.startswith((b"%PDF", b"{\\rtf")):
        return ""
    text = head.decode("utf-8", "replace")
    damaged = sum(each == "\ufffd" or not (each.isprintable() or each.isspace()) for each in text)
    return "" if damaged > len(text) // 20 else text[:SAMPLE]
