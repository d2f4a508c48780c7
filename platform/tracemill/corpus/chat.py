"""A row of a file as a conversation, whatever layout people use for one.

OpenAI's chat rows, Anthropic's, ShareGPT, Alpaca and plain pairs become the same messages. A turn
that cannot be learned from refuses the row, with a reason that names the message and the field.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from tracemill.corpus.fields import first, is_alpaca, kind, may_be_alpaca, names, text, valid
from tracemill.corpus.recipe import Source
from tracemill.corpus.records import ROLES, Message
from tracemill.errors import InputError

ROLE_NAMES = {role: role for role in ROLES} | {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "function": "tool",
    "observation": "tool",
}
"""What files call a speaker -> the role."""
TEXT_PARTS = ("text", "input_text", "output_text")
CALL_PARTS = ("tool_use", "tool_call")
RESULT_PARTS = ("tool_result", "tool_call_response")


class Conversation(NamedTuple):
    """What a row says; the last message is an answer."""

    messages: tuple[Message, ...]
    tools: str | None
    """JSON: a list of definitions in OpenAI's form."""


def conversation(row: dict[str, Any], recipe: Source) -> Conversation:
    """The conversation in a row. What follows the last answer is left out.

    Raises InputError with the reason why there is none.
    """
    paths = names(recipe)
    turns = _json_text(first(row, paths["messages"]), "messages")
    if turns is None and recipe.format in ("chat", "sharegpt"):
        raise InputError(f"no messages (known as {', '.join(paths['messages'])})")
    said = _pair(row, recipe, paths) if turns is None else messages(turns)
    if (system := first(row, paths["system"])) is not None:
        said = [*_standing(system), *said]
    return Conversation(_to_the_last_answer(said), tools(first(row, paths["tools"])))


def messages(turns: Any) -> list[Message]:
    """Turns as messages: `role` and `content`, or `from` and `value`, with calls of tools."""
    if not isinstance(turns, list):
        raise InputError(f"messages is {kind(turns)}, not a list")
    said: list[Message] = []
    open_calls: list[str] = []
    for number, turn in enumerate(_answered(cast("list[Any]", turns)), start=1):
        said += _turn(turn, f"message {number}", open_calls)
    return said


def _answered(turns: list[Any]) -> list[Any]:
    """The turns up to the last answer; all of them where there is none, to say what is wrong."""
    for end in range(len(turns), 0, -1):
        if isinstance(turns[end - 1], dict):
            fields = cast("dict[str, Any]", turns[end - 1])
            content = first(fields, ("content", "value"))
            says = content.strip() if isinstance(content, str) else content
            role = first(fields, ("role", "from"))
            if (says or _is_calling(fields)) and _role(role) == "assistant":
                return turns[:end]
    return turns


def _is_calling(fields: dict[str, Any]) -> bool:
    return bool(fields.get("tool_calls") or fields.get("function_call"))


def _role(name: Any) -> str | None:
    return ROLE_NAMES.get(name) if isinstance(name, str) else None


def tools(value: Any) -> str | None:
    """Definitions of tools, in OpenAI's form or Anthropic's, as canonical JSON; None for none."""
    found = _json_text(value, "tools")
    if found is None or found == []:
        return None
    if not isinstance(found, list):
        raise InputError(f"tools is {kind(found)}, not a list")
    items = enumerate(cast("list[Any]", found), start=1)
    return _dumped([_tool(each, f"tool {number}") for number, each in items], "tools")


def _pair(row: dict[str, Any], recipe: Source, paths: dict[str, tuple[str, ...]]) -> list[Message]:
    asked, answered = first(row, paths["user_query"]), first(row, paths["assistant_response"])
    for value, column in ((asked, "user_query"), (answered, "assistant_response")):
        if value is None:
            raise InputError(f"no {column} (known as {', '.join(paths[column])})")
    if isinstance(asked, list) and isinstance(answered, list):
        return messages(cast("list[Any]", asked) + cast("list[Any]", answered))
    said = [text(asked, "user_query")]
    context = text(first(row, paths["context"]) or "", "context", may_be_blank=True)
    if context.strip():
        said.insert(1 if _is_alpaca(row, recipe) else 0, context)
    earlier = _history(first(row, paths["history"]))
    answer = Message("assistant", text(answered, "assistant_response"))
    return [*earlier, Message("user", "\n\n".join(said)), answer]


def _is_alpaca(row: dict[str, Any], recipe: Source) -> bool:
    looks_so = row.get("instruction") is not None and row.get("output") is not None
    return is_alpaca(recipe) or (may_be_alpaca(recipe) and looks_so)


def _history(value: Any) -> list[Message]:
    """Earlier exchanges, each a list of question and answer."""
    if value is None or value == "":
        return []
    said: list[Message] = []
    given: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
    for number, each in enumerate(given, 1):
        match each:
            case [asked, answered]:
                where = f"history {number}"
                said.append(Message("user", text(asked, f"{where}: question")))
                said.append(Message("assistant", text(answered, f"{where}: answer")))
            case _:
                raise InputError("history is not a list of question and answer")
    return said


def _standing(system: Any) -> list[Message]:
    """A system text outside the messages: a string, or Anthropic's blocks."""
    said = _content(system, "system", "system")[0] if isinstance(system, list) else system
    said = text(said or "", "system", may_be_blank=True)
    return [Message("system", said)] if said.strip() else []


def _to_the_last_answer(said: list[Message]) -> tuple[Message, ...]:
    for end in range(len(said), 0, -1):
        if said[end - 1].role == "assistant":
            return tuple(said[:end])
    raise InputError("no message of an assistant: nothing to learn from")


def _turn(turn: Any, where: str, open_calls: list[str]) -> list[Message]:
    """One turn; several messages where Anthropic puts results of tools into a user's turn."""
    if not isinstance(turn, dict):
        raise InputError(f"{where} is {kind(turn)}, not an object with role and content")
    fields = cast("dict[str, Any]", turn)
    name = first(fields, ("role", "from"))
    role = _role(name)
    if role is None:
        said = "is missing" if name is None else f"{str(name)[:40]!r} is not one of "
        raise InputError(f"{where}: role {said}{', '.join(ROLE_NAMES) if name else ''}")
    content = first(fields, ("content", "value"))
    if name == "function_call":
        fields, content = {"tool_calls": _json_text(content, f"{where}: the call")}, None
    said, calls, results = _content(content, where, role)
    calls += _calls(fields, where) if role == "assistant" else []
    if calls:
        open_calls[:] = [call["id"] for call in calls]
    if role == "tool" and (said is not None or not results):
        result = Message("tool", said or "", _optional(fields, "name", where))
        results.append(result._replace(tool_call_id=_optional(fields, "tool_call_id", where)))
    answered = [_linked(result, open_calls) for result in results]
    if role == "tool" or (results and said is None):
        return answered
    return answered + _spoken(role, said, calls, fields, where)


def _spoken(
    role: str, said: str | None, calls: list[dict[str, Any]], fields: dict[str, Any], where: str
) -> list[Message]:
    if said is None or not said.strip():
        if role in ("system", "developer") and said is not None:
            return []
        if not calls:
            raise InputError(f"{where}: content is {'null' if said is None else 'empty'}")
        said = said or None
    called = _dumped(calls, f"{where}: tool_calls") if calls else None
    weight = _weight(fields.get("weight"), where) if role == "assistant" else None
    name = _optional(fields, "name", where)
    return [Message(role, said, name, called, None, weight)]


def _linked(result: Message, open_calls: list[str]) -> Message:
    """A result names its call; where a file does not say which, they are taken in turn."""
    if result.tool_call_id is None and open_calls:
        return result._replace(tool_call_id=open_calls.pop(0))
    if result.tool_call_id in open_calls:
        open_calls.remove(result.tool_call_id)
    return result


def _content(
    content: Any, where: str, role: str
) -> tuple[str | None, list[dict[str, Any]], list[Message]]:
    """The text, calls and results of tools in a content."""
    if content is None:
        return None, [], []
    if not isinstance(content, list):
        return text(content, f"{where}: content", may_be_blank=True), [], []
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    results: list[Message] = []
    for number, part in enumerate(cast("list[Any]", content), start=1):
        at = f"{where}, part {number}"
        fields = cast("dict[str, Any]", part) if isinstance(part, dict) else {"text": part}
        type = fields.get("type", "text")
        if type in TEXT_PARTS:
            texts.append(text(first(fields, ("text", "content")), at, may_be_blank=True))
        elif type in CALL_PARTS and role == "assistant":
            calls.append(_call(fields, at))
        elif type in RESULT_PARTS and role in ("user", "tool"):
            results.append(_result(fields, at))
        else:
            raise InputError(f"{at} is {str(type)[:40]!r}: only text can be trained on")
    return "".join(texts) if texts else None, calls, results


def _result(fields: dict[str, Any], where: str) -> Message:
    given = first(fields, ("content", "response"))
    said = _content(given, where, "result")[0]
    name = _optional(fields, "name", where)
    id = first(fields, ("tool_use_id", "tool_call_id", "id"))
    return Message("tool", said or "", name, None, _optional({"id": id}, "id", where))


def _calls(fields: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """The calls of an assistant's turn, in OpenAI's form, old or new."""
    found = first(fields, ("tool_calls", "function_call"))
    if isinstance(found, dict):
        found = [cast("dict[str, Any]", found)]
    if found is None or found == "":
        return []
    if not isinstance(found, list):
        raise InputError(f"{where}: tool_calls is {kind(found)}, not a list")
    items = enumerate(cast("list[Any]", found), start=1)
    return [_call(each, f"{where}, tool call {number}") for number, each in items]


def _call(call: Any, where: str) -> dict[str, Any]:
    if not isinstance(call, dict):
        raise InputError(f"{where} is {kind(call)}, not an object")
    fields = cast("dict[str, Any]", call)
    inner = fields.get("function")
    called = cast("dict[str, Any]", inner) if isinstance(inner, dict) else fields
    name = text(called.get("name"), f"{where}: name")
    number = "_".join(word for word in where.replace(",", "").split() if word.isdecimal())
    id = _optional(fields, "id", where) or f"call_{number}"
    given = first(called, ("arguments", "input", "parameters"))
    function = {"name": name, "arguments": _arguments(given, where)}
    return {"id": id, "type": "function", "function": function}


def _arguments(given: Any, where: str) -> str:
    """JSON text of an object, as it was written where it was text."""
    if given is None or given == "":
        return "{}"
    parsed = _json_text(given, f"{where}: arguments")
    if not isinstance(parsed, dict):
        raise InputError(f"{where}: arguments is {kind(parsed)}, not a JSON object")
    if isinstance(given, str):
        return valid(given, f"{where}: arguments")
    return _dumped(cast("dict[str, Any]", parsed), f"{where}: arguments")


def _tool(tool: Any, where: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise InputError(f"{where} is {kind(tool)}, not an object")
    fields = cast("dict[str, Any]", tool)
    function: Any = fields.get("function", fields)
    if not isinstance(function, dict):
        raise InputError(f"{where}: function is {kind(function)}, not an object")
    given = dict(cast("dict[str, Any]", function))
    text(given.get("name"), f"{where}: name")
    if given.get("input_schema") is not None:
        given["parameters"] = given.pop("input_schema")
    given.pop("type", None)
    return {"type": "function", "function": given}


def _weight(value: Any, where: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or value not in (0, 1):
        raise InputError(f"{where}: weight is {str(value)[:40]}, not 0 or 1")
    return int(value)


def _optional(fields: Mapping[str, Any], name: str, where: str) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    return text(value, f"{where}: {name}", may_be_blank=True)


def _json_text(value: Any, what: str) -> Any:
    """The value, read first where it is JSON in a text, as in a column of a CSV file."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is not JSON: {_short(error)}") from None


def _dumped(value: Sequence[Any] | Mapping[str, Any], what: str) -> str:
    """Canonical JSON: no blanks, no escapes but the needed ones, fields in their order."""
    try:
        return valid(json.dumps(value, ensure_ascii=False, separators=(",", ":")), what)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{what} cannot be told in JSON: {_short(error)}") from None


def _short(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)[:100]
