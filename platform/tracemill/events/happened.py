"""What every event has, and the types of its fields."""

import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

import uuid_utils
from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field

from tracemill.messages import Value

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
    erased: Literal[True] | None = None
    """True where texts and names were removed later; `log.erased` says when and why."""

    @property
    def stream(self) -> str:
        """The thing that this event is about; its events are versioned 1, 2, 3 ..."""
        raise NotImplementedError
