"""A log of millions of calls, written in bulk: the times and tokens are those of real requests.

One hour of production traffic is made into events by tracemill's own classes, once; then it is
repeated, each time with other ids and at a later time, and written as sealed segments.
"""
# pyarrow's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import csv
import gzip
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute

from tracemill import prices
from tracemill.events import (
    FeedbackGiven,
    Happened,
    LlmCallAborted,
    LlmCallCached,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallRetried,
    LlmCallStarted,
    SourceHarvested,
    new_id,
)
from tracemill.log import EventLog, rows, segments, tables
from tracemill.messages import Message, Usage

TRACES = Path(__file__).parents[2] / "shared" / "data" / "azure-llm"
DAYS = 60
FIRST = datetime(2026, 9, 1, tzinfo=UTC)
MODELS = (
    *(("openai", m) for m in ("gpt-5.4-mini", "gpt-5.4", "gpt-6-sol", "gpt-4.1")),
    *(("anthropic", m) for m in ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5")),
    *(("gcp.gemini", m) for m in ("gemini-3.8-flash", "gemini-2.5-pro")),
    *(("mistral_ai", m) for m in ("mistral-large-latest", "codestral-latest")),
    ("deepseek", "deepseek-chat"),
    ("vllm", "ours-7b"),
)
ERRORS = (
    ("rate_limited", 429, "slow down: limit {} tokens a minute, used {}"),
    ("timeout", None, "no answer in {} s"),
    ("server_error", 500, "the server failed; request req_{}a{}f is in its journal"),
    ("context_length_exceeded", 400, "{} tokens are more than the {} that fit"),
    ("overloaded", 529, "overloaded, try again in {} s"),
)
PROMPTS = [(name, f"{name[0]}{i:07x}") for name in ("answer", "extract", "route") for i in range(4)]
WORDS = [
    "order",
    "late",
    "refund",
    "parcel",
    "address",
    "change",
    "please",
    "invoice",
    "wrong",
    "total",
    "twice",
    "charged",
    "account",
    "close",
    "password",
    "reset",
    "mail",
    "never",
    "came",
    "weekend",
    "delivery",
    "window",
    "missing",
    "part",
    "broken",
    "screen",
    "warranty",
]
_MARK = "t0000t"
pc: Any = pyarrow.compute  # its stubs know no text that is the same for all rows
_HEX = np.array([list(f"{i:02x}".encode()) for i in range(256)], np.uint8)


class Tile(NamedTuple):
    """An hour of traffic as rows, ready to be repeated."""

    table: pa.Table
    call: np.ndarray
    """Which call each row belongs to."""
    after_us: np.ndarray
    """When each row happened, after the beginning of the hour."""
    started_us: np.ndarray
    """When each call began."""
    prefix: pa.Array
    """What stands before the id of the call in the name of the stream."""
    before: pa.Array
    """The payload up to the id of the call,"""
    behind: pa.Array
    """and from there on."""


def requests() -> list[tuple[float, int, int, str]]:
    """Seconds from the beginning, tokens read and written, code or conv; in order of time."""
    found: list[tuple[float, int, int, str]] = []
    for name in ("code", "conv"):
        with gzip.open(TRACES / f"{name}.csv.gz", "rt") as file:
            told = [(row["TIMESTAMP"][:26], row) for row in csv.DictReader(file)]
        first = datetime.fromisoformat(told[0][0])
        for at, row in told:
            after = (datetime.fromisoformat(at) - first).total_seconds()
            found.append((after, int(row["ContextTokens"]), int(row["GeneratedTokens"]), name))
    return sorted(found)


def tile(stretch: float, seed: int = 0) -> Tile:
    """The hour as events; `stretch` times as long."""
    draw = random.Random(seed)
    users = list(accumulate(1 / rank for rank in range(1, 3_001)))
    happened: list[tuple[float, int, Happened]] = []
    asked = requests()
    for number, request in enumerate(asked):
        user = draw.choices(range(3_000), cum_weights=users)[0]
        for after_s, event in _call(draw, request, user):
            happened.append((request[0] * stretch + after_s, number, event))
    happened.sort(key=lambda each: each[0])
    drafts = [rows.draft(event) for *_, event in happened]
    raws = [
        (i + 1, d.event_id, d.kind, d.schema_version, d.stream, 1, 0, d.occurred_us, *d.rest, b"\0" * 16)
        for i, d in enumerate(drafts)
    ]  # fmt: skip
    table = rows.to_arrow(raws)
    after_us = np.array([int(each[0] * 1e6) for each in happened], np.int64)
    return Tile(
        table,
        np.array([each[1] for each in happened], np.int64),
        after_us,
        np.array([int(request[0] * stretch * 1e6) for request in asked], np.int64),
        pa.array([d.stream[:-36] for d in drafts]),
        *map(pa.array, zip(*(d.rest[-1].split(d.stream[-36:]) for d in drafts), strict=True)),
    )


def _call(
    draw: random.Random, request: tuple[float, int, int, str], user: int
) -> Iterator[tuple[float, Happened]]:
    """The events of one call, each with the seconds after its start."""
    _, read, written, source = request
    provider, model = MODELS[int(draw.random() ** 2 * len(MODELS))]
    prompt = draw.choice(PROMPTS) if draw.random() < 0.7 else (None, None)
    same: dict[str, Any] = {
        "call_id": new_id(),
        "occurred_at": FIRST,
        "provider": provider,
        "request_model": model,
        "conversation_id": f"{_MARK}-{user}-{int(draw.random() * 4)}",
        "user_id": f"u{user}",
        "prompt_name": prompt[0],
        "prompt_version": prompt[1],
        "key_id": f"key-{int(draw.random() ** 2 * 6)}",
        "metadata": {"team": source, "feature": f"f{int(draw.random() ** 2 * 12)}"},
    }
    messages = (Message(role="user", content=_text(draw, 40, 400)),)
    streamed = draw.random() < 0.6
    fate = draw.random()
    if fate < 0.03:
        yield 0, LlmCallCached(messages=messages, cached_call_id=new_id(), latency_ms=draw.random(), saved_usd=Decimal(int(draw.random() * 1e7)).scaleb(-9), **same)  # fmt: skip
        return
    yield 0, LlmCallStarted(messages=messages, streamed=streamed, **same)
    first_ms = 80 + read * 0.05 + draw.expovariate(1 / 60)
    took_ms = first_ms + written * draw.uniform(12, 40)
    error, status, told = ERRORS[int(draw.random() ** 2 * len(ERRORS))]
    message = told.format(int(draw.random() * 9_000), int(draw.random() * 90_000))
    attempts, waited_s = 1, 0.0
    while draw.random() < (0.02 if attempts == 1 else 0.4) and attempts < 4:
        wait_s = 2**attempts * draw.random()
        waited_s += wait_s + 0.2
        yield waited_s, LlmCallRetried(attempt=attempts, error_type=error, error_message=message, status=status, wait_ms=wait_s * 1e3, latency_ms=200, **same)  # fmt: skip
        attempts += 1
    if fate < 0.055:
        yield waited_s + 0.3, LlmCallFailed(error_type=error, error_message=message, status=status, attempts=attempts, latency_ms=waited_s * 1e3 + 300, **same)  # fmt: skip
        return
    cached = int(read * draw.random()) if draw.random() < 0.3 and read > 1_024 else 0
    usage = Usage(
        input_tokens=read,
        output_tokens=written,
        cache_read_input_tokens=cached,
        cache_write_input_tokens=(read - cached) // 2 if cached and draw.random() < 0.3 else 0,
        reasoning_output_tokens=written // 3 if draw.random() < 0.2 else 0,
        estimated=fate > 0.99,
    )
    took_ms += waited_s * 1e3
    ended: dict[str, Any] = {
        "response_model": model,
        "content": _text(draw, 20, 600),
        "usage": usage,
        "attempts": attempts,
        "latency_ms": took_ms,
        "time_to_first_chunk_ms": first_ms + waited_s * 1e3 if streamed else None,
        "cost_usd": prices.cost(provider, model, usage, FIRST).usd,
        **same,
    }
    if ended["cost_usd"] is not None:
        ended["cost_usd"] = round(ended["cost_usd"], 9)
    if fate > 0.995:
        yield took_ms / 1e3, LlmCallAborted(error_type="interrupted", error_message="the reader stopped", **ended)  # fmt: skip
        return
    reason = "content_filter" if fate > 0.994 else "length" if fate > 0.97 else "stop"
    yield took_ms / 1e3, LlmCallFinished(finish_reasons=(reason,), **ended)
    if draw.random() < 0.01:
        yield took_ms / 1e3 + 20, FeedbackGiven(call_id=same["call_id"], occurred_at=FIRST, score=draw.choice((-1, 1)), user_id=same["user_id"])  # fmt: skip


def _text(draw: random.Random, least: int, most: int) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(least, most) // 6))


def write(folder: Path, calls: int) -> EventLog:
    """A log of this many calls or a little more, all sealed; the chain of digests is not made."""
    count = -(-calls // len(requests()))
    step = timedelta(days=DAYS) / count
    hour = tile(step.total_seconds() / 3_600)
    log = EventLog(folder, fold_after_events=10**9)
    draw = np.random.default_rng(0)
    begins = [FIRST + step * number for number in range(count)]
    position = log.append(SourceHarvested(name="traces", items=0, quarantined=0, digest=""))[0]
    log.fold()
    per_file = max(1, segments.FULL_ROWS // len(hour.call))
    for start in range(0, count, per_file):
        numbers = range(start, min(start + per_file, count))
        hi = position + len(hour.call) * len(numbers)
        parts = (
            part
            for i, number in enumerate(numbers)
            for part in _repeated(hour, number, begins[number], position + i * len(hour.call), draw)
        )
        segment = segments.write(folder, position + 1, hi, parts, None)
        with log._journal.writing() as work:  # pyright: ignore[reportPrivateUsage]
            tables.add_segment(work, segment)
        position = hi
    log.fold()  # which makes the sums of what is sealed
    return log


def _repeated(
    hour: Tile, number: int, begin: datetime, position: int, draw: np.random.Generator
) -> Iterator[pa.Table]:
    """The hour once more, in pieces as compaction makes them."""
    begin_us = rows.microseconds(begin)
    calls = _ids(hour.started_us + begin_us, draw)
    streams = calls.take(pa.array(hour.call, pa.int64()))
    at = pa.array(hour.after_us + begin_us).cast(pa.timestamp("us"))
    mark = f"t{number:04d}t"
    new = {
        "position": pa.array(np.arange(position + 1, position + len(hour.call) + 1)),
        "event_id": _ids(hour.after_us + begin_us, draw),
        "stream": pc.binary_join_element_wise(hour.prefix, streams, ""),
        "call_id": streams,
        "recorded_at": at,
        "occurred_at": at,
        "conversation_id": pc.replace_substring(hour.table["conversation_id"], _MARK, mark),
        "payload": pc.binary_join_element_wise(
            *(pc.replace_substring(hour.before, _MARK, mark), streams),
            *(pc.replace_substring(hour.behind, _MARK, mark), ""),
        ),
    }
    arrays = [new.get(name, hour.table[name]) for name in rows.COLUMNS]
    table = pa.table(arrays, schema=rows.arrow_schema())
    for start in range(0, len(table), segments.BATCH_ROWS):
        yield table.slice(start, segments.BATCH_ROWS)


def _ids(at_us: np.ndarray, draw: np.random.Generator) -> pa.Array:
    """A UUIDv7 for each time, as text."""
    raw = draw.integers(0, 256, (len(at_us), 16), np.uint8)
    ms = (at_us // 1000).astype(">u8").view(np.uint8).reshape(-1, 8)
    raw[:, :6] = ms[:, 2:]
    raw[:, 6] = raw[:, 6] & 0x0F | 0x70
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    digits = _HEX[raw].reshape(-1, 32)
    text = np.full((len(at_us), 36), ord("-"), np.uint8)
    for first, last, shift in ((0, 8, 0), (8, 12, 1), (12, 16, 2), (16, 20, 3), (20, 32, 4)):
        text[:, first + shift : last + shift] = digits[:, first:last]
    ends = pa.py_buffer(np.arange(len(at_us) + 1, dtype=np.int32) * 36)
    return pa.StringArray.from_buffers(len(at_us), ends, pa.py_buffer(text.tobytes()))
