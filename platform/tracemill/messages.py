"""What goes to a model and what comes back: frozen values, no I/O.

Names follow the OpenTelemetry GenAI conventions. `input_tokens` counts everything that was read,
cached or not; `output_tokens` everything that was written, reasoning included.
"""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "content_filter", "tool_call", "error"]


Count = Annotated[int, Field(ge=0, le=10**15)]


class Value(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Message(Value):
    """One turn of a conversation."""

    role: Role
    content: str


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


class Request(Value):
    """One call to a model."""

    model: str = Field(min_length=1)
    """Provider and model, as `local/extract`."""
    messages: tuple[Message, ...] = Field(min_length=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
    conversation_id: str | None = None
    user_id: str | None = None

    @classmethod
    def of(cls, prompt: str, *, model: str = "local/extract") -> "Request":
        """A request with one user message."""
        return cls(model=model, messages=(Message(role="user", content=prompt),))


class Response(Value):
    """What a model answered, with what it took."""

    call_id: str
    """The call in the log: `calls` has one row for it."""
    text: str
    finish_reasons: tuple[FinishReason, ...]
    response_model: str
    usage: Usage
    latency_ms: float = Field(ge=0)
    cost_usd: Decimal | None
    """At the price that was in force; None when the model has no known price."""
