"""The words of other tools for providers, reasons to stop and errors, as the log says them.

OpenTelemetry's names are the log's own; what stands here are the older and the private ones.
"""

import re
from typing import Any, cast, get_args

from tracemill.messages import FinishReason

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_PROVIDERS = {
    "amazon": "aws.bedrock",
    "aws": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "az.ai.inference": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "gcp.gen_ai": "gcp.gemini",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
_FAMILIES = (
    (re.compile(r"(gpt-|chatgpt|o\d\b|text-embedding-|omni-moderation|davinci|ft:gpt)"), "openai"),
    (re.compile(r"claude"), "anthropic"),
    (re.compile(r"(gemini|gemma)"), "gcp.gemini"),
    (re.compile(r"(command|embed-|rerank-|c4ai)"), "cohere"),
    (re.compile(r"(mistral|ministral|magistral|codestral|devstral|pixtral|open-mi)"), "mistral_ai"),
    (re.compile(r"deepseek"), "deepseek"),
    (re.compile(r"grok"), "x_ai"),
)
_FINISHED: dict[str, FinishReason] = {
    **{name: cast(FinishReason, name) for name in get_args(FinishReason)},
    **dict.fromkeys(("end_turn", "stop_sequence", "complete", "completed", "eos"), "stop"),
    **dict.fromkeys(("max_tokens", "max_output_tokens", "incomplete"), "length"),
    **dict.fromkeys(("tool_calls", "tool_use", "function_call", "tool-calls"), "tool_call"),
    **dict.fromkeys(
        ("safety", "recitation", "content_filtered", "guardrail_intervened", "content-filter"),
        "content_filter",
    ),
    **dict.fromkeys(("pause_turn", "compaction"), "pause"),
    "model_context_window_exceeded": "context_window",
    "failed": "error",
}
_ERRORS = {
    "apiconnectionerror": "connection",
    "apitimeouterror": "timeout",
    "authenticationerror": "authentication",
    "badrequesterror": "invalid_request",
    "budgetexceedederror": "budget_exceeded",
    "connecterror": "connection",
    "contentpolicyviolationerror": "content_filter",
    "contextwindowexceedederror": "context_length_exceeded",
    "internalservererror": "server_error",
    "notfounderror": "not_found",
    "permissiondeniederror": "permission_denied",
    "ratelimiterror": "rate_limited",
    "readtimeout": "timeout",
    "serviceunavailableerror": "overloaded",
    "timeouterror": "timeout",
    "unprocessableentityerror": "invalid_request",
}
_STATUSES = {
    400: "invalid_request",
    401: "authentication",
    402: "billing",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    413: "request_too_large",
    422: "invalid_request",
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
}


def label(value: Any) -> str | None:
    """A value as a label of the log: no control characters, at most 200 letters; None stays None."""
    if value is None or value == "":
        return None
    text = value if type(value) is str else str(value)
    if not text.isprintable():
        text = _UNPRINTABLE.sub("", text)
    return text[:200] or None


def provider(name: Any, model: str) -> str:
    """`gen_ai.provider.name`: of an older or a private name, else of the family of the model.

    `unknown` where neither is known: then nothing can be priced.
    """
    if known := label(name):
        return _PROVIDERS.get(known.lower(), known.lower())
    prefix, slash, rest = model.lower().partition("/")
    if slash and (prefix in _PROVIDERS or prefix in _PROVIDERS.values() or _family(rest) == prefix):
        return _PROVIDERS.get(prefix, prefix)
    return _family(rest if slash else prefix) or "unknown"


def _family(model: str) -> str | None:
    return next((name for pattern, name in _FAMILIES if pattern.match(model)), None)


def model(name: str, of: str) -> str:
    """The model's own name, where a router put the provider's before it."""
    prefix, slash, rest = name.partition("/")
    if slash and rest and _PROVIDERS.get(prefix.lower(), prefix.lower()) == of:
        return rest
    return name


def finished(word: Any) -> FinishReason:
    """Why a model stopped, of a provider's word for it."""
    return _FINISHED.get(str(word).lower(), "other")


def error(kind: Any, status: int | None = None) -> str:
    """The log's class of an error: of its HTTP status, the name of an exception, or that itself."""
    name = label(kind)
    if name and name.isdecimal() and status is None:
        status, name = int(name), None
    short = (name or "").rpartition(".")[2]
    known = _ERRORS.get(short.lower().replace("_", ""))
    if known is None and status is not None and (name is None or short.lower() == "apierror"):
        known = _STATUSES.get(status) or ("server_error" if status >= 500 else None)
    if known:
        return known
    return _CAMEL.sub("_", short).lower() if short else "unknown"
