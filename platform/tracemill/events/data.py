"""Events of data: what was harvested, built, indexed and asked."""

from typing import ClassVar, Literal

from pydantic import Field

from tracemill.events.happened import Happened, Id, Label


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
