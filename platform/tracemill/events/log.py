"""Events of the log itself."""

from typing import ClassVar, Literal

from pydantic import Field

from tracemill.events.happened import Happened


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
