"""The law of budgets: whatever several processes do, in whatever order, what the log counts and what
is in flight never passes a limit, and a call that fits is never refused.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.access.calls import failed, finished, started
from tracemill.access.budgets import Budgets, Estimate, Reservation, Subject
from tracemill.errors import BudgetExceeded
from tracemill.events import LlmCall, LlmCallFinished, LlmCallStarted, new_id
from tracemill.log import EventLog

SUBJECTS = [Subject("k1", "ann"), Subject("k2", "bob")]


class Process(EventLog):
    """A log as a process of its own has it: alive as long as it holds its file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.name = new_id()
        self.live.mkdir(exist_ok=True)
        self.held = os.open(self.live / self.name, os.O_RDWR | os.O_CREAT)
        os.write(self.held, b"0")
        fcntl.flock(self.held, fcntl.LOCK_EX)
        self.budgets = Budgets(self)
        self.calls: dict[str, tuple[Reservation, Subject, str]] = {}

    @property
    def process(self) -> str:
        return self.name


class Machine(RuleBasedStateMachine):
    @initialize(requests=st.integers(1, 8), tokens=st.integers(20, 200))
    def begin(self, requests: int, tokens: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.alive = [Process(self.folder / "log") for _ in range(3)]
        self.change(0, requests, tokens)

    def teardown(self) -> None:
        for process in self.alive:
            os.close(process.held)
            process.close()
        shutil.rmtree(self.folder)

    @rule(which=st.integers(0, 2), requests=st.integers(1, 8), tokens=st.integers(20, 200))
    def change(self, which: int, requests: int, tokens: int) -> None:
        budgets = self.alive[which].budgets
        budgets.add("all", window="month", requests=requests)
        budgets.add("each", scope="user", of="*", window="month", tokens=tokens)
        self.requests, self.tokens = requests, tokens

    @rule(which=st.integers(0, 2), about=st.sampled_from(SUBJECTS), tokens=st.integers(0, 60))
    def reserve(self, which: int, about: Subject, tokens: int) -> None:
        process, call_id = self.alive[which], new_id()
        requests, of_each = self.taken()
        fits = requests + 1 <= self.requests and of_each[about.user_id] + tokens <= self.tokens
        try:
            reserved = process.budgets.reserve(about, Estimate(1, tokens), call_id)
        except BudgetExceeded:
            assert not fits
            return
        assert fits
        process.calls[call_id] = (reserved, about, "reserved")

    @precondition(lambda self: any(p.calls for p in self.alive))
    @rule(data=st.data(), how=st.sampled_from(["start", "finish", "fail", "settle", "settle"]))
    def go_on(self, data: st.DataObject, how: str) -> None:
        """A call takes a step; its end is in the log before it is settled, and sometimes long before."""
        process = data.draw(st.sampled_from([p for p in self.alive if p.calls]), "process")
        call_id = data.draw(st.sampled_from(sorted(process.calls)), "call")
        reserved, about, state = process.calls[call_id]
        begin = [started(call_id, about, process=process.name)] if state == "reserved" else []
        if how == "settle":
            if state == "finished":
                process.budgets.settle(reserved, call_id=call_id)
            else:
                process.budgets.release(reserved)
            del process.calls[call_id]
            if state == "started":  # its end comes later, whoever waits for it
                process.append(finished(call_id, about, 0))
        elif state in ("reserved", "started"):
            tokens = data.draw(st.integers(0, reserved.amounts.tokens), "tokens")
            ends = {"finish": [finished(call_id, about, tokens)], "fail": [failed(call_id, about)]}
            process.append([*begin, *ends.get(how, [])])
            state = {"start": "started", "finish": "finished", "fail": "failed"}[how]
            process.calls[call_id] = (reserved, about, state)

    @rule(which=st.integers(0, 2))
    def die(self, which: int) -> None:
        """Its lock goes with it, and whatever it knew; another one comes."""
        gone = self.alive[which]
        os.close(gone.held)
        gone.close()
        self.alive[which] = Process(self.folder / "log")

    @rule()
    def lose_the_books(self) -> None:
        (self.folder / "cache" / "budgets.db").unlink()
        for process in self.alive:
            process.budgets.all()

    @invariant()
    def the_books_are_what_the_log_says(self) -> None:
        requests, of_each = self.taken()
        open_ = [c for p in self.alive for c in p.calls.values() if c[2] != "finished"]
        for process in self.alive:
            standing = process.budgets.all()
            (all_,) = [s for s in standing if s.name == "all"]
            assert all_.spent_requests + all_.reserved_requests == requests
            assert all_.reserved_requests == len(open_)
            each = {s.of: s.spent_tokens + s.reserved_tokens for s in standing if s.name == "each"}
            assert {u: n for u, n in of_each.items() if n} == {u: n for u, n in each.items() if n}

    def taken(self) -> tuple[int, dict[str | None, int]]:
        """Requests, and tokens of each user: counted from the log, and of what is in flight."""
        requests, of_each = 0, dict.fromkeys((s.user_id for s in SUBJECTS), 0)
        for recorded in self.alive[0].read():
            event = recorded.event
            if isinstance(event, LlmCall) and not isinstance(event, LlmCallStarted):
                requests += 1
                if isinstance(event, LlmCallFinished):
                    of_each[event.user_id] += event.usage.input_tokens
        for process in self.alive:
            for reserved, about, state in process.calls.values():
                if state != "finished":
                    requests += 1
                    of_each[about.user_id] += reserved.amounts.tokens
        return requests, of_each


FULL = bool(os.environ.get("TRACEMILL_TEST_FULL"))
Machine.TestCase.settings = settings(
    deadline=None, max_examples=100 if FULL else 4, stateful_step_count=40 if FULL else 15
)
test_the_law = Machine.TestCase
