"""The circuit breaker: what opens it, what does not, and that one probe at most is out."""

import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from tracemill.errors import CallFailed
from tracemill.events import BreakerChanged
from tracemill.llm.breaker import (
    FIRST_OPEN_S,
    ILL,
    LONGEST_OPEN_S,
    MEMORY_S,
    MIN_FAILURES,
    PROBE_LOST_S,
    WINDOW_S,
    Breaker,
    Change,
    Ticket,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def error(kind: str = "overloaded", status: int | None = 529) -> CallFailed:
    return CallFailed(kind, "the text of a prompt", status=status, retry=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("openai/gpt-x", clock=clock)


def fail(breaker: Breaker, times: int = 1, kind: str = "overloaded") -> list[Change]:
    changes = [breaker.failed(breaker.enter(), error(kind)) for _ in range(times)]
    return [change for change in changes if change]


def succeed(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.succeeded(breaker.enter()) is None


def opened(breaker: Breaker) -> Breaker:
    assert [change.state for change in fail(breaker, MIN_FAILURES)] == ["open"]
    return breaker


def refused(breaker: Breaker) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        breaker.enter()
    assert (caught.value.error_type, caught.value.retry) == ("circuit_open", True)
    return caught.value


def probe(breaker: Breaker, clock: Clock) -> Ticket:
    clock.now += refused(breaker).retry_after_s or 0
    return breaker.enter()


# What opens it


def test_quick_failures_among_long_streams_are_few(breaker: Breaker) -> None:
    streams = [breaker.enter() for _ in range(20)]
    for ticket in streams:
        breaker.heard(ticket)
    assert fail(breaker, 10) == []
    assert [breaker.succeeded(ticket) for ticket in streams[:10]] == [None] * 10
    # A stream that breaks counts, though it had begun: 20 of 40.
    changes = [breaker.failed(ticket, error("connection")) for ticket in streams[10:]]
    assert [change for change in changes if change] == changes[-1:]
    assert breaker.state == "open"


def test_what_is_heard_when_it_is_open_changes_nothing(breaker: Breaker) -> None:
    late = breaker.enter()
    opened(breaker)
    breaker.heard(late)
    assert breaker.succeeded(late) is None
    assert breaker.state == "open"


def test_five_failures_open_it_and_say_why_and_for_how_long(breaker: Breaker) -> None:
    assert fail(breaker, 4) == []
    assert fail(breaker) == [
        Change(
            "open",
            "5 of 5 attempts failed within 30 s; the latest: overloaded (status 529)",
            FIRST_OPEN_S,
        )
    ]
    refusal = refused(breaker)
    assert refusal.retry_after_s == FIRST_OPEN_S
    assert str(refusal) == (
        "openai/gpt-x is not called: 5 of 5 attempts failed within 30 s; the latest: overloaded "
        "(status 529); the next probe in 10.0 s: wait so long, or name another model to fall back to"
    )


def test_a_change_is_an_event(breaker: Breaker) -> None:
    (change,) = fail(breaker, 5)
    event = BreakerChanged(provider="openai", request_model="gpt-x", **change._asdict())
    assert (event.state, event.retry_after_s) == ("open", FIRST_OPEN_S)


def test_successes_count_two_failures_among_a_hundred_do_not_open_it(breaker: Breaker) -> None:
    fail(breaker, 4)
    succeed(breaker, 100)
    assert fail(breaker, 50) == []
    assert breaker.state == "closed"


def test_half_of_the_results_open_it(breaker: Breaker) -> None:
    succeed(breaker, 6)
    assert fail(breaker, 5) == []
    assert [change.reason for change in fail(breaker)] == [
        "6 of 12 attempts failed within 30 s; the latest: overloaded (status 529)"
    ]


def test_failures_are_forgotten_when_the_window_has_passed(breaker: Breaker, clock: Clock) -> None:
    succeed(breaker)
    fail(breaker, 4)
    clock.now += WINDOW_S + 1
    succeed(breaker, 4)
    assert fail(breaker, 3) == []
    assert breaker.state == "closed"


def test_a_model_that_is_called_seldom_is_judged_by_its_last_five(
    breaker: Breaker, clock: Clock
) -> None:
    for _ in range(4):
        assert fail(breaker, kind="timeout") == []
        clock.now += 65
    assert [c.reason for c in fail(breaker, kind="timeout")] == [
        "the last 5 attempts failed; the latest: timeout (status 529)"
    ]


def test_one_success_among_the_last_five_keeps_a_seldom_called_model_closed(
    breaker: Breaker, clock: Clock
) -> None:
    for _ in range(5):
        fail(breaker, 3)
        clock.now += 65
        succeed(breaker)
        clock.now += 65
    assert breaker.state == "closed"


def test_five_failures_over_days_do_not_open_it(breaker: Breaker, clock: Clock) -> None:
    for _ in range(20):
        assert fail(breaker) == []
        clock.now += MEMORY_S / 3.9


@pytest.mark.parametrize("kind", sorted(ILL))
def test_the_provider_s_failures_count(breaker: Breaker, kind: str) -> None:
    assert len(fail(breaker, 5, kind)) == 1


@pytest.mark.parametrize(
    "kind",
    [
        "invalid_request",
        "authentication",
        "permission_denied",
        "billing",
        "not_found",
        "conflict",
        "request_too_large",
        "context_length_exceeded",
        "content_filter",
        "rate_limited",
        "missing_key",
        "limit_reached",
        "guard",
        "interrupted",
        "internal_error",
    ],
)
def test_the_caller_s_failures_do_not_count(breaker: Breaker, clock: Clock, kind: str) -> None:
    assert fail(breaker, 50, kind) == []
    ticket = probe(opened(breaker), clock)
    assert breaker.failed(ticket, error(kind)) is None
    assert breaker.state == "half_open"
    # The probe told nothing: the next to enter is the probe.
    assert breaker.succeeded(breaker.enter()) == Change("closed", "the probe was answered")


def test_a_cancelled_attempt_is_neither_success_nor_failure(breaker: Breaker) -> None:
    for _ in range(50):
        breaker.left(breaker.enter())
    assert len(fail(breaker, 5)) == 1


# While it is open


def test_it_stays_open_for_its_time_and_then_lets_one_probe_through(
    breaker: Breaker, clock: Clock
) -> None:
    opened(breaker)
    clock.now += FIRST_OPEN_S - 0.5
    assert refused(breaker).retry_after_s == 0.5
    clock.now += 0.5
    ticket = breaker.enter()
    assert ticket.change == Change("half_open", "one probe after 10 s")
    for _ in range(50):
        assert refused(breaker).retry_after_s == 1


def test_failures_of_calls_begun_before_do_not_extend_it(breaker: Breaker, clock: Clock) -> None:
    late = [breaker.enter() for _ in range(20)]
    opened(breaker)
    clock.now += 7
    assert [breaker.failed(ticket, error()) for ticket in late] == [None] * 20
    assert refused(breaker).retry_after_s == 3


def test_late_results_do_not_decide_the_probe(breaker: Breaker, clock: Clock) -> None:
    late = [breaker.enter() for _ in range(3)]
    opened(breaker)
    ticket = probe(breaker, clock)
    assert breaker.succeeded(late[0]) is None
    assert breaker.failed(late[1], error()) is None
    breaker.left(late[2])
    assert breaker.state == "half_open"
    refused(breaker)  # the probe is still out
    assert breaker.succeeded(ticket) == Change("closed", "the probe was answered")


def test_late_failures_do_not_count_after_it_has_closed(breaker: Breaker, clock: Clock) -> None:
    late = [breaker.enter() for _ in range(20)]
    opened(breaker)
    breaker.succeeded(probe(breaker, clock))
    assert [breaker.failed(ticket, error()) for ticket in late] == [None] * 20
    assert fail(breaker, 4) == []


# Half open


def test_after_a_successful_probe_it_begins_anew(breaker: Breaker, clock: Clock) -> None:
    breaker.succeeded(probe(opened(breaker), clock))
    assert breaker.state == "closed"
    assert fail(breaker, 4) == []
    assert len(fail(breaker)) == 1
    assert refused(breaker).retry_after_s == FIRST_OPEN_S


def test_each_failed_probe_doubles_the_wait_up_to_a_cap(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    waits: list[float | None] = []
    for _ in range(7):
        change = breaker.failed(probe(breaker, clock), error("timeout", None))
        assert change is not None
        assert change[:2] == ("open", "the probe failed: timeout")
        assert refused(breaker).retry_after_s == change.retry_after_s
        waits.append(change.retry_after_s)
    assert waits == [20, 40, 80, 160, LONGEST_OPEN_S, LONGEST_OPEN_S, LONGEST_OPEN_S]
    breaker.succeeded(probe(breaker, clock))
    opened(breaker)
    assert refused(breaker).retry_after_s == FIRST_OPEN_S


def test_a_cancelled_probe_is_followed_by_another(breaker: Breaker, clock: Clock) -> None:
    first = probe(opened(breaker), clock)
    breaker.left(first)
    second = breaker.enter()
    assert second.change is None
    # The first one is spent: it can neither free nor decide the second.
    breaker.left(first)
    assert breaker.succeeded(first) is None
    refused(breaker)
    assert breaker.succeeded(second) == Change("closed", "the probe was answered")


def test_a_probe_that_never_comes_back_is_replaced(breaker: Breaker, clock: Clock) -> None:
    lost = probe(opened(breaker), clock)
    clock.now += PROBE_LOST_S - 1
    refused(breaker)
    clock.now += 1
    ticket = breaker.enter()
    assert breaker.failed(lost, error()) is None
    assert breaker.succeeded(ticket) == Change("closed", "the probe was answered")


def test_a_ticket_counts_once(breaker: Breaker) -> None:
    ticket, given_up = breaker.enter(), breaker.enter()
    breaker.left(given_up)
    assert breaker.failed(given_up, error()) is None
    assert [breaker.failed(ticket, error()) for _ in range(20)] == [None] * 20
    assert fail(breaker, 3) == []
    assert len(fail(breaker)) == 1


def test_its_time_is_no_clock_that_can_be_set() -> None:
    assert inspect.signature(Breaker).parameters["clock"].default is time.monotonic


def test_breakers_are_apart(clock: Clock) -> None:
    opened(Breaker("openai/a", clock=clock))
    Breaker("openai/b", clock=clock).enter()


def test_its_words_hold_nothing_of_the_provider_s_message(breaker: Breaker) -> None:
    (change,) = fail(breaker, 5)
    assert "prompt" not in change.reason + str(refused(breaker))


def test_of_many_threads_one_is_the_probe(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += FIRST_OPEN_S
    together = threading.Barrier(16)

    def ask() -> Ticket | None:
        together.wait()
        try:
            return breaker.enter()
        except CallFailed:
            return None

    with ThreadPoolExecutor(16) as threads:
        tickets = [future.result() for future in [threads.submit(ask) for _ in range(16)]]
    assert sum(ticket is not None for ticket in tickets) == 1


def test_threads_that_fail_together_open_it_once(breaker: Breaker) -> None:
    tickets = [breaker.enter() for _ in range(64)]
    with ThreadPoolExecutor(16) as threads:
        changes = list(threads.map(lambda ticket: breaker.failed(ticket, error()), tickets))
    assert [change.state for change in changes if change] == ["open"]


# Whatever happens


class AnyHistory(RuleBasedStateMachine):
    """Attempts that overlap and end in any order, and time that passes."""

    out = Bundle("out")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker("any/model", clock=self.clock)
        self.state, self.changed_at, self.open_s = "closed", self.clock.now, 0.0
        self.ended: list[tuple[float, bool]] = []  # since the last change
        self.begun_in: dict[int, int] = {}  # ticket to the number of changes before it
        self.changes = 0
        self.probe: Ticket | None = None
        self.probe_since = 0.0

    def note(self, change: Change) -> None:
        legal = {"closed": {"open"}, "open": {"half_open"}, "half_open": {"open", "closed"}}
        assert change.state in legal[self.state]
        assert (change.retry_after_s is not None) == (change.state == "open")
        self.state, self.changed_at, self.probe = change.state, self.clock.now, None
        self.open_s = change.retry_after_s or 0.0
        self.ended.clear()
        self.changes += 1

    @rule(target=out)
    def enter(self) -> Ticket | None:
        now = self.clock.now
        try:
            ticket = self.breaker.enter()
        except CallFailed as caught:
            self.refused(caught.retry_after_s or 0, now)
            return None
        if ticket.change:
            assert ticket.change.state == "half_open"
            assert now >= self.changed_at + self.open_s
            self.note(ticket.change)
        if self.state == "half_open":
            assert self.probe is None or now - self.probe_since >= PROBE_LOST_S
            self.probe, self.probe_since = ticket, now
        else:
            assert self.state == "closed"
        self.begun_in[id(ticket)] = self.changes
        return ticket

    def refused(self, retry_after_s: float, now: float) -> None:
        assert retry_after_s > 0
        if self.state == "open":
            assert retry_after_s == self.changed_at + self.open_s - now
        else:
            assert self.state == "half_open"
            assert self.probe is not None
            assert now - self.probe_since < PROBE_LOST_S

    def current(self, ticket: Ticket) -> bool:
        return self.begun_in[id(ticket)] == self.changes and (
            self.state == "closed" or ticket is self.probe
        )

    @rule(ticket=consumes(out), kind=st.sampled_from(["overloaded", "timeout", "rate_limited"]))
    def fail(self, ticket: Ticket | None, kind: str) -> None:
        if ticket is None:
            return
        current, was = self.current(ticket), self.state
        change = self.breaker.failed(ticket, error(kind))
        if not current or kind not in ILL:
            assert change is None
            if current and was == "half_open":
                self.probe = None
        elif was == "half_open":
            assert change is not None
            assert change.state == "open"
            assert FIRST_OPEN_S < (change.retry_after_s or 0) <= LONGEST_OPEN_S
        else:
            self.ended.append((self.clock.now, True))
            ill = [then for then, failed in self.ended if failed]
            if len(ill) < MIN_FAILURES:
                assert change is None
            elif all(failed and self.clock.now == then for then, failed in self.ended):
                assert change is not None
        if change:
            self.note(change)

    @rule(ticket=consumes(out))
    def succeed(self, ticket: Ticket | None) -> None:
        if ticket is None:
            return
        current, was = self.current(ticket), self.state
        change = self.breaker.succeeded(ticket)
        assert (change is not None) == (current and was == "half_open")
        if change:
            assert change.state == "closed"
            self.note(change)
        elif current:
            self.ended.append((self.clock.now, False))

    @rule(ticket=consumes(out))
    def leave(self, ticket: Ticket | None) -> None:
        if ticket is not None:
            if ticket is self.probe and self.current(ticket):
                self.probe = None
            self.breaker.left(ticket)

    @rule(seconds=st.sampled_from([0.1, 1.0, 9.9, 10.0, 31.0, 300.0, 901.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.state == "closed")
    @rule()
    def go_down(self) -> None:
        # Opens it soon, so that the other states are visited often.
        for _ in range(MIN_FAILURES):
            if self.state == "closed":
                self.fail(self.enter(), "timeout")

    @invariant()
    def states_agree(self) -> None:
        assert self.breaker.state == self.state


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyHistory = AnyHistory.TestCase
