"""What `tracemill doctor` looks at: one function for each thing that can be wrong.

A check returns what it saw, or raises an error that names the mend.
"""

import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tracemill.errors import InputError, TracemillError
from tracemill.settings import Settings

ROOM_BYTES = 2 * 10**9
"""The demo and its cache need about this much."""

QUICK_EVENTS = 50_000
"""A log up to this size is verified on the spot, in a few seconds."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Look at everything, whatever fails."""
    checks: dict[str, Callable[[Settings], str]] = {
        "python": _python,
        "sqlite": _sqlite,
        "warehouse": _warehouse,
        "file system": _file_system,
        "disk": _disk,
        "locks": _locks,
        "log": _log,
        "collections": _collections,
        "dagster": _dagster,
    }
    return [_finding(what, check, settings) for what, check in checks.items()]


def _finding(what: str, check: Callable[[Settings], str], settings: Settings) -> Finding:
    try:
        return Finding(what, True, check(settings))
    except (TracemillError, ImportError, OSError) as error:
        return Finding(what, False, str(error))


def _python(_: Settings) -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


def _sqlite(_: Settings) -> str:
    import apsw

    found = apsw.sqlite_lib_version()
    if tuple(map(int, found.split("."))) < (3, 51, 3):
        raise TracemillError(
            f"SQLite {found} can corrupt a write-ahead log: pip install --upgrade 'apsw>=3.51.3'"
        )
    return f"{found} (apsw's own)"


def _warehouse(settings: Settings) -> str:
    folder = settings.warehouse
    if not folder.is_dir():
        raise TracemillError(f"{folder} does not exist: run `tracemill init`")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TracemillError(f"{folder} refuses writes: give yourself the right to write there")
    return str(folder)


def _file_system(settings: Settings) -> str:
    from tracemill.log.turn import refuse_shared_file_system

    refuse_shared_file_system(settings.log)
    return "local: locks between processes hold"


def _disk(settings: Settings) -> str:
    folder = next(f for f in (settings.warehouse, *settings.warehouse.parents) if f.is_dir())
    free = shutil.disk_usage(folder).free
    if free < ROOM_BYTES:
        raise TracemillError(f"{free / 1e9:.1f} GB free for {folder}: make room, 2 GB are enough")
    return f"{free / 1e9:,.0f} GB free"


def _locks(settings: Settings) -> str:
    from tracemill.log.turn import only_one

    names = [path for path in sorted(settings.log.glob("*.lock")) if path.is_file()]
    held: list[Path] = []
    for path in names:
        with only_one(path, wait=False) as free:
            if not free:
                held.append(path)
    if held:
        return f"{', '.join(path.name for path in held)} in use at this moment"
    return f"{len(names)} lock files, none held"


def _log(settings: Settings) -> str:
    from tracemill.log import EventLog

    if not settings.log.is_dir():
        return "not there yet: the first command that appends makes it"
    with EventLog.open(settings) as log:
        events = log.position()
        if events > QUICK_EVENTS:
            return f"{events:,} events; `tracemill log verify` derives every digest anew"
        problems = log.verify().problems
    if problems:
        raise TracemillError(f"{problems[0]} ({len(problems)} in all: `tracemill log verify`)")
    return f"{events:,} events, each as it was recorded"


def _collections(settings: Settings) -> str:
    """The state of every collection; one that is damaged is named, whatever the others are."""
    from tracemill.retrieval.collection import collections, open_collection

    names = collections(settings.indexes)
    states: list[str] = []
    faults: list[str] = []
    for name in names:
        try:
            opened = open_collection(settings.indexes, name)
        except InputError as error:
            faults.append(str(error))
            continue
        faults += [opened.degraded] if opened.degraded else []
        states.append(f"{name}: {len(opened):,} chunks")
    if faults:
        raise InputError("; ".join(faults))
    return ", ".join(states) or "none yet: tracemill build"


def _dagster(_: Settings) -> str:
    if find_spec("dagster") is None:
        return "not installed: demo, build and ui need it, in a checkout (`make setup`)"
    return version("dagster")
