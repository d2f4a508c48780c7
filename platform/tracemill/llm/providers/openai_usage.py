"""Token counts in the form of OpenAI's chat completions, and of those who took it over.

Cached tokens are a part of the prompt's, reasoning tokens of the completion's. xAI counts reasoning
apart, which shows in the total; Grok on Azure tells of more cached tokens than it counts as prompt.
"""

import json
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from tracemill.llm.providers.fields import count, obj, text
from tracemill.messages import Json, Usage

# Beside the tokens, Perplexity and xAI bill these.
_BILLED = ("citation_tokens", "reasoning_tokens", "num_search_queries", "num_sources_used")


def usage_of(told: Any) -> Usage | None:
    """The usage object of an answer; None where there is none."""
    said = obj(told)
    if not said:
        return None
    heard = obj(said.get("prompt_tokens_details"))
    spoken = obj(said.get("completion_tokens_details"))
    output, reasoning = _written(said, count(spoken.get("reasoning_tokens")))
    return Usage(
        input_tokens=count(said.get("prompt_tokens")),
        output_tokens=output,
        cache_read_input_tokens=_cached(said, heard),
        cache_write_input_tokens=count(heard.get("cache_write_tokens")),
        reasoning_output_tokens=reasoning,
        input_audio_tokens=count(heard.get("audio_tokens")),
        output_audio_tokens=count(spoken.get("audio_tokens")),
        billed={name: float(said[name]) for name in _BILLED if count(said.get(name))},
        raw=_whole(said),
    )


def _cached(said: Json, heard: Json) -> int:
    """DeepSeek and Together have names of their own. Mistral's `num_cached_tokens` was told before
    it had a price for them."""
    return (
        count(heard.get("cached_tokens"))
        or count(said.get("prompt_cache_hit_tokens"))
        or count(said.get("cached_tokens"))
    )


def _written(said: Json, reasoning: int) -> tuple[int, int]:
    """All that was written, and the reasoning in it."""
    prompt, output = count(said.get("prompt_tokens")), count(said.get("completion_tokens"))
    apart = count(said.get("total_tokens")) == prompt + output + reasoning
    if reasoning > output or (reasoning and apart):
        output += reasoning
    return output, reasoning


def _whole(said: Json) -> Json:
    """The provider's words, without halves of characters, which no file can hold."""
    try:
        to_json(said)
    except PydanticSerializationError:
        return json.loads(text(json.dumps(said, ensure_ascii=False)))
    return said
