"""Tools in chat rows: their definitions, the calls, the results, and whether they belong together."""

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from tracemill.corpus.validation.lines import kind
from tracemill.corpus.validation.report import Found

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

Out = list[Found]
Row = dict[str, Any]
Defined = dict[str, "Validator | None"]
"""Name of a tool -> what its arguments must be; None where that is not known."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MOST = 200  # characters of a message that quotes from the file


def definitions(tools: Any, path: str, out: Out) -> Defined | None:
    """The tools that are defined; None where there is no such field."""
    if tools is None:
        return None
    if not isinstance(tools, list) or not tools:
        told = "an empty list" if tools == [] else kind(cast(Any, tools))
        out.append(Found("bad_tool", path, f"is {told}, not a list of tools"))
        return {}
    defined: Defined = {}
    for number, tool in enumerate(cast("list[Any]", tools)):
        _definition(tool, f"{path}[{number}]", defined, out)
    return defined


def _definition(tool: Any, path: str, defined: Defined, out: Out) -> None:
    function = cast(Row, tool).get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or cast(Row, tool).get("type") != "function":
        out.append(Found("bad_tool", path, "has no type `function` with a `function` object"))
        return
    function = cast(Row, function)
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        told = f"{name[:40]!r}" if isinstance(name, str) else kind(name)
        out.append(Found("bad_name", f"{path}.function.name", f"{told} is no name of a tool"))
        return
    if name in defined:
        out.append(Found("bad_tool", f"{path}.function.name", f"{name} is defined twice"))
    about = function.get("description")
    if about is not None and not isinstance(about, str):
        place = f"{path}.function.description"
        out.append(Found("wrong_type", place, f"is {kind(about)}, not a string"))
    parameters = function.get("parameters", {"type": "object"})
    if not isinstance(parameters, dict):
        place = f"{path}.function.parameters"
        out.append(Found("wrong_type", place, f"is {kind(parameters)}, not a JSON Schema"))
        defined[name] = None
        return
    defined[name], wrong = _schema(json.dumps(parameters, sort_keys=True))
    if wrong:
        out.append(Found("bad_schema", f"{path}.function.parameters{wrong[0]}", wrong[1]))


@lru_cache(maxsize=1024)
def _schema(text: str) -> "tuple[Validator | None, tuple[str, str] | None]":
    """What checks arguments, or where the schema is wrong and how. Nothing is ever fetched."""
    from jsonschema import Draft202012Validator, SchemaError
    from referencing import Registry

    schema = cast(Row, json.loads(text))
    try:
        Draft202012Validator.check_schema(schema)
        return Draft202012Validator(schema, registry=Registry[Any]()), None
    except SchemaError as error:
        return None, (str(error.json_path)[1:81], str(error.message)[:_MOST])
    except (ValueError, TypeError, AttributeError, RecursionError, re.error) as error:
        return None, ("", f"{type(error).__name__}: {error}"[:_MOST])


def links(turns: list[Any], path: str, defined: Defined | None, out: Out) -> None:
    """Whether every call is answered by the tool messages right after it, and every tool message
    answers a call. Calls in the last message are what is learned: nothing follows them."""
    waiting: dict[str, str] = {}
    ids: set[str] = set()
    for number, turn in enumerate(turns):
        if not isinstance(turn, dict):
            continue
        turn, place = cast(Row, turn), f"{path}[{number}]"
        if turn.get("role") == "tool":
            _result(turn, place, waiting, out)
            continue
        _unanswered(waiting, out)
        waiting = {}
        if "tool_calls" in turn:
            waiting = _calls(turn, place, defined, ids, out)
        if turn.get("tool_call_id") is not None:
            told = "only tool messages answer a call"
            out.append(Found("no_call", f"{place}.tool_call_id", told))
    if turns and not (isinstance(turns[-1], dict) and "tool_calls" in turns[-1]):
        _unanswered(waiting, out)


def _unanswered(waiting: dict[str, str], out: Out) -> None:
    for call, place in waiting.items():
        out.append(Found("no_result", place, f"no tool message answers {call[:40]!r}"))


def _result(turn: Row, path: str, waiting: dict[str, str], out: Out) -> None:
    place, answered = f"{path}.tool_call_id", turn.get("tool_call_id")
    if not isinstance(answered, str):
        out.append(Found("no_call", place, "says no id of a call"))
    elif waiting.pop(answered, None) is None:
        out.append(Found("no_call", place, f"no open call has the id {answered[:40]!r}"))


def _calls(
    turn: Row, path: str, defined: Defined | None, ids: set[str], out: Out
) -> dict[str, str]:
    """The ids of the calls of a message, each with its path."""
    calls, place = turn["tool_calls"], f"{path}.tool_calls"
    if turn.get("role") != "assistant":
        out.append(Found("bad_call", place, "only the assistant calls tools"))
    if not isinstance(calls, list) or not calls:
        told = "an empty list" if calls == [] else kind(cast(Any, calls))
        out.append(Found("bad_call", place, f"is {told}, not a list of calls"))
        return {}
    found: dict[str, str] = {}
    for number, call in enumerate(cast("list[Any]", calls)):
        _call(call, f"{place}[{number}]", defined, out)
        name = cast(Row, call).get("id") if isinstance(call, dict) else None
        if not isinstance(name, str) or not name:
            out.append(Found("bad_call", f"{place}[{number}].id", "an id is missing"))
        elif name in ids:
            out.append(Found("double_id", f"{place}[{number}].id", f"{name[:40]!r} stood before"))
        else:
            ids.add(name)
            found[name] = f"{place}[{number}]"
    return found


def _call(call: Any, path: str, defined: Defined | None, out: Out) -> None:
    function = cast(Row, call).get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or cast(Row, call).get("type") != "function":
        out.append(Found("bad_call", path, "has no type `function` with a `function` object"))
        return
    function = cast(Row, function)
    name, place = function.get("name"), f"{path}.function"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        told = f"{name[:40]!r}" if isinstance(name, str) else kind(name)
        out.append(Found("bad_name", f"{place}.name", f"{told} is no name of a tool"))
        return
    known = (defined or {}).get(name)
    if name not in (defined or {}):
        out.append(Found("unknown_tool", f"{place}.name", f"{name} is not in `tools`"))
    _arguments(function.get("arguments"), f"{place}.arguments", known, out)


def _arguments(text: Any, path: str, known: "Validator | None", out: Out) -> None:
    from pydantic_core import from_json

    if not isinstance(text, str):
        out.append(Found("bad_arguments", path, f"is {kind(text)}, not JSON in a string"))
        return
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        out.append(Found("bad_arguments", path, f"not JSON: {error}"[:_MOST]))
        return
    if not isinstance(value, dict):
        out.append(Found("bad_arguments", path, f"is {kind(value)}, not an object"))
    elif known is not None and (wrong := _unfit(value, known)):
        out.append(Found("unfit_arguments", path, wrong))


def _unfit(value: Any, known: "Validator") -> str | None:
    """Where arguments break their schema, without repeating what they say."""
    from referencing.exceptions import Unresolvable

    try:
        error = next(iter(known.iter_errors(value)), None)
    except (Unresolvable, RecursionError, re.error, OverflowError) as problem:
        return f"cannot be checked: {type(problem).__name__}"
    if error is None:
        return None
    return f"{error.json_path[:80]} breaks `{error.validator}` of the schema"
