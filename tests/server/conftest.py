"""A server for each test, and a provider for it to ask."""

from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.llm.serving import Seen, Server, say, say_events, serving
from tests.server.played import play
from tests.server.running import Running, running

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-5.4-mini",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello there."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
}


def chunks() -> list[object]:
    """The same answer as the pieces of a stream."""
    head = {"id": "chatcmpl-1", "model": "gpt-5.4-mini", "object": "chat.completion.chunk"}
    deltas: list[object] = [
        {**head, "choices": [{"index": 0, "delta": {"content": piece}}]}
        for piece in ("Hello", " there", ".")
    ]
    end = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [*deltas, end, {**head, "choices": [], "usage": COMPLETION["usage"]}, "[DONE]"]


def answer(seen: Seen) -> object:
    """What the provider of these tests says, unless a test gives it other words."""
    return say_events(*chunks()) if seen.json.get("stream") else say(COMPLETION)


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Generator[Server]:
    """OpenAI, as a real server of this machine; `upstream.answer` may be replaced."""
    with serving(answer) as server:  # pyright: ignore[reportArgumentType]
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-upstream-0123456789abcdef")
        yield server


@pytest.fixture
def server(tmp_path: Path, upstream: Server) -> Generator[Running]:
    """A server without keys."""
    with running(tmp_path / "warehouse") as made:
        yield made


class World(NamedTuple):
    """A server, and all the providers that it asks."""

    server: Running
    upstream: Server

    @property
    def url(self) -> str:
        return self.server.url


@pytest.fixture(scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Generator[World]:
    with pytest.MonkeyPatch.context() as patch, serving(play) as upstream:
        for name, path in (("OPENAI", "/v1"), ("ANTHROPIC", "/v1"), ("GEMINI", "/v1beta")):
            patch.setenv(f"{name}_BASE_URL", upstream.url + path)
            patch.setenv(f"{name}_API_KEY", "sk-upstream-0123456789abcdef")
        patch.setenv("COHERE_BASE_URL", upstream.url)
        patch.setenv("COHERE_API_KEY", "sk-upstream-0123456789abcdef")
        with running(tmp_path_factory.mktemp("world") / "warehouse") as server:
            yield World(server, upstream)


@pytest.fixture
def world(_world: World) -> World:
    """Every provider, played by one server of this machine; one world for a file of tests."""
    _world.upstream.answer = play
    _world.upstream.seen.clear()
    return _world
