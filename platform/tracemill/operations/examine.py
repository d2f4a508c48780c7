"""What `tracemill doctor` looks at: this machine and the warehouse, whatever fails.

A check returns what it saw, or raises an error; what is odd and not wrong is a warning. Each tells
the mend. Nothing is changed, and nothing takes more than seconds.
"""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from tracemill.errors import TracemillError
from tracemill.operations import machine, parts, remains, waiting
from tracemill.operations.seen import Fault, Seen
from tracemill.settings import Settings

State = Literal["ok", "warning", "failed"]

CHECKS: dict[str, Callable[[Settings], Seen]] = {
    "python": machine.python,
    "sqlite": machine.sqlite,
    "duckdb": machine.duckdb,
    "polars": machine.polars,
    "dagster": machine.dagster,
    "warehouse": machine.warehouse,
    "file system": machine.file_system,
    "disk": machine.disk,
    "clock": machine.clock,
    "permissions": machine.permissions,
    "locks": machine.locks,
    "leftovers": remains.leftovers,
    "segments": remains.segments,
    "caches": remains.caches,
    "runs": remains.runs,
    "log": parts.log,
    "data sets": parts.data_sets,
    "collections": parts.collections,
    "models": parts.models,
    "queue": waiting.queue,
    "workers": waiting.workers,
    "parked": waiting.parked,
    "alerts": parts.alerts,
    "retention": parts.retention,
}
"""Name -> what looks at it."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    state: State
    detail: str
    mend: str = ""
    """What to do about it; empty where all is well."""

    @property
    def ok(self) -> bool:
        return self.state != "failed"


def examine(settings: Settings, only: Iterable[str] = CHECKS) -> list[Finding]:
    """Look at everything, or only at what is named, whatever fails."""
    return [_finding(what, settings) for what in only]


def _finding(what: str, settings: Settings) -> Finding:
    try:
        seen = CHECKS[what](settings)
    except Fault as fault:
        return Finding(what, "failed", str(fault), fault.mend)
    except (TracemillError, ImportError) as error:
        # Errors of ours say the mend behind the last colon already.
        return Finding(what, "failed", str(error))
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        return Finding(what, "failed", f"{named}{error.strerror or error}")
    return Finding(what, "warning" if seen.odd else "ok", seen.detail, seen.mend)
