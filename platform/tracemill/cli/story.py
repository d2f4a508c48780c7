"""The whole story of one call, as `tracemill call ID` tells it: everything in the log about it."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.cli.output import harmless, plain
from tracemill.events import (
    FeedbackGiven,
    GuardDecided,
    LlmCall,
    LlmCallAborted,
    LlmCallCached,
    LlmCallCrashed,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallRetried,
    LlmCallStarted,
    Recorded,
)
from tracemill.messages import (
    File,
    Image,
    Native,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    parts_of,
)

if TYPE_CHECKING:
    from tracemill.log import EventLog

_MOST_FALLBACKS = 20


class Link(NamedTuple):
    """A call of a fallback chain."""

    call_id: str
    model: str
    status: str


class Story(NamedTuple):
    """What the log knows of a call."""

    call_id: str
    events: Sequence[Recorded]
    """Of the call itself, in order."""
    guard: Sequence[Recorded]
    feedback: Sequence[Recorded]
    chain: Sequence[Link]
    """The calls that stood in for each other, this one among them; empty where it had none."""


def of(log: "EventLog", call_id: str) -> Story:
    """Read it from the log."""
    about = {name: list(log.read(stream=f"{name}:{call_id}")) for name in ("guard", "feedback")}
    events = list(log.read(stream=f"call:{call_id}"))
    return Story(call_id, events, about["guard"], about["feedback"], _chain(log, call_id, events))


def _chain(log: "EventLog", call_id: str, events: Sequence[Recorded]) -> list[Link]:
    """Up to the first call, then down to the last."""
    links = [_link(call_id, events)]
    while (before := _fallback_of(events)) is not None and len(links) < _MOST_FALLBACKS:
        events = list(log.read(stream=f"call:{before}"))
        if not events:
            break
        links.insert(0, _link(before, events))
    while (after := _fallback_from(log, links[-1].call_id)) and len(links) < _MOST_FALLBACKS:
        links.append(_link(after, list(log.read(stream=f"call:{after}"))))
    return links if len(links) > 1 else []


def _fallback_of(events: Sequence[Recorded]) -> str | None:
    first = events[0].event if events else None
    return first.fallback_of if isinstance(first, LlmCallStarted) else None


def _fallback_from(log: "EventLog", call_id: str) -> str | None:
    # Text that must be there is looked for first: it is far faster than reading JSON.
    query = """
        SELECT substr(stream, 6) AS call_id FROM events
        WHERE kind = 'llm.call.started' AND stream > 'call:' || $1
          AND contains(payload, '"fallback_of":"' || $1) AND (payload ->> '$.fallback_of') = $1
        ORDER BY position LIMIT 1
    """
    found = log.arrow(query, [call_id])["call_id"].to_pylist()
    return found[0] if found else None


def _link(call_id: str, events: Sequence[Recorded]) -> Link:
    last = events[-1].event
    assert isinstance(last, LlmCall)
    return Link(call_id, f"{last.provider}/{last.request_model}", _status(events))


def _status(events: Sequence[Recorded]) -> str:
    word = getattr(events[-1].event, "kind").rsplit(".", 1)[1]  # noqa: B009
    return "running" if word in ("started", "retried") else word


def as_dict(story: Story) -> dict[str, Any]:
    """For programs."""

    def told(records: Sequence[Recorded]) -> list[dict[str, Any]]:
        return [{**r._asdict(), "event": r.event.model_dump(mode="json")} for r in records]

    return {
        "call_id": story.call_id,
        "status": _status(story.events),
        "events": told(story.events),
        "guard": told(story.guard),
        "feedback": told(story.feedback),
        "fallbacks": [link._asdict() for link in story.chain],
    }


def print_story(story: Story) -> None:
    """For people."""
    for line in _lines(story):
        print(harmless(line))


def _lines(story: Story) -> Iterator[str]:
    first, last = (story.events[i].event for i in (0, -1))
    assert isinstance(first, LlmCall)
    assert isinstance(last, LlmCall)
    yield f"call {story.call_id}: {first.operation} with {first.provider}/{first.request_model}, {_status(story.events)}"
    yield from _about(first)
    yield from _section("Timeline (UTC)", (_step(r) for r in (*story.events, *story.guard)))
    if isinstance(first, LlmCallStarted | LlmCallCached):
        yield from _section("Messages", _messages(first))
    if isinstance(last, LlmCallFinished | LlmCallAborted):
        answer = [line for part in parts_of(last.content) for line in _part(part)]
        yield from _section("Answer" if isinstance(last, LlmCallFinished) else "Arrived", answer)
        yield from _section("Tokens", _tokens(last.usage))
        yield from _section("Cost", [_cost(last)])
    yield from _section("Fallbacks", (_chained(link, story.call_id) for link in story.chain))
    yield from _section("Feedback", (_judged(record.event) for record in story.feedback))


def _section(title: str, lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    shown = [f"  {each}" for line in lines for each in line.split("\n")]
    if shown:
        yield from ("", title, *shown)


def _about(call: LlmCall) -> Iterator[str]:
    prompt = f"{call.prompt_name}@{call.prompt_version or '?'}" if call.prompt_name else None
    facts = {"user": call.user_id, "conversation": call.conversation_id, "prompt": prompt}
    if isinstance(call, LlmCallStarted):
        facts |= {
            "batch": call.batch_id,
            "temperature": call.temperature,
            "max output tokens": call.max_output_tokens,
            "reasoning effort": call.reasoning_effort,
            "service tier": call.service_tier,
            "tools": ", ".join(tool.name for tool in call.tools) or None,
            **call.metadata,
        }
    known = [f"{name} {plain(value)}" for name, value in facts.items() if value is not None]
    if known:
        yield ", ".join(known)


def _step(recorded: Recorded) -> str:
    event = recorded.event
    return f"{event.occurred_at:%Y-%m-%d %H:%M:%S.%f}"[:-3] + f"  {_happened(event)}"


def _happened(event: object) -> str:
    match event:
        case LlmCallStarted():
            return "started" + (", streamed" if event.streamed else "")
        case LlmCallRetried():
            status = f" ({event.status})" if event.status else ""
            return (
                f"attempt {event.attempt} failed after {event.latency_ms:,.0f} ms: "
                f"{event.error_type}{status}: {plain(event.error_message)}; "
                f"then waited {event.wait_ms:,.0f} ms"
            )
        case LlmCallFinished():
            reasons = ", ".join(event.finish_reasons)
            raw = f" ({event.raw_finish_reason})" if event.raw_finish_reason else ""
            chunk = event.time_to_first_chunk_ms
            first = "" if chunk is None else f", the first piece after {chunk:,.0f} ms"
            refused = f"; refused: {plain(event.refusal)}" if event.refusal else ""
            return (
                f"finished after {event.latency_ms:,.0f} ms{first}, {_attempts(event.attempts)}: "
                f"{reasons}{raw} from {event.response_model}{refused}{_ids(event)}"
            )
        case LlmCallFailed() | LlmCallAborted():
            word = "failed" if isinstance(event, LlmCallFailed) else "cut"
            code = getattr(event, "error_code", None)
            status = getattr(event, "status", None)
            detail = " ".join(str(each) for each in (status, code) if each is not None)
            return (
                f"{word} after {event.latency_ms:,.0f} ms, {_attempts(event.attempts)}: "
                f"{event.error_type}{f' ({detail})' if detail else ''}: "
                f"{plain(event.error_message)}{_ids(event)}"
            )
        case LlmCallCrashed():
            return f"crashed: its process {plain(event.process)} is gone"
        case LlmCallCached():
            saved = "" if event.saved_usd is None else f", which saved {event.saved_usd:f} USD"
            return f"answered by the response cache with call {event.cached_call_id}{saved}"
        case GuardDecided():
            return f"guard, {event.side}, {event.rule}: {event.action}: {plain(event.message)}"
        case _:
            return str(event)


def _attempts(attempts: int) -> str:
    return (
        "nothing sent"
        if attempts == 0
        else "1 attempt"
        if attempts == 1
        else f"{attempts} attempts"
    )


def _ids(event: LlmCallFinished | LlmCallFailed | LlmCallAborted) -> str:
    ids = {"request": event.request_id, "response": getattr(event, "response_id", None)}
    return "".join(f"; {name} {plain(value)}" for name, value in ids.items() if value)


def _messages(call: LlmCallStarted | LlmCallCached) -> Iterator[str]:
    if isinstance(call, LlmCallStarted) and call.system:
        yield f"system: {call.system}"
    for message in call.messages:
        lines = [line for part in message.parts for line in _part(part)] or [""]
        yield "\n".join([f"{message.role}: {lines[0]}", *lines[1:]])


def _part(part: Part) -> Iterator[str]:
    match part:
        case Text():
            yield part.content
        case Reasoning():
            yield f"(thought) {part.content or 'hidden by the provider'}"
        case ToolCall():
            yield f"(tool call {part.id}) {part.name}({part.arguments})"
        case ToolResult():
            yield f"(tool {'error' if part.is_error else 'result'} {part.id}) {part.response}"
        case Image():
            yield f"(image) {part.uri[:200]}"
        case Native():
            told = json.dumps(part.body, ensure_ascii=False)
            yield f"({part.body.get('type', 'native')}) {told[:500]}{'...' if len(told) > 500 else ''}"
        case File():
            yield f"(file{f' {part.name}' if part.name else ''}) {part.uri[:200]}"


def _tokens(usage: Usage) -> Iterator[str]:
    names = {
        "input_uncached": "read",
        "cache_read": "read from the provider's cache",
        "cache_write_5m": "written to its cache for 5 minutes",
        "cache_write_1h": "written to its cache for an hour",
        "output": "written",
        "reasoning": "thought",
    }
    for name, count in usage.parts._asdict().items():
        if count or name in ("input_uncached", "output"):
            yield f"{count:>9,} {names[name]}"
    for unit, count in usage.billed.items():
        yield f"{count:>9,g} {unit}"
    if usage.estimated:
        yield "estimated: the provider gave no counts"


def _cost(event: LlmCallFinished | LlmCallAborted) -> str:
    if event.cost_usd is None:
        return "no known price"
    prices = f", at the prices of {event.price_snapshot}" if event.price_snapshot else ""
    return f"{event.cost_usd:f} USD{prices}"


def _chained(link: Link, call_id: str) -> str:
    here = "  <- this one" if link.call_id == call_id else ""
    return f"{link.call_id}  {link.model}  {link.status}{here}"


def _judged(event: object) -> str:
    assert isinstance(event, FeedbackGiven)
    who = f" by {event.user_id}" if event.user_id else ""
    return f"{event.score:+g}{who}" + (f": {event.comment}" if event.comment else "")
