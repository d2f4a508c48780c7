"""The log in a folder keeps the contract."""

from pathlib import Path

from tests.log.contract import EventLogContract
from tests.log.made import many
from tracemill.log import EventLog


class TestEventLog(EventLogContract):
    store = EventLog


def test_what_comes_while_the_tail_is_sealed_is_for_the_next_fold(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events")
    log.append(many(50))

    def arrives(*_: object) -> None:
        if log.position() < 60:
            log.append(many(10, start=50))

    assert log.fold(arrives) == 50
    # Who follows closely, as budgets do, reads on without a gap.
    assert log.ended(50, 100) == (60, [])
    assert log.fold() == 10
