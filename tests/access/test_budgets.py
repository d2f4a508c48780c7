"""Budgets: what passes, what is refused, and that the log is the truth."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.access.calls import failed, finished, made, started
from tracemill.access.budgets import Budgets, Estimate, Standing, Subject
from tracemill.access.keys import Keys
from tracemill.errors import BudgetExceeded, UsageError
from tracemill.events import BudgetAlerted, BudgetRefused, LlmCallCached, new_id
from tracemill.log import EventLog

ANN = Subject(key_id="k1", user_id="ann", tags={"feature": "search"})
BOB = Subject(key_id="k2", user_id="bob", tags={"feature": "chat"})
ONE = Estimate(1, 100, Decimal("0.5"))


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> float:
        return self.now.timestamp()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


def use(budgets: Budgets, log: EventLog, about: Subject, estimate: Estimate = ONE, **took: Any):
    """A whole call."""
    call_id = new_id()
    reserved = budgets.reserve(about, estimate, call_id)
    log.append([started(call_id, about), finished(call_id, about, **took)])
    budgets.settle(reserved, call_id=call_id)


def used(standing: Standing) -> tuple[int, int, Decimal]:
    return standing.spent_requests, standing.spent_tokens, standing.spent_usd


def test_without_a_budget_all_passes_and_no_file_is_made(log: EventLog) -> None:
    budgets = Budgets(log)
    for _ in range(3):
        use(budgets, log, ANN)
    assert not budgets.any
    assert budgets.all() == []
    assert not (log.folder.parent / "cache").exists()


@pytest.mark.parametrize(
    ("limit", "passes"),
    [({"requests": 3}, 3), ({"tokens": 1_000}, 10), ({"usd": Decimal("2.5")}, 5)],
)
def test_a_call_that_does_not_fit_is_refused_with_the_reason_and_the_reset(
    log: EventLog, limit: dict[str, Any], passes: int
) -> None:
    budgets = Budgets(log)
    budgets.add("all", window="month", **limit)
    for _ in range(passes):
        budgets.reserve(ANN, ONE, new_id())
    call_id = new_id()
    with pytest.raises(BudgetExceeded, match=r"budget all: .* this month.*it resets at") as refused:
        budgets.reserve(ANN, ONE, call_id)
    (measure, most) = next(iter(limit.items()))
    error = refused.value
    assert (error.budget, error.measure, error.limit) == ("all", measure, most)
    assert (error.spent, error.reserved) == (0, most)
    assert 0 < error.reset_s <= 31 * 86_400
    (event,) = [r.event for r in log.read(kinds=["budget.refused"])]
    assert isinstance(event, BudgetRefused)
    assert (event.call_id, event.key_id, event.measure) == (call_id, "k1", measure)
    assert event.limit == event.reserved == most


def test_what_a_call_took_takes_the_place_of_what_was_reserved(log: EventLog) -> None:
    budgets = Budgets(log)
    budgets.add("all", window="day", tokens=1_000, usd=Decimal(5))
    for _ in range(50):
        use(budgets, log, ANN, tokens=10, usd="0.01")
    (all_,) = budgets.all()
    assert used(all_) == (50, 500, Decimal("0.5"))
    assert (all_.reserved_tokens, all_.left_tokens, all_.left_usd) == (0, 500, Decimal("4.5"))
    with pytest.raises(BudgetExceeded, match="500 of 1,000 tokens are used this day"):
        budgets.reserve(ANN, Estimate(1, 501), new_id())


def test_calls_of_before_the_budget_and_of_others_than_the_server_count(log: EventLog) -> None:
    log.append(made(ANN, 7))
    budgets = Budgets(log)
    budgets.add("all", window="day", requests=10)
    log.append(made(BOB, 2))
    use(budgets, log, ANN)
    with pytest.raises(BudgetExceeded, match="10 of 10 requests"):
        budgets.reserve(ANN, ONE, new_id())


def test_each_scope_counts_its_own(log: EventLog) -> None:
    key, _ = Keys(log).create("app", team="core")
    ann = Subject(key.key_id, "ann", "core", {"feature": "search"})
    budgets = Budgets(log)
    for name, scope, of in (
        ("everything", "everything", None),
        ("the key", "key", key.key_id),
        ("each user", "user", "*"),
        ("team", "team", "core"),
        ("search", "tag", "feature=search"),
        ("each feature", "tag", "feature=*"),
        ("others", "team", "sales"),
    ):
        budgets.add(name, scope=scope, of=of, window="day", requests=100)  # pyright: ignore[reportArgumentType]
    for _ in range(3):
        use(budgets, log, ann)
    use(budgets, log, BOB)
    held = budgets.reserve(ann, ONE, new_id())
    found = {(s.name, s.of): (s.spent_requests, s.reserved_requests) for s in budgets.all()}
    assert found == {
        ("everything", None): (4, 1),
        ("the key", key.key_id): (3, 1),
        ("each user", "ann"): (3, 1),
        ("each user", "bob"): (1, 0),
        ("team", "core"): (3, 1),
        ("search", "feature=search"): (3, 1),
        ("each feature", "feature=search"): (3, 1),
        ("each feature", "feature=chat"): (1, 0),
        ("others", "sales"): (0, 0),
    }
    budgets.release(held)
    assert {s.reserved_requests for s in budgets.all()} == {0}


def test_one_user_who_is_over_does_not_stop_another(log: EventLog) -> None:
    budgets = Budgets(log)
    budgets.add("each", scope="user", of="*", window="day", requests=1)
    use(budgets, log, ANN)
    with pytest.raises(BudgetExceeded, match="budget each of ann"):
        budgets.reserve(ANN, ONE, new_id())
    use(budgets, log, BOB)


def test_what_failed_before_it_was_sent_is_no_request_and_what_failed_after_is(
    log: EventLog,
) -> None:
    budgets = Budgets(log)
    budgets.add("all", window="day", requests=10)
    for attempts in (0, 1):
        call_id = new_id()
        reserved = budgets.reserve(ANN, ONE, call_id)
        log.append([started(call_id, ANN), failed(call_id, ANN, attempts)])
        budgets.release(reserved)
    cached = LlmCallCached(
        call_id=new_id(),
        provider="openai",
        request_model="m",
        cached_call_id=new_id(),
        latency_ms=1,
    )
    log.append(cached)
    (all_,) = budgets.all()
    assert (used(all_), all_.reserved_requests) == ((2, 0, Decimal(0)), 0)


def test_a_failed_call_stays_reserved_while_another_model_is_asked(log: EventLog) -> None:
    budgets = Budgets(log)
    budgets.add("all", window="day", requests=2)
    other = Budgets(log)
    call_id, fallback = new_id(), new_id()
    reserved = budgets.reserve(ANN, ONE, call_id)
    log.append([started(call_id, ANN), failed(call_id, ANN)])
    log.append(started(fallback, ANN))
    with pytest.raises(BudgetExceeded, match=r"1 of 2 requests are used.* 1 are reserved"):
        other.reserve(ANN, ONE, new_id())
    log.append(finished(fallback, ANN))
    budgets.settle(reserved, call_id=fallback)
    assert [(s.spent_requests, s.reserved_requests) for s in other.all()] == [(2, 0)]


def test_a_call_without_a_price_counts_its_tokens_and_is_told(log: EventLog) -> None:
    budgets = Budgets(log)
    budgets.add("all", window="day", usd=Decimal(1), tokens=100)
    use(budgets, log, ANN, Estimate(1, 20), tokens=20, usd=None)
    (all_,) = budgets.all()
    assert (used(all_), all_.unpriced) == ((1, 20, Decimal(0)), 1)
    shown = log.sql("SELECT spent_usd, spent_tokens, unpriced FROM budgets").row(0)
    assert shown == (Decimal(0), 20, 1)


def test_a_window_ends_by_the_calendar(log: EventLog) -> None:
    clock = Clock()
    budgets = Budgets(log, clock=clock)
    budgets.add("hour", window="hour", requests=1)
    budgets.add("month", window="month", requests=2)
    log.append(made(ANN, at=clock.now))
    with pytest.raises(BudgetExceeded, match="budget hour"):
        budgets.reserve(ANN, ONE, new_id())
    clock.now = (clock.now + timedelta(days=32)).replace(day=1)
    held = budgets.reserve(ANN, ONE, new_id())
    by_name = {s.name: s for s in budgets.all()}
    assert {name: s.spent_requests for name, s in by_name.items()} == {"hour": 0, "month": 0}
    start = clock.now.replace(minute=0, second=0, microsecond=0)
    assert by_name["hour"].resets_at == start + timedelta(hours=1)
    assert by_name["month"].resets_at == (start.replace(hour=0) + timedelta(days=31)).replace(day=1)
    budgets.release(held)


def test_a_call_in_flight_counts_for_the_window_in_which_it_ends(log: EventLog) -> None:
    clock = Clock()
    budgets = Budgets(log, clock=clock)
    budgets.add("minute", window="minute", requests=1)
    call_id = new_id()
    reserved = budgets.reserve(ANN, ONE, call_id)
    clock.now += timedelta(minutes=1)
    with pytest.raises(BudgetExceeded, match="1 are reserved"):
        budgets.reserve(ANN, ONE, new_id())
    log.append([started(call_id, ANN), finished(call_id, ANN, occurred_at=clock.now)])
    budgets.settle(reserved, call_id=call_id)
    with pytest.raises(BudgetExceeded, match="1 of 1 requests are used"):
        budgets.reserve(ANN, ONE, new_id())


def test_an_alert_lets_calls_through_and_is_told_once_in_a_window_by_whomever(
    log: EventLog,
) -> None:
    budgets = Budgets(log)
    budgets.add("warn", window="month", requests=2, action="alert")
    other = Budgets(log)
    for each in (budgets, other, budgets, other, budgets):
        use(each, log, ANN)
    (path,) = (log.folder.parent / "cache").glob("budgets.db")
    path.unlink()
    use(Budgets(log), log, ANN)
    (event,) = [r.event for r in log.read(kinds=["budget.alerted"])]
    assert isinstance(event, BudgetAlerted)
    assert (event.budget, event.spent + event.reserved, event.limit) == ("warn", 2, 2)
    assert budgets.all()[0].spent_requests == 6


def test_a_budget_of_the_same_name_is_replaced_and_one_that_is_removed_is_gone(
    log: EventLog,
) -> None:
    budgets, other = Budgets(log), Budgets(log)
    budgets.add("all", window="day", requests=1)
    use(other_with(other), log, ANN)
    budgets.add("all", window="day", requests=2)
    held = other_with(other).reserve(ANN, ONE, new_id())
    with pytest.raises(BudgetExceeded, match="1 of 2 requests"):
        budgets.reserve(ANN, ONE, new_id())
    budgets.remove("all")
    assert not other_with(other).any
    other.settle(held)
    with pytest.raises(UsageError, match="there is no budget 'all'; there are: none"):
        budgets.remove("all")


def other_with(budgets: Budgets) -> Budgets:
    """After it has looked for what others have set."""
    budgets.all()
    return budgets


def test_a_new_budget_knows_what_others_have_in_flight(log: EventLog) -> None:
    budgets, other = Budgets(log), Budgets(log)
    budgets.add("all", window="day", requests=100)
    held = [other.reserve(ANN, ONE, new_id()) for _ in range(3) if other.all()]
    budgets.add("ann", scope="user", of="ann", window="day", requests=5)
    (ann,) = [s for s in budgets.all() if s.name == "ann"]
    assert (ann.reserved_requests, ann.left_requests) == (3, 2)
    for each in held:
        other.release(each)
    assert [s.reserved_requests for s in budgets.all()] == [0, 0]


def test_settling_twice_changes_nothing_and_one_call_is_reserved_once(log: EventLog) -> None:
    budgets = Budgets(log)
    budgets.add("all", window="day", requests=10)
    call_id = new_id()
    reserved = budgets.reserve(ANN, ONE, call_id)
    with pytest.raises(UsageError, match="is reserved for already"):
        budgets.reserve(ANN, ONE, call_id)
    for _ in range(2):
        budgets.settle(reserved)
        budgets.release(reserved)
    (all_,) = budgets.all()
    assert (all_.spent_requests, all_.reserved_requests) == (0, 0)


@pytest.mark.parametrize("damage", ["gone", "garbage", "folder"])
def test_without_its_file_the_state_is_the_same(log: EventLog, damage: str) -> None:
    budgets = Budgets(log)
    budgets.add("all", window="month", requests=100, tokens=10_000, usd=Decimal(50))
    budgets.add("each", scope="tag", of="feature=*", window="day", requests=50)
    other = Budgets(log)
    for each, about in ((budgets, ANN), (other, BOB), (other, ANN)):
        use(each, log, about)
    held = [budgets.reserve(ANN, ONE, new_id()), other.reserve(BOB, ONE, new_id())]
    before = budgets.all()
    folder = log.folder.parent / "cache"
    if damage == "gone":
        (folder / "budgets.db").unlink()
    elif damage == "garbage":
        (folder / "budgets.db").write_bytes(b"nonsense" * 1_000)
    else:
        shutil.rmtree(folder)
    assert other.all() != []
    assert budgets.all() == before
    for each in held:
        budgets.release(each)
        other.release(each)
    assert {s.reserved_requests for s in budgets.all()} == {0}


def test_calls_that_were_sealed_meanwhile_are_counted_too(log: EventLog) -> None:
    budgets, other = Budgets(log), Budgets(log)
    budgets.add("all", window="month", requests=100)
    call_id = new_id()
    reserved = other.reserve(ANN, ONE, call_id) if other.all() else None
    log.append([started(call_id, ANN), finished(call_id, ANN), *made(BOB, 5)])
    log.fold()
    (all_,) = budgets.all()
    assert (all_.spent_requests, all_.reserved_requests) == (6, 0)
    assert reserved is not None
    other.settle(reserved, call_id=call_id)
    assert budgets.all() == [all_]


def test_who_is_forgotten_is_counted_no_more(log: EventLog) -> None:
    budgets = Budgets(log)
    budgets.add("each", scope="user", of="*", window="month", requests=100)
    use(budgets, log, ANN)
    use(budgets, log, BOB)
    held = log.of_person("ann")
    log.erase(held.positions, reason="forgotten", figures=True)
    assert [(s.of, s.spent_requests) for s in budgets.all()] == [("bob", 1)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": " "}, "needs a name"),
        ({}, "limits nothing"),
        ({"scope": "user", "requests": 1}, "which user"),
        ({"scope": "tag", "of": "feature", "requests": 1}, "a tag is written"),
        ({"of": "ann", "requests": 1}, "for everything"),
        ({"requests": -1}, "requests: Input should be greater than or equal to 0"),
        ({"window": "year", "requests": 1}, "window"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_in_one_line(
    log: EventLog, given: dict[str, Any], said: str
) -> None:
    wrong: dict[str, Any] = {"name": "b", "window": "day", **given}
    with pytest.raises(UsageError, match=said) as refused:
        Budgets(log).add(**wrong)
    assert "\n" not in str(refused.value)
    assert log.position() == 0


def test_a_call_that_can_never_fit_is_refused(log: EventLog) -> None:
    budgets = Budgets(log)
    budgets.add("none", scope="key", of="k1", window="minute", usd=Decimal(0))
    with pytest.raises(BudgetExceeded, match=r"0 of 0 USD are used .* may take 0\.5"):
        budgets.reserve(ANN, ONE, new_id())
    budgets.reserve(BOB, ONE, new_id())
