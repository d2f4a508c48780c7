"""Files that are whole or absent: written aside, synced, renamed. And digests of what they hold.

DuckDB, Polars and Arrow never sync what they write, so everything that must survive a power
failure goes through `write_atomically`.
"""

import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file beside `path`, sync it, rename it to `path`, sync the folder.

    A reader sees the old file or the new one; a crash leaves at most a `.tmp` file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        write(aside)
        sync(aside)
        aside.rename(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)
    return path


def write_text_atomically(path: Path, text: str) -> Path:
    """`write_atomically` for UTF-8 text."""
    return write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def sweep(folder: Path, older_than_s: float = 86_400) -> None:
    """Remove what writers that were killed left below a folder: temporary names, a day old."""
    oldest = time.time() - older_than_s
    for aside in folder.rglob(".*.tmp"):
        if aside.is_dir() and aside.stat().st_mtime < oldest:
            shutil.rmtree(aside, ignore_errors=True)
        elif aside.is_file() and aside.stat().st_mtime < oldest:
            aside.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def only_one_writer(lock: Path) -> Generator[None]:
    """Be the only process that holds `lock`, a file made where there is none; others wait."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        # Explicitly: a child that was forked meanwhile shares the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
