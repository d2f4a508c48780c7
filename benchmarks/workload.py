"""What every side of a comparison writes: model calls with 1.9 KB of text that no compressor knows.

Words are drawn one by one, as often as the installed documentation uses them, so the text is harder
to compress than real prose: sizes on disk are not flattered.
"""

import json
import mmap
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from pydoc_data import topics

from tracemill.events import Happened, LlmCallFinished, LlmCallStarted, new_id
from tracemill.messages import Message, Usage

MODELS = (
    *(("openai", f"gpt-{size}") for size in ("nano", "mini", "large", "reason")),
    *(("anthropic", f"claude-{size}") for size in ("small", "medium", "large")),
    *(("local", f"llama-{size}b") for size in (1, 8, 70)),
)
DAYS = 30
_FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_TEXT_BYTES = 32 << 20


def write_text(path: Path) -> Path:
    """Write the text that all processes cut their prompts and answers from."""
    words = Counter(re.findall(r"[\x21-\x7e]+", " ".join(topics.topics.values())))
    drawn = random.Random(0).choices(list(words), list(words.values()), k=_TEXT_BYTES // 5)
    path.write_text(" ".join(drawn)[:_TEXT_BYTES], encoding="ascii")
    return path


class Calls:
    """Model calls, made from the text in `path`; another seed makes others.

    Times go through `DAYS` days in order, so that a log of `expected` calls spans them all.
    """

    def __init__(self, path: Path, seed: int = 0, expected: int = 10_000) -> None:
        with path.open("rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._random = random.Random(seed)
        self._step = timedelta(days=DAYS) / expected
        self._at = _FIRST_DAY

    def events(self, number: int) -> list[Happened]:
        """A request and its answer, and the next ones, `number` events in all."""
        pairs = [self._call() for _ in range((number + 1) // 2)]
        return [event for pair in pairs for event in pair][:number]

    def batches(self, number: int, size: int) -> Iterator[list[Happened]]:
        """`number` events in lists of `size`."""
        for done in range(0, number, size):
            yield self.events(min(size, number - done))

    def _call(self) -> tuple[Happened, Happened]:
        draw = self._random.random
        self._at += self._step
        provider, model = MODELS[int(draw() ** 2 * len(MODELS))]
        call_id, conversation, user = new_id(), f"c{int(draw() * 5_000)}", f"u{int(draw() * 500)}"
        started = LlmCallStarted(
            call_id=call_id,
            provider=provider,
            request_model=model,
            conversation_id=conversation,
            user_id=user,
            occurred_at=self._at,
            messages=(Message(role="user", content=self._cut()),),
        )
        answer = self._cut()
        finished = LlmCallFinished(
            call_id=call_id,
            provider=provider,
            request_model=model,
            conversation_id=conversation,
            user_id=user,
            occurred_at=self._at,
            response_model=model,
            content=answer,
            finish_reasons=("stop",),
            usage=Usage(
                input_tokens=len(started.messages[0].content) // 4, output_tokens=len(answer) // 4
            ),
            latency_ms=round(200 + draw() ** 4 * 8_000, 3),
            cost_usd=Decimal(int(draw() * 10_000_000)).scaleb(-9),
        )
        return started, finished

    def _cut(self) -> str:
        length = int(600 + self._random.random() * 2_100)
        start = int(self._random.random() * (len(self._text) - length))
        return self._text[start : start + length].decode("ascii")


def write_calls(path: Path, events: Sequence[Happened]) -> Path:
    """The same calls for a peer: one JSON line each, with prompt, answer, model and tokens."""
    with path.open("w", encoding="utf-8") as file:
        for started, finished in zip(events[::2], events[1::2], strict=True):
            assert isinstance(started, LlmCallStarted)
            assert isinstance(finished, LlmCallFinished)
            call = {
                "prompt": started.messages[0].content,
                "answer": finished.content,
                "model": finished.request_model,
                "input_tokens": finished.usage.input_tokens,
                "output_tokens": finished.usage.output_tokens,
            }
            file.write(json.dumps(call) + "\n")
    return path
