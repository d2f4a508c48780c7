"""Whether cases of an evaluation stand in what a model learned from."""

from typing import TYPE_CHECKING

from tracemill.events import ContaminationChecked

if TYPE_CHECKING:
    from tracemill.log import EventLog
    from tracemill.quality.cases import Cases
    from tracemill.settings import Settings


def check(
    log: "EventLog", settings: "Settings", cases: "Cases", trained_on: str, split: str = "train"
) -> ContaminationChecked:
    """Look for the cases in a split of a version of the data set, and tell the log."""
    raise NotImplementedError
