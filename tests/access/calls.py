"""Events of calls for tests of budgets, and a process that makes such calls."""

import os
import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from tracemill.access.budgets import Subject
from tracemill.events import Happened, LlmCallFailed, LlmCallFinished, LlmCallStarted, new_id
from tracemill.messages import Usage

ROOT = Path(__file__).parents[2]


def started(call_id: str, about: Subject, **more: Any) -> LlmCallStarted:
    """A call on behalf of somebody begins."""
    return LlmCallStarted(**_same(call_id, about), **more)


def finished(
    call_id: str, about: Subject, tokens: int = 10, usd: str | None = "0.01", **more: Any
) -> LlmCallFinished:
    """It ended, and took this."""
    return LlmCallFinished(
        **_same(call_id, about),
        response_model="m",
        content="yes",
        finish_reasons=("stop",),
        usage=Usage(input_tokens=tokens, output_tokens=0),
        latency_ms=1,
        cost_usd=None if usd is None else Decimal(usd),
        **more,
    )


def failed(call_id: str, about: Subject, attempts: int = 1) -> LlmCallFailed:
    """It ended without an answer."""
    return LlmCallFailed(
        **_same(call_id, about),
        error_type="timeout",
        error_message="too slow",
        attempts=attempts,
        latency_ms=1,
    )


def made(about: Subject, count: int = 1, at: datetime | None = None, **took: Any) -> list[Happened]:
    """Calls that have ended."""
    when: dict[str, Any] = {"occurred_at": at} if at else {}
    ids = [new_id() for _ in range(count)]
    return [
        event
        for call_id in ids
        for event in (started(call_id, about, **when), finished(call_id, about, **took, **when))
    ]


def _same(call_id: str, about: Subject) -> dict[str, Any]:
    return {
        "call_id": call_id,
        "provider": "openai",
        "request_model": "m",
        "key_id": about.key_id,
        "user_id": about.user_id,
        "metadata": dict(about.tags),
    }


def process(program: str, *arguments: str) -> "subprocess.Popen[str]":
    """Python in a process of its own, which can import the tests."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
