"""Everything that can happen: one frozen class each, in the past tense, and their union at the end.

An event is a fact. What it says of itself is here; what the log says of it (position, version in
its stream, time of recording) is `Recorded`. To add one: write the class, put it into `Event`.
"""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

import uuid_utils
from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, TypeAdapter

from tracemill.messages import Asked, Content, FinishReason, Message, Usage, Value

# The generator keeps state: without this, two forked children would hand out the same ids.
os.register_at_fork(after_in_child=uuid_utils.reseed_rng)


def new_id() -> str:
    """A UUIDv7 (RFC 9562) as text: unique across processes, ordered by time."""
    return str(uuid_utils.uuid7())


def _canonical_id(value: str) -> str:
    return str(uuid_utils.UUID(value))


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{value} cannot be told in UTC") from error


def _now() -> datetime:
    return datetime.now(UTC)


Usd = Annotated[Decimal, Field(ge=0, lt=1_000_000_000)]
Id = Annotated[str, AfterValidator(_canonical_id)]
Utc = Annotated[AwareDatetime, AfterValidator(_utc)]
Stream = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
Label = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f]*$")]


class Happened(Value):
    """What every event has. Subclasses add a `kind`, a `stream` and the facts."""

    model_config = ConfigDict(allow_inf_nan=False)

    schema_version: ClassVar[int] = 1
    """Raised when the fields change; the step from the old form goes to `log/upcast.py`."""
    keep: ClassVar[bool] = False
    """True for short streams that are loaded whole: the journal never trims them."""

    event_id: Id = Field(default_factory=new_id)
    """UUIDv7. Appending the same id again changes nothing: that makes a retry safe."""
    occurred_at: Utc = Field(default_factory=_now)
    """When it happened, in UTC."""
    actor: Label | None = None
    """Who or what did it: a person, a service, an asset."""
    trace_id: Label | None = None
    """The OpenTelemetry trace that this is part of."""
    correlation_id: Label | None = None
    """Shared by all events of one piece of work, such as one build."""
    causation_id: Label | None = None
    """The `event_id` that led to this one."""

    @property
    def stream(self) -> str:
        """The thing that this event is about; its events are versioned 1, 2, 3 ..."""
        raise NotImplementedError


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
    metadata: dict[str, str] = Field(default_factory=dict)
    """Tags of the request."""


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


class RagAnswered(Happened):
    """A question was put to an index; linked to its model call, where one was made."""

    kind: Literal["rag.answered"] = "rag.answered"
    schema_version: ClassVar[int] = 2
    index: Label
    """The collection that was searched."""
    index_digest: Label
    """The version of the index."""
    question: str
    """What was asked."""
    call_id: Id | None = None
    """The model call that wrote the answer; None when nothing was retrieved."""
    chunk_ids: tuple[str, ...]
    """What was retrieved, best first."""
    scores: tuple[float, ...]
    """Their scores, in the same order; larger is nearer."""
    cited_chunk_ids: tuple[str, ...] = ()
    """What the answer cites and is supported by."""
    flagged_chunk_ids: tuple[str, ...] = ()
    """What reads like instructions to a model."""
    mode: Literal["hybrid", "dense", "lexical"] = "hybrid"
    """How it was searched."""
    confidence: float | None = Field(default=None, ge=0, le=1)
    """The calibrated probability that the answer is right; None before it was recorded."""
    not_found: bool
    """True when nothing in the index answers the question."""
    latency_ms: float = Field(ge=0)
    """Retrieval and answer together, in milliseconds."""

    @property
    def stream(self) -> str:
        return f"index:{self.index}:questions"


class EmbeddingsComputed(Happened):
    """A batch of texts was turned into vectors."""

    kind: Literal["embeddings.computed"] = "embeddings.computed"
    schema_version: ClassVar[int] = 2
    provider: Label
    """Who computed them."""
    request_model: Label
    """The embedding model."""
    dimensions: int = Field(ge=1)
    """Length of a vector."""
    texts: int = Field(ge=0)
    """How many texts were asked for."""
    computed: int = Field(ge=0)
    """How many of them were computed; the rest came from the cache or were equal to others."""
    input_kind: Literal["query", "document"] = "document"
    """What the vectors stand for; some models treat the two differently."""
    collection: Label | None = None
    """For which collection."""
    call_ids: tuple[Id, ...] = ()
    """The calls that computed them, where a provider did."""
    latency_ms: float = Field(ge=0)
    """Time spent, in milliseconds."""

    @property
    def stream(self) -> str:
        return f"embeddings:{self.request_model}"


class SourceHarvested(Happened):
    """Raw records or documents were read from a source."""

    kind: Literal["source.harvested"] = "source.harvested"
    name: Label
    """The asset that holds them."""
    items: int = Field(ge=0)
    """How many were kept."""
    quarantined: int = Field(ge=0)
    """How many were refused; the quarantine says why."""
    digest: Label
    """Of the content, in order."""

    @property
    def stream(self) -> str:
        return f"source:{self.name}"


class DatasetBuilt(Happened):
    """Training splits were written."""

    kind: Literal["dataset.built"] = "dataset.built"
    schema_version: ClassVar[int] = 2
    keep: ClassVar[bool] = True
    name: Label
    """The dataset."""
    digest: Label
    """Of the files: the version, and the name of its folder."""
    rows: dict[str, int]
    """Rows by split."""
    salt: str
    """Of the split: another one is another split."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """Rows that each step left out, by the name of the step."""
    inputs: tuple[str, ...] = ()
    """Digests of what it was built from."""
    log_position: int = Field(ge=0)
    """The end of the log when it was built."""

    @property
    def stream(self) -> str:
        return f"dataset:{self.name}"


class IndexBuilt(Happened):
    """A search index was written."""

    kind: Literal["index.built"] = "index.built"
    schema_version: ClassVar[int] = 2
    keep: ClassVar[bool] = True
    name: Label
    """The collection."""
    digest: Label
    """The version, and the name of its folder."""
    chunks: int = Field(ge=0)
    """How many vectors it holds."""
    dimensions: int = Field(ge=1)
    """Length of a vector."""
    embedding_model: Label
    """The model of the vectors; questions must be embedded by the same."""
    recall_at_10: float | None = Field(default=None, ge=0, le=1)
    """Share of the exact ten nearest that the index finds, on a sample."""
    documents: int | None = Field(default=None, ge=0)
    """How many documents its chunks are from."""
    added: int | None = Field(default=None, ge=0)
    """Chunks that the version before did not hold; None before it was recorded."""
    deleted: int | None = Field(default=None, ge=0)
    """Chunks of the version before that are gone."""

    @property
    def stream(self) -> str:
        return f"index:{self.name}"


class RetrievalEvaluated(Happened):
    """Labelled questions were put to a version of a collection."""

    kind: Literal["retrieval.evaluated"] = "retrieval.evaluated"
    keep: ClassVar[bool] = True
    index: Label
    """The collection."""
    index_digest: Label
    """The version."""
    embedding_model: Label
    """That of the collection, as provider/model."""
    mode: Literal["hybrid", "dense", "lexical"]
    """How it was searched."""
    dataset_digest: Label
    """Of the labelled questions: figures compare only where it is the same."""
    questions: int = Field(ge=1)
    """How many; those without an answer in the collection among them."""
    unanswerable: int = Field(default=0, ge=0)
    """How many have no answer in the collection."""
    metrics: dict[Label, float]
    """`recall@1`, `recall@5`, `recall@10`, `mrr@10`, `ndcg@10`, and where answers were asked for
    `answered`, `answer_precision`, `not_found_precision`, `not_found_recall`,
    `citation_precision`, `faithful`; 0 to 1."""
    answer_model: Label | None = None
    """Who answered, where answers were asked for."""
    latency_ms: float = Field(ge=0)
    """A question's retrieval, on average, in milliseconds."""

    @property
    def stream(self) -> str:
        return f"index:{self.index}:evaluations"


class LogTailLost(Happened):
    """Events that had been acknowledged with durability `kill` did not survive a power failure."""

    kind: Literal["log.tail_lost"] = "log.tail_lost"
    keep: ClassVar[bool] = True
    after_position: int = Field(ge=0)
    """The last position that survived."""
    through_position: int = Field(ge=1)
    """The last position that had been acknowledged."""

    @property
    def stream(self) -> str:
        return "log"


Event = Annotated[
    LlmCallStarted
    | LlmCallRetried
    | LlmCallFinished
    | LlmCallFailed
    | LlmCallAborted
    | LlmCallCrashed
    | LlmCallCached
    | BreakerChanged
    | GuardDecided
    | PromptVersionAdded
    | PromptLabelMoved
    | FeedbackGiven
    | BatchSubmitted
    | BatchProgressed
    | BatchCollected
    | RagAnswered
    | EmbeddingsComputed
    | SourceHarvested
    | DatasetBuilt
    | IndexBuilt
    | RetrievalEvaluated
    | LogTailLost,
    Field(discriminator="kind"),
]
"""Every event. The tag decides the class, so reading never tries one class after another."""

KINDS: Mapping[str, type[Happened]] = {
    cls.model_fields["kind"].default: cls for cls in get_args(get_args(Event)[0])
}
"""Kind to class, derived from the union."""

_adapter: TypeAdapter[Happened] = TypeAdapter(Event)


def parse(fields: Mapping[str, Any]) -> Happened:
    """The event that these fields describe; `kind` decides its class.

    Raises `pydantic.ValidationError`.
    """
    return _adapter.validate_python(fields)


class Recorded(NamedTuple):
    """An event with what the log says of it."""

    position: int
    """Place in the log: 1, 2, 3 ... without gaps, the same for every reader for ever."""
    stream: str
    """The stream that it was appended to."""
    version: int
    """Place in its stream: 1, 2, 3 ..."""
    recorded_at: datetime
    """When it was appended, in UTC; never before its predecessor's."""
    event: Happened
    """What happened."""
