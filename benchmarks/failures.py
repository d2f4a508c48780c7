"""Measure the search for similar failures: `python -m benchmarks.failures [--quick]`.

A log of half a million calls, a fifth of them failed, is asked for the failures nearest to some of
them, and every answer is compared with the one that looks at each failure in turn.
"""

import argparse
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.report import Table, console, number, quantile
from benchmarks.workload import write_text
from tracemill.events import Happened, LlmCallFailed, LlmCallFinished, LlmCallStarted, new_id
from tracemill.log import EventLog
from tracemill.messages import Message, Usage

TEMPLATES = 30
"""Instructions that many prompts begin with; every second prompt has none."""
FAMILY = 5
"""Prompts that differ in a few words."""
ERRORS = (
    ("rate_limited", "Rate limit reached for {model}: limit {n}, used {n}. Try again in {n}.{n}s."),
    ("overloaded", "Overloaded (request req_{id})"),
    ("timeout", "no answer within {n} s"),
    ("context_length_exceeded", "prompt is too long: {n} tokens > {n} maximum"),
    ("invalid_request", "messages.{n}.content.{n}: text content blocks must be non-empty"),
    ("server_error", "The server had an error processing your request (request id {id})"),
    ("malformed_response", "the answer is not JSON: Expecting value: line {n} column {n}"),
)
_BATCH = 2_000


class Failures:
    """Calls of which every fifth fails, with prompts in families and templates; the same each time."""

    def __init__(self, text: Path, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._words = text.read_text(encoding="ascii")[:4_000_000].split(" ")
        self._templates = [self._cut(60) for _ in range(TEMPLATES)]
        self._family: list[str] = []
        self._left = 0

    def batches(self, calls: int) -> Iterator[list[Happened]]:
        """The events of so many calls, in batches."""
        batch: list[Happened] = []
        for i in range(calls):
            batch += self.call(fails=i % 5 == 0)
            if len(batch) >= _BATCH or i == calls - 1:
                yield batch
                batch = []

    def call(self, *, fails: bool) -> list[Happened]:
        """A call: its start and its end."""
        draw = self._random
        same: dict[str, Any] = {
            "call_id": new_id(),
            "provider": draw.choice(("openai", "anthropic")),
            "request_model": draw.choice(("large", "small", "tiny")),
            "conversation_id": f"c{draw.randrange(100_000)}",
        }
        prompt = " ".join(self._prompt() if fails else self._cut(80))
        started = LlmCallStarted(messages=(Message(role="user", content=prompt),), **same)
        if not fails:
            usage = Usage(input_tokens=len(prompt) // 4, output_tokens=20)
            answer = " ".join(self._cut(20))
            return [
                started,
                LlmCallFinished(
                    response_model=same["request_model"],
                    content=answer,
                    finish_reasons=("stop",),
                    usage=usage,
                    latency_ms=900,
                    **same,
                ),
            ]
        error_type, message = draw.choice(ERRORS)
        message = re.sub(r"\{n\}", lambda _: str(draw.randrange(1, 90_000)), message)
        message = message.replace("{id}", new_id()).replace("{model}", same["request_model"])
        return [
            started,
            LlmCallFailed(error_type=error_type, error_message=message, latency_ms=90, **same),
        ]

    def _prompt(self) -> list[str]:
        """A member of a family: some of its words are others."""
        draw = self._random
        if not self._left:
            template = draw.choice(self._templates) if draw.random() < 0.5 else []
            self._family, self._left = [*template, *self._cut(draw.randrange(20, 200))], FAMILY
        self._left -= 1
        rate = draw.random() * 0.2
        return [draw.choice(self._words) if draw.random() < rate else w for w in self._family]

    def _cut(self, words: int) -> list[str]:
        start = self._random.randrange(len(self._words) - words)
        return self._words[start : start + words]


def fill(log: EventLog, text: Path, calls: int) -> None:
    """Append them and seal them."""
    for batch in Failures(text).batches(calls):
        log.append(batch)
    log.fold()
