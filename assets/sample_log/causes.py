"""Why calls of the sample fail: root causes, each told in several ways by who noticed it.

Two causes share the class `malformed_response`, so that a class alone does not tell a cause.
"""

from random import Random
from typing import NamedTuple

from assets.sample_log import words


class Cause(NamedTuple):
    """A root cause."""

    name: str
    error_type: str
    status: int | None
    messages: tuple[str, ...]
    """`{a}`, `{b}` are numbers, `{id}` an id of the provider, `{tool}` a name in quotes."""
    asked: tuple[str, ...] = ()
    """What people ask where this happens; empty: anything."""
    latency_ms: tuple[float, float] = (80, 400)
    attempts: int = 1


RATE = Cause(
    "rate limit", "rate_limited", 429,
    (
        "too many requests in this minute: {a} of {b} are allowed, wait {c} s",
        "the tokens of this minute are used up ({b}); ask again in {c} s",
        "slow down: {a} requests within a minute from this organisation, request {id}",
        "rate limit: the quota of {b} tokens per minute is spent",
    ),
    attempts=3, latency_ms=(2_000, 9_000),
)  # fmt: skip
LONG = Cause(
    "thread too long", "context_length_exceeded", 400,
    (
        "the conversation has {b} tokens, the model reads {a}000 at most",
        "input of {b} tokens does not fit into the context window of {a}000 tokens",
        "prompt is longer than the context window: {b} tokens",
        "cannot read {b} tokens at once, shorten the conversation (request {id})",
    ),
    asked=(
        "Here is the whole thread of {n} mails with the shop about {device}, please sum it up.",
        "I paste all {n} mails of my thread about {device}. Who promised what?",
        "Please read the attached log of {device}, {n} pages, and tell what is wrong.",
        "Below are all {n} pages of the manual of {device}. Where does it speak of frost?",
    ),
)  # fmt: skip
SLOW = Cause(
    "timeout", "timeout", None,
    (
        "no answer within {c} s, the call was given up",
        "the model was silent for {c} s",
        "gateway gave up waiting for the answer after {b} ms",
        "the deadline of {c} s passed before the answer began",
    ),
    attempts=2, latency_ms=(30_000, 62_000),
)  # fmt: skip
FILTER = Cause(
    "gardeners' poison", "content_filter", 400,
    (
        "the prompt was stopped by the filter for harm, severity {c} (request {id})",
        "content filter: the text speaks of poison",
        "blocked by the content filter, category violence, score {c}",
        "the filter for harmful content refused this prompt: killing, poison",
    ),
    asked=(
        "Which poison kills the moss around {device} without killing the lawn in {n} days?",
        "Can {device} spray weed poison over {n} beds to kill nettles?",
        "How do I kill {n} slugs at once near {device}, with poison or without?",
        "Is the poison that kills aphids harmful to the valve of {device} after {n} weeks?",
    ),
)  # fmt: skip
JSON = Cause(
    "broken JSON", "malformed_response", None,
    (
        "the answer is no JSON: expected a comma at column {c}",
        "the JSON of the answer ends within a string at character {a}",
        "the answer has {c} words before the first brace of its JSON",
        "no JSON in the answer: a quote is missing at column {a}",
    ),
    asked=(
        'Ticket {n}: "{device}" <b>LEAKS</b> "again" & nobody "answers"',
        'Ticket {n}: forwarded: "re: re: {device}" he said "it\'s {{broken}}"',
        'Ticket {n}: <div class="mail">{device} "does not start"</div>',
    ),
    latency_ms=(600, 2_500), attempts=2,
)  # fmt: skip
TOOL = Cause(
    "unknown tool", "malformed_response", None,
    (
        "the model called the tool {tool}, which it was not offered",
        "there is no tool {tool} among the {c} tools of this request",
        "tool call {id} names the tool {tool}: no such tool",
        "unknown tool {tool} was called by the model",
    ),
    asked=(
        "Where is my order of {device}? It was sent {n} days ago.",
        "My order number {n} for {device} has not come, please look.",
        "Has my order of {device} left the warehouse? I paid {n} days ago.",
        "Please change the address of my order {n} with {device}.",
    ),
    latency_ms=(900, 4_000),
)  # fmt: skip
OVERLOADED = Cause(
    "overloaded", "overloaded", 529,
    (
        "the service is overloaded, try again later (request {id})",
        "overloaded: no capacity for this model at the moment",
        "the model is overloaded with requests, {c} are waiting",
        "temporarily overloaded, capacity is back in about {c} minutes",
    ),
    attempts=3, latency_ms=(3_000, 12_000),
)  # fmt: skip
CUT = Cause(
    "connection cut", "connection", None,
    (
        "the connection was reset after {b} bytes of the stream",
        "the stream ended before its last event, {a} chunks had come",
        "connection lost while the answer was streaming",
    ),
)  # fmt: skip

RATES = {
    "answer": ((LONG, 0.008), (FILTER, 0.006), (TOOL, 0.008), (RATE, 0.003), (SLOW, 0.003)),
    "triage": ((JSON, 0.013), (RATE, 0.006), (SLOW, 0.002)),
    "search": ((SLOW, 0.008), (RATE, 0.004), (FILTER, 0.002)),
    "digest": ((LONG, 0.010), (SLOW, 0.004)),
}
"""Feature to causes, with the share of its calls that fail so on any day."""
_TOOLS = ("order_lookup", "find_order", "get_order_status", "track_parcel")


def drawn(draw: Random, feature: str) -> Cause | None:
    """Why the next call of a feature fails; None: it does not."""
    luck = draw.random()
    for cause, rate in RATES[feature]:
        luck -= rate
        if luck < 0:
            return cause
    return None


def message(draw: Random, cause: Cause) -> str:
    """The cause in the words of who noticed it this time."""
    return draw.choice(cause.messages).format(
        a=draw.randrange(128, 500),
        b=draw.randrange(150_000, 900_000),
        c=draw.randrange(2, 60),
        id=f"req_{draw.getrandbits(64):016x}",
        tool=f'"{draw.choice(_TOOLS)}"',
    )


def asked(draw: Random, cause: Cause) -> str | None:
    """What somebody asked so that it came to this; None: anything."""
    return words.filled(draw, draw.choice(cause.asked)) if cause.asked else None
