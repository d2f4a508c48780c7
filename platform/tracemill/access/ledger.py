"""The books of the budgets as one process keeps them: opened, read on from the log, made anew.

What was spent is read from the ends of calls in the log. What is reserved is in the books alone; each
process knows its own, and puts it back where the books were lost.
"""

import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import apsw
from pydantic_core import from_json

from tracemill.access import books
from tracemill.access.books import Held, State
from tracemill.access.keys import Keys
from tracemill.access.limits import (
    NOTHING,
    Amounts,
    Budget,
    Calendar,
    Count,
    Span,
    Subject,
    count_for,
)
from tracemill.access.sums import Sums
from tracemill.errors import LogError
from tracemill.events import BudgetRemoved, BudgetSet
from tracemill.events.access import Window
from tracemill.log import EventLog, presence
from tracemill.log.crashed import close_crashed
from tracemill.log.database import Database, writing

STREAM = "budgets"
"""Of the events that set budgets and remove them."""
_LOOK_S = 0.05
"""How soon a process sees budgets that another one has set."""
_READ_S = 0.25
_MANY = 32
"""The log is read on after this time, or so many calls: near a limit always."""
_TRIES = 10
_PAGE = 2_000
_US = 1_000_000
T = TypeVar("T")


@dataclass(frozen=True)
class Reservation:
    """Room for one call. Settle or release it; a second time changes nothing."""

    call_id: str
    amounts: Amounts = NOTHING
    subject: str = ""
    """As JSON; empty where no budget is concerned."""


class _Stale(Exception):
    """The books were kept for other budgets, or from another log, or what comes next was sealed."""

    def __init__(self, *, sealed: bool = False) -> None:
        self.sealed = sealed


class Ledger:
    """The books, and which budgets they are kept for. Threads may share it."""

    def __init__(self, log: EventLog, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since 1970, which all processes share."""
        self.clock = clock
        self.budgets: Mapping[str, Budget] = {}
        self._log, self._keys = log, Keys(log)
        path = log.folder.parent / "cache" / books.FILE
        self._database = Database(
            path, schema=books.SCHEMA, version=books.VERSION, name="books of the budgets"
        )
        self._loading = threading.Lock()
        self._calendar = Calendar()
        self._version = -1
        self._edition = self._file = ""
        self._seen: object = None
        self._look_at = self._read_at = 0.0
        self._begin_anew()
        self.look()

    def _begin_anew(self) -> None:
        """Nothing is in flight: at the start, and in a forked child."""
        self._pid = os.getpid()
        self._open: dict[str, Reservation] = {}
        self._over: deque[str] = deque()

    # Which budgets there are

    def look_now_and_then(self) -> None:
        """`look`, where that was some time ago."""
        if time.monotonic() >= self._look_at or self._pid != os.getpid():
            self.look()

    def look(self) -> None:
        """See which budgets there are, and that the books are kept for these."""
        if self._pid != os.getpid():
            self._begin_anew()
        self._load()
        self._look_at = time.monotonic() + _LOOK_S
        if self.budgets:
            self.do(lambda _: None)

    def _load(self) -> None:
        seen = self._log.version(STREAM), self._log.edition
        with self._loading:
            if seen != (self._version, self._edition):
                self.budgets, self._version = _folded(self._log)
                self._edition = seen[1]

    def spans(self) -> Mapping[Window, Span]:
        """The windows that are open now."""
        return self._calendar.now(int(self.clock() * _US))

    def places(self, subject: Subject) -> list[tuple[Budget, Count]]:
        """The budgets that a call of somebody counts for, and where."""
        return _places(self.budgets, subject)

    # One call

    @property
    def due(self) -> bool:
        """Whether the log should be read on now."""
        return len(self._over) >= _MANY or time.monotonic() >= self._read_at

    def hold(self, connection: apsw.Connection, each: Reservation) -> bool:
        """A call is in flight; False where it was already. Its counts are another matter."""
        call = Held(each.call_id, self._log.process, each.subject, each.amounts)
        return books.hold(connection, call)

    def opened(self, reservation: Reservation) -> None:
        """It is in the books: from now on this process answers for it."""
        self._open[reservation.call_id] = reservation

    def closed(self, reservation: Reservation, *, at_once: bool) -> None:
        """The call is over. Unless it must be `at_once`, the books are written with later ones."""
        if not reservation.subject or self._pid != os.getpid():
            return
        if self._open.pop(reservation.call_id, None) is None:
            return
        self._over.append(reservation.call_id)
        if at_once or self.due:
            # The answer is here: that the books cannot be written now must not cost it.
            with suppress(LogError):
                self.do(self.read_on)

    # The books

    def do(self, work: Callable[[apsw.Connection], T]) -> T:
        """What `work` makes of the books, in one transaction; they are made anew if need be."""

        def kept(connection: apsw.Connection) -> T:
            known = self._edition, self._version
            with writing(connection):
                if self._seen != (connection, connection.data_version(), known):
                    file = self._checked(connection, known)
                else:
                    file = self._file
                done = work(connection)
            self._file, self._seen = file, (connection, connection.data_version(), known)
            return done

        for _ in range(_TRIES):
            try:
                done: Any = self._database.do(kept, _FAILED)
            except _Stale as stale:
                self._load()
                self._recount(even_so=stale.sealed)
                continue
            if done is not _FAILED:
                return done
            break
        raise LogError(
            "the books of the budgets cannot be kept, so no call is made: see the warning before "
            "this; cache/budgets.db in the warehouse may be deleted, it is made anew from the log"
        )

    def _checked(self, connection: apsw.Connection, known: tuple[str, int]) -> str:
        """Which file the books are, after somebody else has written to them."""
        state = books.state(connection)
        if state is None or (state.edition, state.budgets) != known:
            raise _Stale
        if state.file != self._file and self._open:
            self._bring(connection, state.position)
        return state.file

    def _bring(self, connection: apsw.Connection, position: int) -> None:
        """The books were begun anew: put what is in flight here into them."""
        mine = dict(self._open)
        ended = Sums(self.budgets, self._keys).ended_among(self._log, mine, position)
        for call_id in mine.keys() - ended:
            if self.hold(connection, mine[call_id]):
                self._count_held(connection, mine[call_id].subject, mine[call_id].amounts)

    def _count_held(self, connection: apsw.Connection, subject: str, amounts: Amounts) -> None:
        for _, count in self.places(Subject(*from_json(subject))):
            books.count_held(connection, count, amounts)

    def read_on(self, connection: apsw.Connection) -> None:
        """Read what the log says since, and let go of what is over."""
        # These were over before the log is read, so that it has their ends.
        over = [self._over.popleft() for _ in range(len(self._over))]
        try:
            position, sums = self._read(connection)
            books.spend(connection, sums.within(self.spans()))
            ended = sums.over & books.held_ids(connection) if sums.over else set[str]()
            self._let_go(connection, {*over, *ended})
            books.read_up_to(connection, position)
        except BaseException:
            self._over.extend(over)
            raise
        self._read_at = time.monotonic() + _READ_S

    def _read(self, connection: apsw.Connection) -> tuple[int, Sums]:
        """What happened behind the position of the books, and up to where."""
        state = books.state(connection)
        assert state is not None
        position, sums = state.position, Sums(self.budgets, self._keys)
        while True:
            more = self._log.ended(position, _PAGE)
            if more is None:
                raise _Stale(sealed=True)
            last, ends = more
            sums.add(ends)
            if last - position < _PAGE:
                return last, sums
            position = last

    def _let_go(self, connection: apsw.Connection, calls: Collection[str]) -> None:
        for subject, amounts in books.take(connection, calls) if calls else ():
            self._count_held(connection, subject, amounts.negative())

    def _recount(self, *, even_so: bool) -> None:
        """Make the books anew from the log; what is in flight stays in them."""
        budgets, version, edition = self.budgets, self._version, self._edition
        was = self._database.do(books.state, None)
        if was and (was.edition, was.budgets) == (edition, version) and not even_so:
            return
        same = was is not None and was.edition == edition
        file = was.file if was and same else secrets.token_hex(8)
        position = self._log.position()
        in_flight = self._database.do(books.held_ids, set[str]())
        sums = Sums(budgets, self._keys)
        spent = sums.recounted(self._log, self.spans(), position)
        ended = sums.ended_among(self._log, in_flight, position) if same else set[str]()

        def work(connection: apsw.Connection) -> None:
            with writing(connection):
                now = books.state(connection)
                if (now and now[:3]) != (was and was[:3]):
                    return  # somebody else did
                books.clear(connection, held_too=not same)
                books.take(connection, ended)
                for each in books.held(connection):
                    for _, count in _places(budgets, Subject(*from_json(each.subject))):
                        books.count_held(connection, count, each.amounts)
                books.spend(connection, spent)
                # From here it is read on, whatever others have read meanwhile.
                books.set_state(connection, State(edition, file, version, position))

        self._database.do(work, None)

    def bury(self) -> bool:
        """Let go of what processes had reserved that are no more; whether there were any."""
        mine = self._log.process
        found: list[str] = self._database.do(books.processes, [])
        dead = {p for p in found if p != mine and not presence.lives(self._log.live, p)}
        if not dead:
            return False
        # First their calls get an end, which counts; then what they had reserved is free.
        close_crashed(self._log)

        def work(connection: apsw.Connection) -> None:
            self.read_on(connection)
            theirs = {each.call_id for each in books.held(connection) if each.process in dead}
            self._let_go(connection, theirs)

        self.do(work)
        return True


_FAILED = object()


def _folded(log: EventLog) -> tuple[dict[str, Budget], int]:
    """The budgets that hold, and the version of their stream."""
    found: dict[str, Budget] = {}
    version = 0
    for recorded in log.read(stream=STREAM):
        version = recorded.version
        match recorded.event:
            case BudgetSet() as e:
                limits = (e.requests, e.tokens, e.usd)
                found[e.name] = Budget(
                    e.name, e.scope, e.of, e.window, *limits, e.action, e.event_id
                )
            case BudgetRemoved() as e:
                found.pop(e.name, None)
            case _:
                pass
    return found, version


def _places(budgets: Mapping[str, Budget], subject: Subject) -> list[tuple[Budget, Count]]:
    return [
        (budget, count)
        for budget in budgets.values()
        if (count := count_for(budget, subject)) is not None
    ]
