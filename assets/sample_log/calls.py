"""One call of the sample as its events: begun, tried again, ended, judged.

Ids are UUIDv7 of the moment and of the same generator as all else, so that the bytes are the same.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from assets.sample_log import causes, words
from assets.sample_log.causes import Cause
from assets.sample_log.plan import HARD, Feature
from tracemill import prices
from tracemill.events import (
    FeedbackGiven,
    Happened,
    LlmCallAborted,
    LlmCallCached,
    LlmCallCrashed,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallRetried,
    LlmCallStarted,
)
from tracemill.llm.prompt_files import Prompt
from tracemill.messages import Message, Usage

ACTOR = "made up: assets.sample_log"
_RETRIED = 0.025
"""The share of answered calls that took two attempts."""
_KILLED = "sample:1"
_SHORTER = 0.8
"""Than those of the first version of the prompt are the answers of the second."""
_LETTERS = 4
"""To a token, about."""


@dataclass(frozen=True)
class Call:
    """What is asked, of whom, for whom."""

    call_id: str
    begun: datetime
    feature: Feature
    provider: str
    model: str
    prompt: Prompt
    text: str
    """The last message, as the prompt renders it."""
    tags: dict[str, str]
    before: tuple[Message, ...] = ()
    """The turns of the conversation before."""
    user_id: str | None = None
    conversation_id: str | None = None
    key: str = ""
    """Another key than the feature's."""
    batch_id: str | None = None
    fallback_of: str | None = None
    process: str | None = None
    """The process that makes it, where that matters."""
    more_tokens: int = 0
    """Read beside what is usual."""
    draw: Random = field(default_factory=Random, repr=False)

    @property
    def common(self) -> dict[str, Any]:
        return {
            "call_id": self.call_id,
            "actor": ACTOR,
            "provider": self.provider,
            "request_model": self.model,
            "conversation_id": self.conversation_id,
            "user_id": self.user_id,
            "prompt_name": self.prompt.name,
            "prompt_version": self.prompt.version,
            "key_id": self.key or self.feature.key,
            "metadata": self.tags,
        }

    @property
    def messages(self) -> tuple[Message, ...]:
        return (*self.before, Message(role="user", content=self.text))


def id_of(draw: Random, when: datetime) -> str:
    """A UUIDv7 of this moment (RFC 9562, section 5.7)."""
    ms = round(when.timestamp() * 1000)
    bits = ms << 80 | 7 << 76 | draw.getrandbits(12) << 64 | 2 << 62 | draw.getrandbits(62)
    digits = f"{bits:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def rendered(prompt: Prompt, **values: str) -> str:
    """The template with these values."""
    text = prompt.template
    for name, value in values.items():
        text = text.replace(f"{{{{ {name} }}}}", value)
    return text


def started(call: Call) -> LlmCallStarted:
    """The request is about to leave."""
    return LlmCallStarted(
        **call.common,
        **_at(call, 0),
        messages=call.messages,
        system=call.prompt.system,
        streamed=call.feature.name == "answer",
        batch_id=call.batch_id,
        fallback_of=call.fallback_of,
        process=call.process,
    )


def answered(call: Call, content: str, *, waited_ms: float = 0.0) -> Iterator[Happened]:
    """The call with an answer; now and then the first attempt fails."""
    yield started(call)
    attempts, lost = 1, waited_ms
    if not call.batch_id and call.draw.random() < _RETRIED:
        cause = call.draw.choice((causes.RATE, causes.SLOW, causes.OVERLOADED))
        again, lost = _retried(call, cause, 1, 0.0)
        attempts += 1
        yield again
    usage = usage_of(call)
    writing = usage.output_tokens * call.feature.ms_per_token * call.draw.uniform(0.8, 1.3)
    first = lost + call.draw.lognormvariate(6.0, 0.3)
    yield LlmCallFinished(
        **call.common,
        **_at(call, first + writing),
        response_model=call.model,
        service_tier="batch" if call.batch_id else None,
        content=content,
        finish_reasons=("stop",),
        usage=usage,
        attempts=attempts,
        latency_ms=round(first + writing, 1),
        time_to_first_chunk_ms=round(first, 1) if call.feature.name == "answer" else None,
        **cost_of(call, usage, first + writing),
    )


def failed(call: Call, cause: Cause) -> Iterator[Happened]:
    """The call without an answer, after as many attempts as the cause allows."""
    yield started(call)
    spent = 0.0
    for attempt in range(1, cause.attempts):
        again, spent = _retried(call, cause, attempt, spent)
        yield again
    spent += call.draw.uniform(*cause.latency_ms)
    yield LlmCallFailed(
        **call.common,
        **_at(call, spent),
        error_type=cause.error_type,
        error_message=causes.message(call.draw, cause),
        status=cause.status,
        attempts=cause.attempts,
        latency_ms=round(spent, 1),
    )


def filtered(call: Call) -> Iterator[Happened]:
    """The call was answered, but a filter took the answer away."""
    yield started(call)
    usage = usage_of(call).model_copy(update={"output_tokens": 0})
    yield LlmCallFinished(
        **call.common,
        **_at(call, 900),
        response_model=call.model,
        content="",
        finish_reasons=("content_filter",),
        usage=usage,
        latency_ms=900.0,
        **cost_of(call, usage, 900),
    )


def aborted(call: Call, content: str, cause: Cause | None) -> Iterator[Happened]:
    """The stream was cut: by the network, or (no cause) by who was reading it."""
    yield started(call)
    usage = usage_of(call)
    share = call.draw.uniform(0.1, 0.8)
    written = int(usage.output_tokens * share)
    usage = usage.model_copy(update={"output_tokens": written, "estimated": True})
    first = call.draw.lognormvariate(6.0, 0.3)
    spent = first + written * call.feature.ms_per_token
    yield LlmCallAborted(
        **call.common,
        **_at(call, spent),
        response_model=call.model,
        content=content[: int(len(content) * share)],
        usage=usage,
        error_type=cause.error_type if cause else "interrupted",
        error_message=causes.message(call.draw, cause) if cause else "the reader stopped it",
        latency_ms=round(spent, 1),
        time_to_first_chunk_ms=round(first, 1),
        **cost_of(call, usage, spent),
    )


def crashed(call: Call) -> Iterator[Happened]:
    """The process that made the call was killed."""
    yield started(replace(call, process=_KILLED))
    yield LlmCallCrashed(**call.common, **_at(call, 240_000), process=_KILLED)


def cached(call: Call, of: str) -> LlmCallCached:
    """The response cache had the answer."""
    saved = cost_of(call, usage_of(call), 0).get("cost_usd")
    return LlmCallCached(
        **call.common,
        **_at(call, 2),
        messages=call.messages,
        cached_call_id=of,
        saved_usd=saved,
        latency_ms=round(call.draw.uniform(0.4, 2.0), 2),
    )


def judged(call: Call, good: bool, by: str | None, after_s: float) -> FeedbackGiven:
    """Somebody says what the answer was worth."""
    score = 1 if good else -1
    spoke = call.draw.random() < 0.3
    return FeedbackGiven(
        **_at(call, 1000 * after_s),
        actor=ACTOR,
        call_id=call.call_id,
        score=score,
        comment=call.draw.choice(words.COMMENTS[score]) if spoke else None,
        user_id=by,
    )


def usage_of(call: Call) -> Usage:
    """Tokens: the fixed part, the conversation, and an answer of a length of its own."""
    said = sum(len(message.text) for message in call.messages) // _LETTERS
    fixed = call.feature.fixed_tokens + call.more_tokens
    written = call.feature.output_tokens * math.exp(call.draw.gauss(0, 0.3))
    written *= _SHORTER if call.prompt is words.ANSWER_2 else 1
    thought = int(1.2 * written) if call.model == HARD[1] else 0
    hit = call.feature.cached and not call.more_tokens and call.draw.random() < 0.85
    return Usage(
        input_tokens=fixed + said,
        output_tokens=round(written) + thought,
        reasoning_output_tokens=thought,
        cache_read_input_tokens=int(fixed * call.feature.cached) if hit else 0,
    )


def cost_of(call: Call, usage: Usage, after_ms: float) -> dict[str, Any]:
    """What it costs at the price of its end; nothing where no price is known."""
    when = call.begun + timedelta(milliseconds=after_ms)
    tier = "batch" if call.batch_id else None
    cost = prices.cost(call.provider, call.model, usage, when, service_tier=tier)
    return {} if cost.usd is None else {"cost_usd": cost.usd, "price_snapshot": cost.snapshot}


def _retried(call: Call, cause: Cause, attempt: int, spent: float) -> tuple[LlmCallRetried, float]:
    """An attempt that failed, and the milliseconds that went by until the next."""
    took, wait = call.draw.uniform(*cause.latency_ms) / 2, 500.0 * 2**attempt
    event = LlmCallRetried(
        **call.common,
        **_at(call, spent + took),
        attempt=attempt,
        error_type=cause.error_type,
        error_message=causes.message(call.draw, cause),
        status=cause.status,
        wait_ms=wait,
        latency_ms=round(took, 1),
    )
    return event, spent + took + wait


def _at(call: Call, after_ms: float) -> dict[str, Any]:
    when = call.begun + timedelta(milliseconds=round(after_ms))
    return {"occurred_at": when, "event_id": id_of(call.draw, when)}
