"""What the log holds of one person: their calls with all that was said of these, and their name.

Found exactly: candidates by DuckDB, each of which is then read as the text that it is.
"""

import re
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic_core import from_json, to_json

from tracemill.errors import UsageError
from tracemill.events import KINDS
from tracemill.log.figures import MARK, free_fields

if TYPE_CHECKING:
    from tracemill.log.store import EventLog

_PAGE_POSITIONS = 200_000
_TOLD_APART = {"role", "type", "modality"}  # words of ours within messages
_LEFT = f"NOT starts_with(payload, '{MARK}')"
_CALLS = f"""
    SELECT DISTINCT substr(stream, 6) AS call_id FROM events
    WHERE user_id = ? AND starts_with(stream, 'call:') AND {_LEFT} ORDER BY call_id
"""  # noqa: S608
_THEIRS = f"""
    WITH mine AS (SELECT unnest(?::VARCHAR[]) AS call_id)
    SELECT position FROM events WHERE {_LEFT} AND (
      user_id = ?
      OR stream IN (SELECT 'call:' || call_id FROM mine)
      OR stream IN (SELECT 'guard:' || call_id FROM mine)
      OR stream IN (SELECT 'feedback:' || call_id FROM mine)
      OR (kind = 'rag.answered' AND (payload ->> '$.call_id') IN (FROM mine))
      OR (kind = 'llm.call.cached' AND (payload ->> '$.cached_call_id') IN (FROM mine)))
"""  # noqa: S608
_NAMED = f"""
    SELECT position, kind, actor, payload FROM events
    WHERE position > ? AND position <= ? AND {_LEFT} AND (contains(payload, ?) OR contains(actor, ?))
"""  # noqa: S608


class Held(NamedTuple):
    """Of one person."""

    positions: tuple[int, ...]
    """Events, in order."""
    call_ids: tuple[str, ...]
    """Calls that were made for the person."""


def of_person(log: "EventLog", user_id: str) -> Held:
    """See `EventLog.of_person`."""
    if not user_id.strip():
        raise UsageError("a user id has at least one character")
    end = log.position()
    calls = log.arrow(_CALLS, [user_id], until=end)
    call_ids = [str(call_id) for call_id in calls["call_id"].to_pylist()]
    theirs = log.arrow(_THEIRS, [call_ids, user_id], until=end)
    positions = {*theirs["position"].to_numpy().tolist()}
    word = word_of(user_id)
    in_json = to_json(user_id).decode()[1:-1]
    for after in range(0, end, _PAGE_POSITIONS):
        upto = min(after + _PAGE_POSITIONS, end)
        found = log.arrow(_NAMED, [after, upto, in_json, user_id])
        for batch in found.to_batches(max_chunksize=1_000):
            positions.update(row["position"] for row in batch.to_pylist() if _names(row, word))
    return Held(tuple(sorted(positions)), tuple(call_ids))


def word_of(user_id: str) -> re.Pattern[str]:
    """Finds an id where it is a word of its own, and not a part of a longer word or id.

    What ids are made of (letters, digits, `_`, and `.`, `@`, `+`, `-` between these) may not go on
    before or after it; the stop at the end of a sentence may follow.
    """
    return re.compile(rf"(?<!\w)(?<!\w[.@+-]){re.escape(user_id)}(?![.@+-]?\w)")


def _names(row: dict[str, Any], word: re.Pattern[str]) -> bool:
    if row["actor"] and word.search(row["actor"]):
        return True
    free = free_fields(row["kind"]) if row["kind"] in KINDS else None
    return any(
        _holds(value, word, keys=True)
        for name, value in from_json(row["payload"]).items()
        if free is None or name in free
    )


def _holds(value: Any, word: re.Pattern[str], *, keys: bool = False) -> bool:
    if isinstance(value, str):
        return bool(word.search(value))
    if isinstance(value, list):
        return any(_holds(each, word) for each in cast("list[Any]", value))
    if isinstance(value, dict):
        return any(
            (name not in _TOLD_APART and _holds(each, word)) or (keys and _holds(name, word))
            for name, each in cast("dict[str, Any]", value).items()
        )
    return False
