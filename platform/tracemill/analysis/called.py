"""Calls, the newest first, as rows of the view `calls`.

Which calls is asked of the typed columns alone; the view, which reads payloads, is then made over the
events of these calls and no others.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracemill.analysis.period import Period, span
from tracemill.analysis.table import Drawing, Table
from tracemill.errors import UsageError
from tracemill.log import views

if TYPE_CHECKING:
    import polars as pl

    from tracemill.log import EventLog

_BEGINS = ("llm.call.started", "llm.call.cached")
_ENDS = ("llm.call.finished", "llm.call.failed", "llm.call.aborted", "llm.call.crashed")
_WHICH = """
SELECT substr(stream, 6) AS call_id, count(*) OVER () AS found
FROM events
WHERE kind IN (SELECT unnest($kinds::VARCHAR[]))
GROUP BY stream
HAVING bool_or(kind IN ('llm.call.started', 'llm.call.cached')
    AND ($since IS NULL OR occurred_at >= $since::TIMESTAMP)
    AND ($until IS NULL OR occurred_at < $until::TIMESTAMP))
  AND ($status IS NULL OR $status = coalesce(
    max(substr(kind, 10)) FILTER (kind <> 'llm.call.started'), 'running'))
  AND ($model IS NULL OR bool_or(request_model = $model))
  AND ($user IS NULL OR bool_or(user_id = $user))
  AND ($conversation IS NULL OR bool_or(conversation_id = $conversation))
  AND ($prompt IS NULL OR bool_or(prompt_name = $prompt))
  AND ($version IS NULL OR bool_or(starts_with(prompt_version, $version)))
  AND ($tag IS NULL OR bool_or(metadata ->> $tag IS NOT NULL))
  AND ($value IS NULL OR bool_or(metadata ->> $tag = $value))
ORDER BY min(occurred_at) DESC, call_id DESC LIMIT $limit
"""
_THESE = "stream IN (SELECT 'call:' || unnest($ids::VARCHAR[]))"
STATUSES = ("running", "finished", "failed", "aborted", "crashed", "cached")


def calls(log: "EventLog", period: Period, asked: Mapping[str, str | None], limit: int) -> Table:
    """See `Opened.calls`."""
    status = asked["status"]
    if status not in (None, *STATUSES):
        raise UsageError(f"no call is {status!r}: calls are {', '.join(STATUSES)}")
    name, _, version = (asked["prompt"] or "").partition("@")
    tag, has_value, value = (asked["tag"] or "").partition("=")
    which = log.arrow(
        _WHICH,
        {
            **period.parameters,
            "kinds": [*_BEGINS, *(_ENDS if status else ())],
            "model": asked["model"],
            "status": status,
            "user": asked["user"],
            "conversation": asked["conversation"],
            "prompt": name or None,
            "version": version or None,
            "tag": pointer(tag) if tag else None,
            "value": value if has_value else None,
            "limit": limit,
        },
    )
    found = which.column("found")[0].as_py() if len(which) else 0
    frame = rows(log, [str(one) for one in which.column("call_id").to_pylist()])
    told = period.told(*span(frame["started_at"], frame["started_at"]))
    note = f"the newest {len(frame):,} of {found:,}; limit= gives more" * (found > len(frame))
    drawing = Drawing("histogram", "latency_ms")
    return Table(frame, "Calls", "ms", told, len(frame), "calls", note, drawing)


def rows(log: "EventLog", ids: Sequence[str]) -> "pl.DataFrame":
    """These calls as the view `calls` has them, the newest first."""
    return log.sql(
        f"WITH events AS (SELECT * FROM main.events WHERE {_THESE} "  # noqa: S608 (the view's own text)
        "AND position BETWEEN $low AND $high) "
        f"SELECT * FROM (\n{views.definitions()['calls']}\n) "
        "ORDER BY started_at DESC, call_id DESC",
        placed(log, ids),
    )


def placed(log: "EventLog", ids: Sequence[str]) -> dict[str, Any]:
    """The ids, and in which part of the log their events lie: payloads are read of that alone."""
    asked = {"ids": list(ids)}
    [place] = log.arrow(
        f"SELECT min(position) AS low, max(position) AS high FROM events WHERE {_THESE}",  # noqa: S608
        asked,
    ).to_pylist()
    return asked | {"low": place["low"] or 0, "high": place["high"] or 0}


def pointer(tag: str) -> str:
    """The JSON pointer to a tag."""
    return "/" + tag.replace("~", "~0").replace("/", "~1")
