"""Budgets: what calls may take in a minute, an hour, a day or a month, reserved before they are made.

The log is the truth: what was spent is the sum over the ends of calls in it. Reservations are kept
beside it, in a file that all processes of the machine share, so that calls that are made at once
cannot overrun a budget together. Without that file the sums are made anew from the log.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import apsw
from pydantic import ValidationError
from pydantic_core import to_json

from tracemill.access import books
from tracemill.access.books import Line
from tracemill.access.ledger import Ledger, Reservation
from tracemill.access.limits import (
    EACH,
    MEASURES,
    NANO,
    NOTHING,
    Amounts,
    Budget,
    Count,
    Estimate,
    Span,
    Subject,
    check,
    moment,
)
from tracemill.errors import BudgetExceeded, UsageError
from tracemill.events import BudgetAlerted, BudgetRefused, BudgetRemoved, BudgetSet
from tracemill.events.access import Measure, Scope, Window
from tracemill.log import EventLog

__all__ = ["Budget", "BudgetExceeded", "Budgets", "Estimate", "Reservation", "Standing", "Subject"]

_Places = list[tuple[Budget, Count]]
_US = 1_000_000
_ALERTS_KNOWN = 10_000  # the log knows them all; these need not be sent to it again


@dataclass(frozen=True)
class Standing:
    """Where a budget stands, or one share of a budget that each has apart."""

    name: str
    scope: Scope
    of: str | None
    window: Window
    action: str
    requests: int | None
    spent_requests: int
    reserved_requests: int
    left_requests: int | None
    tokens: int | None
    spent_tokens: int
    reserved_tokens: int
    left_tokens: int | None
    usd: Decimal | None
    spent_usd: Decimal
    reserved_usd: Decimal
    left_usd: Decimal | None
    unpriced: int
    """Calls without a known price: they count no dollars."""
    resets_at: datetime


class _Over(NamedTuple):
    """Which limit a call would pass."""

    budget: Budget
    where: Count
    span: Span
    measure: Measure
    limit: int
    spent: int
    reserved: int
    asked: int


class Budgets:
    """The budgets of one log. Threads may share it; processes have one each."""

    def __init__(self, log: EventLog, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970, which all processes share."""
        self._log, self._clock = log, clock
        self._ledger = Ledger(log, clock)
        self._alerted: set[str] = set()

    # Which there are

    @property
    def any(self) -> bool:
        """Whether there is any budget."""
        self._ledger.look_now_and_then()
        return bool(self._ledger.budgets)

    def add(
        self,
        name: str,
        *,
        scope: Scope = "everything",
        of: str | None = None,
        window: Window,
        requests: int | None = None,
        tokens: int | None = None,
        usd: Decimal | None = None,
        action: Literal["refuse", "alert"] = "refuse",
        actor: str | None = None,
    ) -> Budget:
        """Set a budget; one of the same name is replaced. What this window has seen counts already.

        Args:
            of: which key, user, team or tag (`feature=search`); `*`, or `feature=*`, is each apart.
            window: of the calendar, in UTC.
            action: what is done with a call that does not fit.

        Raises `UsageError`.
        """
        check(Budget(name, scope, of, window, requests, tokens, usd, action))
        try:
            event = BudgetSet(
                name=name,
                scope=scope,
                of=of,
                window=window,
                requests=requests,
                tokens=tokens,
                usd=usd,
                action=action,
                actor=actor,
            )
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            raise UsageError(f"budget {name}: {first['loc'][0]}: {first['msg']}") from None
        self._log.append(event, durability="power")
        self._ledger.look()
        return self._ledger.budgets[name]

    def remove(self, name: str, *, actor: str | None = None) -> None:
        """Raises `UsageError`: there is none."""
        self._ledger.look()
        if name not in self._ledger.budgets:
            known = ", ".join(sorted(self._ledger.budgets)) or "none"
            raise UsageError(f"there is no budget {name!r}; there are: {known}")
        self._log.append(BudgetRemoved(name=name, actor=actor), durability="power")
        self._ledger.look()

    def all(self) -> list[Standing]:
        """Where each budget stands. One that each has apart has a line for each that was seen."""
        ledger = self._ledger
        ledger.look()
        if not ledger.budgets:
            return []
        ledger.bury()

        def read(connection: apsw.Connection) -> list[Standing]:
            ledger.read_on(connection)
            budgets = ledger.budgets
            fixed = {count for budget in budgets.values() for count in _fixed(budget)}
            seen = {count for count in books.counts(connection) if count.budget in budgets}
            spans = ledger.spans()
            standing: list[Standing] = []
            for count in sorted(fixed | seen):
                budget = budgets[count.budget]
                line = books.line(connection, count, spans[budget.window].starts)
                if count in fixed or any(line.spent) or any(line.held):
                    standing.append(_standing(budget, count, line, spans[budget.window]))
            # Of those that each has apart: nobody was seen yet.
            for name in sorted(budgets.keys() - {each.name for each in standing}):
                budget = budgets[name]
                line = Line(NOTHING, NOTHING, 0)
                nobody = Count(name, budget.of or "")
                standing.append(_standing(budget, nobody, line, spans[budget.window]))
            return standing

        return ledger.do(read)

    # One call

    def reserve(self, about: Subject, estimate: Estimate, call_id: str) -> Reservation:
        """Room for a call in every budget that it counts for.

        Raises `BudgetExceeded`, with an event; `LogError` where the books cannot be kept.
        """
        ledger = self._ledger
        ledger.look_now_and_then()
        if not ledger.budgets or not ledger.places(about):
            return Reservation(call_id)
        subject = to_json((about.key_id, about.user_id, about.team, about.tags)).decode()
        wanted = Reservation(call_id, estimate.amounts(), subject)
        over = self._tried(wanted, about)
        if over and ledger.bury():
            over = self._tried(wanted, about)
        if over:
            raise self._refused(over, about, call_id)
        return wanted

    def settle(self, reservation: Reservation, *, call_id: str | None = None) -> None:
        """The call is over, and its end is in the log: that says what it took.

        `call_id` is the call that was made. Where it is the one that was reserved for, the log tells
        all processes, and the books are written later; else they are at once.
        """
        self._ledger.closed(reservation, at_once=call_id != reservation.call_id)

    def release(self, reservation: Reservation) -> None:
        """The call was not made, or failed: what the log says of it is all that it took."""
        self._ledger.closed(reservation, at_once=True)

    def _tried(self, wanted: Reservation, about: Subject) -> _Over | None:
        """Reserve, or tell the limit that does not allow it."""
        ledger = self._ledger

        def work(connection: apsw.Connection) -> _Over | None:
            if read := ledger.due:
                ledger.read_on(connection)
            places = ledger.places(about)
            overs = self._counted(connection, places, wanted.amounts)
            if overs and not read:
                _take_back(connection, places, wanted.amounts)
                ledger.read_on(connection)
                overs = self._counted(connection, places, wanted.amounts)
            for over in overs:
                if over.budget.action == "refuse":
                    _take_back(connection, places, wanted.amounts)
                    return over
            for over in overs:
                self._alert(over, about, wanted.call_id)
            if not ledger.hold(connection, wanted):
                raise UsageError(f"call {wanted.call_id} is reserved for already")
            return None

        over = ledger.do(work)
        if over is None:
            ledger.opened(wanted)
        return over

    def _counted(self, connection: apsw.Connection, places: _Places, asked: Amounts) -> list[_Over]:
        """Add to what is reserved; returns the limits that are passed then, one of a budget."""
        spans = self._ledger.spans()
        found: list[_Over] = []
        for budget, count in places:
            span = spans[budget.window]
            spent, held, _ = books.count_held(connection, count, asked, span.starts)
            for at, limit in enumerate(budget.limits):
                if limit is not None and spent[at] + held[at] > limit:
                    others = held[at] - asked[at]
                    more = (MEASURES[at], limit, spent[at], others, asked[at])
                    found.append(_Over(budget, count, span, *more))
                    break
        return found

    # Decisions

    def _refused(self, over: _Over, about: Subject, call_id: str) -> BudgetExceeded:
        self._log.append(BudgetRefused(**_facts(over, about, call_id)))
        limit, spent, reserved, asked = (_amount(over, value) for value in over[4:])
        reset_s = max(over.span.ends / _US - self._clock(), 0.0)
        budget = over.budget
        whose = f" of {over.where.who}" if over.where.who and over.where.who != budget.of else ""
        unit = "USD" if over.measure == "usd" else over.measure
        return BudgetExceeded(
            f"budget {budget.name}{whose}: {spent:,f} of {limit:,f} {unit} are used this "
            f"{budget.window}, {reserved:,f} are reserved for calls in flight, and this call may take "
            f"{asked:,f}; it resets at {moment(over.span.ends):%Y-%m-%d %H:%M} UTC",
            budget=budget.name,
            measure=over.measure,
            limit=limit,
            spent=spent,
            reserved=reserved,
            reset_s=reset_s,
        )

    def _alert(self, over: _Over, about: Subject, call_id: str) -> None:
        # Its id follows from what it says, so that the log takes it once, whoever comes to it.
        name = f"{over.where.who}\n{over.span.starts}"
        event_id = str(uuid.uuid5(uuid.UUID(over.budget.set_by), name))
        if event_id not in self._alerted:
            self._log.append(BudgetAlerted(event_id=event_id, **_facts(over, about, call_id)))
            if len(self._alerted) >= _ALERTS_KNOWN:
                self._alerted.clear()
            self._alerted.add(event_id)


def _take_back(connection: apsw.Connection, places: _Places, amounts: Amounts) -> None:
    for _, count in places:
        books.count_held(connection, count, amounts.negative())


def _fixed(budget: Budget) -> list[Count]:
    """The counts that a budget has whether or not anything was called."""
    if budget.scope == "everything":
        return [Count(budget.name, "")]
    of = budget.of or ""
    return [] if of == EACH or of.endswith(f"={EACH}") else [Count(budget.name, of)]


def _facts(over: _Over, about: Subject, call_id: str) -> dict[str, Any]:
    """What a decision says of itself."""
    amounts = (
        _amount(over, value) for value in (over.limit, over.spent, over.reserved, over.asked)
    )
    return {
        "budget": over.budget.name,
        "of": _label(over.where.who),
        "measure": over.measure,
        **dict(zip(("limit", "spent", "reserved", "asked"), amounts, strict=True)),
        "window_from": moment(over.span.starts),
        "window_until": moment(over.span.ends),
        "call_id": call_id,
        "key_id": _label(about.key_id),
        "user_id": _label(about.user_id),
    }


def _label(text: str | None) -> str | None:
    return "".join(filter(str.isprintable, text))[:200] or None if text else None


def _amount(over: _Over, value: int) -> Decimal:
    return Decimal(value) / NANO if over.measure == "usd" else Decimal(value)


def _usd(nanos: int) -> Decimal:
    return Decimal(nanos) / NANO


def _standing(budget: Budget, count: Count, line: Line, span: Span) -> Standing:
    left = [
        None if limit is None else max(limit - spent - held, 0)
        for limit, spent, held in zip(budget.limits, line.spent, line.held, strict=True)
    ]
    return Standing(
        budget.name,
        budget.scope,
        count.who or None,
        budget.window,
        budget.action,
        *(budget.requests, line.spent.requests, line.held.requests, left[0]),
        *(budget.tokens, line.spent.tokens, line.held.tokens, left[1]),
        *(budget.usd, _usd(line.spent.nanos), _usd(line.held.nanos)),
        None if left[2] is None else _usd(left[2]),
        line.unpriced,
        moment(span.ends),
    )
