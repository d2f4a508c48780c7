"""Requests to Gemini's generateContent, as our values: the reverse of `llm/providers/gemini_request`.

Names may be written in either case. What has a name of ours goes by it, to any provider; fields and
tools that only this API has go along as they are where the model speaks it.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from tracemill.messages import Json, Tool
from tracemill.server.dialects.forms import Camel, extra
from tracemill.server.dialects.gemini_parts import Content, conversation, words
from tracemill.server.dialects.gemini_schema import json_schema
from tracemill.server.trouble import invalid

_CHANGES_NOTHING = frozenset({"safetySettings", "labels", "store"})
_CONFIG_CHANGES_NOTHING = frozenset({"mediaResolution", "audioTimestamp", "responseModalities"})
_LEVELS = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high", "XHIGH": "xhigh"}
# As `gemini_request` spends them: the effort whose budget is the next below.
_EFFORTS = ((24_576, "high"), (8_192, "medium"), (1, "low"), (0, "none"))
_MODES = {"ANY": "required", "NONE": "none", "AUTO": "auto", "VALIDATED": "auto"}
_JSON = "application/json"


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


Word = Annotated[str, BeforeValidator(_upper)]
"""One of the words of an enum, in any case."""


class Declared(Camel):
    """A function."""

    name: str
    description: str | None = None
    parameters: Json | None = None
    parameters_json_schema: Json | None = None


class GivenTool(Camel):
    """Functions, or a tool of Gemini's own."""

    function_declarations: list[Declared] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it holds functions alone."""
        return not any(value is not None for value in (self.model_extra or {}).values())


class Calling(Camel):
    mode: Annotated[
        Literal["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"], BeforeValidator(_upper)
    ] = "AUTO"
    allowed_function_names: list[str] | None = None


class ToolConfig(Camel):
    function_calling_config: Calling | None = None


class Thinking(Camel):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: Word | None = None


class Config(Camel):
    """How to answer."""

    max_output_tokens: Annotated[int, Field(ge=1, le=10**9)] | None = None
    stop_sequences: list[str] | None = None
    seed: int | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[float, Field(ge=0)] | None = None
    candidate_count: Annotated[int, Field(ge=1, le=8)] | None = None
    response_mime_type: str | None = None
    response_schema: Json | None = None
    response_json_schema: Json | None = None
    response_logprobs: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    thinking_config: Thinking | None = None


class Body(Camel):
    """A request for content."""

    contents: Annotated[list[Content], Field(min_length=1)]
    system_instruction: Content | None = None
    tools: list[GivenTool] | None = None
    tool_config: ToolConfig | None = None
    generation_config: Config | None = None
    service_tier: Annotated[str, Field(max_length=40)] | None = None


BODY: TypeAdapter[Body] = TypeAdapter(Body)


def asked(body: Body, *, speaks: bool) -> dict[str, Any]:
    """The fields of a `Request`, but for the model and whose call it is.

    Args:
        speaks: whether the model's provider speaks this language, so that fields without a name of
            ours can go along.

    Raises `Trouble` (400), which names the field.
    """
    given = _camel(body.model_extra)
    given.pop("model", None)
    config = body.generation_config or Config()
    if (config.candidate_count or 1) > 1:
        where = "generationConfig.candidateCount"
        raise invalid(f"{where}: one answer at a time: send the request again for another", where)
    shape, tools = _shape(config, speaks=speaks), _tools(body, speaks=speaks)
    tier = (body.service_tier or "").lower()
    return {
        "system": words(body.system_instruction) or None,
        "messages": conversation(body.contents),
        "max_output_tokens": config.max_output_tokens,
        "stop": tuple(config.stop_sequences or ()),
        "seed": config.seed,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": None if config.top_k is None else int(config.top_k),
        "logprobs": (config.logprobs or 0) if config.response_logprobs else None,
        "reasoning_effort": None if speaks else _effort(config.thinking_config),
        "service_tier": tier if tier not in {"", "unspecified", "standard"} else None,
        "response_schema": shape,
        **{name: value for name, value in tools.items() if name != "extra"},
        "extra": {
            **extra(given, _CHANGES_NOTHING, speaks=speaks),
            **tools.get("extra", {}),
            **_config_extra(config, shape, speaks=speaks),
        },
    }


def _camel(given: Json | None) -> Json:
    return {to_camel(name): value for name, value in (given or {}).items()}


def _config_extra(config: Config, shape: Json | None, *, speaks: bool) -> Json:
    told = extra(_camel(config.model_extra), _CONFIG_CHANGES_NOTHING, speaks=speaks)
    if speaks and config.thinking_config is not None:
        told["thinkingConfig"] = config.thinking_config.model_dump(exclude_none=True, by_alias=True)
    if speaks and shape is None and config.response_mime_type:
        told["responseMimeType"] = config.response_mime_type
        if config.response_schema is not None:
            told["responseSchema"] = config.response_schema
        if config.response_json_schema is not None:
            told["responseJsonSchema"] = config.response_json_schema
    return {"generationConfig": told} if told else {}


def _shape(config: Config, *, speaks: bool) -> Json | None:
    """The schema of the answer, where it is JSON."""
    mime = config.response_mime_type or "text/plain"
    schema = config.response_json_schema
    if schema is None and config.response_schema is not None:
        schema = json_schema(config.response_schema)
    if mime == _JSON:
        # JSON of any shape has no name of ours: to another provider it is an object.
        return schema if schema is not None or speaks else {"type": "object"}
    if mime != "text/plain" and not speaks:
        where = "generationConfig.responseMimeType"
        raise invalid(f"{where}: this model's provider has no {mime[:40]!r}", where)
    return None


def _effort(thinking: Thinking | None) -> str | None:
    if thinking is None:
        return None
    if thinking.thinking_level is not None:
        return _LEVELS.get(thinking.thinking_level)
    budget = thinking.thinking_budget
    if budget is None or budget < 0:
        return None
    return next(name for least, name in _EFFORTS if budget >= least)


def _tools(body: Body, *, speaks: bool) -> Json:
    given = body.tools or []
    calling = (body.tool_config and body.tool_config.function_calling_config) or Calling()
    if not all(tool.is_plain for tool in given):
        if not speaks:
            raise invalid("tools: only functions can be offered to this model's provider", "tools")
        # In one list, which cannot be half ours.
        told: Json = {"tools": [_raw(tool) for tool in given]}
        return {
            "extra": told | ({"toolConfig": _raw(body.tool_config)} if body.tool_config else {})
        }
    declared = [each for tool in given for each in tool.function_declarations or ()]
    allowed = calling.allowed_function_names or []
    forced = calling.mode == "ANY" and bool(allowed)
    if forced and not speaks:
        declared = [each for each in declared if each.name in allowed]
    strict = True if speaks and calling.mode == "VALIDATED" else None
    made: Json = {"tools": tuple(_tool(each, strict) for each in declared)}
    more = _camel(body.tool_config.model_extra) if body.tool_config and speaks else {}
    if declared and body.tool_config is not None:
        made["tool_choice"] = _MODES.get(calling.mode)
        if forced and len(allowed) == 1:
            made["tool_choice"] = allowed[0]
        elif forced and speaks:
            more["functionCallingConfig"] = {"allowedFunctionNames": allowed}
    return made | ({"extra": {"toolConfig": more}} if more else {})


def _raw(form: Camel) -> Json:
    return form.model_dump(exclude_unset=True, by_alias=True)


def _tool(declared: Declared, strict: bool | None) -> Tool:
    schema = declared.parameters_json_schema
    if schema is None and declared.parameters is not None:
        schema = json_schema(declared.parameters)
    return Tool(
        name=declared.name,
        description=declared.description or "",
        parameters=schema or {"type": "object", "properties": {}},
        strict=strict,
    )
