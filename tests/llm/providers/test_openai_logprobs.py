"""How likely tokens were, as OpenAI's chat completions tell it: whole, in pieces, or not at all."""

import json
from typing import Any

import pytest

from tracemill.errors import CallFailed
from tracemill.llm.providers import (
    PROVIDERS,
    anthropic,
    cohere,
    compatible,
    gemini,
    openai_chat,
    openai_responses,
)
from tracemill.llm.sse import Event
from tracemill.messages import Logprob, Request, TokenLogprob

OPENAI = PROVIDERS["openai"]
TOKENS = [
    {"token": "Oak", "logprob": -0.25, "bytes": [79, 97, 107], "top_logprobs": [
        {"token": "Oak", "logprob": -0.25, "bytes": [79, 97, 107]},
        {"token": "Ash", "logprob": -1.75, "bytes": None},
    ]},
    {"token": "!", "logprob": 0, "bytes": [33], "top_logprobs": []},
]  # fmt: skip
TOLD = (
    TokenLogprob(
        token="Oak",
        logprob=-0.25,
        top=(Logprob(token="Oak", logprob=-0.25), Logprob(token="Ash", logprob=-1.75)),
    ),
    TokenLogprob(token="!", logprob=0.0),
)


def answer(logprobs: Any) -> Any:
    message = {"role": "assistant", "content": "Oak!"}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs}
    return {"id": "c", "model": "m", "choices": [choice]}


@pytest.mark.parametrize("count", [0, 5])
def test_they_are_asked_for(count: int):
    request = Request.of("x", model="openai/m", logprobs=count)
    body = openai_chat.chat(request, "m", OPENAI).body
    assert isinstance(body, dict)
    assert (body["logprobs"], body["top_logprobs"]) == (True, count)


def test_they_are_not_asked_for_unasked():
    body = openai_chat.chat(Request.of("x", model="openai/m"), "m", OPENAI).body
    assert isinstance(body, dict)
    assert not {"logprobs", "top_logprobs"} & body.keys()


def test_they_are_read():
    assert openai_chat.read(answer({"content": TOKENS, "refusal": None}), OPENAI).logprobs == TOLD


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}, [], "x"])
def test_a_server_may_tell_nothing(logprobs: Any):
    assert openai_chat.read(answer(logprobs), OPENAI).logprobs is None


def test_odd_numbers_are_no_error():
    odd = [
        {"token": 3, "logprob": "x"},
        {"token": "a", "logprob": float("-inf")},
        {"logprob": 1e-9},
    ]
    assert openai_chat.read(answer({"content": odd}), OPENAI).logprobs == (
        TokenLogprob(token="", logprob=-9999.0),
        TokenLogprob(token="a", logprob=-9999.0),
        TokenLogprob(token="", logprob=0.0),
    )


def test_pieces_of_a_stream_bring_theirs():
    fold = openai_chat.fold(OPENAI)
    for token, finish in zip(TOKENS, (None, "stop"), strict=True):
        piece = {
            "index": 0,
            "delta": {"content": token["token"]},
            "logprobs": {"content": [token]},
            "finish_reason": finish,
        }
        list(fold.feed(Event("", json.dumps({"id": "c", "model": "m", "choices": [piece]}))))
    assert fold.reply().logprobs == TOLD


@pytest.mark.parametrize(
    ("adapter", "prefix"),
    [
        (anthropic, "anthropic"),
        (anthropic, "anthropic-2023"),
        (cohere, "cohere"),
        (gemini, "gemini"),
        (openai_responses, "openai-responses"),
        (compatible, "groq"),
        (compatible, "vllm-completions"),
    ],
)
def test_who_has_none_says_so(adapter: Any, prefix: str):
    with pytest.raises(CallFailed, match=r"^logprobs: ") as caught:
        adapter.chat(Request.of("x", model="a/b", logprobs=0), "claude-x", PROVIDERS[prefix])
    assert caught.value.error_type == "invalid_request"
