"""What goes to a model and what comes back: frozen values, no I/O.

Names follow the OpenTelemetry GenAI conventions. `input_tokens` counts everything that was read,
cached or not; `output_tokens` everything that was written, reasoning included; `Usage.parts` cuts
both into buckets that do not overlap, which is what prices are multiplied with.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tracemill.errors import UsageError

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal[
    "stop",
    "length",
    "tool_call",
    "content_filter",
    "refusal",
    "pause",
    "context_window",
    "error",
    "other",
]
"""Why a model stopped; what the provider called it is kept beside it."""
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]

Count = Annotated[int, Field(ge=0, le=10**15)]
Json = dict[str, Any]
"""A JSON object."""


class Value(BaseModel):
    """Frozen, and strict about names."""

    # A class is built when it is first used: a command uses few of a hundred.
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True
    )


class Native(Value):
    """What only one provider has, as it has it: a search that it ran, code and what came of it, a
    citation. It goes back to that provider and to clients of its language; to others it means
    nothing and is not sent."""

    type: Literal["native"] = "native"
    body: Json
    provider: str | None = None
    """Whose it is (`gen_ai.provider.name`)."""


class Text(Value):
    """Words."""

    type: Literal["text"] = "text"
    content: str
    citations: tuple[Native, ...] = Field(default=(), exclude_if=lambda cited: not cited)
    """What the words rest on, where the provider says it."""


class Reasoning(Value):
    """What a model thought before it answered; providers want it back unaltered."""

    type: Literal["reasoning"] = "reasoning"
    content: str = ""
    """The thought, or its summary; empty where the provider hides it."""
    id: str | None = None
    """The provider's name for it."""
    signature: str | None = None
    """What proves to the provider that it is its own: a signature, or the hidden text encrypted."""
    redacted: bool = False
    """True where `signature` stands for a whole block that the provider hides."""
    provider: str | None = None
    """Whose thought it is (`gen_ai.provider.name`): to another it means nothing and is not sent."""


class ToolCall(Value):
    """A model wants a function to be called."""

    type: Literal["tool_call"] = "tool_call"
    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it: it may be broken where an answer was cut."""
    signature: str | None = None
    """What the provider wants back with it (Gemini's thought signature)."""
    custom: bool = Field(default=False, exclude_if=lambda custom: not custom)
    """True where `arguments` is any text, and the tool one that is made so (OpenAI's custom tools)."""


class ToolResult(Value):
    """What a function gave back."""

    type: Literal["tool_call_response"] = "tool_call_response"
    id: str
    """Of the `ToolCall`."""
    response: str
    name: str | None = None
    """Of the function; Gemini needs it."""
    is_error: bool = False
    """True where `response` says why the function failed."""


class Image(Value):
    """A picture, by reference."""

    type: Literal["uri"] = "uri"
    modality: Literal["image"] = "image"
    uri: str
    """`https:`, `gs:`, or `data:image/png;base64,...`; the log keeps a digest of the last kind."""
    mime_type: str | None = None


class File(Value):
    """A document or a recording, by reference. Words go as `Text`, which is redacted and searched."""

    type: Literal["file"] = "file"
    uri: str
    """`https:`, `gs:`, or `data:application/pdf;base64,...`; the log keeps a digest of the last
    kind."""
    mime_type: str | None = None
    """Left out where `uri` says it, by its head or by how it ends."""
    name: str | None = None
    """What people call it: `report.pdf`."""


Attached = Image | File
"""What a message carries beside its words."""

Part = Annotated[
    Text | Reasoning | ToolCall | ToolResult | Image | File | Native,
    Field(discriminator="type"),
]
Content = str | tuple[Part, ...]
"""Plain text, or parts in their order."""


def parts_of(content: Content) -> tuple[Part, ...]:
    """Content as parts; empty text has none."""
    if isinstance(content, str):
        return (Text(content=content),) if content else ()
    return content


def text_of(content: Content) -> str:
    """The text of all text parts, joined."""
    if isinstance(content, str):
        return content
    return "".join(part.content for part in content if isinstance(part, Text))


def content_of(parts: tuple[Part, ...]) -> Content:
    """Parts as content, in the shortest form: text alone is a string."""
    if all(isinstance(part, Text) and not part.citations for part in parts):
        return text_of(parts)
    return parts


class Said(Value):
    """A value that people write by hand: what is wrong with it is told in a sentence."""

    def __init__(self, **fields: Any) -> None:
        """Raises `UsageError`, which names the field."""
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise UsageError(_sentence(type(self).__name__, error)) from None


class Message(Said):
    """One turn of a conversation."""

    role: Role
    content: Content
    """A string, or parts: an assistant's tool calls, a tool's results, images."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content as parts."""
        return parts_of(self.content)

    @property
    def text(self) -> str:
        """The text of all text parts, joined."""
        return text_of(self.content)


class Tool(Said):
    """A function that a model may ask for."""

    name: str = Field(min_length=1, max_length=128)
    description: str = ""
    parameters: Json = Field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON Schema of the arguments."""
    strict: bool | None = None
    """True where the provider must keep to the schema exactly."""


class UsageParts(NamedTuple):
    """Tokens of one call in buckets that do not overlap: each token is in exactly one."""

    input_uncached: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int
    """What was written, without the reasoning."""
    reasoning: int


class Usage(Value):
    """Tokens of one call, as billed."""

    input_tokens: Count = 0
    """All tokens read, cache reads and cache writes included."""
    output_tokens: Count = 0
    """All tokens written, reasoning included."""
    cache_read_input_tokens: Count = 0
    """The part of `input_tokens` that came from the provider's cache."""
    cache_write_input_tokens: Count = 0
    """The part of `input_tokens` that was written to the provider's cache."""
    cache_write_1h_input_tokens: Count = 0
    """The part of `cache_write_input_tokens` that is kept for an hour; the rest is for 5 minutes."""
    reasoning_output_tokens: Count = 0
    """The part of `output_tokens` that was reasoning."""
    input_audio_tokens: Count = 0
    """The part of `input_tokens` that was sound."""
    cache_read_audio_tokens: Count = 0
    """The part of `cache_read_input_tokens` that was sound."""
    output_audio_tokens: Count = 0
    """The part of `output_tokens` that is sound."""
    billed: dict[str, float] = Field(default_factory=dict)
    """What is billed by other units, by the provider's name for them, such as `search_units`."""
    estimated: bool = False
    """True where the provider gave no counts and ours stand in."""
    raw: Json | None = None
    """The provider's own words."""

    @property
    def parts(self) -> UsageParts:
        """The disjoint buckets. Their sum is `input_tokens + output_tokens`."""
        # Grok on Azure tells of more cached tokens than it counts, and bills, as prompt.
        read = min(self.cache_read_input_tokens, self.input_tokens)
        written = min(self.cache_write_input_tokens, self.input_tokens - read)
        hour = min(self.cache_write_1h_input_tokens, written)
        reasoning = min(self.reasoning_output_tokens, self.output_tokens)
        return UsageParts(
            input_uncached=self.input_tokens - read - written,
            cache_read=read,
            cache_write_5m=written - hour,
            cache_write_1h=hour,
            output=self.output_tokens - reasoning,
            reasoning=reasoning,
        )


class Asked(Value):
    """What a request asks of a model, whichever model that is."""

    messages: tuple[Message, ...] = ()
    """The conversation so far."""
    system: str | None = None
    """Instructions that stand above the conversation."""
    tools: tuple[Tool, ...] = ()
    """Functions that the model may ask for."""
    tool_choice: str | None = None
    """`auto`, `none`, `required`, or the name of one tool; None leaves it to the provider."""
    response_schema: Json | None = None
    """JSON Schema that the answer must keep to."""
    max_output_tokens: int | None = Field(default=None, ge=1)
    """The most that may be written, reasoning included."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Sent only when given: newer models refuse it."""
    top_p: float | None = Field(default=None, ge=0, le=1)
    """Sent only when given: newer models refuse it."""
    top_k: int | None = Field(default=None, ge=0)
    """Sent only when given, and only to providers that know it."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer."""
    seed: int | None = None
    """For the little determinism that providers offer."""
    logprobs: int | None = Field(default=None, ge=0, le=20)
    """Tell how likely each token of the answer was, beside so many alternatives; None: tell nothing."""
    reasoning_effort: Effort | None = None
    """How long to think."""
    service_tier: str | None = Field(default=None, max_length=40)
    """`flex`, `priority` ... in the provider's words; it decides the price."""
    prompt_cache: Literal["5m", "1h"] | None = None
    """Ask the provider to keep the prompt for so long, where that has to be asked for."""
    extra: Json = Field(default_factory=dict)
    """Fields of the provider's own API that have no name here, sent as they are."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Tags of your own; they stay in the log."""
    conversation_id: str | None = Field(default=None, max_length=200)
    user_id: str | None = Field(default=None, max_length=200)
    """The end user on whose behalf the call is made."""
    key_id: str | None = Field(default=None, max_length=200)
    """The key of yours that the call is made with, by its name; never the key itself."""
    prompt_name: str | None = Field(default=None, max_length=200)
    """The registered prompt that the messages were rendered from."""
    prompt_version: str | None = Field(default=None, max_length=200)


class Request(Asked, Said):
    """One call to a model."""

    model: str = Field(min_length=1)
    """Provider and model, as `local/extract` or `anthropic/claude-sonnet-5-5`."""
    messages: tuple[Message, ...] = Field(min_length=1)
    stream: bool = False
    """True where the answer comes in pieces; the client's method decides it."""

    @model_validator(mode="after")
    def _tool_choice_exists(self) -> Self:
        names = {tool.name for tool in self.tools}
        choice = self.tool_choice
        if choice not in {None, "none", "auto"} and not names:
            raise ValueError(f"tool_choice {choice!r} needs tools: there are none")
        if choice not in {None, "none", "auto", "required", *names}:
            known = ", ".join(sorted(names))
            raise ValueError(f"tool_choice {choice!r} names no tool: they are {known}")
        return self

    @classmethod
    def of(cls, prompt: str, *, model: str = "local/extract", **asked: Any) -> "Request":
        """A request with one user message; further fields as of `Request`."""
        return cls(model=model, messages=[{"role": "user", "content": prompt}], **asked)  # pyright: ignore[reportArgumentType]


def _sentence(name: str, error: ValidationError) -> str:
    """What is wrong, where, and what stands there; of several things the one that lies deepest."""
    first = max(error.errors(), key=lambda each: len(each["loc"]))
    steps = [str(step) for step in first["loc"] if "[" not in str(step) and step != "str"]
    if not steps:
        return f"this is no {name}: {first['msg'].removeprefix('Value error, ')}"
    given = "" if first["type"] == "missing" else f", not {str(first['input'])[:60]!r}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"this is no {name}: {'.'.join(steps)}: {first['msg']}{given}{more}"


class Delta(NamedTuple):
    """A piece of a streamed answer."""

    text: str = ""
    reasoning: str = ""
    tool_call: ToolCall | None = None
    """A piece of a call: `id` and `name` are whole, `arguments` is the next piece of the text."""
    thought: Reasoning | None = None
    """Ends the thought before it, or stands for a hidden one: it bears the signature. Its words have
    come as `reasoning`."""
    native: Native | None = None
    """Something whole that only this provider has."""
    cited: tuple[Native, ...] | None = None
    """Ends the text before it, whose words have come: what it rests on, if anything."""


class Logprob(Value):
    """A token, and how likely it was."""

    token: str
    """Its text; of a classifier the whole label."""
    logprob: float
    """The natural logarithm of its probability."""


class TokenLogprob(Logprob):
    """A token of an answer."""

    top: tuple[Logprob, ...] = ()
    """What was likeliest in its place, itself perhaps among it; as many as were asked for."""


class Response(Value):
    """What a model answered, with what it took."""

    call_id: str
    """The call in the log: `calls` has one row for it."""
    content: Content
    """The answer: text, or parts where there is more than text."""
    finish_reasons: tuple[FinishReason, ...]
    raw_finish_reason: str | None = None
    """The provider's own word."""
    refusal: str | None = None
    """Why the model would not answer, where it says so apart from the text."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """How likely each token of the answer was, where the request asked and the model tells; they are
    not in the log."""
    response_model: str
    """The model that answered, as the provider names it."""
    response_id: str | None = None
    """The provider's id of the answer."""
    request_id: str | None = None
    """The provider's id of the exchange: what its support asks for."""
    service_tier: str | None = None
    """What the provider served it as."""
    usage: Usage
    latency_ms: float = Field(ge=0)
    """From the request to the whole answer."""
    time_to_first_chunk_ms: float | None = Field(default=None, ge=0)
    """From the request to the first piece; None where the answer was not streamed."""
    attempts: int = Field(default=1, ge=0)
    """How many requests it took; 0 where the answer came from the response cache."""
    from_cache: bool = False
    """True where the response cache answered and nothing was sent."""
    cost_usd: Decimal | None
    """At the price that was in force; None when the model has no known price."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The answer as parts."""
        return parts_of(self.content)

    @property
    def text(self) -> str:
        """The text of the answer."""
        return text_of(self.content)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The functions that the model asks for."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def message(self) -> Message:
        """The answer as the next message of the conversation."""
        return Message(role="assistant", content=self.content)
