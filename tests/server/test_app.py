"""Who may ask, what is refused and how, what is in the log after it; by plain HTTP."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.llm.serving import Server, say
from tests.server.running import Running
from tracemill.errors import UsageError
from tracemill.server.events import Events
from tracemill.server.serve import serve
from tracemill.settings import Settings

CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "Say hello."}]}


@pytest.fixture
def http(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def calls(server: Running) -> list[dict[str, object]]:
    return server.log.sql("FROM calls ORDER BY started_at").to_dicts()


def test_a_call_is_answered_and_in_the_log_with_all_that_was_said_of_it(
    server: Running, http: httpx.Client
) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = http.post(
        CHAT,
        json={**BODY, "user": "ann", "metadata": {"feature": "search"}},
        headers={
            "x-request-id": "mine-1",
            "traceparent": f"00-{trace}-b7ad6b7169203331-01",
            "x-tracemill-tags": "team=core, stage=test",
            "x-tracemill-conversation": "c1",
            "x-tracemill-prompt": "greet@v1",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "mine-1"
    [call] = calls(server)
    assert answer.json()["id"] == f"chatcmpl-{call['call_id']}"
    assert answer.headers["x-tracemill-call-id"] == call["call_id"]
    assert Decimal(answer.headers["x-tracemill-cost-usd"]) == call["cost_usd"]
    assert (call["user_id"], call["conversation_id"]) == ("ann", "c1")
    assert (call["prompt_name"], call["prompt_version"]) == ("greet", "v1")
    assert json.loads(str(call["metadata"])) == {
        "feature": "search",
        "team": "core",
        "stage": "test",
    }
    [begun] = [r.event for r in server.log.read(kinds=["llm.call.started"])]
    assert (begun.trace_id, begun.correlation_id) == (trace, "mine-1")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"", 400, None),
        (b"[]", 400, None),
        (json.dumps({**BODY, "messages": []}).encode(), 400, "messages"),
        (json.dumps({**BODY, "temperature": 9}).encode(), 400, "temperature"),
        (json.dumps({**BODY, "messages": [{"role": "pope"}]}).encode(), 400, "messages.0.role"),
        (json.dumps({"messages": BODY["messages"]}).encode(), 400, "model"),
    ],
)
def test_a_wrong_body_is_told_by_its_field(
    server: Running, http: httpx.Client, body: bytes, status: int, param: str | None
) -> None:
    answer = http.post(CHAT, content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param
    assert answer.headers["x-should-retry"] == "false"
    assert calls(server) == []


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/v1beta/model/x:countTokens", "/v1beta/models/{model}:countTokens"),
        ("/x", None),
    ],
)
def test_a_path_that_is_none_tells_which_may_be_meant(
    http: httpx.Client, path: str, meant: str | None
) -> None:
    answer = http.post(path, json={})
    assert answer.status_code == 404
    assert (f"did you mean {meant}?" in answer.text) == bool(meant)
    # In the words that its SDK reads.
    assert ("request_id" in answer.json()) == (meant == "/v1/messages")
    assert answer.json()["error"].get("status") == ("NOT_FOUND" if "v1beta" in path else None)


def test_what_the_provider_says_is_handed_on(
    server: Running, http: httpx.Client, upstream: Server
) -> None:
    said = {"error": {"message": "no such model", "code": "model_not_found"}}
    upstream.answer = lambda _: say(said, 404)
    answer = http.post(CHAT, json=BODY)
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
    assert "no such model" in answer.json()["error"]["message"]
    [call] = calls(server)
    assert call["status"] == "failed"


def test_no_other_site_may_use_a_server_without_keys(http: httpx.Client) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}):
        assert http.post(CHAT, json=BODY, headers=headers).status_code == 403
        assert http.get("/", headers={**headers, "accept": "text/html"}).status_code == 403
    assert http.post(CHAT, json=BODY, headers={"origin": str(http.base_url)}).status_code == 200


def test_with_a_key_each_request_needs_one_that_may(server: Running, http: httpx.Client) -> None:
    keys = server.gateway.keys
    key, secret = keys.create("search", models=["openai/*"], routes=["chat"])
    text = secret.get_secret_value()
    bearer = {"authorization": f"Bearer {text}"}
    assert http.post(CHAT, json=BODY).status_code == 401
    assert http.post(CHAT, json=BODY, headers={"x-api-key": text[:-1] + "x"}).status_code == 401
    for headers in (bearer, {"x-api-key": text}, {"x-goog-api-key": text}, {"api-key": text}):
        assert http.post(CHAT, json=BODY, headers=headers).status_code == 200
    assert {call["key_id"] for call in calls(server)} == {key.key_id}
    other = http.post(CHAT, json={**BODY, "model": "local/extract"}, headers=bearer)
    assert (other.status_code, other.json()["error"]["param"]) == (403, "model")
    assert http.get("/metrics", headers=bearer).status_code == 403
    assert http.get("/healthz").status_code == 200
    keys.revoke(key.key_id)
    assert http.post(CHAT, json=BODY, headers=bearer).status_code == 401
    for path in server.gateway.settings.warehouse.rglob("*"):
        if path.is_file():
            assert text.split("-", 2)[2].encode() not in path.read_bytes(), path


def test_vectors_are_of_who_asked_for_them(
    server: Running, http: httpx.Client, upstream: Server
) -> None:
    vector = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
    used = {"prompt_tokens": 2, "total_tokens": 2}
    said = {"object": "list", "data": [vector], "model": "text-embedding-3-small", "usage": used}
    upstream.answer = lambda _: say(said)
    key, secret = server.gateway.keys.create("search", tags={"feature": "search"})
    server.gateway.budgets.add("each", scope="key", of="*", window="day", tokens=1_000)
    answer = http.post(
        "/v1/embeddings",
        json={"model": "text-embedding-3-small", "input": "hello", "user": "ann"},
        headers={"authorization": f"Bearer {secret.get_secret_value()}"},
    )
    assert answer.status_code == 200, answer.text
    [call] = calls(server)
    assert (call["key_id"], call["user_id"]) == (key.key_id, "ann")
    assert json.loads(str(call["metadata"])) == {"feature": "search"}
    [budget] = server.gateway.budgets.all()
    assert (budget.spent_tokens, budget.reserved_tokens) == (2, 0)


def test_a_weak_key_of_the_administrator_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEMILL_ADMIN_KEY", "sk-1234")
    with pytest.raises(UsageError, match="TRACEMILL_ADMIN_KEY is too weak"):
        serve(Settings(warehouse=tmp_path / "warehouse").create(), "127.0.0.1", 0)


def test_without_a_key_others_than_this_machine_are_not_served(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tracemill keys create"):
        serve(Settings(warehouse=tmp_path / "warehouse").create(), "0.0.0.0", 0)


def test_a_budget_refuses_what_does_not_fit_and_tells_when_it_will(
    server: Running, http: httpx.Client
) -> None:
    server.gateway.budgets.add("two", window="day", requests=2)
    statuses = [http.post(CHAT, json=BODY).status_code for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    answer = http.post(CHAT, json={**BODY, "stream": True})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (
        429,
        "rate_limit_error",
        "budget_exceeded",
    )
    assert 0 < int(answer.headers["retry-after"]) <= 86_400
    assert answer.headers["x-should-retry"] == "false"
    [budget] = server.gateway.budgets.all()
    assert (budget.spent_requests, budget.reserved_requests) == (2, 0)
    assert len(calls(server)) == 2


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (CHAT, {"messages": BODY["messages"]}),
        ("/v1/responses", {"input": "Say hello."}),
        ("/v1/completions", {"prompt": "Say hello."}),
    ],
)
def test_a_budget_of_a_tag_counts_tags_of_the_body(
    server: Running, http: httpx.Client, path: str, said: dict[str, object]
) -> None:
    server.gateway.budgets.add("one", scope="tag", of="feature=search", window="day", requests=1)

    def ask(feature: str) -> int:
        body = {"model": "local/echo", **said, "metadata": {"feature": feature}}
        return http.post(path, json=body).status_code

    assert [ask("search"), ask("search"), ask("other")] == [200, 429, 200]
    tags = [json.loads(str(call["metadata"])) for call in calls(server)]
    assert tags == [{"feature": "search"}, {"feature": "other"}]


def test_who_hangs_up_ends_the_call_and_gives_back_what_was_reserved(
    server: Running, http: httpx.Client, upstream: Server
) -> None:
    server.gateway.budgets.add("much", window="day", usd=Decimal(100))
    with http.stream("POST", CHAT, json={**BODY, "stream": True}) as answer:
        next(answer.iter_lines())
    deadline = time.monotonic() + 20
    while not (ended := [c for c in calls(server) if c["status"] != "running"]):
        assert time.monotonic() < deadline
    assert len(ended) == 1
    while server.gateway.budgets.all()[0].reserved_usd:
        assert time.monotonic() < deadline


def test_paths_that_are_none_are_told(http: httpx.Client) -> None:
    for path in (
        "/v1/nothing",
        "//v1/chat/completions",
        "/v1/../v1/chat/completions%00",
        "/%2e%2e",
    ):
        assert http.post(path, json=BODY).status_code in {404, 405}, path
    assert http.get(CHAT).status_code == 405


def _raw(url: str, sent: bytes) -> bytes:
    """The first answer to bytes that no client would send."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(sent)
        return connection.recv(200)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"a: b\r\n" * 300 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\na: " + b"b" * 100_000, b"431"),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", b"414"),
        (b"\x16\x03\x01nonsense\r\n\r\n", b"400"),
        (
            b"POST /v1/feedback HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n",
            b"413",
        ),
    ],
)
def test_floods_are_refused(server: Running, sent: bytes, status: bytes) -> None:
    assert _raw(server.url, sent).split()[1] == status


def test_slow_senders_are_refused(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracemill.server.protocol.HEADERS_S", 0.1)
    monkeypatch.setattr("tracemill.server.incoming.BODY_S", 0.1)
    assert _raw(server.url, b"GET / HTTP/1.1\r\nhost: loc").split()[1] == b"408"
    slow = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{"
    assert _raw(server.url, slow).split()[1] == b"408"


def test_names_of_your_own_have_their_model_their_fallback_and_the_cache(
    server: Running, http: httpx.Client, upstream: Server
) -> None:
    file = server.gateway.settings.raw_gateway
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("models:\n  fast: {model: openai/gpt-5.4-mini, cache: both}\n")
    server.gateway.names._looked = 0.0  # as if a second had passed
    first, second = (http.post(CHAT, json={**BODY, "model": "fast"}) for _ in range(2))
    assert first.json()["choices"] == second.json()["choices"]
    assert (first.headers.get("x-tracemill-cache"), second.headers["x-tracemill-cache"]) == (
        None,
        "hit",
    )
    assert len(upstream.seen) == 1


def test_health_needs_no_key(server: Running, http: httpx.Client) -> None:
    server.gateway.keys.create("any")
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json()["status"] == "ready"
    assert http.get("/metrics").status_code == 401


def test_a_stream_that_nobody_began_to_read_is_closed() -> None:
    async def left() -> None:
        ended: list[bool] = []

        class Unread:
            def more(self) -> bool:
                return False

            async def aclose(self) -> None:
                ended.append(True)

        async def pieces() -> AsyncGenerator[bytes]:
            yield b"never"

        async def gone(_: object) -> None:
            raise OSError("the caller hung up")

        with contextlib.suppress(OSError):
            await Events(pieces(), live=Unread()).stream_response(gone)
        assert ended == [True]

    asyncio.run(left())
