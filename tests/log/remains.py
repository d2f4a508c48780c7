"""Looking for a text in every byte of a folder, also where it is compressed."""

from pathlib import Path

import pyarrow as pa

_ZSTD = b"\x28\xb5\x2f\xfd"  # how each compressed page of a Parquet file begins (RFC 8878)


def found_in(folder: Path, text: str) -> list[str]:
    """Names of the files that hold the text, as UTF-8, in the clear or in a page."""
    needle = text.encode()
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (needle in path.name.encode() or _holds(path, needle))
    ]


def _holds(path: Path, needle: bytes) -> bool:
    data = path.read_bytes()
    if needle in data:
        return True
    start = data.find(_ZSTD) if path.suffix in (".parquet", ".tmp") else -1
    while start >= 0:
        if needle in _decompressed(data[start:]):
            return True
        start = data.find(_ZSTD, start + 1)
    return False


def _decompressed(data: bytes) -> bytes:
    """The frame at the beginning of these bytes, as far as it can be read."""
    whole = b""
    try:
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            while part := stream.read(1 << 16):
                whole += part
    except OSError:
        pass  # behind the frame comes something else
    return whole
