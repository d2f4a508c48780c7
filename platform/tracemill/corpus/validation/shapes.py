"""The layouts that training data comes in: how each is known, checked, and read for measures."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

from tracemill.corpus.validation import anthropic, chat, preference
from tracemill.corpus.validation.lines import kind
from tracemill.corpus.validation.report import Found

Out = list[Found]
Row = dict[str, Any]


class Said(NamedTuple):
    """What a row without errors says."""

    texts: list[str]
    messages: int
    asked: Any
    """All that stands before the answer, as JSON."""
    answer: Any


class Shape(NamedTuple):
    """A layout."""

    name: str
    fields: str
    """What its rows look like."""
    fits: Callable[[Row], bool]
    check: Callable[[Row, Out], None]
    said: Callable[[Row], Said]


def shape_of(row: Row) -> Shape | None:
    """The layout of a row, by its fields; None for one that nobody knows."""
    return next((shape for shape in SHAPES if shape.fits(row)), None)


def _has(*fields: str) -> Callable[[Row], bool]:
    return lambda row: all(field in row for field in fields)


def _chat_said(row: Row) -> Said:
    messages = cast("list[Row]", row["messages"])
    tools = row.get("tools")
    return Said(list(_texts(messages, tools)), len(messages), [messages[:-1], tools], messages[-1])


def _texts(messages: list[Row], tools: Any = None) -> Iterator[str]:
    """Every text that a model would see."""
    for turn in messages:
        content = turn.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            yield from _of_parts(cast("list[Any]", content))
        if name := turn.get("name"):
            yield str(name)
        if calls := turn.get("tool_calls"):
            yield json.dumps(calls, ensure_ascii=False)
    if tools:
        yield json.dumps(tools, ensure_ascii=False)


def _of_parts(parts: list[Any]) -> Iterator[str]:
    for part in parts:
        text = cast(Row, part).get("text") if isinstance(part, dict) else part
        # A part of another kind is measured by the JSON it is written as, pictures are not.
        if isinstance(text, str):
            yield text
        elif cast(Row, part).get("type") in ("tool_use", "tool_result"):
            yield json.dumps(part, ensure_ascii=False)


_SPEAKERS = {
    "human": "user",
    "user": "user",
    "observation": "user",
    "tool": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "system": "system",
}


def _sharegpt_turns(row: Row) -> Any:
    turns = row.get("conversations")
    if not isinstance(turns, list):
        return turns
    return [_sharegpt_turn(turn) for turn in cast("list[Any]", turns)]


def _sharegpt_turn(turn: Any) -> Any:
    if not isinstance(turn, dict):
        return turn
    turn = cast(Row, turn)
    if not isinstance(turn.get("from"), str):
        return {"role": turn.get("from"), "content": turn.get("value")}
    return {"role": _SPEAKERS.get(turn["from"], turn["from"]), "content": turn.get("value")}


def _sharegpt(row: Row, out: Out) -> None:
    inside: Out = []
    chat.conversation(_sharegpt_turns(row), "conversations", None, inside, answered=True)
    for code, path, message in inside:
        place = path.replace(".role", ".from").replace(".content", ".value")
        out.append(Found(code, place, message))


def _sharegpt_said(row: Row) -> Said:
    turns = cast("list[Row]", _sharegpt_turns(row))
    system = row.get("system")
    above = [system] if isinstance(system, str) else []
    return Said([*above, *_texts(turns)], len(turns), [system, turns[:-1]], turns[-1])


def _anthropic_said(row: Row) -> Said:
    messages, system = cast("list[Row]", row["messages"]), row.get("system")
    above = {"content": system} if system else {}
    texts = list(_texts([above, *messages], row.get("tools")))
    return Said(texts, len(messages), [system, row.get("tools"), messages[:-1]], messages[-1])


def _preference_said(row: Row) -> Said:
    asked = cast(Row, row["input"])
    messages = cast("list[Row]", asked["messages"])
    outputs = [row["preferred_output"], row["non_preferred_output"]]
    texts = list(_texts([*messages, *outputs[0], *outputs[1]], asked.get("tools")))
    return Said(texts, len(messages) + 2, asked, outputs)


def _chosen_said(row: Row) -> Said:
    asked, outputs = row.get("prompt"), [row["chosen"], row["rejected"]]
    texts = [text for value in (asked, *outputs) for text in _either(value)]
    return Said(texts, 3, asked, outputs)


def _either(value: Any) -> Iterator[str]:
    """The texts of a string or of a list of messages."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from _texts([turn for turn in cast("list[Any]", value) if isinstance(turn, dict)])


def _pair(name: str, asked: str, answer: str, *more: str) -> Shape:
    """Rows of two texts, and others that may be left out."""

    def check(row: Row, out: Out) -> None:
        for field in (asked, answer):
            if field not in row:
                out.append(Found("missing", field, f"{field} is missing"))
            elif not isinstance(row[field], str):
                out.append(Found("wrong_type", field, f"is {kind(row[field])}, not a string"))
            elif not row[field].strip():
                out.append(Found("blank", field, "there is no text in it"))
        for field in more:
            if row.get(field) is not None and not isinstance(row[field], str):
                out.append(Found("wrong_type", field, f"is {kind(row[field])}, not a string"))

    def said(row: Row) -> Said:
        before = [row.get(field) for field in (*more, asked)]
        return Said([t for t in (*before, row[answer]) if t], 2, before, row[answer])

    fields = f"{asked}, {answer}"
    return Shape(name, fields, _has(asked, answer), check, said)


ANTHROPIC = Shape(
    "anthropic",
    "system, messages with blocks of content",
    anthropic.fits,
    anthropic.check,
    _anthropic_said,
)
CHAT = Shape("chat", "messages", _has("messages"), chat.check, _chat_said)
SHAPES: tuple[Shape, ...] = (
    ANTHROPIC,
    CHAT,
    Shape(
        "preference",
        "input, preferred_output, non_preferred_output",
        _has("input", "preferred_output"),
        preference.check,
        _preference_said,
    ),
    Shape(
        "preference pairs",
        "prompt, chosen, rejected",
        _has("chosen", "rejected"),
        preference.check_chosen,
        _chosen_said,
    ),
    Shape(
        "sharegpt",
        "conversations of from and value",
        _has("conversations"),
        _sharegpt,
        _sharegpt_said,
    ),
    _pair("alpaca", "instruction", "output", "input", "system"),
    _pair("completion", "prompt", "completion"),
    _pair("pairs", "user_query", "assistant_response", "context"),
    _pair("pairs", "question", "answer", "context"),
    _pair("pairs", "query", "response", "context"),
    _pair("pairs", "prompt", "response", "system"),
    _pair("pairs", "input", "output"),
)
"""Every layout; where several fit, the first holds."""
