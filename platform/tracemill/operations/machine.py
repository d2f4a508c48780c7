"""The doctor's checks of the machine: versions, disk, clock, rights, locks."""

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tracemill.operations.seen import Fault, Seen, several
from tracemill.settings import Settings

ROOM_BYTES = 2 * 10**9
"""The demo and its cache need about this much."""
TIGHT = 0.05
"""A warning where less of the disk is free."""
AHEAD = timedelta(seconds=5)
"""Clocks of machines may differ by so much."""
LEAST_PYTHON = (3, 11)
LEAST = {"duckdb": (1, 5), "polars": (1, 0)}
"""The earliest versions that the tests run on."""
LEAST_SQLITE = (3, 51, 3)


def python(_: Settings) -> Seen:
    found = f"{sys.version.split()[0]} at {sys.executable}"
    if sys.version_info[:2] < LEAST_PYTHON:
        raise Fault(found, "take Python 3.11 or newer")
    return Seen(found)


def sqlite(_: Settings) -> Seen:
    import apsw

    found = apsw.sqlite_lib_version()
    if _numbers(found) < LEAST_SQLITE:
        raise Fault(
            f"SQLite {found} can corrupt a write-ahead log", "pip install --upgrade 'apsw>=3.51.3'"
        )
    return Seen(f"{found} (apsw's own, apsw {version('apsw')})")


def duckdb(_: Settings) -> Seen:
    """Its version; and that a connection as the log makes it has taken no extension from outside."""
    import duckdb as engine

    found = _recent("duckdb", engine.__version__)
    with engine.connect(
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    ) as connection:
        rows = connection.execute(
            "SELECT extension_name, install_path FROM duckdb_extensions() "
            "WHERE loaded AND install_mode <> 'STATICALLY_LINKED'"
        ).fetchall()
        loading = connection.execute(
            "SELECT current_setting('autoload_known_extensions'), "
            "current_setting('autoinstall_known_extensions')"
        ).fetchall()[0]
    if rows:
        names = several([str(name) for name, _ in rows])
        raise Fault(
            f"{found} loads extensions from outside: {names}", "remove ~/.duckdb/extensions"
        )
    if any(loading):
        raise Fault(f"{found} loads extensions by itself", "install the duckdb of the lock file")
    return Seen(f"{found}; no extension from outside, none loaded by itself")


def polars(_: Settings) -> Seen:
    import polars as engine

    return Seen(_recent("polars", engine.__version__))


def dagster(_: Settings) -> Seen:
    if find_spec("dagster") is None:
        return Seen("not installed: demo, build and ui need it, in a checkout (`make setup`)")
    return Seen(version("dagster"))


def _recent(name: str, found: str) -> str:
    least = LEAST[name]
    if _numbers(found) < least:
        wanted = ".".join(map(str, least))
        raise Fault(f"{found} is older than {wanted}", f"pip install --upgrade '{name}>={wanted}'")
    return found


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())


def warehouse(settings: Settings) -> Seen:
    folder = settings.warehouse
    if not folder.is_dir():
        raise Fault(f"{folder} does not exist", "run `tracemill init`")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Fault(f"{folder} refuses writes", "give yourself the right to write there")
    return Seen(str(folder))


def file_system(settings: Settings) -> Seen:
    from tracemill.log.turn import refuse_shared_file_system

    refuse_shared_file_system(settings.log)
    return Seen("local: locks between processes hold")


def disk(settings: Settings) -> Seen:
    """What is free, and what each part of the warehouse takes."""
    folder = next(f for f in (settings.warehouse, *settings.warehouse.parents) if f.is_dir())
    total, _, free = shutil.disk_usage(folder)
    parts = {path.name: _size(path) for path in sorted(settings.warehouse.glob("*"))}
    largest = sorted(parts.items(), key=lambda part: -part[1])
    shown = ", ".join(f"{name} {size / 1e6:,.1f}" for name, size in largest if size >= 50_000)
    detail = f"{free / 1e9:,.1f} GB free" + (f"; MB: {shown}" if shown else "")
    if free < ROOM_BYTES:
        raise Fault(detail, f"make room in {folder}: 2 GB are enough to work")
    if free < TIGHT * total:
        return Seen(
            detail, odd=True, mend="make room: `tracemill retention show` tells what is due"
        )
    return Seen(detail)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.lstat().st_size for each in files if not each.is_dir())


def clock(settings: Settings) -> Seen:
    """Against the newest event: what was recorded cannot be ahead of us."""
    from tracemill.log import EventLog

    now = datetime.now(UTC)
    if not settings.log.is_dir():
        return Seen(f"{now:%Y-%m-%d %H:%M:%S} UTC")
    with EventLog.open(settings) as log:
        newest = log.arrow("SELECT max(recorded_at) AS newest FROM events").to_pylist()[0]["newest"]
    if newest is not None and newest > now + AHEAD:
        raise Fault(
            f"it is {now:%Y-%m-%d %H:%M:%S} UTC here, and the newest event was recorded at "
            f"{newest:%Y-%m-%d %H:%M:%S}: the clock was set back, or was wrong then",
            "set the clock, best by a time service (timedatectl set-ntp true)",
        )
    last = f", the newest event is from {newest:%Y-%m-%d %H:%M:%S}" if newest else ""
    return Seen(f"{now:%Y-%m-%d %H:%M:%S} UTC{last}")


def permissions(settings: Settings) -> Seen:
    """Files that others may change, that we cannot read, and secrets that others can read."""
    if not settings.warehouse.is_dir():
        return Seen("no warehouse to look at")
    writable: list[str] = []
    unreadable: list[str] = []
    secret: list[str] = []
    count = 0
    for path, mode in _modes(settings.warehouse):
        count += 1
        name = str(path.relative_to(settings.warehouse))
        if mode & stat.S_IWOTH or mode & stat.S_IWGRP:
            writable.append(name)
        if not os.access(path, os.R_OK):
            unreadable.append(name)
        if path.name in (".pseudonyms", "responses.db") and mode & (stat.S_IRGRP | stat.S_IROTH):
            secret.append(name)
    home = settings.warehouse
    if unreadable:
        raise Fault(f"cannot be read: {several(unreadable)}", f"chmod -R u+rwX {home}")
    if secret:
        raise Fault(f"others can read {several(secret)}", f"chmod 600 {home / secret[0]}")
    if writable:
        mend = f"chmod -R go-w {home}, unless they are meant to"
        return Seen(f"others may change {several(writable)}", odd=True, mend=mend)
    return Seen(f"{count:,} files and folders, none that others may change")


def _modes(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            yield path, path.stat().st_mode


def locks(settings: Settings) -> Seen:
    """Which locks are held, and by whom; a lock that nobody holds is only a file."""
    holders = _holders()
    found = sorted(path for path in settings.warehouse.rglob("*lock") if path.is_file())
    held = [(path, holders[path.stat().st_ino]) for path in found if path.stat().st_ino in holders]
    if not held:
        return Seen(f"{len(found)} lock files, none held")
    told = [f"{path.relative_to(settings.warehouse)} by {_who(pid)}" for path, pid in held]
    return Seen(f"in use at this moment: {several(told)}")


def _holders() -> dict[int, int]:
    """Inode -> process that holds a lock on it, where /proc tells."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return {}
    # `1: FLOCK  ADVISORY  WRITE 4711 08:01:123456 0 EOF`; one that waits has `->` after the number.
    split = [line.split() for line in lines]
    return {int(w[5].rpartition(":")[2]): int(w[4]) for w in split if len(w) == 8 and w[1] != "->"}


def _who(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return f"process {pid}" if pid > 0 else "a process elsewhere"
    return f"process {pid} ({' '.join(words).strip()[:60]})"
