"""Answers that were given before, as the log has them: OpenAI's `resp_<call id>`, Anthropic's `msg_<call id>`.

Nothing is kept beside the log. Where it keeps placeholders for personal data, or digests of pictures,
the conversation is not what the model read: it is shown, and said to be so, but not gone on with.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from tracemill.access.keys import Key
from tracemill.events import (
    AnswerWithdrawn,
    GuardDecided,
    LlmCallAborted,
    LlmCallCached,
    LlmCallCrashed,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallStarted,
)
from tracemill.llm.redaction import is_digest
from tracemill.log import EventLog
from tracemill.messages import Asked, Message, parts_of
from tracemill.server.trouble import Trouble, missing

PREFIX = "resp_"
MESSAGE_PREFIX = "msg_"
_IN_PLACE_OF = """
    SELECT substr(stream, 6) AS call_id FROM events
    WHERE kind = 'llm.call.started' AND payload ->> '$.fallback_of' = ?
"""
_LED_TO = "SELECT stream FROM events WHERE event_id = ?"
_ENDS = LlmCallFinished | LlmCallFailed | LlmCallAborted | LlmCallCrashed


class Kept(NamedTuple):
    """A call as the log has it."""

    call: LlmCallStarted | LlmCallCached
    """Its begin."""
    end: _ENDS | None
    """None where it is still being made."""
    redacted: bool
    """Whether placeholders stand for something that was said."""

    @property
    def begun_at(self) -> datetime:
        return self.call.occurred_at

    @property
    def asked(self) -> Asked:
        """What was asked of the model; of an answer from the cache only the messages are known."""
        known = Asked.model_fields.keys() & type(self.call).model_fields.keys()
        return Asked(**{name: getattr(self.call, name) for name in known})

    @property
    def messages(self) -> tuple[Message, ...]:
        return self.call.messages


def find(log: EventLog, name: str, key: Key | None, prefix: str = PREFIX) -> Kept:
    """An answer by its id. Raises `Trouble` (404): none, not of this key, withdrawn or erased."""
    call_id = _id_of(name, prefix)
    given = call_id is not None and not log.version(f"withdrawn:{call_id}")
    kept = _read(log, call_id) if call_id and given else None
    if kept is None or not (key is None or key.admin or kept.call.key_id == key.key_id):
        raise missing(f"there is no response {name[:100]}")
    if kept.call.erased or (kept.end is not None and kept.end.erased):
        raise missing(f"{name}: its texts were erased from the log")
    return kept


def before(
    log: EventLog, name: str, key: Key | None, prefix: str = PREFIX
) -> tuple[tuple[Message, ...], str]:
    """The conversation up to an answer, with it, and the id of the event that ended it.

    Raises `Trouble`: 404 as `find`, 400 where the log has not all that was said.
    """
    kept = find(log, name, key, prefix)
    if not isinstance(kept.end, LlmCallFinished):
        raise _unfit(name, "it has no answer")
    if kept.redacted:
        raise _unfit(name, "personal data or pictures in it are not in the log")
    said = Message(role="assistant", content=kept.end.content)
    return (*kept.messages, said), kept.end.event_id


def withdraw(log: EventLog, name: str, key: Key | None) -> None:
    """Give an answer to nobody again. Raises as `find`."""
    kept = find(log, name, key)
    log.append(AnswerWithdrawn(call_id=kept.call.call_id, key_id=key.key_id if key else None))


def previous(log: EventLog, kept: Kept) -> str | None:
    """The id of the response that a call went on from."""
    if kept.call.causation_id is None:
        return None
    found = log.arrow(_LED_TO, [kept.call.causation_id]).column("stream").to_pylist()
    return PREFIX + str(found[0]).removeprefix("call:") if found else None


def _read(log: EventLog, call_id: str) -> Kept | None:
    begin: LlmCallStarted | LlmCallCached | None = None
    end: _ENDS | None = None
    for recorded in log.read(stream=f"call:{call_id}"):
        match recorded.event:
            case LlmCallStarted() | LlmCallCached() as event:
                begin = event
            case LlmCallFinished() | LlmCallFailed() | LlmCallAborted() | LlmCallCrashed() as event:
                end = event
            case _:
                pass
    if begin is None or begin.operation not in {"chat", "text_completion"}:
        return None
    if isinstance(begin, LlmCallCached):
        stored = _read(log, begin.cached_call_id)
        return Kept(begin, stored.end, stored.redacted) if stored else None
    if isinstance(end, LlmCallFailed):
        instead = log.arrow(_IN_PLACE_OF, [call_id]).column("call_id").to_pylist()
        if instead and (found := _read(log, str(instead[0]))):
            return found
    return Kept(begin, end, _is_redacted(log, call_id, begin, end))


def _is_redacted(log: EventLog, call_id: str, begin: LlmCallStarted, end: _ENDS | None) -> bool:
    decided = (recorded.event for recorded in log.read(stream=f"guard:{call_id}"))
    if any(isinstance(each, GuardDecided) and each.action == "redacted" for each in decided):
        return True
    asked = (part for message in begin.messages for part in message.parts)
    said = parts_of(end.content) if isinstance(end, LlmCallFinished) else ()
    return any(map(is_digest, (*asked, *said)))


def _id_of(name: str, prefix: str) -> str | None:
    try:
        return str(UUID(name.removeprefix(prefix))) if name.startswith(prefix) else None
    except ValueError:
        return None


def _unfit(name: str, why: str) -> Trouble:
    return Trouble(
        400,
        "invalid_request",
        f"previous_response_id: {name} cannot be gone on with, for {why}: send the conversation as "
        "`input`",
        param="previous_response_id",
        code="previous_response_unusable",
    )
