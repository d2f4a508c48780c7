"""Calls whose process died get an end: `llm.call.crashed`, when the log is next opened.

A call in flight and a call that nobody will ever end look alike in the log; `presence` tells them
apart.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from tracemill.errors import TracemillError
from tracemill.events import Happened, LlmCallCrashed
from tracemill.log import presence

if TYPE_CHECKING:
    from tracemill.log.store import EventLog

_UNENDED = """
WITH unended AS (
  SELECT stream, max(version) AS last
  FROM events
  WHERE position > ? AND kind LIKE 'llm.call.%'
  GROUP BY stream
  HAVING bool_and(kind IN ('llm.call.started', 'llm.call.retried'))
)
SELECT events.*, last
FROM events JOIN unended USING (stream)
WHERE kind = 'llm.call.started' AND (payload ->> '$.process') = ?
"""


_SAME = (
    "provider",
    "request_model",
    "conversation_id",
    "user_id",
    "prompt_name",
    "prompt_version",
    "key_id",
)


def close_crashed(log: "EventLog") -> int:
    """Append an end for every call of a process that is gone; returns how many.

    Where the log cannot be asked, such as while a view is broken, a later opening does it.
    """
    closed = 0
    with suppress(TracemillError), presence.gone(log.live) as processes:
        for process in processes:
            rows = log.arrow(_UNENDED, [process.position, process.process]).to_pylist()
            events = {row["stream"]: _crashed(row, process.process) for row in rows}
            if events:
                log.append(events.values(), expected={row["stream"]: row["last"] for row in rows})
            closed += len(events)
    return closed


def _crashed(row: dict[str, Any], process: str) -> Happened:
    payload = from_json(row["payload"])
    return LlmCallCrashed(
        call_id=row["stream"].removeprefix("call:"),
        operation=payload["operation"],
        metadata=payload.get("metadata", {}),
        causation_id=row["event_id"],
        process=process,
        **{name: row[name] for name in _SAME},
    )
