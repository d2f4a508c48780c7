"""Whatever a body holds, the answer is one: no 500, and every error in the words of its dialect."""

import asyncio
import json
import math
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.llm.serving import Server
from tracemill.llm.client import Client
from tracemill.log import EventLog
from tracemill.server.app import create
from tracemill.server.catalogue import ROUTES
from tracemill.server.gateway import Gateway
from tracemill.server.routes import Route
from tracemill.settings import Settings

FULL = bool(os.environ.get("TRACEMILL_TEST_FULL"))
BODIES = 10_000 if FULL else 1_000
TEXT = [{"role": "user", "content": "What is a log?\n\n[1] A log only grows."}]
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "local/extract", "messages": TEXT, "stop": ["x"]},
    "/v1/responses": {"model": "local/extract", "input": "What is a log?", "store": True},
    "/v1/embeddings": {"model": "text-embedding-3-small", "input": ["a", "b"]},
    "/v1/completions": {"model": "vllm-completions/x", "prompt": "Once"},
    "/v1/moderations": {"input": ["Have a good day."]},
    "/v1/responses/input_tokens": {"model": "local/extract", "input": TEXT},
    "/v1/fine_tuning/jobs": {
        "model": "local/lm",
        "training_file": "file-x",
        "hyperparameters": {"n_epochs": 2},
        "metadata": {"a": "b"},
    },
    "/v1/batches": {
        "input_file_id": "file-x",
        "endpoint": "/v1/responses",
        "completion_window": "24h",
    },
    "/v1/messages": {"model": "local/extract", "max_tokens": 20, "messages": TEXT},
    "/v1/messages/count_tokens": {"model": "local/extract", "messages": TEXT},
    "/v2/chat": {"model": "local/extract", "messages": TEXT},
    "/v2/embed": {"model": "embed-v4.0", "texts": ["a"], "input_type": "search_query"},
    "/v2/rerank": {"model": "rerank-v3.5", "query": "a", "documents": ["b"]},
    "/v1/feedback": {"call_id": "x", "score": 1},
    "/v1/rag/query": {"question": "What is a log?"},
}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
ODD = [
    *(None, True, False, 0, -1, 1.5, 10**30, math.nan, math.inf, "", "a", "\x00", "\ud800", "🙂"),
    *([], {}, [[]], {"a": {}}, ["a"] * 3, {"type": "text"}, {"type": "object", "$ref": "#"}),
    *({"role": "user"}, {"role": "tool", "content": "x"}, [{"type": "image_url"}], "x" * 5_000),
    *(
        [{"type": "file", "file": {n: d}}]
        for n in ("file_id", "file_data")
        for d in ("file-a", "data:text/x,")
    ),
    [{"type": "document", "source": {"type": "base64", "media_type": "text/plain", "data": "="}}],
    [{"type": "input_file", "file_url": "file:///etc/passwd"}, {"type": "input_audio"}],
    [{"inlineData": {"mimeType": "text/plain", "data": "%"}}, {"fileData": {"fileUri": "\x00"}}],
]


def mutated(value: Any, chance: random.Random) -> Any:
    """The same with one thing in it changed, left out, doubled or added."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        made = dict(value)
        name = chance.choice(list(made))
        match chance.randrange(4):
            case 0:
                del made[name]
            case 1:
                made[chance.choice(["extra", "stream", "tools", "n", name + "x"])] = odd(chance)
            case _:
                made[name] = mutated(made[name], chance)
        return made
    if isinstance(value, list) and value and chance.random() < 0.7:
        made = list(value)
        place = chance.randrange(len(made))
        if chance.random() < 0.3:
            made.append(odd(chance))
        else:
            made[place] = mutated(made[place], chance)
        return made
    return odd(chance)


def odd(chance: random.Random) -> Any:
    """A value that hardly fits."""
    found = chance.choice(ODD)
    return {"type": found, "content": found} if chance.random() < 0.1 else found


def written(value: Any, chance: random.Random) -> bytes:
    """As JSON; now and then cut, or not even that."""
    raw = json.dumps(value).encode()
    match chance.randrange(20):
        case 0:
            return raw[: chance.randrange(len(raw) + 1)]
        case 1:
            return b"\xff" + raw
        case 2:
            return b"[" * 5_000
        case _:
            return raw


def asked() -> list[Route]:
    """Routes that take a body and need nothing that was made before."""
    return [route for route in ROUTES if route.body is not None]


def good(path: str) -> dict[str, Any]:
    return GEMINI if "{model" in path else GOOD.get(path, {})


@pytest.fixture
def gateway(tmp_path: Path, upstream: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    # Other providers are not asked: without a key, a call to them is an error of its own.
    for name in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY", "COHERE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    with EventLog.open(settings) as log:
        yield Gateway(settings, log, Client(log, settings))


def test_mutated_bodies_get_an_answer(gateway: Gateway) -> None:
    chance = random.Random(8)
    app = create(gateway)
    broken: list[tuple[str, bytes, int, str]] = []

    async def ask(client: httpx.AsyncClient, route: Route, body: bytes) -> None:
        path = route.path.replace("{model:path}", "local/extract").replace("{model}", "extract")
        answer = await client.post(
            path,
            content=body,
            headers={"content-type": "application/json", "anthropic-version": "x"},
        )
        if answer.status_code in {500, 501} or (answer.status_code >= 400 and not answer.content):
            broken.append((path, body[:300], answer.status_code, answer.text[:200]))

    async def main() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for _ in range(BODIES):
                route = chance.choice(asked())
                body = good(route.path)
                for _ in range(chance.choice((1, 1, 2, 4))):
                    body = mutated(body, chance)
                await ask(client, route, written(body, chance))

    asyncio.run(main())
    assert broken == [], f"{len(broken)} of {BODIES}; the first: {broken[0]}"
