"""Chat rows as OpenAI trains on them: roles and their order, contents, names, weights, calls.

The plain message, a role and a text, is by far the most frequent and is judged in a few steps;
whatever is more is looked at in full.
"""

import re
from collections.abc import Sequence
from typing import Any, cast

from tracemill.corpus.records import ROLES, STANDING
from tracemill.corpus.validation import tools
from tracemill.corpus.validation.lines import kind
from tracemill.corpus.validation.report import Found

Out = list[Found]
Row = dict[str, Any]

_SPEAKERS = frozenset(("system", "user", "assistant"))
_ROLES = frozenset((*ROLES, "function"))
_FIELDS = frozenset(
    ("role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal")
)
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_PARTS = {"text": "text", "image_url": "image_url", "refusal": "refusal"}
_ROW_FIELDS = frozenset(("messages", "tools", "parallel_tool_calls", "functions"))


def check(row: Row, out: Out) -> None:
    """Everything that is wrong with a chat row."""
    if not _ROW_FIELDS.issuperset(row):
        extra = sorted(set(row) - _ROW_FIELDS)
        out.extend(Found("extra_field", name[:80], f"{name[:60]!r} is ignored") for name in extra)
    if (settings := row.get("parallel_tool_calls")) is not None and not isinstance(settings, bool):
        out.append(
            Found("wrong_type", "parallel_tool_calls", f"is {kind(settings)}, not a boolean")
        )
    if "functions" in row:
        out.append(Found("old_form", "functions", "`functions` was replaced by `tools`"))
    defined = tools.definitions(row.get("tools"), "tools", out)
    conversation(row.get("messages"), "messages", defined, out, answered=True)


def conversation(
    messages: Any, path: str, defined: tools.Defined | None, out: Out, *, answered: bool
) -> None:
    """What is wrong with a list of messages; `answered` says whether an answer must end it."""
    if not isinstance(messages, list):
        if messages is None:
            out.append(Found("missing", path, f"{path} is missing"))
        else:
            out.append(Found("wrong_type", path, f"is {kind(messages)}, not a list of messages"))
        return
    turns = cast("list[Any]", messages)
    if not turns:
        out.append(Found("empty", path, "there is no message"))
        return
    odd = [number for number, turn in enumerate(turns) if not _is_plain(turn)]
    for number in odd:
        _message(turns[number], f"{path}[{number}]", out)
    roles = [turn.get("role") if type(turn) is dict else None for turn in turns]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    _order(cast("list[Any]", roles), turns, path, out, answered=answered)
    if odd:
        _learned(turns, path, out)
        tools.links(turns, path, defined, out)


def _is_plain(turn: Any) -> bool:
    if type(turn) is not dict or len(turn) != 2:  # pyright: ignore[reportUnknownArgumentType]
        return False
    content, role = turn.get("content"), turn.get("role")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if type(content) is not str or type(role) is not str or role not in _SPEAKERS:  # pyright: ignore[reportUnknownArgumentType]
        return False
    return bool(content) and not content.isspace()


def _message(turn: Any, path: str, out: Out) -> None:
    if not isinstance(turn, dict):
        out.append(Found("wrong_type", path, f"is {kind(turn)}, not a message"))
        return
    turn = cast(Row, turn)
    for name in sorted(set(turn) - _FIELDS)[:20]:
        out.append(Found("unknown_field", f"{path}.{name[:60]}", f"no message has {name[:60]!r}"))
    role = _role(turn, path, out)
    _content(turn, role, path, out)
    _name(turn, path, out)
    _weight(turn, role, path, out)
    if "function_call" in turn or role == "function":
        out.append(Found("old_form", path, "calls stand in `tool_calls`, results in role `tool`"))


def _role(turn: Row, path: str, out: Out) -> str | None:
    if "role" not in turn:
        out.append(Found("missing", f"{path}.role", "role is missing"))
        return None
    role = turn["role"]
    if not isinstance(role, str) or role not in _ROLES:
        told = f"{role[:40]!r}" if isinstance(role, str) else kind(role)
        out.append(Found("bad_role", f"{path}.role", f"{told} is no role"))
        return None
    return role


def _content(turn: Row, role: str | None, path: str, out: Out) -> None:
    place = f"{path}.content"
    calls = role == "assistant" and bool(turn.get("tool_calls") or turn.get("function_call"))
    refused = role == "assistant" and isinstance(turn.get("refusal"), str)
    content = turn.get("content")
    if content is None:
        if calls or refused:
            return
        if "content" in turn:
            out.append(Found("null_content", place, "null is for calls of tools only"))
        else:
            out.append(Found("missing", place, "content is missing"))
    elif isinstance(content, str):
        if not content.strip() and not calls and role not in ("tool", "function"):
            out.append(Found("blank", place, "there is no text in it"))
    elif isinstance(content, list):
        _parts(cast("list[Any]", content), role, place, out)
    else:
        out.append(Found("wrong_type", place, f"is {kind(content)}, not a text or a list of parts"))


def _parts(parts: Sequence[Any], role: str | None, path: str, out: Out) -> None:
    if not parts:
        out.append(Found("empty", path, "there is no part"))
    for number, part in enumerate(parts):
        place = f"{path}[{number}]"
        if not isinstance(part, dict):
            out.append(Found("wrong_type", place, f"is {kind(part)}, not a part"))
            continue
        part = cast(Row, part)
        type_ = part.get("type")
        if not isinstance(type_, str) or type_ not in _PARTS:
            told = f"{type_[:40]!r}" if isinstance(type_, str) else kind(type_)
            out.append(Found("bad_part", f"{place}.type", f"a part of type {told}"))
        elif type_ == "image_url":
            _image(part, role, place, out)
        elif not isinstance(part.get(type_), str):
            told = kind(part.get(type_))
            out.append(Found("wrong_type", f"{place}.{type_}", f"is {told}, not a string"))


def _image(part: Row, role: str | None, path: str, out: Out) -> None:
    image = part.get("image_url")
    url = cast(Row, image).get("url") if isinstance(image, dict) else None
    if not isinstance(url, str) or not url.startswith(("https://", "http://", "data:image/")):
        message = "an image is {'url': 'https://...' or 'data:image/...'}"
        out.append(Found("bad_part", f"{path}.image_url", message))
    if role not in ("user", None):
        out.append(Found("bad_part", path, f"an image in a message of the {role}"))


def _name(turn: Row, path: str, out: Out) -> None:
    name = turn.get("name")
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        told = f"{name[:40]!r}" if isinstance(name, str) else kind(name)
        out.append(Found("bad_name", f"{path}.name", f"{told} is no name"))


def _weight(turn: Row, role: str | None, path: str, out: Out) -> None:
    weight = turn.get("weight")
    if weight is None:
        return
    if type(weight) is not int or weight not in (0, 1):
        told = str(weight)[:40] if isinstance(weight, (int, float)) else kind(weight)
        out.append(Found("bad_weight", f"{path}.weight", f"{told} is no weight"))
    if role not in ("assistant", None):
        message = f"a weight in a message of the {role}"
        out.append(Found("bad_weight", f"{path}.weight", message))


def _order(roles: list[Any], turns: list[Any], path: str, out: Out, *, answered: bool) -> None:
    last = len(roles) - 1
    if "user" not in roles:
        out.append(Found("no_user", path, "there is no message of a user"))
    if answered and roles[last] != "assistant":
        told = roles[last] if isinstance(roles[last], str) else "nobody known"
        out.append(Found("no_answer", f"{path}[{last}]", f"the last message is of {told[:40]}"))
    before: Any = None
    for number, role in enumerate(roles):
        if role == before and role in ("user", "assistant") and not _calls(turns[number - 1]):
            out.append(Found("same_speaker", f"{path}[{number}]", f"the {role} speaks again"))
        if number and role in STANDING and before not in STANDING:
            out.append(Found("late_system", f"{path}[{number}]", f"{role} is message {number + 1}"))
        before = role if isinstance(role, str) else None


def _calls(turn: Any) -> bool:
    return isinstance(turn, dict) and bool(cast(Row, turn).get("tool_calls"))


def _learned(turns: list[Any], path: str, out: Out) -> None:
    rows = [cast(Row, turn) for turn in turns if isinstance(turn, dict)]
    weights = [turn.get("weight") for turn in rows if turn.get("role") == "assistant"]
    if weights and all(type(weight) is int and weight == 0 for weight in weights):
        out.append(Found("nothing_learned", path, "no answer is learned"))
