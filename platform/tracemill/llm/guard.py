"""What may be sent, what may come back, and what of both the log may keep.

Every rule gives a decision; the client records them. Too large and forbidden words block; signs of
injection are only flagged; personal data and keys are redacted, in the log's copy or in both.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from tracemill import pii
from tracemill.llm import schema_check
from tracemill.llm.injection import signs
from tracemill.llm.providers import Reply
from tracemill.llm.redaction import (
    Redactor,
    answer_by_digest,
    changed,
    data_uris_by_digest,
    said,
    spotless,
    texts,
    untrusted,
)
from tracemill.messages import Message, Request, Text, ToolCall, content_of

__all__ = ["Decision", "Guard", "Input", "Output", "check_input", "check_output"]
__all__ += ["data_uris_by_digest", "redact_error", "repair"]

KEPT_OF_TOO_LARGE = 2_000
"""Characters of each text that the log gets of a request that was too large to send."""
MESSAGES_KEPT_OF_TOO_LARGE = 100
"""The last so many messages are those that the log gets of it."""


@dataclass(frozen=True)
class Guard:
    """The rules for a client's calls."""

    max_input_characters: int | None = 4_000_000
    """All texts of a request together; pictures do not count. None: no bound."""
    redact: Literal["log", "both", "off"] = "log"
    """Who gets placeholders for personal data and keys: the log alone, or the model as well."""
    injection: bool = True
    """Flag what users and functions say where it looks like orders to the model."""
    blocked_terms: tuple[str, ...] = ()
    """Words that no answer may hold, in any case; parts of longer words do not count."""
    check_schema: bool = True
    """Hold answers against the request's `response_schema`."""


class Decision(NamedTuple):
    """What a rule had to say: the fields of `GuardDecided`."""

    rule: str
    side: Literal["input", "output"]
    action: Literal["flagged", "redacted", "blocked", "repaired"]
    found: dict[str, int]
    message: str


class Input(NamedTuple):
    """A request past the guard."""

    sent: Request
    logged: Request
    """What the log may keep of it."""
    decisions: tuple[Decision, ...]
    blocked: str | None
    """Why it must not be sent."""


class Output(NamedTuple):
    """An answer past the guard."""

    reply: Reply
    logged: Reply
    """What the log may keep of it."""
    decisions: tuple[Decision, ...]
    blocked: str | None
    """Why it must not be given to the caller."""
    problems: tuple[str, ...]
    """In what it breaks the request's `response_schema`."""


def check_input(guard: Guard | None, request: Request) -> Input:
    """Hold a request against the rules; never raises. Without a guard there are none."""
    if guard is None:
        return Input(request, data_uris_by_digest(request), (), None)
    if _harmless(guard, request):
        return Input(request, request, (), None)
    decisions: list[Decision] = []
    blocked = _too_large(guard, request, decisions)
    sent = request if blocked else _without_controls(request, decisions)
    logged = data_uris_by_digest(_shortened(sent) if blocked else sent)
    if guard.injection and not blocked:
        _flag_injection(sent, decisions)
    if guard.redact != "off":
        redactor = Redactor()
        logged = redactor.request(logged)
        whom = "in the log"
        if guard.redact == "both" and not blocked:
            sent, whom = Redactor().sent(sent), "in the log and in what is sent"
        _tell_redacted("input", redactor.counts, whom, decisions)
    blocked = blocked or _broken_schema(guard, request, decisions)
    return Input(sent, logged, tuple(decisions), blocked)


def check_output(guard: Guard | None, request: Request, reply: Reply) -> Output:
    """Hold an answer against the rules; never raises. Without a guard there are none."""
    if guard is None:
        return Output(reply, answer_by_digest(reply), (), None, ())
    decisions: list[Decision] = []
    reply, problems = _against_schema(guard, request, reply, decisions)
    blocked = _blocked_terms(guard, reply, decisions)
    logged = answer_by_digest(reply)
    if guard.redact != "off" and not _says_nothing_personal(reply):
        redactor = Redactor()
        logged = redactor.reply(logged)
        _tell_redacted("output", redactor.counts, "in the log", decisions)
    return Output(reply, logged, tuple(decisions), blocked, problems)


def repair(request: Request, reply: Reply, problems: tuple[str, ...]) -> Request:
    """The request that asks once more: the conversation, the broken answer, what was wrong."""
    wrong = "\n".join(f"- {problem}" for problem in problems)
    ask = (
        "Your answer does not keep to the JSON schema that was asked for:\n"
        f"{wrong}\n"
        "Reply with the whole answer again, corrected, as JSON alone."
    )
    broken = [Message(role="assistant", content=content_of(reply.parts))] if reply.parts else []
    messages = (*request.messages, *broken, Message(role="user", content=ask))
    return request.model_copy(update={"messages": messages})


def repaired(problems: Sequence[str]) -> Decision:
    """What is to be recorded when the second answer kept to the schema."""
    message = "a second answer keeps to response_schema; the first did not: " + "; ".join(problems)
    return Decision("schema", "output", "repaired", {"problems": len(problems)}, message)


def redact_error(text: str) -> str:
    """An error message without the personal data and keys that a provider may repeat in it."""
    return pii.redact(text).text


# Rules for what is sent


def _harmless(guard: Guard, request: Request) -> bool:
    """No rule finds anything: so it is with most requests, and they need no copy."""
    read = texts(request)
    return (
        (guard.max_input_characters is None or sum(map(len, read)) <= guard.max_input_characters)
        and not any(map(_CONTROLS.search, read))
        and data_uris_by_digest(request) is request
        and (guard.redact == "off" or spotless(request))
        and not (guard.injection and any(map(signs, untrusted(request))))
        and not _broken_schema(guard, request, [])
    )


def _says_nothing_personal(reply: Reply) -> bool:
    return reply.refusal is None and all(
        isinstance(part, Text) and not part.citations and not pii.find(part.content)
        for part in reply.parts
    )


def _too_large(guard: Guard, request: Request, decisions: list[Decision]) -> str | None:
    size = sum(map(len, texts(request)))
    if guard.max_input_characters is None or size <= guard.max_input_characters:
        return None
    message = (
        f"the request's messages, system and tools have {size:,} characters, more than the "
        f"{guard.max_input_characters:,} of Guard.max_input_characters: shorten it or raise the bound"
    )
    decisions.append(Decision("size", "input", "blocked", {"characters": size}, message))
    return message


def _shortened(request: Request) -> Request:
    """What the log gets of a request that no event could hold."""

    def shorten(text: str) -> str:
        rest = len(text) - KEPT_OF_TOO_LARGE
        return text if rest <= 0 else f"{text[:KEPT_OF_TOO_LARGE]} [{rest:,} more characters]"

    messages = tuple(
        Message(role=message.role, content=shorten(said(message)))
        for message in request.messages[-MESSAGES_KEPT_OF_TOO_LARGE:]
    )
    system = None if request.system is None else shorten(request.system)
    less = {"messages": messages, "system": system, "tools": (), "response_schema": None}
    return request.model_copy(update=less)


# All but tab, line feed, carriage return and next line; halves of characters that UTF-8 cannot hold.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")


def _without_controls(request: Request, decisions: list[Decision]) -> Request:
    removed = 0

    def remove(text: str) -> str:
        nonlocal removed
        text, count = _CONTROLS.subn("", text)
        removed += count
        return text

    clean = changed(request, remove)
    if not removed:
        return request
    message = f"{_counted(removed, 'control character')} removed from what is sent"
    decisions.append(
        Decision("control_characters", "input", "redacted", {"characters": removed}, message)
    )
    return clean


def _flag_injection(request: Request, decisions: list[Decision]) -> None:
    found: Counter[str] = Counter()
    for text in untrusted(request):
        found.update(signs(text))
    if found:
        message = f"what users or functions said looks like orders to the model: {_listed(found)}"
        decisions.append(Decision("injection", "input", "flagged", dict(found), message))


def _tell_redacted(
    side: Literal["input", "output"],
    counts: Counter[str],
    whom: str,
    decisions: list[Decision],
) -> None:
    if counts:
        message = f"personal data or keys redacted {whom}: {_listed(counts)}"
        decisions.append(Decision("pii", side, "redacted", dict(counts), message))


def _broken_schema(guard: Guard, request: Request, decisions: list[Decision]) -> str | None:
    if not guard.check_schema or request.response_schema is None:
        return None
    wrong = schema_check.wrong_schema(request.response_schema)
    if wrong:
        decisions.append(
            Decision("schema", "input", "blocked", {"schemas": 1}, redact_error(wrong))
        )
    return wrong


# Rules for what came back


def _against_schema(
    guard: Guard, request: Request, reply: Reply, decisions: list[Decision]
) -> tuple[Reply, tuple[str, ...]]:
    """The answer, taken out of a Markdown fence where it is in one, and what is wrong with it."""
    schema = request.response_schema
    if not guard.check_schema or schema is None or _is_no_answer(reply):
        return reply, ()
    inner = schema_check.unfenced(reply.text)
    if inner is not None:
        others = tuple(part for part in reply.parts if not isinstance(part, Text))
        reply = reply._replace(parts=(*others, Text(content=inner)))
        message = "the JSON was taken out of the Markdown fence around it"
        decisions.append(Decision("schema", "output", "repaired", {"fences": 1}, message))
    problems = schema_check.problems(schema, reply.text)
    if problems and reply.finish_reason == "length":
        problems = ("$: the answer was cut at max_output_tokens", *problems)
    if problems:
        count = _counted(len(problems), "problem")
        message = f"the answer does not keep to response_schema: {count}"
        decisions.append(
            Decision("schema", "output", "flagged", {"problems": len(problems)}, message)
        )
    return reply, problems


def _is_no_answer(reply: Reply) -> bool:
    """A call for a tool, a refusal or a filtered answer is not what a schema is about."""
    calls = any(isinstance(part, ToolCall) for part in reply.parts)
    return calls or bool(reply.refusal) or reply.finish_reason in {"refusal", "content_filter"}


def _blocked_terms(guard: Guard, reply: Reply, decisions: list[Decision]) -> str | None:
    if not guard.blocked_terms:
        return None
    spoken = [part.content for part in reply.parts if isinstance(part, Text)]
    spoken += [part.arguments for part in reply.parts if isinstance(part, ToolCall)]
    pattern = _any_of(guard.blocked_terms)
    found = len(pattern.findall("\n".join([*spoken, reply.refusal or ""])))
    if not found:
        return None
    message = f"the answer holds blocked terms ({_counted(found, 'place')}) and was held back"
    decisions.append(Decision("blocked_terms", "output", "blocked", {"places": found}, message))
    return message


@lru_cache(maxsize=16)
def _any_of(terms: tuple[str, ...]) -> re.Pattern[str]:
    words = "|".join(r"\s+".join(map(re.escape, term.split())) for term in terms if term.strip())
    return re.compile(rf"(?<!\w)(?:{words or '(?!)'})(?!\w)", re.IGNORECASE)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _listed(found: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items()))
