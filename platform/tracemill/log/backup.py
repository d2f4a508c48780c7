"""Copies of the log that are known to be good; `restore` is the way back.

A copy is a folder that is laid out as a log, with a list of its files and their sha256 written last:
without it, it is no copy. Sealed files never change, so a later copy shares them with an earlier one.
"""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from tracemill.errors import InputError, LogDamaged, LogError, LogFull, LogNotWritable, UsageError
from tracemill.events import BackupMade, Utc
from tracemill.files import sha256_of, sync, write_text_atomically
from tracemill.log import segments
from tracemill.log.journal import FILE, Journal
from tracemill.log.turn import only_one
from tracemill.log.verify import verify
from tracemill.messages import Value

LIST = "backup.json"
"""Says what is in a copy."""
_SIDE_FILES = (f"{FILE}-wal", f"{FILE}-shm", "journal.lock", "fold.lock")
_CHUNK_BYTES = 1 << 20


class Copied(Value):
    """A file of a copy."""

    name: str
    """Within its folder."""
    size_bytes: int = Field(ge=0)
    sha256: str


class Manifest(Value):
    """What `backup.json` says."""

    format: Literal[1] = 1
    made_at: Utc
    """When the copy was begun, in UTC."""
    position: int = Field(ge=0)
    """The last position in it."""
    digest: str
    """Of the event there, in hexadecimal: vouches for all events before it."""
    checked: Literal["events", "hashes"]
    """`events`: every law of the log was checked on the copy; `hashes`: the bytes alone."""
    files: tuple[Copied, ...]
    """All of them, but for this list."""
    sha256: str = ""
    """Of all the rest of this list."""

    def own_sha256(self) -> str:
        """What `sha256` must be."""
        return hashlib.sha256(self.model_dump_json(exclude={"sha256"}).encode()).hexdigest()


@dataclass(frozen=True)
class Backup:
    """A copy of a log."""

    folder: Path
    """Where it is."""
    manifest: Manifest
    """What is in it."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def position(self) -> int:
        return self.manifest.position

    @property
    def size_bytes(self) -> int:
        """Of all its files; those that it shares with another copy take their space once."""
        return sum(file.size_bytes for file in self.manifest.files)

    def event(self, actor: str | None = None) -> BackupMade:
        """What is recorded of it."""
        return BackupMade(
            backup=self.name,
            position=self.position,
            files=len(self.manifest.files),
            size_bytes=self.size_bytes,
            sha256=self.manifest.sha256,
            actor=actor,
        )


# Making


def backup(
    journal: Journal,
    folder: Path,
    *,
    quick: bool = False,
    progress: segments.Progress | None = None,
) -> Backup:
    """See `EventLog.backup`."""
    folder = folder.absolute()
    if folder.exists():
        raise UsageError(f"{folder} is there already: give the backup a folder of its own")
    if folder.is_relative_to(journal.folder.absolute()):
        raise UsageError(f"{folder} lies within the log: a backup belongs beside it, or elsewhere")
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with only_one(folder.parent / ".backup.lock", wait=True):
            sweep(folder.parent, ".*.tmp")
            (aside / "segments").mkdir(parents=True)
            manifest = _fill(aside, journal, quick=quick, progress=progress)
            aside.rename(folder)
            sync(folder.parent)
    except OSError as error:
        raise refused(folder, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Backup(folder, manifest)


def _fill(
    aside: Path, journal: Journal, *, quick: bool, progress: segments.Progress | None
) -> Manifest:
    made_at = datetime.now(UTC)
    earlier = _shareable(aside.parent)
    # Whoever holds this lock alone replaces and deletes sealed files.
    with only_one(journal.folder / "fold.lock", wait=True):
        journal.copy_to(aside / FILE)
        copy = Journal(aside)
        try:
            end, live, _ = copy.state()
            copied = [_segment(journal.folder, aside, each, earlier, progress) for each in live]
            problems = () if quick else verify(copy, progress).problems
        finally:
            copy.close()
    if problems:
        raise LogDamaged(
            f"the log is damaged, and a copy of it would be too: {problems[0]}; "
            "`tracemill log verify` tells what else is wrong"
        )
    for name in _SIDE_FILES:
        (aside / name).unlink(missing_ok=True)
    own = aside / FILE
    sync(own)
    files = (Copied(name=FILE, size_bytes=own.stat().st_size, sha256=sha256_of(own)), *copied)
    draft = Manifest(
        made_at=made_at,
        position=end.position,
        digest=end.digest.hex(),
        checked="hashes" if quick else "events",
        files=files,
    )
    manifest = draft.model_copy(update={"sha256": draft.own_sha256()})
    sync(aside / "segments")
    write_text_atomically(aside / LIST, manifest.model_dump_json(indent=1))
    return manifest


def _segment(
    log: Path,
    aside: Path,
    segment: segments.Segment,
    earlier: dict[str, Path],
    progress: segments.Progress | None,
) -> Copied:
    """Copy a sealed file, or share it with an earlier copy."""
    source, target = segments.segment_path(log, segment), segments.segment_path(aside, segment)
    if not _shared(earlier.get(segment.sha256), target, segment.sha256):
        if not source.exists():
            raise segments.missing(log, segment)
        if copy_file(source, target) != segment.sha256:
            raise LogDamaged(f"{source}: its bytes have changed since it was sealed")
    if progress:
        progress(segment.hi - segment.lo + 1)
    return Copied(
        name=f"segments/{segment.file}", size_bytes=segment.size_bytes, sha256=segment.sha256
    )


def _shareable(parent: Path) -> dict[str, Path]:
    """sha256 -> a sealed file of an earlier copy beside this one."""
    found: dict[str, Path] = {}
    for folder in _folders(parent):
        with suppress(InputError):
            files = read(folder).manifest.files
            found.update((each.sha256, folder / each.name) for each in files if each.name != FILE)
    return found


def _shared(source: Path | None, target: Path, sha256: str) -> bool:
    """Make `target` another name of `source`, unless that is damaged or on another disk."""
    try:
        if source is None or sha256_of(source) != sha256:
            return False
        target.hardlink_to(source)
    except OSError:
        return False
    return True


def copy_file(source: Path, target: Path) -> str:
    """Copy a file and wait until it is on the disk; returns the sha256 of what was read."""
    seen = hashlib.sha256()
    with source.open("rb") as old, target.open("xb") as new:
        while chunk := old.read(_CHUNK_BYTES):
            seen.update(chunk)
            new.write(chunk)
        new.flush()
        os.fsync(new.fileno())
    return seen.hexdigest()


def sweep(parent: Path, pattern: str) -> None:
    """Remove what a killed process left half made. Call it holding the lock of the folder."""
    for path in parent.glob(pattern):
        if path.is_dir():
            shutil.rmtree(path)


def refused(folder: Path, error: OSError) -> LogError:
    kind = LogFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else LogNotWritable
    return kind(f"cannot write {folder}: {error.strerror or error}; the log is as it was")


# Looking


def read(folder: Path) -> Backup:
    """What a copy says of itself. Raises `InputError` where it says nothing, or not what was written."""
    path = folder / LIST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{folder} is no backup: it has no {LIST}") from None
    except (ValidationError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}): use another backup") from error
    if manifest.sha256 != manifest.own_sha256():
        raise InputError(f"{path} has been altered: use another backup")
    return Backup(folder, manifest)


def backups(parent: Path) -> list[Backup]:
    """The copies in a folder, oldest first. Raises `InputError` for one whose list was damaged."""
    return sorted(map(read, _folders(parent)), key=lambda each: each.manifest.made_at)


def damage(copy: Backup, progress: Callable[[int], object] | None = None) -> list[str]:
    """What is wrong with the files of a copy, one line each; empty when every byte is as it was.

    `progress` is called with the number of bytes that were just read.
    """
    problems: list[str] = []
    for file in copy.manifest.files:
        path = copy.folder / file.name
        if not path.exists():
            problems.append(f"{path}: is missing")
        elif path.stat().st_size != file.size_bytes:
            size = path.stat().st_size
            problems.append(f"{path}: has {size:,} bytes instead of {file.size_bytes:,}")
        elif sha256_of(path) != file.sha256:
            problems.append(f"{path}: its bytes have changed")
        if progress:
            progress(file.size_bytes)
    return problems


def prune(parent: Path, *, keep: int) -> list[str]:
    """Delete all copies in a folder but the latest `keep`; returns the names of the deleted."""
    if keep < 1:
        raise UsageError(f"keep at least one backup, not {keep}")
    with only_one(parent / ".backup.lock", wait=True):
        doomed = backups(parent)[:-keep]
        for copy in doomed:
            (copy.folder / LIST).unlink()  # from here on it is no backup
            shutil.rmtree(copy.folder)
    return [copy.name for copy in doomed]


def _folders(parent: Path) -> list[Path]:
    return sorted(path.parent for path in parent.glob(f"[!.]*/{LIST}"))


def new_name(existing: Sequence[str] = ()) -> str:
    """A name for a copy that is made now: the time in UTC."""
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return name if name not in existing else datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
