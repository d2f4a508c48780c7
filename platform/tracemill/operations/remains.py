"""The doctor's checks of what is left over: files that nobody needs, runs that nobody does."""

import re
import time
from pathlib import Path

from tracemill.operations.seen import Seen, several
from tracemill.settings import Settings

DAY_S = 86_400
"""What is younger may be in use."""
_DIGEST = re.compile(r"[0-9a-f]{16}")
_RUNNING = ("STARTING", "STARTED", "CANCELING")


def leftovers(settings: Settings) -> Seen:
    """Temporary names that a killed process left; nobody reads them."""
    found = [path for path in _hidden(settings.warehouse) if _is_old(path)]
    if not found:
        return Seen("no temporary file of a day ago")
    names = several([str(path.relative_to(settings.warehouse)) for path in found])
    mend = f"find {settings.warehouse} -name '.*.tmp' -mtime +0 -prune -exec rm -r {{}} +"
    return Seen(f"left by processes that were killed: {names}", odd=True, mend=mend)


def _hidden(folder: Path) -> list[Path]:
    found = sorted(folder.rglob(".*.tmp"))
    return [path for path in found if not any(other in path.parents for other in found)]


def segments(settings: Settings) -> Seen:
    """Sealed files that the log does not name any more, or never did."""
    from tracemill.log import EventLog

    if not settings.log.is_dir():
        return Seen("no log yet")
    with EventLog.open(settings) as log:
        named = {path.name for path in log.segments()}
    found = (settings.log / "segments").glob("*.parquet")
    others = [path for path in found if path.name not in named and _is_old(path)]
    if not others:
        return Seen(f"{len(named)} sealed files, none beside them")
    size = sum(path.stat().st_size for path in others)
    detail = f"{len(others)} files ({size / 1e6:,.1f} MB) that the log no longer names"
    return Seen(detail, odd=True, mend="`tracemill log gc`")


def caches(settings: Settings) -> Seen:
    """Files of caches that were set aside as damaged, or that this version does not know."""
    from tracemill.access.books import FILE as BOOKS
    from tracemill.llm.cache.file import FILE as ANSWERS
    from tracemill.retrieval.embed.cache import FILE as VECTORS

    stems = {Path(name).stem for name in (ANSWERS, VECTORS, BOOKS)}
    files = [path for path in sorted(settings.cache.glob("*")) if path.is_file()]
    known = re.compile(rf"({'|'.join(stems)})\.(lock|db|db-wal|db-shm|db-journal)")
    others = [path for path in files if not known.fullmatch(path.name)]
    if not others:
        return Seen(f"{len(files)} files, each of this version")
    names = " ".join(str(path) for path in others)
    detail = f"damaged, or of another version: {several([path.name for path in others])}"
    return Seen(detail, odd=True, mend=f"rm {names}: nothing reads them")


def models(settings: Settings, registered: set[tuple[str, str]]) -> list[Path]:
    """Folders of models that were trained and never registered, or whose log is another."""
    found = sorted(settings.models.glob("*/*"))
    return [
        path
        for path in found
        if path.is_dir()
        and _DIGEST.fullmatch(path.name)
        and (path.parent.name, path.name) not in registered
        and _is_old(path)
    ]


def runs(settings: Settings) -> Seen:
    """Runs of Dagster that are said to go on while their process is gone."""
    history = settings.dagster_home / "history"
    if not (history / "runs.db").is_file():
        return Seen("no run yet")
    query = "SELECT run_id FROM runs WHERE status IN (?, ?, ?) ORDER BY id"
    going = [str(run_id) for (run_id,) in _asked(history / "runs.db", query, *_RUNNING)]
    gone = [run_id for run_id in going if not _lives(history / "runs" / f"{run_id}.db")]
    if not gone:
        return Seen(f"{len(going)} running" if going else "none is said to be running")
    detail = f"said to be running, but their process is gone: {several([g[:8] for g in gone])}"
    return Seen(detail, odd=True, mend="`tracemill ui`, Runs, Terminate; then materialize again")


def _lives(database: Path) -> bool:
    """Whether the process that reported last on a run is still there."""
    import psutil

    if not database.is_file():
        return False
    query = (
        "SELECT event ->> '$.dagster_event.pid', CAST(event ->> '$.timestamp' AS REAL) "
        "FROM event_logs WHERE event ->> '$.dagster_event.pid' IS NOT NULL ORDER BY id DESC LIMIT 1"
    )
    rows = _asked(database, query)
    if not rows:
        return False
    pid, reported = int(str(rows[0][0])), float(str(rows[0][1]))
    try:
        # A process that began later only has its number.
        return psutil.Process(pid).create_time() <= reported + 1
    except psutil.Error:
        return False


def _asked(path: Path, query: str, *values: str) -> list[tuple[object, ...]]:
    """Rows of a database of Dagster's, which is only read."""
    import apsw

    flags = apsw.SQLITE_OPEN_READONLY
    connection = apsw.Connection(str(path), flags=flags)
    try:
        connection.set_busy_timeout(1_000)
        return list(connection.execute(query, values))
    except apsw.Error:
        return []  # another version of Dagster, or in the middle of its work
    finally:
        connection.close()


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > DAY_S
    except OSError:
        return False
