"""Another version of a prompt, with the values that a logged call was rendered with.

The log has the rendered text and not the values. They are read back out of it by the template that
it was rendered from, and rendering them again has to give the same text; else they must be given.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracemill.analysis.asked_again import Before
from tracemill.errors import UsageError
from tracemill.llm import prompts, templates

if TYPE_CHECKING:
    from tracemill.llm.prompts import Prompt
    from tracemill.log import EventLog
    from tracemill.messages import Request

_FROM_PROMPT = {"messages", "system", "prompt_name", "prompt_version"}


def rendered(
    log: "EventLog",
    before: Before,
    prompt: "Prompt",
    variables: Mapping[str, Mapping[str, Any]] | None,
    request: "Request",
) -> "Request":
    """The request with the messages that this version of the prompt makes.

    Raises `UsageError` where the values cannot be told.
    """
    values = (variables or {}).get(before.call_id)
    if values is None:
        values = values_of(log, before, prompt)
    rest = {name: getattr(request, name) for name in type(request).model_fields}
    asked = {name: value for name, value in rest.items() if name not in {*_FROM_PROMPT, "model"}}
    return prompts.render(prompt, values, model=request.model, **asked)


def values_of(log: "EventLog", before: Before, prompt: "Prompt") -> dict[str, Any]:
    """The values for a prompt, out of a logged call."""
    turns = [message for message in before.started.messages if message.role != "system"]
    if len(turns) != 1 or turns[0].role != "user":
        raise _unknown(before, prompt, f"it has {len(turns)} turns and a prompt makes one")
    name, version = before.started.prompt_name, before.started.prompt_version
    if name and version and version in (past := prompts.history(log, name).added):
        if version == prompt.version and name == prompt.name:
            was = prompt
        else:
            was = prompts.get(log, name, past[version].version)
        return _read_back(before, was, prompt, turns[0].text)
    if len(prompt.variables) == 1:
        return {next(iter(prompt.variables)): turns[0].text}
    raise _unknown(before, prompt, f"{prompt.name} has {len(prompt.variables)} variables")


def _read_back(before: Before, was: "Prompt", prompt: "Prompt", text: str) -> dict[str, Any]:
    """By the template of then; a prompt of one variable each is given that one, whatever its name."""
    odd = {name: kind for name, kind in was.variables.items() if kind != "string"}
    found = None if odd else _matched(was, text)
    if found is None:
        why = (
            f"its values cannot be read back out of what {was.name}@{was.version[:8]} made of them"
        )
        raise _unknown(before, prompt, why)
    if found.keys() == prompt.variables.keys():
        return found
    if len(found) == len(prompt.variables) == 1:
        return {next(iter(prompt.variables)): next(iter(found.values()))}
    needs = ", ".join(sorted(prompt.variables.keys() - found.keys())) or "fewer values"
    raise _unknown(before, prompt, f"{prompt.name} takes {needs} beside what the call had")


def _matched(was: "Prompt", text: str) -> dict[str, str] | None:
    """The only values with which the template makes this text; None where several do, or none."""
    where = f"prompt {was.name}"
    # Upper and lower case, blanks at both ends, and long: a filter would leave its traces.
    marks = {name: f" \x00{'aZ' * 3000}{place}\x00 " for place, name in enumerate(was.variables)}
    shape = templates.render(was.template, marks, where)
    pattern, seen = "", set[str]()
    for place, piece in enumerate(re.split("( \x00(?:aZ){3000}[0-9]+\x00 )", shape)):
        mark = piece[6002:-2] if place % 2 else None
        if mark is None:
            pattern += re.escape(piece)
        elif mark in seen:
            pattern += f"(?P=v{mark})"
        else:
            seen.add(mark)
            pattern += f"(?P<v{mark}>.*?)"
    if len(seen) < len(marks):
        return None
    short = re.fullmatch(pattern, text, re.DOTALL)
    long = re.fullmatch(pattern.replace(">.*?)", ">.*)"), text, re.DOTALL)
    if short is None or long is None or short.groupdict() != long.groupdict():
        return None
    values = {name: short[f"v{number}"] for number, name in enumerate(was.variables)}
    return values if templates.render(was.template, values, where) == text else None


def _unknown(before: Before, prompt: "Prompt", why: str) -> UsageError:
    return UsageError(
        f"call {before.call_id} cannot be rendered with prompt {prompt.name}: {why}; give "
        "variables={call_id: {name: value}}"
    )
