"""Running the command line in tests, and the events that its warehouse holds there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from tracemill import Message, Usage
from tracemill.events import LlmCallFailed, LlmCallFinished, LlmCallStarted, new_id

TRACEMILL = Path(sys.executable).with_name("tracemill")


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ran]


def spawned(*command: str, cwd: Path | None = None, stdin: str = "", **environment: str) -> Ran:
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        input=stdin,
        env={**os.environ, **environment},
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def started(question: str, call_id: str) -> LlmCallStarted:
    message = Message(role="user", content=question)
    return LlmCallStarted(
        call_id=call_id, provider="local", request_model="echo", messages=(message,)
    )


def finished(question: str) -> Sequence[LlmCallStarted | LlmCallFinished]:
    call_id = new_id()
    finished = LlmCallFinished(
        call_id=call_id,
        provider="local",
        request_model="echo",
        response_model="echo",
        content=f"{question}\nindeed",
        finish_reasons=("stop",),
        usage=Usage(input_tokens=10, output_tokens=2),
        latency_ms=1.5,
        cost_usd=Decimal("0.000000001"),
    )
    return [started(question, call_id), finished]


def failed(question: str) -> Sequence[LlmCallStarted | LlmCallFailed]:
    call_id = new_id()
    failed = LlmCallFailed(
        call_id=call_id,
        provider="local",
        request_model="echo",
        error_type="timeout",
        error_message="no answer in 30 s",
        latency_ms=30_000,
    )
    return [started(question, call_id), failed]
