"""The attributes that tell of a call to a model, by every name that they have or had.

Sources: OpenTelemetry's GenAI conventions (open-telemetry/semantic-conventions-genai, main of 2026-10,
and what `migration.md` there and semantic-conventions 1.27 to 1.41 had before), OpenInference 0.1.42
(Arize-ai/openinference), OpenLLMetry's spellings, Langfuse's SDK (`langfuse.observation.*`). The first
name that a span has counts.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

Json = dict[str, Any]

ABOUT: Mapping[str, tuple[str, ...]] = {
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"),
    "request_model": (
        "gen_ai.request.model",
        "llm.request.model_name",
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
        "langfuse.observation.model.name",
    ),
    "response_model": ("gen_ai.response.model", "llm.response.model_name"),
    "response_id": ("gen_ai.response.id",),
    "conversation_id": ("gen_ai.conversation.id", "session.id", "langfuse.session.id"),
    "user_id": ("user.id", "enduser.id", "langfuse.user.id"),
    "prompt_name": ("gen_ai.prompt.name", "langfuse.observation.prompt.name", "prompt.id"),
    "prompt_version": (
        "gen_ai.prompt.version",
        "langfuse.observation.prompt.version",
        "llm.prompt_template.version",
    ),
    "finish_reasons": ("gen_ai.response.finish_reasons", "llm.finish_reason"),
    "service_tier": (
        "tracemill.service_tier",
        "openai.response.service_tier",
        "openai.request.service_tier",
        "gen_ai.openai.response.service_tier",
        "gen_ai.openai.request.service_tier",
    ),
    "first_chunk_s": ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"),
    "cost_usd": (
        "tracemill.cost.usd",
        "gen_ai.usage.cost",
        "gen_ai.cost.total_tokens",
        "llm.cost.total",
    ),
    "http_status": ("http.response.status_code", "http.status_code"),
}
"""What a call is, to the attributes that tell it."""

USAGE: Mapping[str, tuple[str, ...]] = {
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "llm.usage.prompt_tokens",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "llm.usage.completion_tokens",
    ),
    "cache_read_input_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.input_tokens.cached",
        "gen_ai.usage.details.cache_read_tokens",
        "llm.token_count.prompt_details.cache_read",
        "llm.token_count.prompt_details.cache_input",
    ),
    "cache_write_input_tokens": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.input_tokens.cache_write",
        "gen_ai.usage.details.cache_write_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "cache_write_1h_input_tokens": ("tracemill.usage.cache_write_1h.input_tokens",),
    "reasoning_output_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.output_tokens.reasoning",
        "gen_ai.usage.details.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
    "input_audio_tokens": (
        "gen_ai.usage.audio.input_tokens",
        "llm.token_count.prompt_details.audio",
    ),
    "cache_read_audio_tokens": ("tracemill.usage.cache_read.audio.input_tokens",),
    "output_audio_tokens": (
        "gen_ai.usage.audio.output_tokens",
        "llm.token_count.completion_details.audio",
    ),
}
"""Fields of `Usage` to attributes. All of these sources count inclusively: the input includes what the
cache gave and took, the output includes the reasoning."""

PARAMETERS: Mapping[str, str] = {
    "gen_ai.request.temperature": "temperature",
    "gen_ai.request.top_p": "top_p",
    "gen_ai.request.top_k": "top_k",
    "gen_ai.request.max_tokens": "max_tokens",
    "gen_ai.request.seed": "seed",
    "gen_ai.openai.request.seed": "seed",
    "gen_ai.request.stop_sequences": "stop",
    "gen_ai.request.reasoning.level": "reasoning_effort",
    "gen_ai.request.frequency_penalty": "frequency_penalty",
    "gen_ai.request.presence_penalty": "presence_penalty",
    "gen_ai.request.choice.count": "n",
}
"""Attributes to names of parameters."""

TAG = "tracemill.tag."
"""Begins the attributes that carry tags of ours."""


_FIELDS = {
    attribute: (field, rank)
    for table in (ABOUT, USAGE)
    for field, aliases in table.items()
    for rank, attribute in enumerate(aliases)
}


class Found(NamedTuple):
    """What a span's attributes tell, by our names."""

    about: Json
    """By the names of `ABOUT`."""
    usage: Json
    """By the names of `USAGE`."""
    raw_usage: Json
    """The same, by those of the attributes."""


def found(attributes: Mapping[str, Any]) -> Found:
    """Every known field once: under the first of its names that there is."""
    best: dict[str, tuple[int, str]] = {}
    for name, value in attributes.items():
        known = _FIELDS.get(name)
        if known is None or value is None or value == "":
            continue
        field, rank = known
        if field not in best or rank < best[field][0]:
            best[field] = rank, name
    about: Json = {}
    counts: Json = {}
    raw: Json = {}
    for field, (_, name) in best.items():
        value = attributes[name]
        if field in USAGE:
            counts[field] = raw[name] = value
        else:
            about[field] = value
    return Found(about, counts, raw)


def listed(attributes: Mapping[str, Any], prefix: str) -> list[Any]:
    """What is spread over `prefix.0.role`, `prefix.0.content` ..., as a list of objects."""
    root: Json = {}
    start = len(prefix) + 1
    for name, value in attributes.items():
        if name.startswith(prefix) and name[start - 1 : start] == ".":
            steps = name[start:].split(".", 32)
            place = root
            for step in steps[:-1]:
                inner = place.get(step)
                if not isinstance(inner, dict):
                    inner = place[step] = {}
                place = cast(Json, inner)
            place.setdefault(steps[-1], value)
    ordered = _in_order(root)
    return cast(list[Any], ordered) if isinstance(ordered, list) else []


def flat(nested: Mapping[str, Any], prefix: str = "") -> Json:
    """The inverse, for tools that store attributes as a tree."""
    made: Json = {}
    for name, value in nested.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            made |= flat(cast(Json, value), f"{path}.")
        elif isinstance(value, list) and any(isinstance(i, dict) for i in cast(list[Any], value)):
            items = {str(n): item for n, item in enumerate(cast(list[Any], value))}
            made |= flat(items, f"{path}.")
        else:
            made[path] = value
    return made


def _in_order(value: Any) -> Any:
    """The same, with lists in the place of objects whose names are numbers."""
    if not isinstance(value, dict):
        return value
    told = cast(Json, value)
    if told and all(name.isdecimal() for name in told):
        return [_in_order(told[name]) for name in sorted(told, key=int)]
    return {name: _in_order(each) for name, each in told.items()}
