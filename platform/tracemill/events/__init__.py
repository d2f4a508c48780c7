"""Everything that can happen: one frozen class each, in the past tense, and their union at the end.

An event is a fact. What it says of itself is in the modules here, a subject each; what the log says
of it (position, version in its stream, time of recording) is `Recorded`. To add one: write the
class, put it into `Event`.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import Field, TypeAdapter

from tracemill.events.access import (
    BudgetAlerted,
    BudgetRefused,
    BudgetRemoved,
    BudgetSet,
    KeyCreated,
    KeyRevoked,
    KeyRotated,
)
from tracemill.events.calls import (
    AnswerWithdrawn,
    BatchCollected,
    BatchProgressed,
    BatchSubmitted,
    BreakerChanged,
    FeedbackGiven,
    GuardDecided,
    LlmCall,
    LlmCallAborted,
    LlmCallCached,
    LlmCallCrashed,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallRetried,
    LlmCallStarted,
    PromptLabelMoved,
    PromptVersionAdded,
)
from tracemill.events.data import (
    DatasetBuilt,
    EmbeddingsComputed,
    IndexBuilt,
    RagAnswered,
    RetrievalEvaluated,
    SourceHarvested,
)
from tracemill.events.evaluations import (
    BaselineSet,
    CasesScored,
    ContaminationChecked,
    EvaluationFinished,
    EvaluationsCompared,
    Expected,
    Measured,
    Outcome,
    Tested,
)
from tracemill.events.files import (
    FileBatchRequested,
    FileBatchWritten,
    FileDeleted,
    FileStored,
    WrongLine,
)
from tracemill.events.finetunes import (
    FineTuneCancelled,
    FineTuneCheckpointed,
    FineTuneCreated,
    FineTuneFailed,
    FineTunePaused,
    FineTuneProgressed,
    FineTuneRequested,
    FineTuneResumed,
    FineTuneSucceeded,
    FineTuneUploaded,
    FineTuneValidated,
    ModelPromoted,
    ModelRegistered,
    ModelRetired,
    ModelRolledBack,
    PromotionRefused,
    TrainingData,
)
from tracemill.events.happened import Happened, Id, Label, Usd, Utc, new_id
from tracemill.events.jobs import (
    JobCallbackTold,
    JobCancelled,
    JobEnded,
    JobFilesDeleted,
    JobItemFailed,
    JobItemFinished,
    JobItemParked,
    JobItemRetried,
    JobRetried,
    JobSubmitted,
)
from tracemill.events.log import EventRemoved, LogErased, LogTailLost, PersonForgotten, Positions
from tracemill.events.operations import (
    AlertAcknowledged,
    AlertDelivered,
    AlertRaised,
    AlertResolved,
    BackupMade,
)

__all__ = [
    "KINDS",
    "AlertAcknowledged",
    "AlertDelivered",
    "AlertRaised",
    "AlertResolved",
    "AnswerWithdrawn",
    "BackupMade",
    "BaselineSet",
    "BatchCollected",
    "BatchProgressed",
    "BatchSubmitted",
    "BreakerChanged",
    "BudgetAlerted",
    "BudgetRefused",
    "BudgetRemoved",
    "BudgetSet",
    "CasesScored",
    "ContaminationChecked",
    "DatasetBuilt",
    "EmbeddingsComputed",
    "EvaluationFinished",
    "EvaluationsCompared",
    "Event",
    "EventRemoved",
    "Expected",
    "FeedbackGiven",
    "FileBatchRequested",
    "FileBatchWritten",
    "FileDeleted",
    "FileStored",
    "FineTuneCancelled",
    "FineTuneCheckpointed",
    "FineTuneCreated",
    "FineTuneFailed",
    "FineTunePaused",
    "FineTuneProgressed",
    "FineTuneRequested",
    "FineTuneResumed",
    "FineTuneSucceeded",
    "FineTuneUploaded",
    "FineTuneValidated",
    "GuardDecided",
    "Happened",
    "Id",
    "IndexBuilt",
    "JobCallbackTold",
    "JobCancelled",
    "JobEnded",
    "JobFilesDeleted",
    "JobItemFailed",
    "JobItemFinished",
    "JobItemParked",
    "JobItemRetried",
    "JobRetried",
    "JobSubmitted",
    "KeyCreated",
    "KeyRevoked",
    "KeyRotated",
    "Label",
    "LlmCall",
    "LlmCallAborted",
    "LlmCallCached",
    "LlmCallCrashed",
    "LlmCallFailed",
    "LlmCallFinished",
    "LlmCallRetried",
    "LlmCallStarted",
    "LogErased",
    "LogTailLost",
    "Measured",
    "ModelPromoted",
    "ModelRegistered",
    "ModelRetired",
    "ModelRolledBack",
    "Outcome",
    "PersonForgotten",
    "Positions",
    "PromotionRefused",
    "PromptLabelMoved",
    "PromptVersionAdded",
    "RagAnswered",
    "Recorded",
    "RetrievalEvaluated",
    "SourceHarvested",
    "Tested",
    "TrainingData",
    "Usd",
    "Utc",
    "WrongLine",
    "new_id",
    "parse",
]

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
    | AnswerWithdrawn
    | BatchSubmitted
    | BatchProgressed
    | BatchCollected
    | RagAnswered
    | EmbeddingsComputed
    | SourceHarvested
    | DatasetBuilt
    | IndexBuilt
    | RetrievalEvaluated
    | FineTuneRequested
    | FineTuneValidated
    | FineTuneUploaded
    | FineTuneCreated
    | FineTuneProgressed
    | FineTuneCheckpointed
    | FineTunePaused
    | FineTuneResumed
    | FineTuneSucceeded
    | FineTuneFailed
    | FineTuneCancelled
    | ModelRegistered
    | ModelPromoted
    | PromotionRefused
    | ModelRolledBack
    | ModelRetired
    | CasesScored
    | EvaluationFinished
    | BaselineSet
    | EvaluationsCompared
    | ContaminationChecked
    | AlertRaised
    | AlertDelivered
    | AlertAcknowledged
    | AlertResolved
    | BackupMade
    | KeyCreated
    | KeyRotated
    | KeyRevoked
    | BudgetSet
    | BudgetRemoved
    | BudgetRefused
    | BudgetAlerted
    | FileStored
    | FileDeleted
    | FileBatchRequested
    | FileBatchWritten
    | JobSubmitted
    | JobCancelled
    | JobEnded
    | JobRetried
    | JobFilesDeleted
    | JobCallbackTold
    | JobItemFinished
    | JobItemFailed
    | JobItemParked
    | JobItemRetried
    | LogTailLost
    | LogErased
    | EventRemoved
    | PersonForgotten,
    Field(discriminator="kind"),
]
"""Every event. The tag decides the class, so reading never tries one class after another."""

KINDS: Mapping[str, type[Happened]] = {
    cls.model_fields["kind"].default: cls for cls in get_args(get_args(Event)[0])
}
"""Kind to class, derived from the union."""


@cache
def _adapter() -> TypeAdapter[Happened]:
    return TypeAdapter(Event)


def parse(fields: Mapping[str, Any]) -> Happened:
    """The event that these fields describe; `kind` decides its class.

    Raises `pydantic.ValidationError`.
    """
    return _adapter().validate_python(fields)


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
