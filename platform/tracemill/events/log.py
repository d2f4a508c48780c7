"""Events of the log itself."""

from typing import ClassVar, Literal

from pydantic import Field

from tracemill.events.happened import Happened, Label
from tracemill.messages import Value


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


class Positions(Value):
    """Neighbouring positions of the log."""

    first: int = Field(ge=1)
    last: int = Field(ge=1)


class LogErased(Happened):
    """Events were emptied, for a person who is to be forgotten or because they were old: recorded
    before the first of them is, so that what is found emptied is always vouched for."""

    kind: Literal["log.erased"] = "log.erased"
    keep: ClassVar[bool] = True
    reason: Literal["forgotten", "retention"]
    """Why."""
    positions: tuple[Positions, ...]
    """Which events."""
    figures: bool
    """True where counts, times, models and costs stay and only texts and names go."""
    counts: dict[Label, int]
    """Events by their kind."""

    @property
    def stream(self) -> str:
        return "log"


class EventRemoved(Happened):
    """Stands in the place of an event that was emptied whole: it has its position, and nothing of it."""

    kind: Literal["log.event_removed"] = "log.event_removed"
    was: Label
    """The kind of event that stood here."""

    @property
    def stream(self) -> str:
        return "removed"


class PersonForgotten(Happened):
    """All that was known of a person was removed, and a search found nothing more. Who it was is
    not recorded."""

    kind: Literal["person.forgotten"] = "person.forgotten"
    keep: ClassVar[bool] = True
    events: dict[Label, int] = Field(default_factory=dict)
    """Events that were emptied, by their kind."""
    removed: dict[Label, int] = Field(default_factory=dict)
    """What was removed elsewhere, by place: rows, entries or files."""
    rebuild: tuple[Label, ...] = ()
    """What was deleted because it held the person, and must be built again."""
    models: tuple[Label, ...] = ()
    """Models that were trained on rows of the person: they remember what no search finds."""
    searched_files: int = Field(ge=0)
    """How many files the search read afterwards."""
    left: dict[Label, int] = Field(default_factory=dict)
    """Where the search still found the person; empty when all is gone."""

    @property
    def stream(self) -> str:
        return "log"
