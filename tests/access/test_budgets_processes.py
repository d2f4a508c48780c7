"""Budgets among real processes: exact under load, and free again when one is killed."""

import json
from pathlib import Path
from subprocess import Popen

import pytest

from tests.access.calls import process
from tracemill.access.budgets import Budgets, Estimate, Subject
from tracemill.errors import BudgetExceeded
from tracemill.events import new_id
from tracemill.log import EventLog

ANN = Subject("k1", "ann")
HAMMER = """
import sys, threading, json
from tests.access.calls import finished, started
from tests.access.test_budgets_processes import ANN
from tracemill.access.budgets import Budgets, Estimate
from tracemill.errors import BudgetExceeded
from tracemill.events import new_id
from tracemill.log import EventLog
log = EventLog(sys.argv[1])
budgets = Budgets(log)
passed = []
def use():
    refused = 0
    while refused < 3:
        call_id = new_id()
        try:
            reserved = budgets.reserve(ANN, Estimate(1, 10), call_id)
        except BudgetExceeded:
            refused += 1
            continue
        passed.append(call_id)
        if len(passed) % 5:
            log.append([started(call_id, ANN), finished(call_id, ANN, 10)])
            budgets.settle(reserved, call_id=call_id)
threads = [threading.Thread(target=use) for _ in range(8)]
print("ready", flush=True)
sys.stdin.readline()
for t in threads: t.start()
for t in threads: t.join()
print(json.dumps(passed), flush=True)
sys.stdin.readline()
"""
HOLD = """
import sys
from tests.access.calls import started
from tests.access.test_budgets_processes import ANN
from tracemill.access.budgets import Budgets, Estimate
from tracemill.events import new_id
from tracemill.log import EventLog
from tracemill.log import presence
log = EventLog(sys.argv[1])
budgets = Budgets(log)
for number in range(10):
    call_id = new_id()
    budgets.reserve(ANN, Estimate(1, 10), call_id)
    if number < 4:
        log.append(started(call_id, ANN, process=log.process))
        presence.began(call_id)
print("ready", flush=True)
sys.stdin.readline()
"""


def said(child: "Popen[str]") -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: "Popen[str]") -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


@pytest.mark.parametrize("limit", [1_000])
def test_of_two_processes_with_eight_threads_each_exactly_the_limit_passes(
    tmp_path: Path, limit: int
) -> None:
    with EventLog(tmp_path / "log") as log:
        budgets = Budgets(log)
        budgets.add("all", window="month", requests=limit)
        children = [process(HAMMER, str(log.folder)) for _ in range(2)]
        try:
            assert [said(child) for child in children] == ["ready", "ready"]
            for child in children:
                tell(child)
            passed = [json.loads(said(child)) for child in children]
            assert sum(map(len, passed)) == limit
            assert all(passed)
            (all_,) = budgets.all()
            assert (all_.spent_requests + all_.reserved_requests, all_.left_requests) == (limit, 0)
            # Every fifth was reserved for and never made.
            made = sum(1 for _ in log.read(kinds=["llm.call.finished"]))
            assert (all_.spent_requests, all_.spent_tokens) == (made, 10 * made)
        finally:
            for child in children:
                child.communicate("\n")
        (all_,) = budgets.all()
        assert (all_.spent_requests, all_.reserved_requests) == (made, 0)


def test_what_a_killed_process_had_reserved_is_free_and_its_calls_are_counted(
    tmp_path: Path,
) -> None:
    with EventLog(tmp_path / "log") as log:
        budgets = Budgets(log)
        budgets.add("all", window="month", requests=10)
        child = process(HOLD, str(log.folder))
        assert said(child) == "ready"
        with pytest.raises(BudgetExceeded, match="10 are reserved"):
            budgets.reserve(ANN, Estimate(), new_id())
        child.kill()
        child.communicate()
        held = [budgets.reserve(ANN, Estimate(), new_id()) for _ in range(6)]
        with pytest.raises(BudgetExceeded, match=r"4 of 10 requests are used.* 6 are reserved"):
            budgets.reserve(ANN, Estimate(), new_id())
        assert sum(1 for _ in log.read(kinds=["llm.call.crashed"])) == 4
        for each in held:
            budgets.release(each)
        (all_,) = Budgets(log).all()
        assert (all_.spent_requests, all_.reserved_requests) == (4, 0)


def test_a_forked_child_has_nothing_in_flight(tmp_path: Path) -> None:
    import multiprocessing

    with EventLog(tmp_path / "log") as log:
        budgets = Budgets(log)
        budgets.add("all", window="month", requests=2)
        mine = budgets.reserve(ANN, Estimate(), new_id())

        def settles() -> None:
            budgets.release(mine)
            budgets.reserve(ANN, Estimate(), new_id())

        child = multiprocessing.get_context("fork").Process(target=settles)
        child.start()
        child.join()
        assert child.exitcode == 0
        assert [s.reserved_requests for s in budgets.all()] == [1]
        budgets.release(mine)
        assert [s.reserved_requests for s in budgets.all()] == [0]
