"""One call's life in the log: it starts, is perhaps retried, and ends exactly once.

That is not a habit but a rule of the log: each event is appended only where the call's stream is at
the version that this object knows.
"""

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import SecretStr

from tracemill import prices
from tracemill.errors import CallFailed, TracemillError, UsageError
from tracemill.events import (
    Happened,
    LlmCallAborted,
    LlmCallCached,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallRetried,
    LlmCallStarted,
    new_id,
)
from tracemill.llm import guard, keys
from tracemill.llm.flow import Append, Flow, at_once
from tracemill.llm.providers import Reply
from tracemill.log import presence
from tracemill.messages import (
    Asked,
    Part,
    Reasoning,
    Response,
    Text,
    ToolCall,
    Usage,
    content_of,
)

if TYPE_CHECKING:
    from tracemill.log import EventLog
    from tracemill.prices import Cost


_CONTROLS = re.compile("[\x00-\x1f]")


class Ids(NamedTuple):
    """What a caller may say of a call; all of it is written to every event of the call."""

    call_id: str | None = None
    actor: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    trace_id: str | None = None


class Labels(NamedTuple):
    """How the log calls a model, whether or not it exists."""

    provider: str
    model: str
    operation: str = "chat"


class Call:
    """The state of one call between its events."""

    def __init__(
        self,
        log: "EventLog",
        asked: Asked,
        ids: Ids,
        labels: Labels,
    ) -> None:
        """`asked` is what the log gets of the request."""
        self.log = log
        self.attempts = 0
        self.first_chunk_ms: float | None = None
        self.partial: Callable[[], Reply] | None = None
        # Told when the first piece is here.
        self.heard: Callable[[], None] = lambda: None
        self.secret: SecretStr | None = None
        self.inputs: Sequence[str] = ()
        # What the log gets of an answer that was cut.
        self.kept: Callable[[Reply], Reply] = lambda reply: reply
        self._asked = asked
        self._version = 0
        self._cost: tuple[Usage, Cost] | None = None
        self._pid = os.getpid()
        self.last_event_id: str | None = None
        self._begun = self._attempt_begun = time.perf_counter()
        self._causation_id = ids.causation_id
        self.about: dict[str, Any] = {
            "call_id": ids.call_id or new_id(),
            "operation": labels.operation,
            "provider": _label(labels.provider),
            "request_model": _label(labels.model),
            "conversation_id": _name(asked.conversation_id),
            "user_id": _name(asked.user_id),
            "prompt_name": _name(asked.prompt_name),
            "prompt_version": _name(asked.prompt_version),
            "key_id": _name(asked.key_id),
            "metadata": asked.metadata,
            "actor": ids.actor,
            "correlation_id": ids.correlation_id,
            "trace_id": ids.trace_id,
        }
        self.id: str = self.about["call_id"]

    def start(self, **more: Any) -> None:
        """`begin`, at once."""
        at_once(self.begin(**more))

    def begin(self, **more: Any) -> Flow[None]:
        """The request is about to leave; `more` are further fields of `LlmCallStarted`."""
        asked = {name: getattr(self._asked, name) for name in Asked.model_fields}
        event = LlmCallStarted(
            **asked | self.about,
            causation_id=self._causation_id,
            process=self.log.process,
            **more,
        )
        presence.began(self.id)
        try:
            yield from self._recorded(event)
        finally:
            if not self._version:
                presence.ended(self.id)
        self._begun = self._attempt_begun = time.perf_counter()

    def answered_from_cache(self, stored: Response, latency_ms: float) -> None:
        """The response cache had the answer: start and end at once."""
        self._append(
            LlmCallCached(
                **self.about,
                messages=self._asked.messages,
                causation_id=self._causation_id,
                cached_call_id=stored.call_id,
                saved_usd=stored.cost_usd,
                latency_ms=latency_ms,
            )
        )

    def attempt(self) -> None:
        """A request leaves."""
        self.attempts += 1
        self._attempt_begun = time.perf_counter()

    def arrived(self) -> None:
        """A piece of a stream is here."""
        if self.first_chunk_ms is None:
            self.first_chunk_ms = _since(self._begun)
            self.heard()

    def retried(self, error: CallFailed, wait_s: float) -> None:
        """The attempt failed; another follows after the wait."""
        self._append(
            LlmCallRetried(
                **self.about,
                attempt=self.attempts,
                error_type=_label(error.error_type),
                error_message=self._clean(str(error)),
                status=error.status,
                wait_ms=wait_s * 1000,
                latency_ms=_since(self._attempt_begun),
            )
        )

    def finish(self, reply: Reply, logged: Reply | None = None) -> Response:
        """`end`, at once."""
        return at_once(self.end(reply, logged))

    def end(self, reply: Reply, logged: Reply | None = None) -> Flow[Response]:
        """The call was answered; `logged` is what the log gets where that differs."""
        usage = reply.usage or self._estimate(reply)
        kept = logged or reply
        event = LlmCallFinished(
            **self.about,
            **self._answered(reply, usage),
            content=content_of(kept.parts),
            refusal=kept.refusal,
            finish_reasons=(reply.finish_reason,),
            raw_finish_reason=_optional(reply.raw_finish_reason),
        )
        yield from self._recorded(event)
        return Response(
            call_id=self.id,
            content=content_of(reply.parts),
            finish_reasons=event.finish_reasons,
            raw_finish_reason=reply.raw_finish_reason,
            refusal=reply.refusal,
            logprobs=reply.logprobs,
            response_model=event.response_model,
            response_id=reply.response_id,
            request_id=reply.request_id,
            service_tier=event.service_tier,
            usage=usage,
            latency_ms=event.latency_ms,
            time_to_first_chunk_ms=event.time_to_first_chunk_ms,
            attempts=self.attempts,
            cost_usd=event.cost_usd,
        )

    def fail(self, error: BaseException) -> BaseException:
        """The call ended without an answer, or with a part of one; returns what to raise.

        That is the error itself, without secrets, or `CallFailed` in the place of a defect of ours.
        """
        if not self.here or not self._version or self.last_event_id is not None:
            return error
        failure = self._in_words(error)
        failure.args, failure.call_id = (self._clean(str(failure)),), self.id
        if failure.__suppress_context__:
            # What was not to be shown holds the text that could not be read, or the headers sent.
            failure.__context__ = None
        failure.code = self._clean(failure.code) if failure.code else None
        failure.request_id = keys.without(failure.request_id or "", self.secret) or None
        partial = self.partial() if self.partial and self.first_chunk_ms is not None else None
        why: dict[str, Any] = {
            "error_type": _label(failure.error_type),
            "error_message": str(failure),
        }
        failed = LlmCallFailed(
            **self.about,
            **why,
            error_code=_optional(failure.code),
            status=failure.status,
            request_id=_optional(failure.request_id),
            attempts=self.attempts,
            latency_ms=_since(self._begun),
        )
        if partial is None:
            self._append(failed)
        else:
            usage = partial.usage or self._estimate(partial)
            aborted = LlmCallAborted(
                **self.about,
                **why,
                **self._answered(partial, usage),
                content=content_of(self.kept(partial).parts),
            )
            try:
                self._append(aborted)
            except UsageError:
                # What had arrived is more than an event can hold.
                self._append(failed)
        return failure if isinstance(error, Exception) else error

    @property
    def here(self) -> bool:
        """Whether this is the process that makes the call. In a forked child its streams are only
        copies, whose end is not the call's."""
        return os.getpid() == self._pid

    def _in_words(self, error: BaseException) -> CallFailed:
        if isinstance(error, CallFailed):
            return error
        if isinstance(error, Exception):
            what = (
                f"{self.about['provider']} broke on this request: {type(error).__name__}: {error}"
            )
            return CallFailed("internal_error", what)
        return CallFailed("interrupted", f"the caller stopped it ({type(error).__name__})")

    def _clean(self, text: str) -> str:
        """An error message without keys, ours or others, that a provider may have repeated."""
        return clean(text, self.secret)

    def _answered(self, reply: Reply, usage: Usage) -> dict[str, Any]:
        """What finished and aborted calls have in common."""
        tier = _optional(reply.service_tier or self._asked.service_tier)
        price = self.priced(reply.response_model, usage, reply.service_tier)
        return {
            "response_model": _label(reply.response_model or self.about["request_model"]),
            "response_id": _optional(reply.response_id),
            "request_id": _optional(reply.request_id),
            "service_tier": tier,
            "usage": usage,
            "attempts": self.attempts,
            "latency_ms": _since(self._begun),
            "time_to_first_chunk_ms": self.first_chunk_ms,
            "cost_usd": price.usd,
            "price_snapshot": price.snapshot,
        }

    def priced(self, response_model: str, usage: Usage, service_tier: str | None) -> "Cost":
        """What an answer costs now, at the prices that the log's views have too."""
        known = self._cost
        if known is None or known[0] is not usage:
            cost = prices.cost(
                self.about["provider"],
                (response_model, self.about["request_model"]),
                usage,
                _now(),
                service_tier=service_tier or self._asked.service_tier,
                table=self.log.prices,
            )
            known = self._cost = usage, cost
        return known[1]

    def _estimate(self, reply: Reply) -> Usage:
        """Our count of tokens, where the provider gave none."""
        from tracemill import tokenizer

        asked = (message.text for message in self._asked.messages)
        read = sum(map(tokenizer.count, (*asked, self._asked.system or "", *self.inputs)))
        written = sum(tokenizer.count(_written(part)) for part in reply.parts)
        return Usage(input_tokens=read, output_tokens=written, estimated=True)

    def _append(self, event: Happened) -> None:
        at_once(self._recorded(event))

    def _recorded(self, event: Happened) -> Flow[None]:
        if not self.here:
            raise UsageError("this stream belongs to the process that began it: read it there")
        event = keys.without_in(event, self.secret)
        try:
            yield Append(self.log, event, self._version)
        except Exception:
            raise
        except BaseException:
            # The caller went meanwhile. Whether it was stored or not, now it is.
            with suppress(TracemillError):
                self.log.append([event], expected={event.stream: self._version})
                self._noted(event)
            raise
        self._noted(event)

    def _noted(self, event: Happened) -> None:
        self._version += 1
        if self._version == 1:
            self.about["causation_id"] = event.event_id
        if isinstance(event, LlmCallFinished | LlmCallFailed | LlmCallAborted):
            self.last_event_id = event.event_id
            presence.ended(self.id)


def _written(part: Part) -> str:
    match part:
        case Text(content=content) | Reasoning(content=content):
            return content
        case ToolCall(name=name, arguments=arguments):
            return f"{name} {arguments}"
        case _:
            return ""


def clean(text: str, secret: SecretStr | None) -> str:
    """An error message without the key that was sent, and without others and personal data."""
    return guard.redact_error(keys.without(text, secret))


def _label(text: str) -> str:
    """What does not fit into a label of the log is cut, so that the call can be recorded."""
    if not text.isprintable():
        text = "".join(letter for letter in text if letter.isprintable())
    return text[:200]


def _name(text: str | None) -> str | None:
    """Control characters are not for labels; whatever else is in a name stays."""
    return None if text is None else _CONTROLS.sub("", text)


def _optional(text: str | None) -> str | None:
    return None if text is None else _label(text)


def _now() -> datetime:
    return datetime.now(UTC)


def _since(clock: float) -> float:
    return (time.perf_counter() - clock) * 1000
