"""Rows in the form of Anthropic's Messages API: a system text apart, and blocks of content."""

from typing import Any, cast

from tracemill.corpus.validation import chat
from tracemill.corpus.validation.lines import kind
from tracemill.corpus.validation.report import Found

Out = list[Found]
Row = dict[str, Any]

_BLOCKS = frozenset(("tool_use", "tool_result", "thinking", "image", "document"))
_SPEAKERS = ("user", "assistant")


def fits(row: Row) -> bool:
    """Whether a row with messages is of this form rather than OpenAI's."""
    messages = row.get("messages")
    if not isinstance(messages, list):
        return False
    turns = cast("list[Any]", messages)
    contents: list[Any] = [turn.get("content") for turn in turns if type(turn) is dict]  # pyright: ignore[reportUnknownMemberType]
    lists: list[list[Any]] = [content for content in contents if type(content) is list]
    return "system" in row or any(map(_has_blocks, lists)) or _has_tools(row.get("tools"))


def fits_too(row: Row) -> bool:
    """Whether a row of OpenAI's form is of this one as well: texts of users and answers alone."""
    turns = cast("list[Any]", row["messages"]) if isinstance(row["messages"], list) else [None]
    return row.keys() == {"messages"} and all(
        type(turn) is dict and turn.keys() == {"role", "content"} and turn["role"] in _SPEAKERS  # pyright: ignore[reportUnknownMemberType]
        for turn in turns
    )


def _has_tools(tools: Any) -> bool:
    listed = cast("list[Any]", tools) if isinstance(tools, list) else []
    return any(isinstance(tool, dict) and "input_schema" in tool for tool in listed)


def _has_blocks(content: list[Any]) -> bool:
    types = [cast(Row, block).get("type") for block in content if isinstance(block, dict)]
    return any(isinstance(each, str) and each in _BLOCKS for each in types)


def check(row: Row, out: Out) -> None:
    """Everything that is wrong with such a row."""
    system = row.get("system")
    if system is not None and not isinstance(system, (str, list)):
        out.append(Found("wrong_type", "system", f"is {kind(system)}, not a text or blocks"))
    inside: Out = []
    calls: set[str] = set()
    turns = [
        _turn(turn, f"messages[{number}]", calls, inside)
        for number, turn in enumerate(cast("list[Any]", row["messages"]))
    ]
    out.extend(inside)
    chat.conversation(turns, "messages", None, out, answered=True)


def _turn(turn: Any, path: str, calls: set[str], out: Out) -> Any:
    """A message with the text of its blocks, so that it is judged as any other."""
    if not isinstance(turn, dict):
        return turn
    turn = cast(Row, turn)
    if turn.get("role") == "system":
        out.append(Found("bad_role", f"{path}.role", "`system` is a field of the row"))
    content = turn.get("content")
    if not isinstance(content, list) or not content:
        return {name: turn.get(name) for name in ("role", "content") if name in turn}
    blocks = cast("list[Any]", content)
    texts = [_block(b, f"{path}.content[{n}]", turn, calls, out) for n, b in enumerate(blocks)]
    return {"role": turn.get("role"), "content": " ".join(texts)}


def _block(block: Any, path: str, turn: Row, calls: set[str], out: Out) -> str:
    type_ = cast(Row, block).get("type") if isinstance(block, dict) else None
    if not isinstance(type_, str) or not (type_ in _BLOCKS or type_ == "text"):
        out.append(Found("bad_part", f"{path}.type", "no block of a known type"))
        return "-"
    block = cast(Row, block)
    if type_ == "text" and not isinstance(block.get("text"), str):
        out.append(Found("wrong_type", f"{path}.text", f"is {kind(block.get('text'))}"))
    elif type_ == "tool_use":
        _use(block, path, turn, calls, out)
    elif type_ == "tool_result":
        answered = block.get("tool_use_id")
        if not isinstance(answered, str) or answered not in calls:
            out.append(Found("no_call", f"{path}.tool_use_id", "no call before it has this id"))
    return block["text"] if type_ == "text" and isinstance(block.get("text"), str) else "-"


def _use(block: Row, path: str, turn: Row, calls: set[str], out: Out) -> None:
    if turn.get("role") != "assistant":
        out.append(Found("bad_call", path, "only the assistant calls tools"))
    if not isinstance(block.get("name"), str) or not isinstance(block.get("input"), dict):
        out.append(Found("bad_call", path, "a call has a name and an `input` object"))
    if isinstance(block.get("id"), str):
        calls.add(block["id"])
    else:
        out.append(Found("bad_call", f"{path}.id", "an id is missing"))
