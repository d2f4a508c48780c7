"""Calls that somebody judged as records: what was asked, what came back, how it was liked.

The log is not known here: whoever has one hands over two frames, the answers to `CALLS` and to
`JUDGEMENTS`.
"""

import json
from typing import TYPE_CHECKING, Any, cast

from tracemill.corpus import chat, fields, records
from tracemill.corpus.recipe import Source
from tracemill.corpus.records import Batch, Record, Refusal
from tracemill.errors import InputError

if TYPE_CHECKING:
    import polars as pl

ORIGIN = "calls"
JUDGEMENTS = """
SELECT coalesce(calls.cached_call_id, feedback.call_id) AS call_id, feedback.score
FROM feedback LEFT JOIN calls USING (call_id)
"""
"""One row for each judgement. What was said of an answer from the cache is said of the call that
the answer is from."""
CALLS = f"""
SELECT
  call_id, started_at, finish_reason, conversation_id, user_id,
  started.payload -> '$.messages' AS messages,
  started.payload ->> '$.system' AS system,
  started.payload -> '$.tools' AS tools,
  coalesce(ended.payload -> '$.content', ended.payload -> '$.text') AS content
FROM calls
JOIN (SELECT substr(stream, 6) AS call_id, payload FROM events WHERE kind = 'llm.call.started')
  AS started USING (call_id)
JOIN (SELECT substr(stream, 6) AS call_id, payload FROM events WHERE kind = 'llm.call.finished')
  AS ended USING (call_id)
WHERE operation IN ('chat', 'text_completion')
  AND call_id IN (SELECT call_id FROM ({JUDGEMENTS}))
ORDER BY started_at, call_id
"""  # noqa: S608
"""One row for each call that was answered and judged, with what was asked as it was sent."""
CUT_SHORT = ("length", "content_filter", "context_window", "pause", "error")
"""Reasons for an end after which an answer is not whole."""


def from_calls(calls: "pl.DataFrame", judgements: "pl.DataFrame") -> Batch:
    """Records of the origin `calls`: the conversation as it was sent, and its answer.

    `calls` are rows of `CALLS`, `judgements` of `JUDGEMENTS`; a call without a judgement is no
    record and no refusal. The rating is the mean of the scores, from -1 to 1. What a model thought
    is left out; a call with pictures, or whose answer was cut short, is refused.
    """
    import polars as pl

    scores = judgements.group_by("call_id").agg(pl.col("score").mean())
    judged = calls.join(scores.drop_nulls("score"), on="call_id", maintain_order="left")
    kept: list[Record] = []
    refused: list[Refusal] = []
    for row in judged.iter_rows(named=True):
        try:
            kept.append(_record(row))
        except InputError as error:
            refused.append(records.refusal(f"call {row['call_id']}", None, str(error)))
    return Batch(records.record_frame(kept), records.refusal_frame(refused))


def _record(call: dict[str, Any]) -> Record:
    if call["finish_reason"] in CUT_SHORT:
        raise InputError(f"the answer ended with {call['finish_reason']}: it is not whole")
    asked = cast("list[Any]", json.loads(call["messages"] or "[]"))
    answer = {"role": "assistant", "content": json.loads(call["content"] or "null")}
    turns = [_without_thoughts(turn) for turn in [*asked, answer]]
    if turns[-1]["content"] in (None, "", []):
        raise InputError("the answer is empty")
    row = {"messages": turns, "system": call["system"], "tools": _tools(call["tools"])}
    said = chat.conversation(row, Source(format="chat"))
    return Record(
        said.messages,
        ORIGIN,
        call["call_id"],
        call["started_at"],
        said.tools,
        call_id=call["call_id"],
        conversation_id=fields.identifier(call["conversation_id"], "conversation_id"),
        user_id=fields.identifier(call["user_id"], "user_id"),
        rating=call["score"],
    )


def _without_thoughts(turn: dict[str, Any]) -> dict[str, Any]:
    content = turn["content"]
    if not isinstance(content, list):
        return turn
    parts = cast("list[dict[str, Any]]", content)
    return {
        **turn,
        "content": [part for part in parts if part["type"] not in {"reasoning", "native"}],
    }


def _tools(text: str | None) -> list[dict[str, Any]]:
    """The definitions without the fields that nobody set."""
    return [
        {name: value for name, value in tool.items() if value is not None}
        for tool in cast("list[dict[str, Any]]", json.loads(text or "[]"))
    ]
