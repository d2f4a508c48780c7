"""Servers that speak OpenAI's chat completions, each with quirks of its own.

What they answer is read by `openai_chat.py`, which takes all of it; what they are sent differs, and
each difference is a word in `QUIRKS`, given to a server in the table of providers.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tracemill.llm.providers import Provider, Wire
from tracemill.llm.providers import openai_embeddings as embeddings
from tracemill.llm.providers.fields import obj
from tracemill.llm.providers.openai_chat import error, fold, read, read_vectors
from tracemill.llm.providers.openai_chat_request import Think, body, invalid
from tracemill.messages import Json, Reasoning, Request, Text

__all__ = [
    "EMBED_BATCH",
    "QUIRKS",
    "chat",
    "complete",
    "embed",
    "error",
    "fold",
    "read",
    "read_vectors",
]

EMBED_BATCH = 32
"""The most texts in one request: Mistral takes no more than 16,384 tokens in all."""


class Quirk(NamedTuple):
    """In what a server differs."""

    about: str
    change: Callable[[Json, Request], None] | None = None
    """Makes the body what the server wants."""
    lacks: str = ""
    """The field of the body that the server does not take."""


def _renamed(old: str, new: str) -> Callable[[Json, Request], None]:
    def change(sent: Json, request: Request) -> None:
        if old in sent:
            sent[new] = sent.pop(old)

    return change


def _dropped(name: str) -> Callable[[Json, Request], None]:
    def change(sent: Json, request: Request) -> None:
        sent.pop(name, None)

    return change


def _any_tool(sent: Json, request: Request) -> None:
    if sent.get("tool_choice") == "required":
        sent["tool_choice"] = "any"


def _cache_control(sent: Json, request: Request) -> None:
    if request.prompt_cache:
        sent["cache_control"] = {"type": "ephemeral", "ttl": request.prompt_cache}


QUIRKS: Mapping[str, Quirk] = {
    "max_tokens": Quirk(
        "The bound of the answer has its old name.",
        _renamed("max_completion_tokens", "max_tokens"),
    ),
    "user": Quirk("The end user has the old name.", _renamed("safety_identifier", "user")),
    "no_user": Quirk(
        "The end user is not told: the server refuses or ignores it.",
        _dropped("safety_identifier"),
    ),
    "no_stream_options": Quirk(
        "Usage comes without being asked for, and the question would be refused.",
        _dropped("stream_options"),
    ),
    "random_seed": Quirk("The seed has another name.", _renamed("seed", "random_seed")),
    "any_tool": Quirk("`required` is called `any`.", _any_tool),
    "cache_control": Quirk("Keeping the prompt has to be asked for.", _cache_control),
    "no_top_k": Quirk("There is no top_k.", lacks="top_k"),
    "no_seed": Quirk("There is no seed.", lacks="seed"),
    "no_stop": Quirk("There are no stop texts.", lacks="stop"),
    "no_service_tier": Quirk("There is one tier.", lacks="service_tier"),
    "no_tools": Quirk("Models cannot call functions.", lacks="tools"),
    "no_response_schema": Quirk("Answers keep to no schema.", lacks="response_format"),
    "no_logprobs": Quirk("Nobody tells how likely a token was.", lacks="logprobs"),
    "reasoning_content": Quirk("Thoughts go back as `reasoning_content`, at least before calls."),
    "reasoning_details": Quirk("Thoughts go back as `reasoning_details`, with their signatures."),
    "thinking_parts": Quirk("Thoughts go back as parts of the content."),
    "text_completion": Quirk("A prompt goes to /completions instead of a conversation."),
    "no_embeddings": Quirk("There are no embeddings."),
    "float_vectors": Quirk("Vectors come as numbers: the server has no base64, or no such field."),
    "output_dimension": Quirk("The length of a vector has another name."),
}
"""What a word in `Provider.quirks` means."""


def chat(request: Request, model: str, provider: Provider) -> Wire:
    """The request on the wire.

    Raises `CallFailed` (`invalid_request`) for what the server cannot do, naming the field.
    """
    if "text_completion" in provider.quirks:
        return complete(request, model, provider)
    think = next((_THINK[word] for word in _THINK if word in provider.quirks), None)
    return Wire("/chat/completions", _changed(body(request, model, think), request, provider))


def complete(request: Request, model: str, provider: Provider) -> Wire:
    """A text that the model goes on with: `/v1/completions`, which knows no conversation.

    Raises `CallFailed` (`invalid_request`) where there is more than one message of plain text.
    """
    asked = request.messages[0]
    if len(request.messages) > 1 or asked.role != "user":
        raise invalid("messages: text completion takes one message, of the user: join them")
    if not all(isinstance(part, Text) for part in asked.parts):
        raise invalid("messages: text completion takes text alone: leave the other parts out")
    refused = ("system", "tools", "tool_choice", "response_schema", "reasoning_effort", "logprobs")
    for field in refused:
        if getattr(request, field) not in (None, (), "", {}):
            raise invalid(f"{field}: text completion has none: leave it out")
    sent = body(request, model) | {"prompt": asked.text}
    del sent["messages"]
    for old, new in (("max_completion_tokens", "max_tokens"), ("safety_identifier", "user")):
        _renamed(old, new)(sent, request)
    return Wire("/completions", _changed(sent, request, provider))


def embed(
    texts: Sequence[str],
    model: str,
    provider: Provider,
    *,
    dimensions: int | None,
    input_kind: str | None,
) -> Wire:
    """The request for vectors; queries and documents are embedded alike.

    Raises `CallFailed` (`invalid_request`) where the server has none.
    """
    if "no_embeddings" in provider.quirks:
        raise invalid(f"model: {provider.name} has no embeddings: choose another provider")
    wire = embeddings.embed(texts, model, provider, dimensions=dimensions, input_kind=input_kind)
    sent = dict(obj(wire.body))
    if "float_vectors" in provider.quirks:
        del sent["encoding_format"]
    if "output_dimension" in provider.quirks and "dimensions" in sent:
        sent["output_dimension"] = sent.pop("dimensions")
    return wire._replace(body=sent)


def _changed(sent: Json, request: Request, provider: Provider) -> Json:
    for word in sorted(provider.quirks):
        quirk = QUIRKS[word]
        if quirk.lacks in sent:
            field = {"response_format": "response_schema"}.get(quirk.lacks, quirk.lacks)
            raise invalid(f"{field}: {provider.name} does not take it: leave it out")
        if quirk.change:
            quirk.change(sent, request)
    return sent


def _reasoning_content(message: Json, thoughts: tuple[Reasoning, ...]) -> None:
    if thoughts or "tool_calls" in message:
        message["reasoning_content"] = "".join(thought.content for thought in thoughts)


def _reasoning_details(message: Json, thoughts: tuple[Reasoning, ...]) -> None:
    if details := [detail for thought in thoughts if (detail := _detail(thought))]:
        message["reasoning_details"] = details


def _detail(thought: Reasoning) -> Json | None:
    """The detail that a thought was read from; None for the thought of another provider."""
    try:
        kept = obj(json.loads(thought.signature or ""))
    except ValueError:
        return None
    name = "summary" if kept.get("type") == "reasoning.summary" else "text"
    return kept | ({name: thought.content} if thought.content else {})


def _thinking_parts(message: Json, thoughts: tuple[Reasoning, ...]) -> None:
    if said := "".join(thought.content for thought in thoughts):
        words = message.get("content")
        thinking = {"type": "thinking", "thinking": [{"type": "text", "text": said}]}
        spoken = [{"type": "text", "text": words}] if words else []
        message["content"] = [thinking, *spoken]


_THINK: Mapping[str, Think] = {
    "reasoning_content": _reasoning_content,
    "reasoning_details": _reasoning_details,
    "thinking_parts": _thinking_parts,
}
