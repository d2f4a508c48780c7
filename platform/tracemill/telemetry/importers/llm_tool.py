"""The `llm` command line tool: its logs.db, in the form of today and in the one before.

Sources: simonw/llm 0.36, llm/migrations.py and llm/logs.py: a turn is one call, whose conversation is a
chain of messages that name their predecessor; `responses` holds what was logged until 2026.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import apsw

from tracemill.errors import InputError
from tracemill.messages import Message
from tracemill.telemetry import conversation, names, usage
from tracemill.telemetry.importers import databases
from tracemill.telemetry.importers.load import Item, attempted
from tracemill.telemetry.importers.values import Json, object_of, when
from tracemill.telemetry.made import Made, id_of
from tracemill.telemetry.names import label
from tracemill.telemetry.parameters import parameters

_CHAIN = """
WITH RECURSIVE chain(hash, parent_hash, role, depth) AS (
  SELECT hash, parent_hash, role, 0 FROM messages WHERE hash = ?
  UNION ALL
  SELECT m.hash, m.parent_hash, m.role, depth + 1
  FROM messages AS m JOIN chain ON m.hash = chain.parent_hash
  WHERE depth < 10000
)
SELECT chain.hash, chain.role, p.type, p.text, p.payload
FROM chain LEFT JOIN parts AS p ON p.message_hash = chain.hash
ORDER BY chain.depth DESC, p.position
"""


def items(sources: Sequence[str]) -> Iterator[Item]:
    """The turns, then what was logged before there were any."""
    for source in sources:
        if not databases.is_sqlite(source):
            raise InputError(f"{source} is no database: `llm logs path` says where it is")
        with databases.sqlite(source) as connection:
            there = databases.tables(connection)
            if not there & {"turns", "responses"}:
                raise InputError(f"{source} is no log of llm: it has neither turns nor responses")
            if "turns" in there:
                yield from _each(source, connection, "turns", _turn)
            if "responses" in there:
                yield from _each(source, connection, "responses", _response)


def _each(source: str, connection: apsw.Connection, table: str, make: Any) -> Iterator[Item]:
    query = f"SELECT * FROM {table} ORDER BY id"  # noqa: S608 (a name of ours)
    for number, row in enumerate(databases.selected(connection, query), 1):
        yield attempted(f"{source} {table}", number, row, lambda row=row: make(connection, row))


def _turn(connection: apsw.Connection, row: Json) -> Made:
    asked, answered = _conversation(connection, row)
    offered = databases.selected(
        connection,
        "SELECT t.name, t.description, t.input_schema FROM turn_tools AS u JOIN tools AS t ON t.id = u.tool_id WHERE u.turn_id = ?",
        (row["id"],),
    )
    parts = tuple(part for message in answered for part in message.parts)
    return _made(connection, row, row.get("thread_id"), asked, list(offered))._replace(parts=parts)


def _conversation(
    connection: apsw.Connection, row: Json
) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """What was asked, and what the turn itself added."""
    told: dict[str, Json] = {}
    for each in databases.selected(connection, _CHAIN, (row["tip_message_hash"],)):
        message = told.setdefault(each["hash"], {"role": each["role"], "parts": []})
        if each["type"] is not None:
            message["parts"].append(_part(connection, each))
    if not told and row["tip_message_hash"]:
        raise InputError("its messages are not in the database")
    hashes = list(told)
    parent = row.get("parent_message_hash")
    cut = hashes.index(parent) + 1 if parent in told else 0
    read = [conversation.message(each) for each in told.values()]
    return tuple(read[:cut]), tuple(read[cut:])


def _part(connection: apsw.Connection, row: Json) -> Json:
    part: Json = {**object_of(row["payload"]), "type": row["type"]}
    if row["text"] is not None:
        part["text"] = row["text"]
    if pieces := part.pop("text_ref", None):
        part["text"] = "".join(
            each["literal"] if "literal" in each else _fragment(connection, each.get("fragment"))
            for each in pieces
        )
    if part["type"] == "attachment":
        return _attachment(connection, object_of(part.get("attachment")).get("id"))
    if part["type"] == "tool_result" and part.get("exception"):
        part["is_error"] = True
    return part


def _fragment(connection: apsw.Connection, fragment: Any) -> str:
    query = "SELECT content FROM fragments WHERE id = ?"
    return str(connection.execute(query, (fragment,)).get or "")


def _attachment(connection: apsw.Connection, attachment: Any) -> Json:
    """A picture by its address, or by the digest that llm knows it by."""
    query = "SELECT type, url, path FROM attachments WHERE id = ?"
    found = next(databases.selected(connection, query, (attachment,)), None) or Json()
    where = found.get("url") or found.get("path") or f"attachment:{attachment}"
    return {"type": "uri", "uri": str(where), "mime_type": found.get("type")}


def _response(connection: apsw.Connection, row: Json) -> Made:
    system = _with_fragments(connection, "system_fragments", row, row.get("system"))
    prompt = _with_fragments(connection, "prompt_fragments", row, row.get("prompt"))
    asked = [{"role": "system", "content": system}] if system else []
    asked += [
        {
            "role": "tool",
            "tool_call_id": each["tool_call_id"],
            "name": each["name"],
            "content": each["output"],
        }
        for each in _of_response(connection, "tool_results", row)
    ]
    if prompt:
        asked.append({"role": "user", "content": prompt})
    calls = [
        {
            "type": "tool_call",
            "id": each["tool_call_id"],
            "name": each["name"],
            "arguments": each["arguments"] or "",
        }
        for each in _of_response(connection, "tool_calls", row)
    ]
    thought = [{"type": "reasoning", "content": row["reasoning"]}] if row.get("reasoning") else []
    parts = [*thought, *([row["response"]] if row.get("response") else []), *calls]
    made = _made(connection, row, row.get("conversation_id"), conversation.messages(asked), [])
    return made._replace(parts=conversation.parts(parts))


def _of_response(connection: apsw.Connection, table: str, row: Json) -> list[Json]:
    if table not in databases.tables(connection):
        return []
    query = f"SELECT * FROM {table} WHERE response_id = ? ORDER BY id"  # noqa: S608 (a name of ours)
    return list(databases.selected(connection, query, (row["id"],)))


def _with_fragments(connection: apsw.Connection, table: str, row: Json, text: Any) -> str:
    """Texts that were put before a prompt, and the prompt."""
    if table not in databases.tables(connection):
        return str(text or "")
    query = f'SELECT content FROM {table} JOIN fragments ON id = fragment_id WHERE response_id = ? ORDER BY "order"'  # noqa: S608 (a name of ours)
    found = [str(content) for (content,) in connection.execute(query, (row["id"],))]
    return "\n".join([*found, *([str(text)] if text else [])])


def _made(
    connection: apsw.Connection,
    row: Json,
    conversation_id: Any,
    asked: tuple[Message, ...],
    offered: list[Json],
) -> Made:
    """What both forms have in common: all but the answer."""
    started = when(row.get("datetime_utc"), "datetime_utc")
    took = timedelta(milliseconds=max(0, row.get("duration_ms") or 0))
    model = label(row.get("model")) or "unknown"
    provider = names.provider(None, model)
    answered = label(row.get("resolved_model"))
    given = parameters(object_of(row.get("options_json")))
    told = object_of(row.get("response_json"))
    return Made(
        call_id=id_of("llm", str(row["id"])),
        source="llm",
        started_at=started,
        ended_at=started + took,
        operation="chat",
        provider=provider,
        request_model=names.model(model, provider),
        response_model=names.model(answered, provider) if answered else None,
        response_id=label(told.get("id")),
        conversation_id=label(conversation_id),
        asked={
            **given,
            "messages": asked,
            "tools": conversation.tools(offered),
            "response_schema": _schema(connection, row.get("schema_id")),
        },
        usage=_usage(row),
    )


def _schema(connection: apsw.Connection, schema_id: Any) -> Json | None:
    if not schema_id:
        return None
    text: Any = connection.execute("SELECT content FROM schemas WHERE id = ?", (schema_id,)).get
    return object_of(text) or None


def _usage(row: Json) -> usage.Usage | None:
    if row.get("input_tokens") is None and row.get("output_tokens") is None:
        return None
    details = object_of(row.get("token_details"))
    read = object_of(details.get("prompt_tokens_details") or details.get("input_tokens_details"))
    wrote = object_of(
        details.get("completion_tokens_details") or details.get("output_tokens_details")
    )
    counts = {
        "input_tokens": usage.count(row.get("input_tokens")),
        "output_tokens": usage.count(row.get("output_tokens")),
        "cache_read_input_tokens": usage.count(read.get("cached_tokens")),
        "reasoning_output_tokens": usage.count(wrote.get("reasoning_tokens")),
    }
    # Anthropic's own names: it counts these beside the input.
    for name, theirs in (
        ("cache_read_input_tokens", "cache_read_input_tokens"),
        ("cache_write_input_tokens", "cache_creation_input_tokens"),
    ):
        if extra := usage.count(details.get(theirs)):
            counts[name] = extra
            counts["input_tokens"] += extra
    names_ = ("input_tokens", "output_tokens")
    raw = {name: row.get(name) for name in names_} | ({"token_details": details} if details else {})
    return usage.inclusive(counts, raw)
