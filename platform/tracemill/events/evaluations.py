"""Events of evaluations: what was measured, with its uncertainty, and what it was held against."""

from typing import ClassVar, Literal

from pydantic import Field

from tracemill.events.happened import Happened, Id, Label, Usd
from tracemill.messages import Value

Outcome = Literal["pass", "fail", "not_enough_data"]


class Measured(Value):
    """A figure with its uncertainty."""

    value: float
    """What was seen."""
    low: float
    """Where the true value lies in 95 of 100 cases: the lower end."""
    high: float
    """The upper end."""
    n: int = Field(ge=0)
    """Over how many cases."""


class Expected(Value):
    """A figure that later ones are held against, and how far they may fall behind."""

    value: float
    """What was seen."""
    direction: Literal["higher", "lower"]
    """Which way is better."""
    tolerance: float = Field(ge=0)
    """How far it may fall behind."""
    relative: bool = False
    """True where the tolerance is a share of the value."""


class Tested(Value):
    """One figure held against another of the same cases."""

    before: float | None = None
    """That of the reference; None where it has none."""
    after: float | None = None
    """That of the candidate; None where it has none."""
    difference: float | None = None
    """After less before, on the cases of both."""
    low: float | None = None
    """Where the true difference lies in 95 of 100 cases: the lower end."""
    high: float | None = None
    """The upper end."""
    p: float | None = None
    """How likely a change for the worse as large as this is where only chance is at work."""
    p_adjusted: float | None = None
    """The same after Holm's correction for all figures that were tested."""
    n: int = Field(ge=0)
    """How many cases both have."""
    test: Label
    """Which test: `mcnemar`, `bootstrap`, or `none`."""
    tolerance: float = Field(ge=0)
    """How far it may fall behind, in its own unit."""
    verdict: Literal["pass", "fail", "not_enough_data", "missing", "new"]
    """`missing`: the candidate lacks what the reference has; `new`: the reverse."""


class Evaluation(Happened):
    """What the events of one evaluation share."""

    evaluation_id: Id
    """The evaluation."""

    @property
    def stream(self) -> str:
        return f"evaluation:{self.evaluation_id}"


class CasesScored(Evaluation):
    """A part of the cases of an evaluation, case by case: what paired tests need."""

    kind: Literal["evaluation.cases_scored"] = "evaluation.cases_scored"
    case_ids: tuple[str, ...]
    """Up to 1,000 cases; a case that was asked several times stands here once."""
    scores: dict[Label, tuple[float | None, ...]]
    """Figure -> its value for each case, the mean over the samples; None where there is none."""
    call_ids: tuple[str | None, ...] = ()
    """The call of each case, the first one of several; None where there was none."""


class EvaluationFinished(Evaluation):
    """Cases were put to a model, or to whatever else was tested, and the answers were judged."""

    kind: Literal["evaluation.finished"] = "evaluation.finished"
    name: Label
    """What was evaluated: a model's name, a suite, a test."""
    model: Label
    """Who answered: a name for `Request.model`, or what else stood in its place."""
    prompt_name: Label | None = None
    """The registered prompt that was used."""
    prompt_version: Label | None = None
    """Its version."""
    dataset: Label
    """The cases: a file in evals/, a split, a view over the log."""
    dataset_digest: Label
    """Of the cases: figures compare only where it is the same."""
    cases: int = Field(ge=0)
    """How many."""
    samples: int = Field(default=1, ge=1)
    """How often each was asked."""
    failed: int = Field(default=0, ge=0)
    """Calls without an answer; they count as wrong."""
    metrics: dict[Label, Measured]
    """Figure -> what was measured."""
    thresholds: dict[Label, float] = Field(default_factory=dict)
    """Figure -> what it has to reach."""
    outcome: Outcome
    """Whether all thresholds are reached, by the ends of the intervals; `pass` without any."""
    reason: str
    """The outcome in a sentence; where data is lacking, how many more cases it takes."""
    cost_usd: Usd | None = None
    """Of all calls; None where a price is not known."""
    latency_ms: float | None = Field(default=None, ge=0)
    """Of a call, the median, in milliseconds."""


class BaselineSet(Happened):
    """An evaluation became what later ones are held against; somebody asked for it."""

    kind: Literal["evaluation.baseline_set"] = "evaluation.baseline_set"
    keep: ClassVar[bool] = True
    name: Label
    """The baseline: the name of what is evaluated."""
    evaluation_id: Id
    """The evaluation."""
    model: Label
    """Who answered."""
    prompt_name: Label | None = None
    """The registered prompt that was used."""
    prompt_version: Label | None = None
    """Its version."""
    dataset: Label
    """The cases."""
    dataset_digest: Label
    """Of the cases."""
    trained_on: Label | None = None
    """The version of the data set that the model was trained on, where it was trained here."""
    case_ids: tuple[str, ...]
    """Which cases."""
    metrics: dict[Label, Expected]
    """Figure -> what is expected of it."""
    reason: str
    """Why, in a sentence."""

    @property
    def stream(self) -> str:
        return f"baseline:{self.name}"


class EvaluationsCompared(Evaluation):
    """An evaluation was held against another one of the same cases."""

    kind: Literal["evaluation.compared"] = "evaluation.compared"
    reference_id: Id
    """The evaluation that it was held against."""
    against: Literal["production", "baseline", "evaluation"]
    """Why that one."""
    name: Label
    """What was evaluated."""
    model: Label
    """The candidate."""
    reference_model: Label
    """The other one."""
    dataset: Label
    """The cases."""
    dataset_digest: Label
    """Of the cases."""
    cases: int = Field(ge=0)
    """How many both have."""
    tests: dict[Label, Tested]
    """Figure -> how it did."""
    outcome: Outcome
    """`fail` where one figure fails, `pass` where all pass."""
    reason: str
    """The outcome in a sentence, with the interval that decided it."""


class ContaminationChecked(Happened):
    """Cases of an evaluation were looked for in what a model learns from."""

    kind: Literal["evaluation.contamination_checked"] = "evaluation.contamination_checked"
    keep: ClassVar[bool] = True
    dataset: Label
    """The cases."""
    dataset_digest: Label
    """Of the cases."""
    trained_on: Label
    """The version of the data set that was searched."""
    split: Label
    """The split of it."""
    cases: int = Field(ge=0)
    """How many."""
    found: int = Field(ge=0)
    """How many of them stand in it, word for word or nearly so."""
    case_ids: tuple[str, ...] = ()
    """Which: the first hundred."""

    @property
    def stream(self) -> str:
        return f"contamination:{self.dataset_digest}"
