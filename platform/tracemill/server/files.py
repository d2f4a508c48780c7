"""Files that clients handed over, or that were made for them: bytes in the warehouse, facts in the log.

A file is whole before the log knows it, and what a key handed over only that key sees, and admins.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from tracemill.access.keys import Key
from tracemill.events import FileDeleted, FileStored, new_id
from tracemill.files import sha256_of, sync, write_atomically
from tracemill.log import EventLog
from tracemill.server.trouble import Trouble, missing
from tracemill.settings import Settings

PREFIX = "file-"
_STREAM = "file:"


class Stored(NamedTuple):
    """A file that is there."""

    file_id: str
    filename: str
    purpose: str
    size_bytes: int
    sha256: str
    created_at: datetime
    key_id: str | None
    expires_at: datetime | None

    @property
    def name(self) -> str:
        """Its id as clients have it."""
        return PREFIX + self.file_id


def aside(settings: Settings, file_id: str) -> Path:
    """Where a file is written before it is whole; its folder is made."""
    settings.files.mkdir(parents=True, exist_ok=True)
    return settings.files / f".{file_id}.tmp"


def path_of(settings: Settings, stored: Stored) -> Path:
    """Where the bytes of a file are."""
    return settings.files / stored.file_id


def placed(log: EventLog, settings: Settings, event: FileStored) -> Stored:
    """Give the file that lies aside its place, synced, and tell the log of it."""
    lies = aside(settings, event.file_id)
    sync(lies)
    lies.rename(settings.files / event.file_id)
    sync(settings.files)
    log.append(event, expected={event.stream: 0})
    return _of_event(event)


def made(
    log: EventLog,
    settings: Settings,
    filename: str,
    purpose: str,
    write: Callable[[Path], object],
    key_id: str | None,
) -> Stored:
    """A file of ours, such as the results of a batch; `write` fills it."""
    file_id = new_id()
    settings.files.mkdir(parents=True, exist_ok=True)
    path = write_atomically(settings.files / file_id, write)
    event = FileStored(
        file_id=file_id,
        filename=filename,
        purpose=purpose,
        size_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        key_id=key_id,
    )
    log.append(event, expected={event.stream: 0})
    return _of_event(event)


def find(log: EventLog, settings: Settings, name: str, key: Key | None) -> Stored:
    """A file by its id as clients have it. Raises `Trouble` (404): none, or not of this key."""
    file_id = _id_of(name)
    found = _read(log, file_id) if file_id else None
    if found is None or not _sees(key, found) or _expired(log, settings, found):
        raise Trouble(404, "not_found", f"there is no file {name[:100]}", param="file_id")
    return found


def _read(log: EventLog, file_id: str) -> Stored | None:
    """A file that was not deleted."""
    found: Stored | None = None
    for recorded in log.read(stream=_STREAM + file_id):
        event = recorded.event
        found = _of_event(event) if isinstance(event, FileStored) else None
    return found


def listed(log: EventLog, settings: Settings, key: Key | None) -> list[Stored]:
    """The files that a key sees, newest first."""
    # Ids tell the time; and not by a query, since a server that asks none needs no DuckDB.
    ids = sorted((stream.removeprefix(_STREAM) for stream in log.versions(_STREAM)), reverse=True)
    found = (_read(log, file_id) for file_id in ids)
    return [
        each for each in found if each and _sees(key, each) and not _expired(log, settings, each)
    ]


def delete(log: EventLog, settings: Settings, stored: Stored, actor: str | None = None) -> None:
    """Delete the bytes of a file, for good; that there was one stays in the log."""
    path_of(settings, stored).unlink(missing_ok=True)
    log.append(FileDeleted(file_id=stored.file_id, reason="asked", actor=actor))


def bytes_of(settings: Settings, stored: Stored) -> Path:
    """The file on the disk. Raises `Trouble` (404) where somebody took it away."""
    path = path_of(settings, stored)
    if not path.is_file():
        raise missing(f"the bytes of {stored.name} are gone from the warehouse")
    return path


def _id_of(name: str) -> str | None:
    try:
        return str(UUID(name.removeprefix(PREFIX))) if name.startswith(PREFIX) else None
    except ValueError:
        return None


def _sees(key: Key | None, stored: Stored) -> bool:
    return key is None or key.admin or stored.key_id == key.key_id


def _expired(log: EventLog, settings: Settings, stored: Stored) -> bool:
    if stored.expires_at is None or stored.expires_at > datetime.now(UTC):
        return False
    path_of(settings, stored).unlink(missing_ok=True)
    log.append(FileDeleted(file_id=stored.file_id, reason="expired"))
    return True


def _of_event(event: FileStored) -> Stored:
    return Stored(
        file_id=event.file_id,
        filename=event.filename,
        purpose=event.purpose,
        size_bytes=event.size_bytes,
        sha256=event.sha256,
        created_at=event.occurred_at,
        key_id=event.key_id,
        expires_at=event.expires_at,
    )
