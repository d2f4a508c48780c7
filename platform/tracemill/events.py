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

from tracemill.messages import FinishReason, Message, Usage, Value

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
    """`gen_ai.operation.name`: chat, text_completion, embeddings ..."""
    provider: Label
    """`gen_ai.provider.name`: openai, anthropic, local ..."""
    request_model: Label
    """The model that was asked for."""
    conversation_id: Label | None = None
    """The conversation that the call belongs to."""
    user_id: Label | None = None
    """The end user on whose behalf the call was made."""

    @property
    def stream(self) -> str:
        return f"call:{self.call_id}"


class LlmCallStarted(LlmCall):
    """A model call is about to be made: recorded before the request leaves."""

    kind: Literal["llm.call.started"] = "llm.call.started"
    messages: tuple[Message, ...]
    """What is sent."""
    max_output_tokens: int | None = None
    """The limit that was asked for."""


class LlmCallFinished(LlmCall):
    """A model call was answered."""

    kind: Literal["llm.call.finished"] = "llm.call.finished"
    response_model: Label
    """The model that answered."""
    text: str
    """The answer."""
    finish_reasons: tuple[FinishReason, ...]
    """Why the model stopped, one per choice."""
    usage: Usage
    """Tokens, as billed."""
    latency_ms: float = Field(ge=0)
    """From the request to the whole answer, in milliseconds."""
    cost_usd: Usd | None
    """At the price in force when it happened; None where no price is known."""


class LlmCallFailed(LlmCall):
    """A model call ended without an answer."""

    kind: Literal["llm.call.failed"] = "llm.call.failed"
    error_type: Label
    """`error.type`: a word of low cardinality, such as `timeout` or `context_length_exceeded`."""
    error_message: str
    """What went wrong, in a sentence."""
    latency_ms: float = Field(ge=0)
    """From the request to the failure, in milliseconds."""


class RagAnswered(Happened):
    """A question was put to an index; linked to its model call, where one was made."""

    kind: Literal["rag.answered"] = "rag.answered"
    index: Label
    """The collection that was searched."""
    index_digest: Label
    """The version of the index."""
    question: str
    """What was asked."""
    call_id: Id | None
    """The model call that wrote the answer; None when nothing was retrieved."""
    chunk_ids: tuple[str, ...]
    """What was retrieved, best first."""
    scores: tuple[float, ...]
    """Their scores, in the same order; larger is nearer."""
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
    provider: Label
    """Who computed them."""
    request_model: Label
    """The embedding model."""
    dimensions: int = Field(ge=1)
    """Length of a vector."""
    texts: int = Field(ge=0)
    """How many texts were asked for."""
    computed: int = Field(ge=0)
    """How many of them were computed; the rest came from the cache."""
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
    keep: ClassVar[bool] = True
    name: Label
    """The dataset."""
    digest: Label
    """Of the files: the version, and the name of its folder."""
    rows: dict[str, int]
    """Rows by split."""
    seed: int
    """The salt of the split."""
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

    @property
    def stream(self) -> str:
        return f"index:{self.name}"


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
    | LlmCallFinished
    | LlmCallFailed
    | RagAnswered
    | EmbeddingsComputed
    | SourceHarvested
    | DatasetBuilt
    | IndexBuilt
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
