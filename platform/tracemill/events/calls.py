"""Events of the calls to models: each from its start to its one end, and what stands around it."""

from typing import ClassVar, Literal

from pydantic import Field

from tracemill.events.happened import Happened, Id, Label, Usd
from tracemill.messages import Asked, Content, FinishReason, Message, Usage


class LlmCall(Happened):
    """What the events of one model call share."""

    call_id: Id
    """The call: one row of the view `calls`."""
    operation: Label = "chat"
    """`gen_ai.operation.name`: chat, text_completion, embeddings, rerank."""
    provider: Label
    """`gen_ai.provider.name`: openai, anthropic, local ..."""
    request_model: Label
    """The model that was asked for."""
    conversation_id: Label | None = None
    """The conversation that the call belongs to."""
    user_id: Label | None = None
    """The end user on whose behalf the call was made."""
    prompt_name: Label | None = None
    """The registered prompt that the messages were rendered from."""
    prompt_version: Label | None = None
    """Its version, a digest of its content."""
    key_id: Label | None = None
    """The key that the call was made with, by its name; never the key itself."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Tags of the request; on its end as well, so that sums by tag need no join."""

    @property
    def stream(self) -> str:
        return f"call:{self.call_id}"


class LlmCallStarted(LlmCall, Asked):
    """A model call is about to be made: recorded before the request leaves."""

    kind: Literal["llm.call.started"] = "llm.call.started"
    schema_version: ClassVar[int] = 2
    streamed: bool = False
    """True where the answer comes in pieces."""
    inputs: int | None = Field(default=None, ge=0)
    """How many texts are to be embedded or ranked; None for other operations."""
    batch_id: Label | None = None
    """The batch that the call is part of."""
    fallback_of: Id | None = None
    """The failed call in whose place this one is made."""
    process: Label | None = None
    """The process that makes the call, as `log/presence.py` knows it."""
    span_id: Label | None = None
    """The span of `trace_id` that tells of the call, where another program made it."""
    parent_span_id: Label | None = None
    """The span that this one is a part of."""


class LlmCallRetried(LlmCall):
    """An attempt failed and another follows, after a wait."""

    kind: Literal["llm.call.retried"] = "llm.call.retried"
    attempt: int = Field(ge=1)
    """Which attempt failed: 1, 2 ..."""
    error_type: Label
    """`error.type` of the failed attempt."""
    error_message: str
    """What the provider said."""
    status: int | None = None
    """Of HTTP, where there was one."""
    wait_ms: float = Field(ge=0)
    """Until the next attempt, in milliseconds."""
    latency_ms: float = Field(ge=0)
    """Of the failed attempt, in milliseconds."""


class LlmCallFinished(LlmCall):
    """A model call was answered."""

    kind: Literal["llm.call.finished"] = "llm.call.finished"
    schema_version: ClassVar[int] = 2
    response_model: Label
    """The model that answered."""
    response_id: Label | None = None
    """The provider's id of the answer."""
    request_id: Label | None = None
    """The provider's id of the exchange: what its support asks for."""
    service_tier: Label | None = None
    """What it was served as (`batch`, `flex`, `priority`): it decides the price."""
    content: Content
    """The answer: text, or parts where there is more than text."""
    refusal: str | None = None
    """Why the model would not answer, where it says so apart from the text."""
    finish_reasons: tuple[FinishReason, ...]
    """Why the model stopped, one per choice."""
    raw_finish_reason: Label | None = None
    """The provider's own word."""
    usage: Usage
    """Tokens, as billed."""
    attempts: int = Field(default=1, ge=1)
    """How many requests it took."""
    latency_ms: float = Field(ge=0)
    """From the first request to the whole answer, in milliseconds."""
    time_to_first_chunk_ms: float | None = Field(default=None, ge=0)
    """From the first request to the first piece of a stream, in milliseconds."""
    cost_usd: Usd | None = None
    """At the price in force when it happened; None where no price is known."""
    price_snapshot: Label | None = None
    """The price table that `cost_usd` comes from."""


class LlmCallFailed(LlmCall):
    """A model call ended without an answer."""

    kind: Literal["llm.call.failed"] = "llm.call.failed"
    schema_version: ClassVar[int] = 2
    error_type: Label
    """`error.type`: a word of low cardinality, such as `timeout` or `context_length_exceeded`."""
    error_message: str
    """What went wrong, in a sentence."""
    error_code: Label | None = None
    """The provider's own word for it."""
    status: int | None = None
    """Of HTTP, where there was one."""
    request_id: Label | None = None
    """The provider's id of the exchange: what its support asks for."""
    attempts: int = Field(default=1, ge=0)
    """How many requests were sent."""
    latency_ms: float = Field(ge=0)
    """From the first request to the failure, in milliseconds."""


class LlmCallAborted(LlmCall):
    """A streamed answer was cut: by the provider, by the network, or by who was reading it."""

    kind: Literal["llm.call.aborted"] = "llm.call.aborted"
    response_model: Label
    """The model that was answering."""
    response_id: Label | None = None
    """The provider's id of the answer."""
    request_id: Label | None = None
    """The provider's id of the exchange."""
    service_tier: Label | None = None
    """What it was served as."""
    content: Content
    """What had arrived."""
    usage: Usage
    """Tokens; `usage.estimated` unless the provider had told them."""
    error_type: Label
    """Why: `interrupted` where the reader stopped, else what the provider or the network did."""
    error_message: str
    """What went wrong, in a sentence."""
    attempts: int = Field(default=1, ge=1)
    """How many requests it took."""
    latency_ms: float = Field(ge=0)
    """From the first request to the cut, in milliseconds."""
    time_to_first_chunk_ms: float | None = Field(default=None, ge=0)
    """From the first request to the first piece, in milliseconds."""
    cost_usd: Usd | None = None
    """At the price in force when it happened; None where no price is known."""
    price_snapshot: Label | None = None
    """The price table that `cost_usd` comes from."""


class LlmCallCrashed(LlmCall):
    """The process that made the call ended without a word; found when the log was next opened."""

    kind: Literal["llm.call.crashed"] = "llm.call.crashed"
    process: Label
    """The process that is gone."""


class LlmCallCached(LlmCall):
    """A model call was answered by the response cache: nothing was sent and nothing is billed."""

    kind: Literal["llm.call.cached"] = "llm.call.cached"
    messages: tuple[Message, ...] = ()
    """What would have been sent."""
    cached_call_id: Id
    """The call whose answer it is."""
    saved_usd: Usd | None = None
    """What the same call would have cost; None where no price is known."""
    latency_ms: float = Field(ge=0)
    """Time spent on the look-up, in milliseconds."""


class BreakerChanged(Happened):
    """The circuit breaker of a model opened, tried again or closed."""

    kind: Literal["llm.breaker.changed"] = "llm.breaker.changed"
    provider: Label
    """Whose."""
    request_model: Label
    """Of which model."""
    state: Literal["open", "half_open", "closed"]
    """What it changed to: open refuses, half open lets one probe through."""
    reason: str
    """Why, in a sentence."""
    retry_after_s: float | None = Field(default=None, ge=0)
    """When open: until the next probe, in seconds."""

    @property
    def stream(self) -> str:
        return f"breaker:{self.provider}/{self.request_model}"[:200]


class GuardDecided(Happened):
    """A rule of the guard had something to say about a call."""

    kind: Literal["llm.guard.decided"] = "llm.guard.decided"
    call_id: Id
    """The call."""
    rule: Label
    """Which rule: size, control_characters, injection, pii, schema, blocked_terms."""
    side: Literal["input", "output"]
    """What was looked at: what is sent, or what came back."""
    action: Literal["flagged", "redacted", "blocked", "repaired"]
    """What was done."""
    found: dict[str, int] = Field(default_factory=dict)
    """What was found and how often, never the text itself."""
    message: str
    """The decision in a sentence."""

    @property
    def stream(self) -> str:
        return f"guard:{self.call_id}"


class PromptVersionAdded(Happened):
    """A version of a prompt was registered. It never changes; its name is a digest of it."""

    kind: Literal["prompt.version_added"] = "prompt.version_added"
    keep: ClassVar[bool] = True
    name: Label
    """The prompt."""
    version: Label
    """Digest of the template, the system text and the variables."""
    template: str
    """The user message, with variables."""
    system: str | None = None
    """The system text, with variables."""
    variables: dict[str, Literal["string", "integer", "number", "boolean", "array", "object"]]
    """Name to JSON type."""
    description: str = ""
    """What the prompt is for."""
    source: Label | None = None
    """The file it was read from."""

    @property
    def stream(self) -> str:
        return f"prompt:{self.name}"


class PromptLabelMoved(Happened):
    """A label, such as `production`, now points to another version of a prompt."""

    kind: Literal["prompt.label_moved"] = "prompt.label_moved"
    keep: ClassVar[bool] = True
    name: Label
    """The prompt."""
    label: Label
    """The label."""
    version: Label
    """Where it points now."""

    @property
    def stream(self) -> str:
        return f"prompt:{self.name}"


class FeedbackGiven(Happened):
    """Somebody judged an answer."""

    kind: Literal["llm.feedback.given"] = "llm.feedback.given"
    call_id: Id
    """The call that was judged."""
    score: float = Field(ge=-1, le=1)
    """From -1 (wrong) to 1 (right)."""
    comment: str | None = None
    """In words."""
    user_id: Label | None = None
    """Who."""

    @property
    def stream(self) -> str:
        return f"feedback:{self.call_id}"


class AnswerWithdrawn(Happened):
    """Whoever asked for an answer wants it to be given to nobody again."""

    kind: Literal["llm.answer.withdrawn"] = "llm.answer.withdrawn"
    call_id: Id
    """The call."""
    key_id: Label | None = None
    """Whose key."""

    @property
    def stream(self) -> str:
        return f"withdrawn:{self.call_id}"


class BatchSubmitted(Happened):
    """Calls were handed to a provider to be answered within a day, at a lower price."""

    kind: Literal["llm.batch.submitted"] = "llm.batch.submitted"
    keep: ClassVar[bool] = True
    batch_id: Id
    """Ours."""
    provider: Label
    """Who answers."""
    request_model: Label
    """The model that all its calls ask for."""
    calls: dict[str, str]
    """`custom_id` to call."""
    inputs: dict[str, str] = Field(default_factory=dict)
    """What else is needed to go on: ids of uploaded files."""

    @property
    def stream(self) -> str:
        return f"batch:{self.batch_id}"


class BatchProgressed(Happened):
    """A provider told how far a batch is; also when it has taken it, and under which id."""

    kind: Literal["llm.batch.progressed"] = "llm.batch.progressed"
    keep: ClassVar[bool] = True
    batch_id: Id
    """Ours."""
    remote_id: Label | None = None
    """The provider's."""
    state: Literal["created", "running", "cancelling", "ended", "failed", "unknown"]
    """Ours for the provider's word."""
    raw_state: Label
    """The provider's word."""
    counts: dict[str, int] = Field(default_factory=dict)
    """Calls by what became of them."""
    error_message: str | None = None
    """Why it failed."""

    @property
    def stream(self) -> str:
        return f"batch:{self.batch_id}"


class BatchCollected(Happened):
    """Every call of a batch has its end in the log."""

    kind: Literal["llm.batch.collected"] = "llm.batch.collected"
    keep: ClassVar[bool] = True
    batch_id: Id
    """Ours."""
    finished: int = Field(ge=0)
    """Calls that were answered."""
    failed: int = Field(ge=0)
    """Calls that were not."""

    @property
    def stream(self) -> str:
        return f"batch:{self.batch_id}"
