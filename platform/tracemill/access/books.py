"""The books of the budgets: what calls took and what is reserved, in a SQLite file of derived data.

What was spent is a sum over the ends of calls up to a position of the log, in the window that is open
now; whoever comes next reads on from there. Everything here happens within a transaction that someone
else has opened.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import apsw

from tracemill.access.limits import NOTHING, Amounts, Count
from tracemill.log.database import run

FILE = "budgets.db"
VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS state(
  id INTEGER PRIMARY KEY CHECK (id = 1), edition TEXT NOT NULL, file TEXT NOT NULL,
  budgets INTEGER NOT NULL, position INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS count(
  budget TEXT NOT NULL, who TEXT NOT NULL, starts INTEGER NOT NULL DEFAULT 0,
  requests INTEGER NOT NULL DEFAULT 0, tokens INTEGER NOT NULL DEFAULT 0,
  nanos INTEGER NOT NULL DEFAULT 0, unpriced INTEGER NOT NULL DEFAULT 0,
  held_requests INTEGER NOT NULL DEFAULT 0, held_tokens INTEGER NOT NULL DEFAULT 0,
  held_nanos INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (budget, who));
CREATE TABLE IF NOT EXISTS held(
  call_id TEXT PRIMARY KEY, process TEXT NOT NULL, subject TEXT NOT NULL,
  requests INTEGER NOT NULL, tokens INTEGER NOT NULL, nanos INTEGER NOT NULL) WITHOUT ROWID;
"""
_LINE = """SELECT starts, requests, tokens, nanos, unpriced, held_requests, held_tokens, held_nanos
FROM count WHERE budget = ? AND who = ?"""
_HOLD = """INSERT INTO count(budget, who, held_requests, held_tokens, held_nanos)
VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  held_requests = held_requests + excluded.held_requests,
  held_tokens = held_tokens + excluded.held_tokens,
  held_nanos = held_nanos + excluded.held_nanos
RETURNING starts, requests, tokens, nanos, unpriced, held_requests, held_tokens, held_nanos"""
# A later window begins anew; what ended in an earlier one counts no more.
_SPEND = """INSERT INTO count(budget, who, starts, requests, tokens, nanos, unpriced)
VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  requests = excluded.requests + iif(excluded.starts = starts, requests, 0),
  tokens = excluded.tokens + iif(excluded.starts = starts, tokens, 0),
  nanos = excluded.nanos + iif(excluded.starts = starts, nanos, 0),
  unpriced = excluded.unpriced + iif(excluded.starts = starts, unpriced, 0),
  starts = excluded.starts
WHERE excluded.starts >= starts"""
_ADD_HELD = "INSERT INTO held VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_TAKE_HELD = """DELETE FROM held WHERE call_id IN (SELECT value FROM json_each(?))
RETURNING subject, requests, tokens, nanos"""


class State(NamedTuple):
    """What the books say of themselves."""

    edition: str
    """Of the log that they were kept from."""
    file: str
    """Differs when the books were begun anew: then each process brings what it has in flight."""
    budgets: int
    """The version of the stream of budgets that they know."""
    position: int
    """Ends of calls up to here are in the sums."""


class Line(NamedTuple):
    """What is known of one count."""

    spent: Amounts
    held: Amounts
    unpriced: int
    """Calls in the sums whose price is not known: their dollars are 0."""


class Held(NamedTuple):
    """One call in flight."""

    call_id: str
    process: str
    subject: str
    """As JSON."""
    amounts: Amounts


Spent = dict[tuple[Count, int], list[int]]
"""Count and start of its window to requests, tokens, billionths of a dollar, unpriced calls."""


def empty_spent() -> Spent:
    """Sums to be added to."""
    return defaultdict(lambda: [0, 0, 0, 0])


def state(connection: apsw.Connection) -> State | None:
    """None where nothing has been written yet."""
    row: Any = connection.execute("SELECT edition, file, budgets, position FROM state").fetchone()
    return row and State(*row)


def set_state(connection: apsw.Connection, new: State) -> None:
    """What the books say of themselves from now on."""
    run(connection, "INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, ?)", *new)


def read_up_to(connection: apsw.Connection, position: int) -> None:
    """The ends of calls up to this position are in the sums."""
    run(connection, "UPDATE state SET position = ?", position)


def line(connection: apsw.Connection, count: Count, starts: int) -> Line:
    """What was spent in the window that starts then, and what is reserved."""
    row: Any = connection.execute(_LINE, count).fetchone()
    return Line(NOTHING, NOTHING, 0) if row is None else _line(row, starts)


def _line(row: Any, starts: int) -> Line:
    held = Amounts(*row[5:])
    return Line(Amounts(*row[1:4]), held, row[4]) if row[0] == starts else Line(NOTHING, held, 0)


def counts(connection: apsw.Connection) -> list[Count]:
    """Every count that there is."""
    found: Any = connection.execute("SELECT budget, who FROM count ORDER BY budget, who")
    return [Count(*row) for row in found]


def hold(connection: apsw.Connection, call: Held) -> bool:
    """A call is in flight; False where it was already. Its counts are another matter."""
    connection.execute(_ADD_HELD, (call.call_id, call.process, call.subject, *call.amounts))
    return bool(connection.changes())


def count_held(
    connection: apsw.Connection, count: Count, amounts: Amounts, starts: int = 0
) -> Line:
    """Add to what is reserved; returns what is known then of the window that starts so."""
    return _line(connection.execute(_HOLD, (*count, *amounts)).fetchone(), starts)


def take(connection: apsw.Connection, calls: Iterable[str]) -> list[tuple[str, Amounts]]:
    """Remove these calls from those in flight, though not from their counts; returns for each
    subject of theirs what was reserved."""
    found: Any = connection.execute(_TAKE_HELD, (json.dumps(list(calls)),))
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for subject, *amounts in found:
        for at, amount in enumerate(amounts):
            sums[subject][at] += amount
    return [(subject, Amounts(*amounts)) for subject, amounts in sums.items()]


def held(connection: apsw.Connection) -> list[Held]:
    """All calls in flight."""
    found: Any = connection.execute("SELECT * FROM held ORDER BY call_id")
    return [
        Held(call_id, process, subject, Amounts(*amounts))
        for call_id, process, subject, *amounts in found
    ]


def held_ids(connection: apsw.Connection) -> set[str]:
    """The ids of all calls in flight."""
    found: Any = connection.execute("SELECT call_id FROM held")
    return {row[0] for row in found}


def processes(connection: apsw.Connection) -> list[str]:
    """Who has calls in flight."""
    found: Any = connection.execute("SELECT DISTINCT process FROM held")
    return [row[0] for row in found]


def spend(connection: apsw.Connection, spent: Mapping[tuple[Count, int], list[int]]) -> None:
    """Add to the sums."""
    for (count, starts), sums in spent.items():
        connection.execute(_SPEND, (*count, starts, *sums))


def clear(connection: apsw.Connection, *, held_too: bool) -> None:
    """Forget all counts; with `held_too` also what is in flight."""
    run(connection, "DELETE FROM count")
    if held_too:
        run(connection, "DELETE FROM held")
