"""Requests to a provider say which trace they are part of only where that is wanted."""

from pathlib import Path

import pytest

from tests.llm.serving import Say, Seen, say, serving
from tracemill import EventLog, Request
from tracemill.llm.client import Client
from tracemill.settings import Settings

TRACE = "0af7651916cd43dd8448eb211c80319c"


def _answer(seen: Seen) -> Say:
    if seen.path.endswith("embeddings"):
        return say({"model": "m", "data": [{"index": 0, "embedding": [0.5]}]})
    message = {"role": "assistant", "content": "4"}
    return say(
        {"id": "1", "model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}
    )


@pytest.mark.parametrize("wanted", [False, True])
def test_requests_carry_a_traceparent_where_it_is_wanted(
    wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(warehouse=tmp_path, llm_trace_context=wanted)
    with serving(_answer) as server, EventLog(tmp_path / "log") as log:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        client = Client(log, settings)
        asked = Request.of("2+2?", model="vllm/m")
        call_id = client.generate(asked, trace_id=TRACE).call_id
        client.generate(asked, trace_id="no trace of W3C's")
        client.embed(["a"], model="vllm/m", trace_id=TRACE)
        client.close()
    told = [seen.headers.get("traceparent") for seen in server.seen]
    if not wanted:
        assert told == [None, None, None]
        return
    assert told[0] == f"00-{TRACE}-{call_id.replace('-', '')[16:]}-01"
    first, second, third = (str(each).split("-") for each in told)
    assert first[1] == third[1] == TRACE
    # Without a trace of its own a call is one: its id.
    assert second[1][16:] == second[2]
