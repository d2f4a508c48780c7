"""Looks into a document that is a zip before it is read: bombs, damage, passwords.

All parts that hold text are unpacked once, and thrown away, since what an archive says of its own
sizes may be a lie.
"""

import io
import re
import zipfile
import zlib

from tracemill.errors import InputError

MOST_UNPACKED = 500_000_000
MOST_RATIO = 100
"""Times the packed size, of large parts. Office files reach 20 to 50."""
MOST_OF_ANY = 50_000_000
"""A part so small may be as repetitive as it likes."""
MOST_PARTS = 10_000
PIECE_BYTES = 1 << 20
_TEXTS = (".xml", ".rels", ".xhtml", ".html", ".htm", ".opf", ".ncx")
_ENTITY = re.compile(rb"<!ENTITY", re.IGNORECASE)


def check(content: bytes) -> None:
    """Raise `InputError`, with the reason, when the archive must not or cannot be unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            if len(parts) > MOST_PARTS:
                raise InputError(f"a zip bomb: {len(parts):,} parts")
            if any(part.flag_bits & 1 for part in parts):
                raise InputError("encrypted: save it without a password")
            _check_rights(archive)
            left = MOST_UNPACKED
            for part in parts:
                if part.filename.lower().endswith(_TEXTS):
                    left -= _unpacked(archive, part, left)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise InputError("broken or cut short: a part of the archive inside is damaged") from error
    except (RuntimeError, ValueError, LookupError) as error:
        raise InputError("broken: the archive inside cannot be read") from error


def _unpacked(archive: zipfile.ZipFile, part: zipfile.ZipInfo, left: int) -> int:
    """How large a part is. A long one is left as soon as it is too long."""
    size, tail = 0, b""
    most = max(MOST_OF_ANY, part.compress_size * MOST_RATIO)
    with archive.open(part) as file:
        while piece := file.read(PIECE_BYTES):
            size += len(piece)
            if size > most or size > left:
                packed = f"{part.compress_size:,} bytes"
                raise InputError(f"a zip bomb: {part.filename} unpacks {packed} to over {size:,}")
            if _ENTITY.search(tail + piece):
                raise InputError(f"an XML bomb: {part.filename} declares entities")
            tail = piece[-8:]
    return size


def _check_rights(archive: zipfile.ZipFile) -> None:
    """Parts of an e-book or of an OpenDocument can be encrypted one by one."""
    names = set(archive.namelist())
    if "META-INF/encryption.xml" in names:
        with archive.open("META-INF/encryption.xml") as file:
            listed = file.read(PIECE_BYTES)
        if re.search(rb"""URI=["'][^"']*\.x?html?["']""", listed):
            raise InputError("encrypted: a protected e-book; only its owner's reader can open it")
    if "META-INF/manifest.xml" in names:
        with archive.open("META-INF/manifest.xml") as file:
            if b"encryption-data" in file.read(PIECE_BYTES):
                raise InputError("encrypted: save it without a password")
