"""The calls and judgements that another tool kept, into the log: a batch at a time, each row once however
often it is imported. Rows that cannot be taken lie in `quarantine/imports/` with file, row and reason.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import to_json

from tracemill.errors import InputError
from tracemill.events import FeedbackGiven
from tracemill.log import EventLog
from tracemill.telemetry.ingest import BATCH, Told, reason, record
from tracemill.telemetry.made import Judged, Made, feedback
from tracemill.telemetry.quarantine import MAX_CHARACTERS, Refused, keep


class Item(NamedTuple):
    """What an importer made of one row: a call, a judgement, nothing, or the reason of a refusal."""

    source: str
    row: int
    made: Made | Judged | None = None
    trouble: str = ""
    raw: str = ""


@dataclass
class Imported:
    """What an import did, counted in rows."""

    calls: int = 0
    """New in the log."""
    judgements: int = 0
    """New in the log."""
    known: int = 0
    """In the log before."""
    ignored: int = 0
    """Neither a call to a model nor a judgement."""
    refused: int = 0
    """In the quarantine."""
    reasons: dict[str, int] = field(default_factory=dict[str, int])
    """Why, and how often."""


def load(
    log: EventLog,
    tool: str,
    items: Iterable[Item],
    *,
    redact: bool = True,
    progress: Callable[[int], object] | None = None,
) -> Imported:
    """Record what an importer found. When it returns it survives the death of this process.

    Args:
        tool: whose it was: it names the file of what is refused.
        redact: personal data and keys in texts become placeholders.
        progress: told the number of rows after each batch.

    Raises `LogError`, `InputError`: earlier batches are in the log, and importing again is safe.
    """
    done = Imported()
    rows = iter(items)
    while batch := list(islice(rows, BATCH)):
        refused = [Refused(i.source, i.row, i.trouble, i.raw) for i in batch if i.trouble]
        told = [_told(i) for i in batch if isinstance(i.made, Made)]
        took = record(log, [each for each in told if each], redact=redact)
        refused += [one._replace(raw=_raw_of(batch, one)) for one in took.refused]
        judged = [i for i in batch if isinstance(i.made, Judged)]
        new, seen, wrong = _judge(log, judged)
        refused += wrong
        keep(quarantine_of(log, tool), refused)
        done.calls += took.new
        done.judgements += new
        done.known += took.known + seen
        done.ignored += sum(i.made is None and not i.trouble for i in batch)
        done.refused += len(refused)
        for one in refused:
            done.reasons[one.reason] = done.reasons.get(one.reason, 0) + 1
        if progress:
            progress(len(batch))
    return done


def _told(item: Item) -> Told | None:
    return Told(item.made, item.source, item.row, "") if isinstance(item.made, Made) else None


def _raw_of(batch: Sequence[Item], one: Refused) -> str:
    found = next((i for i in batch if (i.source, i.row) == (one.source, one.row)), None)
    return found.raw if found else ""


def attempted(
    source: str, row: int, fields: object, make: Callable[[], Made | Judged | None]
) -> Item:
    """A row read; where that fails, the reason with the row itself."""
    try:
        made = make()
    except (InputError, ValidationError, ValueError, TypeError, KeyError, AttributeError) as error:
        return Item(source, row, None, reason(error), raw(fields))
    # Should the log refuse it later, its raw text tells which it was.
    return Item(source, row, made, "", raw(fields) if made is not None else "")


def raw(fields: object) -> str:
    """A row as JSON text."""
    text = to_json(fields, fallback=str, inf_nan_mode="strings", bytes_mode="hex")
    return text[: MAX_CHARACTERS * 4].decode(errors="replace")[:MAX_CHARACTERS]


# Judgements


_LAST_OF = """
SELECT trace_id, arg_max(substr(stream, 6), occurred_at) AS call_id
FROM events
WHERE is_end(kind) AND trace_id IN (SELECT unnest(?::VARCHAR[]))
GROUP BY trace_id
"""


def _judge(log: EventLog, judged: Sequence[Item]) -> tuple[int, int, list[Refused]]:
    """Append judgements of calls that are in the log: how many are new, known, and those refused."""
    of_trace = _last_calls(log, judged)
    refused: list[Refused] = []
    events: list[FeedbackGiven] = []
    for item in judged:
        one = item.made
        assert isinstance(one, Judged)
        call_id = one.call_id or of_trace.get(one.trace_id or "")
        if call_id is None or not log.version(f"call:{call_id}"):
            why = "the call that it judges is not in the log: import the calls first"
            refused.append(Refused(item.source, item.row, why, item.raw))
            continue
        try:
            events.append(feedback(one, call_id))
        except ValidationError as error:
            refused.append(Refused(item.source, item.row, reason(error), item.raw))
    before = log.position()
    new = sum(position > before for position in log.append(events))
    return new, len(events) - new, refused


def _last_calls(log: EventLog, judged: Sequence[Item]) -> dict[str, str]:
    """Traces to the last call in each."""
    traces = [
        i.made.trace_id
        for i in judged
        if isinstance(i.made, Judged) and i.made.call_id is None and i.made.trace_id
    ]
    if not traces:
        return {}
    rows = log.arrow(_LAST_OF, [traces]).to_pylist()
    return {row["trace_id"]: row["call_id"] for row in rows}


def quarantine_of(log: EventLog, tool: str) -> Path:
    """The file with what was refused of a tool's rows."""
    return log.folder.with_name("quarantine") / "imports" / f"{tool}.jsonl"
