"""Options that several commands share, and what they resolve to."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracemill.errors import UsageError, WarehouseNotFound

if TYPE_CHECKING:
    from tracemill.log import EventLog
    from tracemill.settings import Settings

Warehouse = Annotated[
    Path | None,
    typer.Option("--warehouse", help="Folder of the data, instead of the nearest one upward."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", help="Only events of this kind, as llm.call.failed; may be repeated."),
]
Since = Annotated[
    str | None,
    typer.Option(help="Only what began since: 30m, 2h, 7d ago, or a time, as 2026-03-01T09:00."),
]
Until = Annotated[
    str | None,
    typer.Option(help="See the log as it was at this position, or at the pin of this name."),
]


def settings_for(warehouse: Path | None) -> "Settings":
    """The settings for the named warehouse, else for the nearest one."""
    from pydantic import ValidationError

    from tracemill.settings import Settings

    try:
        if warehouse is None:
            return Settings.find()
        settings = Settings(warehouse=warehouse.expanduser().absolute())
        # Whatever looks for the nearest one, keys of providers among it, is to find this one.
        os.environ["TRACEMILL_WAREHOUSE"] = str(settings.warehouse)
        return settings
    except ValidationError as error:
        first = error.errors()[0]
        name = f"TRACEMILL_{first['loc'][0]}".upper()
        raise UsageError(f"{name}: {first['msg']}, not {first['input']!r}") from error


def open_log(warehouse: Path | None) -> "EventLog":
    """The log of a warehouse that exists already.

    Raises `WarehouseNotFound`: reading must not bring an empty warehouse into being by a typing
    mistake.
    """
    settings = settings_for(warehouse)
    if not settings.warehouse.is_dir():
        raise WarehouseNotFound(
            f"no warehouse at {settings.warehouse}: `tracemill init` makes one, "
            "--warehouse and TRACEMILL_WAREHOUSE name another"
        )
    from tracemill.log import EventLog

    return EventLog.open(settings)


def position_of(log: "EventLog", until: str | None) -> int | None:
    """The position that a number or the name of a pin stands for."""
    if until is None or until.isdecimal():
        return None if until is None else int(until)
    pins = log.pins()
    if until not in pins:
        known = f"there are {', '.join(sorted(pins))}" if pins else "there are none yet"
        raise UsageError(f"no pin is called {until}: {known}; `tracemill log pin NAME` makes one")
    return pins[until]


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment_of(since: str | None) -> datetime | None:
    """The moment, in UTC and without a zone as the log's columns are, that an age or a time says.

    A time without a zone is UTC, as all that is printed. Raises `UsageError`.
    """
    if since is None:
        return None
    try:
        if age := re.fullmatch(r"(\d+)([smhdw])", since.strip()):
            moment = datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        else:
            moment = datetime.fromisoformat(since.strip())
    except (ValueError, OverflowError):
        raise UsageError(
            f"--since is an age, as 30m, 2h or 7d, or a time, as 2026-03-01T09:00, not {since!r}"
        ) from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
