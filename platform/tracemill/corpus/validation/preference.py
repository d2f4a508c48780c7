"""Rows that show two answers and which is better: OpenAI's form, and prompt, chosen, rejected."""

from typing import Any, cast

from tracemill.corpus.validation import chat, tools
from tracemill.corpus.validation.lines import kind
from tracemill.corpus.validation.report import Found

Out = list[Found]
Row = dict[str, Any]

_OUTPUTS = ("preferred_output", "non_preferred_output")


def check(row: Row, out: Out) -> None:
    """Everything that is wrong with a row of input, preferred and other output."""
    asked = row.get("input")
    if isinstance(asked, dict):
        asked = cast(Row, asked)
        defined = tools.definitions(asked.get("tools"), "input.tools", out)
        chat.conversation(asked.get("messages"), "input.messages", defined, out, answered=False)
    elif asked is None:
        out.append(Found("missing", "input", "input is missing"))
    else:
        out.append(Found("wrong_type", "input", f"is {kind(asked)}, not an object with messages"))
    for name in _OUTPUTS:
        _output(row.get(name), name, out)
    if row.get(_OUTPUTS[0]) == row.get(_OUTPUTS[1]) is not None:
        out.append(Found("same_outputs", _OUTPUTS[0], "nothing is preferred"))


def _output(output: Any, path: str, out: Out) -> None:
    if output is None:
        out.append(Found("missing", path, f"{path} is missing"))
    elif not isinstance(output, list):
        out.append(Found("wrong_type", path, f"is {kind(output)}, not a list of messages"))
    else:
        # With a question before it, an answer is judged as any conversation is.
        inside: Out = []
        turns = [{"role": "user", "content": "-"}, *cast("list[Any]", output)]
        chat.conversation(turns, path, None, inside, answered=True)
        for code, place, message in inside:
            out.append(Found(code, _one_less(place, path), message))


def _one_less(place: str, path: str) -> str:
    number, closed, rest = place[len(path) + 1 :].partition("]")
    return f"{path}[{max(int(number) - 1, 0)}]{rest}" if closed and number.isdecimal() else place


def check_chosen(row: Row, out: Out) -> None:
    """Everything that is wrong with a row of prompt, chosen and rejected: texts or messages."""
    for name in ("prompt", "chosen", "rejected"):
        value = row.get(name)
        if isinstance(value, list):
            messages = cast("list[Any]", value)
            if name == "prompt":
                chat.conversation(messages, name, None, out, answered=False)
            elif row.get("prompt") is None:
                chat.conversation(messages, name, None, out, answered=True)
            else:
                _output(messages, name, out)
        elif value is None and name == "prompt":
            continue
        elif not isinstance(value, str):
            out.append(Found("wrong_type", name, f"is {kind(value)}, not a text or messages"))
        elif not value.strip():
            out.append(Found("blank", name, "there is no text in it"))
    if row["chosen"] == row["rejected"]:
        out.append(Found("same_outputs", "chosen", "nothing is preferred"))
