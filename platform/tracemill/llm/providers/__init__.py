"""The providers of models, and what a module has to offer to be one.

A provider is pure functions between our values and the wire: they build requests and read answers,
and know neither the network nor the log nor the prices. To add one: write its module, put a line
into `PROVIDERS`. A server that speaks OpenAI's language needs the line alone.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

from tracemill.errors import CallFailed
from tracemill.llm.sse import Event
from tracemill.messages import (
    Delta,
    FinishReason,
    Json,
    Part,
    Request,
    TokenLogprob,
    Usage,
    content_of,
    text_of,
)


class Provider(NamedTuple):
    """Where a provider is and how it is spoken to."""

    adapter: str
    """The module in this folder that speaks its language."""
    name: str
    """`gen_ai.provider.name`: what the log calls it."""
    base_url: str = ""
    """Up to the version, as SDKs want it; empty where only the environment knows."""
    key_from: str = ""
    """The environment variable of its key; empty where it has none."""
    key_needed: bool = True
    """False for servers that also answer without a key."""
    key_header: str = "authorization"
    """The header that carries the key; `authorization` carries it as a bearer token."""
    quirks: frozenset[str] = frozenset()
    """In what it differs from the language that it speaks; `compatible.py` explains each."""

    def __repr__(self) -> str:
        """Without the address: it may hold a password."""
        return f"Provider({self.name!r})"


def _compatible(
    name: str,
    base_url: str,
    key_from: str,
    *quirks: str,
    key_needed: bool = True,
    key_header: str = "authorization",
) -> Provider:
    """A server that speaks OpenAI's language; `compatible.py` explains the quirks."""
    return Provider(
        "compatible", name, base_url, key_from, key_needed, key_header, frozenset(quirks)
    )


_COMPATIBLE: Mapping[str, Provider] = {
    "azure": _compatible(
        "azure.ai.openai", "", "AZURE_OPENAI_API_KEY", "user", "no_top_k", key_header="api-key"
    ),
    "groq": _compatible(
        "groq",
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        *("user", "no_top_k", "no_logprobs", "no_embeddings"),
    ),
    "mistral": _compatible(
        "mistral_ai",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        *("max_tokens", "no_user", "no_stream_options", "random_seed", "any_tool", "no_top_k"),
        *("no_service_tier", "no_logprobs", "thinking_parts", "float_vectors", "output_dimension"),
    ),
    "deepseek": _compatible(
        "deepseek",
        "https://api.deepseek.com/v1",
        "DEEPSEEK_API_KEY",
        *("max_tokens", "no_user", "no_top_k", "no_seed", "no_service_tier"),
        *("no_response_schema", "reasoning_content", "no_embeddings"),
    ),
    "openrouter": _compatible(
        "openrouter",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        *("max_tokens", "user", "cache_control", "reasoning_details", "float_vectors"),
    ),
    "together": _compatible(
        "together",
        "https://api.together.xyz/v1",
        "TOGETHER_API_KEY",
        *("max_tokens", "no_user", "no_service_tier", "no_logprobs", "float_vectors"),
    ),
    "fireworks": _compatible(
        "fireworks",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        *("max_tokens", "user", "no_service_tier", "float_vectors"),
    ),
    "perplexity": _compatible(
        "perplexity",
        "https://api.perplexity.ai",
        "PERPLEXITY_API_KEY",
        *("max_tokens", "no_user", "no_stream_options", "no_seed", "no_stop", "no_tools"),
        *("no_service_tier", "no_logprobs", "no_embeddings"),
    ),
    "xai": _compatible(
        "x_ai", "https://api.x.ai/v1", "XAI_API_KEY", "user", "no_top_k", "no_embeddings"
    ),
    "cerebras": _compatible(
        "cerebras",
        "https://api.cerebras.ai/v1",
        "CEREBRAS_API_KEY",
        *("user", "no_top_k", "no_embeddings"),
    ),
    "vllm": _compatible(
        "vllm",
        "http://localhost:8000/v1",
        "VLLM_API_KEY",
        *("max_tokens", "user", "no_service_tier"),
        key_needed=False,
    ),
    "ollama": _compatible(
        "ollama",
        "http://localhost:11434/v1",
        "OLLAMA_API_KEY",
        *("max_tokens", "user", "no_top_k", "no_service_tier", "float_vectors"),
        key_needed=False,
    ),
    "llamacpp": _compatible(
        "llamacpp",
        "http://localhost:8080/v1",
        "LLAMACPP_API_KEY",
        *("max_tokens", "no_user", "no_service_tier", "reasoning_content"),
        key_needed=False,
    ),
    "compatible": _compatible(
        "compatible",
        "",
        "COMPATIBLE_API_KEY",
        *("max_tokens", "user", "float_vectors"),
        key_needed=False,
    ),
}
_COMPLETING = ("together", "vllm", "ollama", "llamacpp", "compatible")
_RESPONDING = ("azure", "xai")

PROVIDERS: Mapping[str, Provider] = {
    "local": Provider("local", "local", key_needed=False),
    "openai": Provider("openai_chat", "openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "openai-responses": Provider(
        "openai_responses", "openai", "https://api.openai.com/v1", "OPENAI_API_KEY"
    ),
    "anthropic": Provider(
        "anthropic",
        "anthropic",
        "https://api.anthropic.com/v1",
        "ANTHROPIC_API_KEY",
        key_header="x-api-key",
    ),
    "anthropic-2023": Provider(
        "anthropic",
        "anthropic",
        "https://api.anthropic.com/v1",
        "ANTHROPIC_API_KEY",
        key_header="x-api-key",
        quirks=frozenset({"2023-06-01"}),
    ),
    "gemini": Provider(
        "gemini",
        "gcp.gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_API_KEY",
        key_header="x-goog-api-key",
    ),
    "cohere": Provider("cohere", "cohere", "https://api.cohere.com", "COHERE_API_KEY"),
    **_COMPATIBLE,
    **{
        f"{host}-completions": _COMPATIBLE[host]._replace(
            quirks=_COMPATIBLE[host].quirks | {"text_completion"}
        )
        for host in _COMPLETING
    },
    **{
        f"{host}-responses": _COMPATIBLE[host]._replace(
            adapter="openai_responses", quirks=frozenset[str]()
        )
        for host in _RESPONDING
    },
}
"""The first part of a model's name to its provider."""


class Wire(NamedTuple):
    """A request as it leaves, without the key."""

    path: str
    """After the base URL, as `/chat/completions`."""
    body: Json | bytes | None = None
    """Sent as JSON, or as it is."""
    headers: Mapping[str, str] = {}
    """Besides the key and the content type."""
    method: str = "POST"


class Reply(NamedTuple):
    """What a provider answered."""

    parts: tuple[Part, ...]
    finish_reason: FinishReason
    raw_finish_reason: str | None
    response_model: str
    """The model that answered, as the provider names it."""
    usage: Usage | None
    """None where the provider gave no counts."""
    response_id: str | None = None
    refusal: str | None = None
    """Where the provider keeps a refusal apart from the text."""
    service_tier: str | None = None
    request_id: str | None = None
    """The provider's id of the exchange, from the headers; the client fills it in."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """Where they were asked for and the provider tells."""

    @property
    def text(self) -> str:
        """The text of all text parts, joined."""
        return text_of(content_of(self.parts))


class Fold(Protocol):
    """A stream that is being read: the state between its events. Made anew for each stream."""

    def feed(self, event: Event) -> Iterable[Delta]:
        """What this event adds. Unknown events add nothing.

        Raises `CallFailed` for an error within the stream.
        """
        ...

    @property
    def done(self) -> bool:
        """Whether the provider has said that the answer is whole: a stream that ends without this
        was cut. Where a server does not say it, a finish reason is enough."""
        ...

    def reply(self) -> Reply:
        """What has arrived so far; after the end, the answer."""
        ...


class Vectors(NamedTuple):
    """What a provider answered to texts that were to be embedded."""

    vectors: Sequence[Sequence[float]]
    """One per text, in the order of the texts."""
    response_model: str
    usage: Usage | None


class Ranked(NamedTuple):
    """What a provider answered to documents that were to be ranked."""

    ranking: tuple[tuple[int, float], ...]
    """Index of the document and its relevance, best first."""
    response_model: str
    usage: Usage | None


class Adapter(Protocol):
    """What a module offers; `embed` and `rerank` only where the provider has them."""

    def chat(self, request: Request, model: str, provider: Provider) -> Wire:
        """The request on the wire; `request.stream` asks for a stream.

        Raises `CallFailed` (`invalid_request`) for what the provider cannot do, naming the field.
        """
        ...

    def read(self, body: Any, provider: Provider) -> Reply:
        """The answer in a parsed JSON body.

        Raises `CallFailed`: an error that came with status 200, or `malformed_response`.
        """
        ...

    def fold(self, provider: Provider) -> Fold:
        """A new stream."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> CallFailed:
        """What an answer with an error status says. Header names are lower case."""
        ...

    EMBED_BATCH: int
    """The most texts in one request."""

    def embed(
        self,
        texts: Sequence[str],
        model: str,
        provider: Provider,
        *,
        dimensions: int | None,
        input_kind: str | None,
    ) -> Wire:
        """The request for vectors; `input_kind` is `query` or `document`, or None."""
        ...

    def read_vectors(self, body: Any, provider: Provider) -> Vectors:
        """The vectors in a parsed JSON body."""
        ...

    def rerank(
        self, query: str, documents: Sequence[str], model: str, provider: Provider, *, top_n: int
    ) -> Wire:
        """The request for a ranking."""
        ...

    def read_ranking(self, body: Any, provider: Provider) -> Ranked:
        """The ranking in a parsed JSON body."""
        ...


def find(prefix: str) -> Provider:
    """The provider whose models' names begin so, with the base URL that the environment gives.

    `OPENAI_BASE_URL` moves `openai/`, `GEMINI_BASE_URL` moves `gemini/`, and so on for each.
    Raises `CallFailed` with the error type `unknown_provider`.
    """
    if prefix not in PROVIDERS:
        known = ", ".join(sorted(PROVIDERS))
        raise CallFailed(
            "unknown_provider",
            f"there is no provider {_printable(prefix)!r}: a model is named as provider/model, "
            f"and the providers are {known}",
        )
    provider = PROVIDERS[prefix]
    variable = base_url_variable(prefix)
    if moved := os.environ.get(variable, "").strip():
        return provider._replace(base_url=moved.rstrip("/"))
    if not provider.base_url and provider.adapter != "local":
        raise CallFailed(
            "unknown_provider",
            f"{prefix} has no address of its own: set {variable} to its base URL",
        )
    return provider


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:80]


def base_url_variable(prefix: str) -> str:
    """The environment variable that moves a provider: `openai-responses` to `OPENAI_BASE_URL`."""
    return f"{prefix.partition('-')[0].upper()}_BASE_URL"


def adapter(provider: Provider) -> Adapter:
    """The module that speaks the provider's language, loaded when it is first used."""
    return cast(Adapter, import_module(f"{__name__}.{provider.adapter}"))
