"""Putting a copy of the log back: checked first, laid out beside, and exchanged in one step."""

import ctypes
import os
import secrets
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tracemill.errors import LogDamaged, LogError, UsageError
from tracemill.files import sync
from tracemill.log import segments
from tracemill.log.backup import Backup, copy_file, damage, read, refused, sweep
from tracemill.log.journal import FILE, Journal
from tracemill.log.turn import Turn, only_one
from tracemill.log.verify import verify

_SWAP = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
_HERE = -100  # AT_FDCWD


@dataclass(frozen=True)
class Restored:
    """A log that was put back."""

    position: int
    """The last position in it; the next event gets the one behind it."""
    aside: Path | None
    """Where the log is that stood there before; None where there was none."""
    events: int
    """How many events were checked."""


def restore(
    folder: Path,
    target: Path,
    *,
    replace: bool = False,
    progress: segments.Progress | None = None,
) -> Restored:
    """Put the log of a copy into the folder `target`.

    A log that stands there is moved aside as `log.before-TIME`, never deleted; if it has events that
    the copy lacks, only with `replace`. The copy is checked first, byte by byte, then what was made of
    it, event by event. A process that is killed at it leaves the old log or the new one, whole.
    Processes that have the log open go on with the new one. Events that were appended after the copy
    was made are not in it and their ids are not known to it: appended again, they are recorded
    again. What was emptied since is there again: empty it again.

    Raises `InputError` where `folder` is no backup, `LogDamaged` where a file of it was altered,
    `UsageError` where events would be lost.
    """
    copy, target = read(folder), target.absolute()
    _refuse_to_lose(target, copy, replace=replace)
    if problems := damage(copy):
        raise LogDamaged(f"{problems[0]} ({len(problems)} in all): use another backup")
    beside = target.with_name(f"{target.name}.restoring-{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with only_one(target.parent / f".{target.name}.restore.lock", wait=True):
            sweep(target.parent, f"{target.name}.restoring-*")
            events = _lay_out(copy, beside, progress)
            aside = _put_in_place(target, beside, copy, replace=replace)
    except OSError as error:
        raise refused(target, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Restored(copy.position, aside, events)


def _lay_out(copy: Backup, beside: Path, progress: segments.Progress | None) -> int:
    """Make a log of the copy; returns how many events it has."""
    (beside / "segments").mkdir(parents=True)
    for file in copy.manifest.files:
        if copy_file(copy.folder / file.name, beside / file.name) != file.sha256:
            raise LogDamaged(f"{copy.folder / file.name}: its bytes have changed")
    sync(beside / "segments")
    sync(beside)
    journal = Journal(beside)
    try:
        found = verify(journal, progress)
    finally:
        journal.close()
    if not found.ok:
        raise LogDamaged(f"the backup {copy.folder} is not sound: {found.problems[0]}")
    return found.events


def _put_in_place(target: Path, beside: Path, copy: Backup, *, replace: bool) -> Path | None:
    if not target.exists():
        beside.rename(target)
        sync(target.parent)
        return None
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = target.with_name(f"{target.name}.before-{moment}")
    # Whoever wants to append or to fold waits, and then finds the new log.
    turn = Turn(target / "journal.lock")
    try:
        with only_one(target / "fold.lock", wait=True):
            while True:
                compared = turn.mark()
                _refuse_to_lose(target, copy, replace=replace, beside=beside)
                with turn.taken():
                    if not replace and turn.mark() != compared:
                        continue  # somebody appended meanwhile
                    # Under its later name before the exchange: then the old log has it at once.
                    beside.rename(aside)
                    _exchange(target, aside)
                    sync(target.parent)
                    break
    finally:
        turn.close()
    # Its views name files that are not there any more; the next fold writes it anew.
    target.with_suffix(".duckdb").unlink(missing_ok=True)
    return aside


def _refuse_to_lose(
    target: Path, copy: Backup, *, replace: bool, beside: Path | None = None
) -> None:
    """Raise `UsageError` when the log in `target` has events that the copy lacks."""
    if replace or not (target / FILE).exists():
        return
    try:
        lost = _lost(target, copy, beside)
    except LogError as error:
        raise UsageError(
            f"{target} holds a log that cannot be compared with the backup ({error}): "
            "replace it with --replace, which moves it aside"
        ) from error
    if lost:
        raise UsageError(
            f"{target} has {lost:,} events that the backup {copy.name} lacks: "
            "replace it with --replace, which moves it aside"
        )


def _lost(target: Path, copy: Backup, beside: Path | None) -> int:
    journal = Journal(target)
    try:
        end, _, _ = journal.state()
        if end.position > copy.position:
            same = _digest_at(journal, copy.position) == copy.manifest.digest
            return end.position - copy.position if same else end.position
        if end.position == copy.position:
            return 0 if end.digest.hex() == copy.manifest.digest else end.position
    finally:
        journal.close()
    if beside is None:
        return 0  # told when the copy can be asked
    other = Journal(beside)
    try:
        return 0 if _digest_at(other, end.position) == end.digest.hex() else end.position
    finally:
        other.close()


def _digest_at(journal: Journal, position: int) -> str:
    """The digest of the event at a position; empty before the first."""
    if position == 0:
        return ""
    digest: bytes = next(segments.pages(journal, position - 1))[0][-1]
    return digest.hex()


def _exchange(one: Path, other: Path) -> None:
    """Let two folders change places in one step, so that neither name is ever without one.

    Where a file system cannot do that, in two steps: a death between them leaves both folders, and
    the name `one` free.
    """
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        failed = library.renamex_np(*names, _SWAP)
    elif hasattr(library, "renameat2"):
        failed = library.renameat2(_HERE, names[0], _HERE, names[1], _SWAP)
    else:
        failed = -1
    if failed:
        between = other.with_name(f"{other.name}.new")
        other.rename(between)
        one.rename(other)
        between.rename(one)
