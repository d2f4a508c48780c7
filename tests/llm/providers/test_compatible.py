"""Servers that speak OpenAI's language: each is sent what it takes, by words in one table."""

import json
from typing import Any

import pytest

from tests.llm.providers.test_openai_chat_request import (
    CALL,
    PERSON,
    USER,
    WEATHER,
    asked,
    schemas,
)
from tests.llm.recorded import needs_recordings, needs_specs, recordings
from tracemill.errors import CallFailed
from tracemill.llm.providers import (
    PROVIDERS,
    Provider,
    Wire,
    adapter,
    compatible,
    find,
    openai_chat,
)
from tracemill.messages import Message, Reasoning, Request, Text, ToolResult

HOSTS = {
    prefix: provider for prefix, provider in PROVIDERS.items() if provider.adapter == "compatible"
}
CHATTING = [prefix for prefix in HOSTS if not prefix.endswith("-completions")]
COMPLETING = [prefix for prefix in HOSTS if prefix.endswith("-completions")]


def sent(prefix: str, request: Request) -> dict[str, Any]:
    wire = compatible.chat(request, "m", HOSTS[prefix])
    assert isinstance(wire.body, dict)
    return wire.body


def differences(prefix: str, **fields: object) -> dict[str, Any]:
    """What a host is sent for these fields, beside the model and the messages."""
    body = sent(prefix, asked(**fields))
    return {key: value for key, value in body.items() if key not in ("model", "messages")}


def test_every_word_is_explained_and_used():
    words = {word for provider in HOSTS.values() for word in provider.quirks}
    assert words == set(compatible.QUIRKS)
    assert all(quirk.about.endswith(".") for quirk in compatible.QUIRKS.values())


def test_hosts_are_those_of_the_conventions():
    names = {prefix: PROVIDERS[prefix].name for prefix in CHATTING}
    assert names == {
        "azure": "azure.ai.openai",
        "groq": "groq",
        "mistral": "mistral_ai",
        "deepseek": "deepseek",
        "openrouter": "openrouter",
        "together": "together",
        "fireworks": "fireworks",
        "perplexity": "perplexity",
        "xai": "x_ai",
        "cerebras": "cerebras",
        "vllm": "vllm",
        "ollama": "ollama",
        "llamacpp": "llamacpp",
        "compatible": "compatible",
    }
    assert {p for p in CHATTING if not PROVIDERS[p].key_needed} == {
        "vllm",
        "ollama",
        "llamacpp",
        "compatible",
    }


def test_local_servers_need_no_address_and_others_can_be_given_one(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("VLLM_BASE_URL", raising=False)
    assert find("vllm-completions").base_url == "http://localhost:8000/v1"
    monkeypatch.setenv("VLLM_BASE_URL", "http://gpu:9000/v1/")
    assert find("vllm-completions").base_url == "http://gpu:9000/v1"
    for prefix in ("azure", "compatible"):
        monkeypatch.delenv(f"{prefix.upper()}_BASE_URL", raising=False)
        with pytest.raises(CallFailed, match=f"set {prefix.upper()}_BASE_URL"):
            find(prefix)


@pytest.mark.parametrize("prefix", ["xai-responses", "azure-responses"])
def test_some_speak_responses_too(prefix: str):
    provider, plain = PROVIDERS[prefix], PROVIDERS[prefix.partition("-")[0]]
    assert provider == plain._replace(adapter="openai_responses", quirks=frozenset())


@needs_specs
@pytest.mark.parametrize("prefix", CHATTING)
def test_a_plain_request_is_openais(prefix: str):
    request = asked(system="Be brief.", tools=(), temperature=0.5, top_p=0.9)
    plain = openai_chat.chat(request, "m", PROVIDERS["openai"])
    assert compatible.chat(request, "m", HOSTS[prefix]) == plain


FEATURES: dict[str, dict[str, Any]] = {
    "tools": {"tools": (WEATHER,), "tool_choice": "required"},
    "response_schema": {"response_schema": PERSON},
    "stop": {"stop": ("END",)},
    "seed": {"seed": 0},
    "top_k": {"top_k": 0},
    "service_tier": {"service_tier": "flex"},
    "logprobs": {"logprobs": 0},
}
LACKS = {
    "azure": {"top_k"},
    "groq": {"top_k", "logprobs"},
    "mistral": {"top_k", "service_tier", "logprobs"},
    "deepseek": {"top_k", "seed", "service_tier", "response_schema"},
    "openrouter": set[str](),
    "together": {"service_tier", "logprobs"},
    "fireworks": {"service_tier"},
    "perplexity": {"seed", "stop", "service_tier", "tools", "logprobs"},
    "xai": {"top_k"},
    "cerebras": {"top_k"},
    "vllm": {"service_tier"},
    "ollama": {"top_k", "service_tier"},
    "llamacpp": {"service_tier"},
    "compatible": set[str](),
}


@pytest.mark.parametrize("prefix", CHATTING)
def test_what_a_host_lacks_is_refused_by_name(prefix: str):
    refused = set[str]()
    for field, fields in FEATURES.items():
        try:
            sent(prefix, asked(**fields))
        except CallFailed as error:
            refused.add(field)
            name = PROVIDERS[prefix].name
            said = f"{field}: {name} does not take it: leave it out"
            assert (error.error_type, str(error)) == ("invalid_request", said)  # noqa: PT017
    assert refused == LACKS[prefix]


@pytest.mark.parametrize(
    ("prefix", "fields", "body"),
    [
        ("azure", {"max_output_tokens": 9}, {"max_completion_tokens": 9}),
        ("vllm", {"max_output_tokens": 9}, {"max_tokens": 9}),
        ("groq", {"user_id": "u"}, {"user": "u"}),
        ("deepseek", {"user_id": "u"}, {}),
        ("mistral", {"seed": 0}, {"random_seed": 0}),
        ("mistral", {"stream": True}, {"stream": True}),
        ("perplexity", {"stream": True}, {"stream": True}),
        ("groq", {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        (
            "openrouter",
            {"prompt_cache": "1h"},
            {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
        ),
        ("vllm", {"prompt_cache": "1h"}, {}),
        ("together", {"top_k": 5}, {"top_k": 5}),
    ],
)
def test_what_a_host_calls_otherwise(prefix: str, fields: dict[str, Any], body: dict[str, Any]):
    assert differences(prefix, **fields) == body


@pytest.mark.parametrize(
    ("choice", "sent_as"),
    [
        ("required", "any"),
        ("auto", "auto"),
        ("weather", {"type": "function", "function": {"name": "weather"}}),
    ],
)
def test_mistral_calls_a_demanded_tool_any(choice: str, sent_as: object):
    tools = {"tools": (WEATHER,), "tool_choice": choice}
    assert differences("mistral", **tools)["tool_choice"] == sent_as


def turn(prefix: str, *parts: object) -> dict[str, Any]:
    messages = (USER, Message.model_validate({"role": "assistant", "content": parts}), USER)
    return sent(prefix, asked(messages=messages))["messages"][1]


HMM, YES = Reasoning(content="Hmm."), Text(content="Yes.")


def test_deepseek_wants_its_thoughts_back():
    assert turn("deepseek", HMM, YES) == {
        "role": "assistant",
        "content": "Yes.",
        "reasoning_content": "Hmm.",
    }
    # It refuses a call without them, even where there were none.
    assert turn("deepseek", CALL)["reasoning_content"] == ""
    assert turn("deepseek", YES) == {"role": "assistant", "content": "Yes."}


def test_mistral_wants_its_thoughts_back_as_parts():
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hmm."}]}
    assert turn("mistral", HMM, YES)["content"] == [thinking, {"type": "text", "text": "Yes."}]
    assert turn("mistral", HMM, CALL)["content"] == [thinking]
    assert turn("mistral", YES)["content"] == "Yes."


DETAILS = [
    {"type": "reasoning.summary", "summary": "Hmm.", "format": "openai-responses-v1", "index": 0},
    {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "index": 1},
    {"type": "reasoning.text", "text": "So.", "signature": "sig", "index": 2},
]


def test_openrouter_gets_its_details_back_as_they_were():
    message = {"content": "Yes.", "reasoning": "Hmm.", "reasoning_details": DETAILS}
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    reply = openai_chat.read(body, HOSTS["openrouter"])
    assert turn("openrouter", *reply.parts)["reasoning_details"] == DETAILS


@needs_recordings
def test_recorded_details_make_the_round_trip():
    bodies = [json.loads(r.body) for r in recordings("compat-openrouter") if not r.is_stream]
    messages = [c["message"] for b in bodies for c in b.get("choices", []) if "message" in c]
    told = [m for m in messages if m.get("reasoning_details")]
    assert len(told) >= 5
    for message in told:
        reply = openai_chat.read({"choices": [{"message": message}]}, HOSTS["openrouter"])
        assert turn("openrouter", *reply.parts)["reasoning_details"] == message["reasoning_details"]


@pytest.mark.parametrize("prefix", CHATTING)
def test_thoughts_of_another_provider_do_no_harm(prefix: str):
    foreign = Reasoning(content="", id="rs_1", signature="EqoB", redacted=True)
    assert turn(prefix, foreign, YES)["content"] == "Yes."
    assert "reasoning_details" not in turn(prefix, foreign, YES)


@needs_specs
@pytest.mark.parametrize("prefix", COMPLETING)
def test_a_prompt_is_gone_on_with(prefix: str):
    given_fields = {"max_output_tokens": 9, "temperature": 0.5, "stop": ("END",), "seed": 7}
    request = asked(**given_fields, top_p=0.9, stream=True)
    wire = compatible.chat(request, "m", HOSTS[prefix])
    assert wire == Wire(
        "/completions",
        {
            "model": "m",
            "prompt": USER.text,
            "max_tokens": 9,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": ["END"],
            "seed": 7,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    )
    assert schemas().errors("openai", "CreateCompletionRequest", wire.body) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"system": "Be brief."}, "system: text completion has none"),
        ({"tools": (WEATHER,)}, "tools: text completion has none"),
        ({"response_schema": PERSON}, "response_schema: text completion has none"),
        ({"reasoning_effort": "low"}, "reasoning_effort: text completion has none"),
        ({"messages": (USER, USER)}, "messages: text completion takes one message"),
        ({"messages": (Message(role="system", content="x"),)}, "of the user: join them"),
        ({"messages": (Message(role="user", content=(HMM,)),)}, "takes text alone"),
    ],
)
def test_what_a_prompt_cannot_be_is_named(fields: dict[str, Any], said: str):
    with pytest.raises(CallFailed, match=said) as caught:
        compatible.complete(asked(**fields), "m", HOSTS["vllm-completions"])
    assert caught.value.error_type == "invalid_request"


def test_openai_itself_is_not_asked_to_complete():
    assert not [
        p for p, row in PROVIDERS.items() if "text_completion" in row.quirks and p[:6] == "openai"
    ]


@pytest.mark.parametrize(
    ("prefix", "body"),
    [
        ("vllm", {"encoding_format": "base64", "dimensions": 8}),
        ("azure", {"encoding_format": "base64", "dimensions": 8}),
        ("openrouter", {"dimensions": 8}),
        ("ollama", {"dimensions": 8}),
        ("mistral", {"output_dimension": 8}),
    ],
)
def test_texts_to_be_embedded(prefix: str, body: dict[str, Any]):
    wire = compatible.embed(["a", "b"], "m", HOSTS[prefix], dimensions=8, input_kind="query")
    assert wire == Wire("/embeddings", {"model": "m", "input": ["a", "b"]} | body)


@pytest.mark.parametrize("prefix", ["groq", "deepseek", "perplexity", "xai", "cerebras"])
def test_hosts_without_embeddings_say_so(prefix: str):
    with pytest.raises(CallFailed, match="has no embeddings: choose another provider"):
        compatible.embed(["a"], "m", HOSTS[prefix], dimensions=None, input_kind=None)


@pytest.mark.parametrize("prefix", [*CHATTING, "openai"])
def test_every_host_has_what_an_adapter_offers(prefix: str):
    provider: Provider = PROVIDERS[prefix]
    module = adapter(provider)
    for name in ("chat", "read", "fold", "error", "embed", "read_vectors"):
        assert callable(getattr(module, name))
    assert module.EMBED_BATCH > 0


def test_results_of_tools_go_back():
    result = Message(role="tool", content=(ToolResult(id="c1", response="Sun"),))
    body = sent("ollama", asked(messages=(USER, result)))
    assert body["messages"][1] == {"role": "tool", "tool_call_id": "c1", "content": "Sun"}
