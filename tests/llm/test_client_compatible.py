"""Compatible servers over real sockets: recorded answers come back through the whole client."""

from pathlib import Path

import pytest

from tests.llm.recorded import Recorded, needs_recordings, recordings
from tests.llm.serving import Say, say, serving
from tracemill import EventLog, Request
from tracemill.errors import CallFailed
from tracemill.llm.client import Client

ENDPOINTS = {"chat.completions": "/v1/chat/completions", "completions": "/v1/completions"}
HOSTS = {"compat-local": "vllm", "compat-together": "together", "compat-azure": "azure"}
RECORDED = [
    r
    for r in recordings("compat-*")
    if r.endpoint in ENDPOINTS and r.provider in HOSTS and "finish" in (r.expected or {})
]


@needs_recordings
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda r: r.file)
def test_a_recorded_answer_comes_through_the_client(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    host = HOSTS[recorded.provider]
    prefix = f"{host}-completions" if recorded.endpoint == "completions" else host
    kind = "text/event-stream" if recorded.is_stream else "application/json"
    said = Say(recorded.body, 200, {"content-type": kind})
    with serving(lambda seen: said) as server, EventLog(tmp_path / "log") as log:
        monkeypatch.setenv(f"{host.upper()}_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("TOGETHER_API_KEY", "t-key-0123456789")
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", "a-key-0123456789")
        client, request = Client(log), Request.of("Hello", model=f"{prefix}/m")
        if recorded.is_stream:
            stream = client.stream(request)
            pieces = "".join(delta.text for delta in stream)
            response = stream.response
            assert pieces == response.text
        else:
            response = client.generate(request)
        client.close()
    expected = recorded.expected or {}
    assert response.text == expected.get("text", "")
    assert response.raw_finish_reason == expected["finish"]
    [seen] = server.seen
    assert seen.path == ENDPOINTS[recorded.endpoint]
    keys = {name: seen.headers.get(name) for name in ("authorization", "api-key")}
    assert (
        keys
        == {
            "vllm": {"authorization": None, "api-key": None},
            "together": {"authorization": "Bearer t-key-0123456789", "api-key": None},
            "azure": {"authorization": None, "api-key": "a-key-0123456789"},
        }[host]
    )


def test_an_answer_that_ends_within_a_character_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    body = b'{"choices":[{"message":{"content":"So \\ud83d"},"finish_reason":"length"}]}'
    with serving(lambda seen: Say(body)) as server, EventLog(tmp_path / "log") as log:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        client = Client(log)
        response = client.generate(Request.of("Hello", model="vllm/m"))
        client.close()
    assert response.text == "So \N{REPLACEMENT CHARACTER}"


def test_an_error_with_status_200_is_a_failed_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    filtered = {"error": {"message": "Filtered.", "code": "content_filter", "status": 400}}
    with serving(lambda seen: say(filtered)) as server, EventLog(tmp_path / "log") as log:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        client = Client(log)
        with pytest.raises(CallFailed, match=r"Filtered\.") as caught:
            client.generate(Request.of("Hello", model="vllm/m"))
        client.close()
        kinds = [recorded.event.kind for recorded in log.read()]  # pyright: ignore[reportAttributeAccessIssue]
    assert (caught.value.error_type, caught.value.status) == ("content_filter", 400)
    assert kinds == ["llm.call.started", "llm.call.failed"]
