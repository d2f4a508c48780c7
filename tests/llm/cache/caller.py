"""Those who ask a response cache: functions that also run in other processes, so imports are few."""

import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from tracemill.llm.cache import Cache, FileCache, RedisCache
from tracemill.messages import Response, Usage

KEY = "0" * 64
HOUR_S = 3600.0
WITHIN_S = 60.0
T = TypeVar("T")


def answered(text: str = "yes", **more: Any) -> Response:
    fields: dict[str, Any] = {
        "call_id": "0198c0de-0000-7000-8000-000000000000",
        "content": text,
        "finish_reasons": ("stop",),
        "response_model": "extract",
        "usage": Usage(input_tokens=3, output_tokens=1, raw={"in": 3}),
        "latency_ms": 1.5,
        "cost_usd": Decimal("0.000000001"),
    }
    return Response(**{**fields, **more})


def until(ready: Callable[[], T | None]) -> T:
    """What `ready` returns once that is true; a failure after the deadline."""
    deadline, pause = time.monotonic() + WITHIN_S, threading.Event()
    while not (found := ready()):
        assert time.monotonic() < deadline, "it took too long"
        pause.wait(0.002)
    return found


def one_flight(cache: Cache, key: str, call: Callable[[], Response]) -> Response:
    """As the client does it: the answer of the cache, or of whoever leads."""

    def tried() -> Response | None:
        if hit := cache.get(key):
            return hit
        if token := cache.lead(key, WITHIN_S):
            try:
                cache.put(key, call(), HOUR_S)
            finally:
                cache.release(key, token)
        return None

    return until(tried)


def opened(where: str) -> Cache:
    """A cache by its URL or file, in this or another process."""
    return RedisCache(where) if ":" in where else FileCache(Path(where))


def ask(where: str, calls: Path, barrier: Any) -> None:
    """One of many processes that all want the same answers."""
    cache = opened(where)

    def call() -> Response:
        with calls.open("a") as file:
            file.write("called\n")
        return answered("one for all")

    for key in ("a", "b", "c"):
        barrier.wait(WITHIN_S)
        assert one_flight(cache, key, call) == answered("one for all")
    cache.close()


def lead_and_wait(where: str, lease_s: float, led: Any) -> None:
    """A process that will be killed while it holds the lease."""
    led.put(opened(where).lead(KEY, lease_s))
    threading.Event().wait(WITHIN_S)


def put_for_ever(where: str, begun: Any) -> None:
    """A process that will be killed while it writes."""
    cache, n = opened(where), 0
    while True:
        cache.put(f"{n % 50}", answered(f"{n}" * 5000), HOUR_S)
        cache.lead(f"lead {n}", 0.001)
        n += 1
        if n == 100:
            begun.put(n)
