"""Records in the forms that trainers read: one JSON text for each record, or the columns of the Hub.

Rows of plain turns are encoded in columns; rows with tools, names or weights one by one.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from tracemill.corpus.records import STANDING, Message
from tracemill.errors import InputError

if TYPE_CHECKING:
    import polars as pl

Turn: TypeAlias = Mapping[str, Any]

SPEAKERS = {"user": "human", "assistant": "gpt", "tool": "observation"}
"""Role -> its name in ShareGPT; a turn that calls tools is `function_call`."""

HUB = ("record_id", "messages", "tools", "origin", "label", "licence")
"""What goes to a hub. Who said it, when and in which call stays here, in the Parquet beside it."""


def json_lines(frame: "pl.DataFrame", format: str) -> "pl.Series":
    """Each record as one line of JSON.

    - `openai`: `messages` and `tools` as in fine-tuning files; `weight` at answers only. The spec
      has no `name` for a tool's answer, so it is left out.
    - `anthropic`: `system` on top, blocks `tool_use` and `tool_result`. No weights, no names.
    - `sharegpt`: `conversations` of `from` and `value`, with `system` and `tools` as text. A call
      is a turn `function_call` of name and arguments. No weights, names or ids of calls.

    Raises InputError when tools or calls are not JSON of OpenAI's form.
    """
    import polars as pl

    plain = frame.select(_plain()).to_series()
    opened = frame.select(_opened()).to_series()
    texts = pl.Series("line", [None] * frame.height, dtype=pl.String)
    for system in (False, True):
        rows = (plain & (opened == system)).arg_true()
        if len(rows):
            fields = _COLUMNS[format](system)
            whole = pl.struct([column.alias(name) for name, column in fields.items()])
            part = frame if len(rows) == frame.height else frame[rows]
            encoded = part.select(whole.struct.json_encode()).to_series()
            texts = texts.scatter(rows, encoded)
    others = (~plain).arg_true()
    if len(others):
        odd = frame[others].select("record_id", "messages", "tools").iter_rows()
        lines = [_line(_ROWS[format], *row) for row in odd]
        texts = texts.scatter(others, pl.Series(lines, dtype=pl.String))
    return texts


def hub_columns(frame: "pl.DataFrame", used: Iterable[str] = Message._fields) -> "pl.DataFrame":
    """The columns for a hub; `tool_calls` as lists of structs rather than JSON.

    Args:
        frame: records.
        used: which fields of a message to keep: trainers stumble over fields that are always null.
    """
    import polars as pl

    text = pl.String()
    call = pl.Struct({"name": text, "arguments": text})
    calls = pl.List(pl.Struct({"id": text, "type": text, "function": call}))
    turn = pl.element().struct
    fields = [
        turn.field(name).str.json_decode(calls) if name == "tool_calls" else turn.field(name)
        for name in Message._fields
        if name in set(used)
    ]
    kept = [name for name in HUB if name in frame.columns]
    return frame.select(kept).with_columns(pl.col("messages").list.eval(pl.struct(*fields)))


def _plain() -> "pl.Expr":
    """Whether there are texts only: no tools, names or weights, and no system text but the first."""
    import polars as pl

    turn = pl.element().struct
    rest = ("name", "tool_calls", "tool_call_id", "weight")
    bare = pl.all_horizontal(turn.field("content").is_not_null(), *map(_null, rest))
    spoken = turn.field("role").is_in(["user", "assistant"])
    good = pl.col("messages").list.eval(bare).list.all()
    return pl.col("tools").is_null() & good & _rest().list.eval(spoken).list.all()


def _null(field: str) -> "pl.Expr":
    import polars as pl

    return pl.element().struct.field(field).is_null()


def _opened() -> "pl.Expr":
    """Whether a system message stands first."""
    import polars as pl

    return pl.col("messages").list.first().struct.field("role").is_in(STANDING).fill_null(False)


def _rest() -> "pl.Expr":
    """The turns after the system message."""
    import polars as pl

    return pl.col("messages").list.slice(_opened().cast(pl.Int64))


def _turns(messages: "pl.Expr", role: str, content: str) -> "pl.Expr":
    import polars as pl

    turn = pl.element().struct
    said = turn.field("role")
    named = said.replace(SPEAKERS) if role == "from" else said
    pair = pl.struct(named.alias(role), turn.field("content").alias(content))
    return messages.list.eval(pair)


def _system(there: bool) -> "dict[str, pl.Expr]":
    import polars as pl

    return {"system": pl.col("messages").list.first().struct.field("content")} if there else {}


def _openai_columns(system: bool) -> "dict[str, pl.Expr]":
    import polars as pl

    return {"messages": _turns(pl.col("messages"), "role", "content")}


def _anthropic_columns(system: bool) -> "dict[str, pl.Expr]":
    return _system(system) | {"messages": _turns(_rest(), "role", "content")}


def _sharegpt_columns(system: bool) -> "dict[str, pl.Expr]":
    return {"conversations": _turns(_rest(), "from", "value")} | _system(system)


def _line(
    form: Callable[[list[Turn], Any], dict[str, Any]],
    record_id: str,
    turns: list[Turn],
    tools: str | None,
) -> str:
    try:
        row = form(turns, json.loads(tools) if tools else None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"record {record_id}: its tools or calls are not JSON of OpenAI's form ({error!r}); "
            "drop it, or repair it at its source"
        ) from None
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def _openai_row(turns: list[Turn], tools: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"messages": [_openai_turn(turn) for turn in turns]}
    return row | ({"tools": tools} if tools else {})


def _openai_turn(turn: Turn) -> dict[str, Any]:
    calls = _calls(turn)
    row: dict[str, Any] = {"role": turn["role"]}
    row["content"] = turn["content"] if calls or turn["content"] is not None else ""
    if turn["name"] is not None and turn["role"] != "tool":
        row["name"] = turn["name"]
    if calls:
        row["tool_calls"] = calls
    if turn["tool_call_id"] is not None:
        row["tool_call_id"] = turn["tool_call_id"]
    if turn["weight"] is not None and turn["role"] == "assistant":
        row["weight"] = turn["weight"]
    return row


def _anthropic_row(turns: list[Turn], tools: Any) -> dict[str, Any]:
    row = _standing(turns)
    if tools:
        row["tools"] = [_anthropic_tool(tool["function"]) for tool in tools]
    spoken = [turn for turn in turns if turn["role"] not in STANDING]
    messages: list[dict[str, Any]] = []
    for answers, group in groupby(spoken, lambda turn: turn["role"] == "tool"):
        if answers:
            messages.append({"role": "user", "content": [_result(turn) for turn in group]})
        else:
            messages += [_anthropic_turn(turn) for turn in group]
    return row | {"messages": messages}


def _anthropic_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    described = {"description": tool["description"]} if tool.get("description") else {}
    schema: Any = tool.get("parameters") or {"type": "object", "properties": {}}
    return {"name": tool["name"], **described, "input_schema": schema}


def _anthropic_turn(turn: Turn) -> dict[str, Any]:
    calls = _calls(turn)
    if not calls:
        return {"role": turn["role"], "content": turn["content"] or ""}
    said = [{"type": "text", "text": turn["content"]}] if turn["content"] else []
    return {"role": turn["role"], "content": [*said, *map(_use, calls)]}


def _use(call: Mapping[str, Any]) -> dict[str, Any]:
    tool = call["function"]
    return {"type": "tool_use", "id": call["id"], "name": tool["name"], "input": _input(tool)}


def _input(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as an object; a model may have written what is none."""
    try:
        given: Any = json.loads(tool["arguments"])
    except ValueError:
        given = None
    if isinstance(given, dict):
        return cast("dict[str, Any]", given)
    return {"arguments": tool["arguments"]}


def _result(turn: Turn) -> dict[str, Any]:
    said = {"tool_use_id": turn["tool_call_id"], "content": turn["content"] or ""}
    return {"type": "tool_result", **said}


def _sharegpt_row(turns: list[Turn], tools: Any) -> dict[str, Any]:
    said = [value for turn in turns if turn["role"] not in STANDING for value in _sharegpt(turn)]
    row: dict[str, Any] = {"conversations": said, **_standing(turns)}
    if tools:
        row["tools"] = json.dumps([tool["function"] for tool in tools], ensure_ascii=False)
    return row


def _sharegpt(turn: Turn) -> list[dict[str, str]]:
    calls = [call["function"] for call in _calls(turn)]
    said = [{"from": SPEAKERS[turn["role"]], "value": turn["content"] or ""}]
    if not calls:
        return said
    named = [{"name": tool["name"], "arguments": _input(tool)} for tool in calls]
    value = json.dumps(named[0] if len(named) == 1 else named, ensure_ascii=False)
    return [*(said if turn["content"] else []), {"from": "function_call", "value": value}]


def _standing(turns: list[Turn]) -> dict[str, Any]:
    texts = [turn["content"] for turn in turns if turn["role"] in STANDING and turn["content"]]
    return {"system": "\n\n".join(texts)} if texts else {}


def _calls(turn: Turn) -> list[dict[str, Any]]:
    return json.loads(turn["tool_calls"]) if turn["tool_calls"] else []


_COLUMNS = {
    "openai": _openai_columns,
    "anthropic": _anthropic_columns,
    "sharegpt": _sharegpt_columns,
}
_ROWS = {"openai": _openai_row, "anthropic": _anthropic_row, "sharegpt": _sharegpt_row}

JSONL = tuple(_ROWS)
"""The forms that are one JSON text a line."""
