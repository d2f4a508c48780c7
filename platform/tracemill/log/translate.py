"""SQLite's exceptions as ours, in one place."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import apsw

from tracemill.errors import JournalReplaced, LogDamaged, LogError, LogFull, LogNotWritable

WAIT_MS = 30_000
"""How long SQLite waits for a lock that is held."""


@contextmanager
def translated(path: Path) -> Generator[None]:
    """Raise what SQLite says of the database at `path` as a `LogError`, in a sentence."""
    try:
        yield
    except apsw.FullError as error:
        raise LogFull(
            f"the disk that holds {path} is full: nothing of this was stored; free space, try again"
        ) from error
    except (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError) as error:
        raise LogNotWritable(
            f"cannot write to {path}: {error}; make the folder and the file writable"
        ) from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise LogDamaged(
            f"{path} is damaged: {error}; restore it from a copy, `tracemill log verify` tells more"
        ) from error
    except apsw.IOError as error:
        if getattr(error, "extendedresult", 0) != apsw.SQLITE_IOERR_SHORT_READ:
            raise LogError(f"{path}: {error}; is the disk well?") from error
        raise JournalReplaced(
            f"the -wal file of {path} was deleted while a process has the log open: the next append "
            "of that process saves what was in it; then try again"
        ) from error
    except apsw.BusyError as error:
        raise LogError(
            f"{path} was locked for {WAIT_MS // 1000} s: is a process that holds it stopped?"
        ) from error
    except apsw.Error as error:
        raise LogError(f"{path}: {type(error).__name__}: {error}") from error
