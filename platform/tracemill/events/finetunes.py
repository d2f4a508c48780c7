"""Events of fine-tunes and of the models that come of them: a job is a stream, and so is a model."""

from typing import ClassVar, Literal

from pydantic import Field

from tracemill.events.happened import Happened, Id, Label, Usd, Utc
from tracemill.messages import Value

Setting = bool | int | float | str


class TrainingData(Value):
    """A file of examples, as it was handed to a trainer."""

    split: Label
    """The split that its rows are from."""
    sha256: Label
    """Of the bytes."""
    rows: int = Field(ge=0)
    """How many examples."""
    size_bytes: int = Field(ge=0)
    """How many bytes."""


class FineTune(Happened):
    """What the events of one fine-tune share."""

    keep: ClassVar[bool] = True
    job_id: Id
    """The job."""

    @property
    def stream(self) -> str:
        return f"finetune:{self.job_id}"


class FineTuneRequested(FineTune):
    """Somebody wants a model of a split; nothing was sent yet."""

    kind: Literal["finetune.requested"] = "finetune.requested"
    name: Label
    """What the model is called here; its versions share it."""
    provider: Label
    """Who trains: local, subprocess, openai, azure, together, fireworks."""
    base_model: Label
    """What is trained further, in the provider's words."""
    method: Literal["classify", "lm", "supervised", "dpo"]
    """What is learned: a choice of few labels, the text itself, answers, or a preference."""
    hyperparameters: dict[str, Setting] = Field(default_factory=dict)
    """Those that were named; the others are the provider's."""
    seed: int = Field(ge=0)
    """Of all that is random."""
    suffix: Label | None = None
    """Becomes a part of the model's name at the provider."""
    command: tuple[str, ...] = ()
    """For `subprocess`: the program that trains, and its arguments."""
    dataset: Label
    """The data set."""
    dataset_digest: Label
    """Its version: which rows were trained on."""
    training: TrainingData
    """What is learned from."""
    validation: TrainingData | None = None
    """What the loss is watched on."""
    idempotency_key: Label
    """A digest of all that was asked: the same request is the same job."""
    deadline_at: Utc
    """When it is given up."""
    key_id: Label | None = None
    """The key that it was asked for with."""
    metadata: dict[Label, str] = Field(default_factory=dict)
    """Tags of whoever asked."""


class FineTuneValidated(FineTune):
    """The examples were checked, and what training takes was estimated."""

    kind: Literal["finetune.validated"] = "finetune.validated"
    issues: dict[str, int] = Field(default_factory=dict)
    """Warnings by their code; errors end the job instead."""
    trained_tokens: int | None = Field(default=None, ge=0)
    """Tokens that will be trained on, all epochs together; None where nobody can tell."""
    estimated_cost_usd: Usd | None = None
    """What the provider will charge; None where its price is not known."""


class FineTuneUploaded(FineTune):
    """The trainer has a file of examples."""

    kind: Literal["finetune.uploaded"] = "finetune.uploaded"
    part: Literal["training", "validation"]
    """Which file."""
    remote_file_id: Label
    """The provider's id of it."""
    sha256: Label
    """Of the bytes that were sent."""
    rows: int = Field(ge=0)
    """How many examples."""
    size_bytes: int = Field(ge=0)
    """How many bytes."""


class FineTuneCreated(FineTune):
    """The trainer has taken the job."""

    kind: Literal["finetune.created"] = "finetune.created"
    remote_id: Label
    """The provider's id of the job."""
    raw_state: Label
    """The provider's word."""


class FineTuneProgressed(FineTune):
    """The trainer told how far it is."""

    kind: Literal["finetune.progressed"] = "finetune.progressed"
    state: Literal["validating", "queued", "running", "paused", "cancelling", "unknown"]
    """Ours for the provider's word."""
    raw_state: Label
    """The provider's word."""
    step: int | None = Field(default=None, ge=0)
    """Steps that are done; for local models an epoch is a step."""
    total_steps: int | None = Field(default=None, ge=0)
    """How many there will be at most."""
    epoch: float | None = Field(default=None, ge=0)
    """Passes over the examples that are done."""
    loss: float | None = None
    """On the examples that are learned from."""
    metrics: dict[Label, float] = Field(default_factory=dict)
    """What else was measured, such as `validation_loss` and `validation_accuracy`."""
    messages: tuple[str, ...] = ()
    """What the provider said meanwhile, oldest first."""
    cursor: Label | None = None
    """Where the provider's own list of events was read to."""


class FineTuneCheckpointed(FineTune):
    """The trainer kept the model as it was after a step."""

    kind: Literal["finetune.checkpointed"] = "finetune.checkpointed"
    checkpoint_id: Label
    """The provider's id of it; for a local model the name of its file."""
    step: int = Field(ge=0)
    """After which step."""
    metrics: dict[Label, float] = Field(default_factory=dict)
    """How good it is."""


class FineTunePaused(FineTune):
    """Training stands still and can go on."""

    kind: Literal["finetune.paused"] = "finetune.paused"
    raw_state: Label
    """The provider's word."""


class FineTuneResumed(FineTune):
    """Training goes on."""

    kind: Literal["finetune.resumed"] = "finetune.resumed"
    raw_state: Label
    """The provider's word."""


class FineTuneSucceeded(FineTune):
    """There is a model."""

    kind: Literal["finetune.succeeded"] = "finetune.succeeded"
    model: Label
    """How it is called: a name for `Request.model`."""
    model_digest: Label
    """Which version it is: of its artefact's bytes, or of the provider's name for it."""
    trained_tokens: int | None = Field(default=None, ge=0)
    """Tokens that were trained on, all epochs together."""
    cost_usd: Usd | None = None
    """What it cost; None where no price is known."""
    metrics: dict[Label, float] = Field(default_factory=dict)
    """How good it was at its end, on what the loss was watched on."""
    size_bytes: int | None = Field(default=None, ge=0)
    """Of the artefact, where it is here."""


class FineTuneFailed(FineTune):
    """There will be no model."""

    kind: Literal["finetune.failed"] = "finetune.failed"
    error_type: Label
    """A word of low cardinality, such as `invalid_data`, `deadline`, `not_found`."""
    error_message: str
    """What went wrong, in the provider's words where it has some."""
    error_code: Label | None = None
    """The provider's own word for it."""


class FineTuneCancelled(FineTune):
    """Somebody stopped it."""

    kind: Literal["finetune.cancelled"] = "finetune.cancelled"
    reason: str
    """Why."""


class ModelChanged(Happened):
    """What the events of one model share: the versions that were trained under one name."""

    keep: ClassVar[bool] = True
    name: Label
    """The model."""
    digest: Label
    """The version."""

    @property
    def stream(self) -> str:
        return f"model:{self.name}"


class ModelRegistered(ModelChanged):
    """A fine-tune gave a version of a model: a candidate."""

    kind: Literal["model.registered"] = "model.registered"
    model: Label
    """How it is called: a name for `Request.model`."""
    provider: Label
    """Who trained it, and serves it."""
    base_model: Label
    """What it was made of."""
    method: Label
    """How it was trained."""
    job_id: Id
    """The fine-tune."""
    dataset: Label
    """The data set that it was trained on."""
    dataset_digest: Label
    """The version of that."""
    split: Label
    """The split of that."""
    training_sha256: Label
    """Of the file of examples."""
    rows: int = Field(ge=0)
    """How many examples."""
    metrics: dict[Label, float] = Field(default_factory=dict)
    """What the trainer told of it."""
    size_bytes: int | None = Field(default=None, ge=0)
    """Of the artefact, where it is here."""
    training_cost_usd: Usd | None = None
    """What training it cost; None where no price is known."""


class ModelPromoted(ModelChanged):
    """A version is in production from now on."""

    kind: Literal["model.promoted"] = "model.promoted"
    previous: Label | None = None
    """The version that was in production."""
    comparison_id: Id | None = None
    """The comparison that spoke for it."""
    forced: bool = False
    """True where somebody wanted it against, or without, the evidence."""
    reason: str
    """Why, in a sentence."""


class PromotionRefused(ModelChanged):
    """A version stays a candidate, for the evidence does not speak for it."""

    kind: Literal["model.promotion_refused"] = "model.promotion_refused"
    previous: Label | None = None
    """The version that stays in production."""
    comparison_id: Id | None = None
    """The comparison that speaks against it."""
    reason: str
    """Why, with the interval."""


class ModelRolledBack(ModelChanged):
    """An earlier version is in production again."""

    kind: Literal["model.rolled_back"] = "model.rolled_back"
    previous: Label
    """The version that was in production, and is retired."""
    reason: str
    """Why, in a sentence."""


class ModelRetired(ModelChanged):
    """A version is not to be used any more."""

    kind: Literal["model.retired"] = "model.retired"
    reason: str
    """Why, in a sentence."""
