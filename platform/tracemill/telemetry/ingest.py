"""Calls that other programs made, into the log: in batches, each safe before the next is begun.

What cannot be taken goes to the quarantine with its reason. What is there already stays as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import to_json

from tracemill.errors import InputError, UsageError, VersionConflict
from tracemill.events import Happened
from tracemill.log import EventLog
from tracemill.telemetry import made as calls
from tracemill.telemetry.made import Made
from tracemill.telemetry.otlp import Span
from tracemill.telemetry.quarantine import Refused, keep
from tracemill.telemetry.spans import call

BATCH = 500
"""Calls that are committed together."""
_REASONS = 5


class Ingested(NamedTuple):
    """What became of the spans of one request."""

    accepted: int
    """Spans whose call is in the log now, or was before, and those that are no call to a model."""
    rejected: int
    """Spans in the quarantine."""
    reasons: tuple[str, ...]
    """Why, a few of them."""
    calls: int = 0
    """Calls that are new in the log."""

    @property
    def message(self) -> str:
        """The reasons as one text; empty where nothing was rejected."""
        return "; ".join(self.reasons)


@dataclass
class Recorded:
    """What became of calls, counted."""

    new: int = 0
    known: int = 0
    refused: list[Refused] = field(default_factory=list[Refused])


class Told(NamedTuple):
    """A call with where it was told."""

    made: Made
    source: str
    row: int
    raw: str


def ingest(
    log: EventLog, spans: Iterable[Span], key_id: str | None = None, *, redact: bool = True
) -> Ingested:
    """Record the calls that spans are. When it returns they survive the death of this process.

    Spans that are sent again change nothing. Refused ones lie in `quarantine/spans/`.

    Args:
        key_id: the key that they were sent with; it goes before what a span says of itself.
        redact: personal data and keys in texts become placeholders.

    Raises `LogError`: the batch in hand was not taken, earlier ones were; sending all again is safe.
    """
    accepted = rejected = new = 0
    reasons: dict[str, None] = {}
    rows = iter(spans)
    row = 0
    while batch := list(islice(rows, BATCH)):
        told: list[Told] = []
        refused: list[Refused] = []
        for span in batch:
            row += 1
            try:
                made = call(span, key_id=key_id)
            except (InputError, ValueError, TypeError, AttributeError) as error:
                refused.append(Refused(key_id or "otlp", row, reason(error), _raw(span)))
                continue
            if made is not None:
                told.append(Told(made, key_id or "otlp", row, ""))
        done = record(log, told, redact=redact)
        shown = {one.row: _raw(batch[one.row - row - 1]) for one in done.refused}
        refused += [one._replace(raw=shown[one.row]) for one in done.refused]
        keep(quarantine_of(log) / f"{_today()}.jsonl", refused)
        rejected += len(refused)
        accepted += len(batch) - len(refused)
        new += done.new
        reasons |= dict.fromkeys(f"{one.reason}" for one in refused)
    return Ingested(accepted, rejected, tuple(islice(reasons, _REASONS)), new)


def record(log: EventLog, told: Sequence[Told], *, redact: bool = True) -> Recorded:
    """Append the events of these calls, as one where they all are as they should be."""
    done = Recorded()
    ready: dict[str, Ready] = {}
    table = log.prices
    for one in told:
        stream = f"call:{one.made.call_id}"
        if stream in ready:
            done.known += 1
            continue
        try:
            ready[stream] = Ready(one, calls.events(one.made, table, redact=redact))
        except (ValidationError, InputError, UsageError, ValueError) as error:
            done.refused.append(Refused(one.source, one.row, reason(error), one.raw))
    _append(log, ready, done)
    return done


class Ready(NamedTuple):
    """A call with its events."""

    told: Told
    events: tuple[Happened, ...]


def _append(log: EventLog, ready: dict[str, Ready], done: Recorded) -> None:
    """Append calls that are new: each begins and ends once, whoever else tells of it meanwhile."""
    while ready:
        events = [event for each in ready.values() for event in each.events]
        before = log.position()
        try:
            positions = log.append(events, expected=dict.fromkeys(ready, 0))
        except VersionConflict:
            # Some are here already. Asked only now: mostly none is.
            there = [stream for stream in ready if log.version(stream)]
            done.known += len(there)
            for stream in there:
                del ready[stream]
        except UsageError as error:
            _apart(log, ready, done, error)
            return
        else:
            # A retry of what is here as a whole gets the positions that it had.
            if positions[0] > before:
                done.new += len(ready)
            else:
                done.known += len(ready)
            return


def _apart(log: EventLog, ready: dict[str, Ready], done: Recorded, error: UsageError) -> None:
    """One of them is too large for the log: the others go by themselves."""
    if len(ready) > 1:
        for stream, each in ready.items():
            _append(log, {stream: each}, done)
        return
    for told, _ in ready.values():
        done.refused.append(Refused(told.source, told.row, reason(error), told.raw))


def reason(error: Exception) -> str:
    """Why a record was refused, in a line."""
    if isinstance(error, ValidationError):
        wrong = error.errors()[0]
        where = ".".join(str(step) for step in wrong["loc"])
        return f"{where}: {wrong['msg']}" if where else wrong["msg"]
    return str(error) or type(error).__name__


def _raw(span: Span) -> str:
    return to_json(span._asdict(), fallback=str, inf_nan_mode="strings").decode(errors="replace")


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def quarantine_of(log: EventLog) -> Path:
    """Where the refused spans of a log lie."""
    return log.folder.with_name("quarantine") / "spans"
