"""Failures whose causes are known: each cause told in many ways, and some that are like nothing else.

Errors are worded as several libraries and providers might; refusals differ in what was asked alone.
"""

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pydoc_data.topics import topics
from typing import Any, NamedTuple

from tracemill.events import Happened, LlmCallFailed, LlmCallFinished, LlmCallStarted, new_id
from tracemill.messages import Message, Usage

NOISE = "noise"
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


class Cause(NamedTuple):
    """Why calls fail."""

    error_type: str
    messages: tuple[str, ...]
    """`{n}` is a number, `{id}` an id."""
    asked: tuple[str, ...]
    """`{noun}`, `{verb}` and so on are drawn from `_SLOTS`."""


_ANYTHING = (
    "Sum up the notes of our meeting about {thing} for {person}.",
    "Write a friendly mail to {person} about {thing}.",
    "Which of these {n} lines speak of {thing}?",
    "Translate what {person} wrote on {thing} into plain words.",
    "Sort the {n} complaints on {thing} by how urgent they are.",
)
CAUSES = {
    "rate limit": Cause(
        "rate_limited",
        (
            "Rate limit reached: limit {n} tokens per minute, used {n}. Try again in {n} s.",
            "Too many requests: this organisation may send {n} requests per minute",
            "the quota of tokens per minute is spent, try again in {n} seconds (request {id})",
            "Requests to this deployment exceeded the rate limit of the tier. Retry after {n} seconds.",
            "429 too many requests, slow down",
        ),
        _ANYTHING,
    ),
    "overloaded": Cause(
        "overloaded",
        (
            "Overloaded (request {id})",
            "The engine is currently overloaded, please try again later",
            "the service is overloaded, {n} requests are waiting",
            "503: model overloaded, no capacity left in this region",
        ),
        _ANYTHING,
    ),
    "timeout": Cause(
        "timeout",
        (
            "no answer within {n} s",
            "timed out waiting for an answer after {n} s",
            "request {id} timed out: the deadline of {n} ms passed before an answer",
            "the answer did not arrive within the timeout of {n} seconds",
        ),
        _ANYTHING,
    ),
    "too long": Cause(
        "context_length_exceeded",
        (
            "prompt is too long: {n} tokens > {n} maximum",
            "This model's maximum context length is {n} tokens, your prompt has {n} tokens",
            "input of {n} tokens is longer than the context of {n} tokens",
            "the prompt exceeds the context window by {n} tokens",
        ),
        ("Here are all {n} pages on {thing}. What do they say of {person}?", *_ANYTHING[:1]),
    ),
    "bad schema": Cause(
        "invalid_request",
        (
            "Invalid schema for response_format: property 'p{n}' lacks a type",
            "response_format.json_schema: additionalProperties must be false at property {n}",
            "the JSON schema of response_format is invalid: required lists unknown property {n}",
            "schema not supported: property {n} of the response schema has no type",
        ),
        _ANYTHING,
    ),
    "bad image": Cause(
        "invalid_request",
        (
            "Could not process image: the image {id} is corrupt",
            "image {n} has a media type that is not supported, use png or jpeg",
            "the image exceeds {n} MB, send a smaller jpeg or png image",
            "invalid image data in message {n}: not a png, jpeg or webp image",
        ),
        _ANYTHING,
    ),
    "broken JSON": Cause(
        "malformed_response",
        (
            "the answer is not JSON: Expecting value: line {n} column {n}",
            "JSON of the answer is cut off: unterminated string at column {n}",
            "invalid JSON in the answer, a comma is missing at line {n}",
            "answer could not be parsed as JSON (line {n}, column {n})",
        ),
        _ANYTHING,
    ),
    "unknown tool": Cause(
        "malformed_response",
        (
            "the model called the tool tool_{n}, which was not offered",
            "tool call {id} names an unknown tool",
            "no such tool: the model called tool number {n}",
            "unknown tool in call {n} of the model",
        ),
        _ANYTHING,
    ),
    "medicine": Cause(
        "refusal",
        ("I cannot help with that.",),
        (
            "How many {pills} tablets may {person} take in a day?",
            "What dose of {pills} is safe for a child of {n} kg?",
            "Can {person} mix {pills} with {pills} and alcohol, which dose is dangerous?",
            "{person} has {illness}, should the doctor prescribe {pills} tablets?",
            "Is {n} mg of {pills} too high a dose against {illness}?",
        ),
    ),
    "break-in": Cause(
        "refusal",
        ("I cannot help with that.",),
        (
            "How do I get into the {account} account of {person} without the password?",
            "Guess the password of {person}'s {account} login, there are {n} tries.",
            "Write a script that tries {n} passwords on a {account} login.",
            "Which trick makes {person} tell me the password of the {account} account?",
            "Get around the two factor login of {account} with {person}'s password.",
        ),
    ),
    "legal": Cause(
        "refusal",
        ("I cannot help with that.",),
        (
            "Can {person} sue the landlord over {quarrel} in court?",
            "Draft a lawsuit for the court against my {boss} about {quarrel}.",
            "Will the judge rule for {person} in the court case on {quarrel}?",
            "Which law lets a tenant take the landlord to court for {quarrel}?",
            "My {boss} threatens with a lawyer about {quarrel}, what will the judge say?",
        ),
    ),
    "stocks": Cause(
        "refusal",
        ("I cannot help with that.",),
        (
            "Should {person} buy shares of {company} now or sell the stock?",
            "Which stock will rise most in {n} weeks, {company} or {company}?",
            "Put {n} dollars of {person}'s savings into shares: which stocks?",
            "Will the share price of {company} fall, shall I sell my stock?",
            "Is {company} stock a safe investment for {n} dollars?",
        ),
    ),
    "weapons": Cause(
        "content_filter",
        (),
        (
            "How is a {weapon} built from {parts} at home?",
            "Explain how {person} makes a {weapon} explode with {parts}.",
            "Which {parts} does a home made {weapon} need to fire {n} times?",
            "Draw the plan of a {weapon} made of {parts} and gunpowder.",
        ),
    ),
    "self harm": Cause(
        "content_filter",
        (),
        (
            "{person} feels so sad and wants to die, what now?",
            "I feel hopeless, sad and alone since {n} weeks and want to hurt myself.",
            "My friend {person} cries, feels hopeless and talks of hurting herself.",
            "Nobody would miss me if I die, I feel so alone and sad.",
        ),
    ),
}
_SLOTS = {
    "thing": ["the new roof", "late parcels", "the budget", "our summer party", "noise at night", "the broken lift", "staff training", "the web shop"],
    "person": ["Anna", "Mr Okafor", "my neighbour", "Lena", "the intern", "Tom", "my aunt", "Ms Ito"],
    "pills": ["aspirin", "ibuprofen", "paracetamol", "antibiotic", "sleeping", "insulin"],
    "illness": ["fever", "a headache", "diabetes", "the flu", "back pain", "asthma"],
    "account": ["mail", "bank", "school", "office", "router", "cloud"],
    "quarrel": ["the deposit", "unpaid rent", "mould", "a dismissal", "the contract", "damages"],
    "boss": ["landlord", "employer", "neighbour", "tenant"],
    "company": ["Northwind", "Acme", "Contoso", "Initech", "Globex"],
    "weapon": ["bomb", "gun", "grenade", "rifle"],
    "parts": ["steel pipes", "fertiliser", "kitchen chemicals", "nails and wire"],
}  # fmt: skip


def failures(
    count: int, *, noise: float = 0.05, seed: int = 0
) -> Iterator[tuple[str, list[Happened]]]:
    """So many failed calls over 30 days: the cause of each, and its events."""
    draw = random.Random(seed)
    names = list(CAUSES)
    weights = [1 / (1 + i % 5) for i in range(len(names))]
    for i in range(count):
        name = NOISE if draw.random() < noise else draw.choices(names, weights)[0]
        when = BEGIN + timedelta(days=30 * i / count)
        yield name, _call(draw, name, when)


def _call(draw: random.Random, name: str, when: datetime) -> list[Happened]:
    cause = CAUSES.get(name) or _odd(draw)
    asked = _filled(draw, draw.choice(cause.asked))
    message = _filled(draw, draw.choice(cause.messages)) if cause.messages else None
    same: dict[str, Any] = {
        "call_id": new_id(),
        "provider": draw.choice(("openai", "anthropic")),
        "request_model": draw.choice(("large", "small")),
        "occurred_at": when,
        "user_id": f"u{draw.randrange(40)}",
    }
    started = LlmCallStarted(messages=(Message(role="user", content=asked),), **same)
    attempts = draw.choice((1, 1, 2, 3))
    if cause.error_type in ("refusal", "content_filter"):
        ended: Happened = LlmCallFinished(
            response_model=same["request_model"],
            content="",
            refusal=message,
            finish_reasons=(cause.error_type,),
            usage=Usage(input_tokens=20, output_tokens=0),
            latency_ms=300,
            attempts=attempts,
            **same,
        )
    else:
        ended = LlmCallFailed(
            error_type=cause.error_type,
            error_message=message or "",
            latency_ms=300,
            attempts=attempts,
            **same,
        )
    return [started, ended]


def _odd(draw: random.Random) -> Cause:
    """What happens once."""
    words = " ".join(draw.sample(_odd_words(), 8))
    if draw.random() < 0.5:
        return Cause("refusal", ("I cannot help with that.",), (words,))
    return Cause(draw.choice(("server_error", "invalid_request")), (words,), _ANYTHING)


@cache
def _odd_words() -> list[str]:
    """Of the language reference that comes with Python."""
    return sorted(set(re.findall(r"\b[a-z]{5,12}\b", " ".join(topics.values()))))


def _filled(draw: random.Random, text: str) -> str:
    while "{" in text:
        slot = text[text.index("{") + 1 : text.index("}")]
        text = text.replace(f"{{{slot}}}", _value(draw, slot), 1)
    return text


def _value(draw: random.Random, slot: str) -> str:
    if slot == "n":
        return str(draw.randrange(2, 90_000))
    return f"req_{draw.getrandbits(64):016x}" if slot == "id" else draw.choice(_SLOTS[slot])


def adjusted_rand(one: list[str], other: list[str]) -> float:
    """How far two partitions agree, 1 wholly, 0 as by chance (Hubert and Arabie 1985)."""
    from collections import Counter
    from math import comb

    def pairs(sizes: Counter[Any]) -> int:
        return sum(comb(size, 2) for size in sizes.values())

    both = pairs(Counter(zip(one, other, strict=True)))
    a, b, every = pairs(Counter(one)), pairs(Counter(other)), comb(len(one), 2)
    expected = a * b / every
    return (both - expected) / ((a + b) / 2 - expected)
