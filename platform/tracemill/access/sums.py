"""What calls took, summed for budgets: as their ends come, or all at once from the log.

A call that ended counts where it was sent or came from the response cache; what was refused before
anything was sent does not. Without a known price it counts no dollars.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic_core import from_json

from tracemill.access.books import Spent, empty_spent
from tracemill.access.limits import Budget, Count, Span, Subject, count_for, moment
from tracemill.events.access import Window
from tracemill.log.tables import Ended

if TYPE_CHECKING:
    from tracemill.access.keys import Keys
    from tracemill.log import EventLog

_BILLED = ("llm.call.finished", "llm.call.aborted")
# A fallback may follow a failure, for which the reservation must stay.
_FAILED = "llm.call.failed"
_ENDS = "kind BETWEEN 'llm.call.aborted' AND 'llm.call.finished'"
_SUMS = f"""
SELECT
  key_id, user_id, metadata,
  count(*) FILTER (attempts IS DISTINCT FROM 0) AS requests,
  CAST(coalesce(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)), 0) AS BIGINT) AS tokens,
  coalesce(sum(cost_usd), 0) AS usd,
  count(*) FILTER (
    kind IN {_BILLED} AND cost_usd IS NULL
    AND coalesce(input_tokens, 0) + coalesce(output_tokens, 0) > 0) AS unpriced
FROM events
WHERE {_ENDS} AND occurred_at >= ? AND occurred_at < ?
GROUP BY ALL
"""  # noqa: S608
_ENDED = f"""
SELECT DISTINCT substr(stream, 6) AS call_id
FROM events
WHERE stream IN (SELECT unnest(?)) AND {_ENDS} AND kind <> '{_FAILED}'
"""  # noqa: S608


class Sums:
    """Ends of calls, to be summed for budgets."""

    def __init__(self, budgets: Mapping[str, Budget], keys: "Keys") -> None:
        """`keys` tell the team of a key."""
        self._budgets, self._keys = list(budgets.values()), keys
        self._teams = any(budget.scope == "team" for budget in self._budgets)
        self._ends: list[Ended] = []
        self.over: set[str] = set()
        """Ids of the calls whose reservations are needed no more."""

    def add(self, ends: Iterable[Ended]) -> None:
        """Further ends, in the order of the log."""
        for end in ends:
            self._ends.append(end)
            if end.kind != _FAILED:
                self.over.add(end.stream.removeprefix("call:"))

    def within(self, spans: Mapping[Window, Span]) -> Spent:
        """What they took in these windows."""
        spent = empty_spent()
        # Many calls are of few.
        known: dict[tuple[str | None, ...], list[tuple[Count, Span]]] = {}
        for end in self._ends:
            whose = end[3:6]
            if (places := known.get(whose)) is None:
                found = self._who(*whose)
                places = known[whose] = [(count, spans[budget.window]) for budget, count in found]
            took = _took(end)
            for count, span in places:
                if span.starts <= end.occurred_us < span.ends:
                    _add(spent[count, span.starts], took)
        return spent

    def recounted(self, log: "EventLog", spans: Mapping[Window, Span], position: int) -> Spent:
        """What all calls up to this position of the log took in these windows."""
        spent = empty_spent()
        used = {budget.window for budget in self._budgets}
        for window, span in spans.items():
            if window not in used:
                continue
            bounds = [moment(at).replace(tzinfo=None) for at in span]
            for row in log.arrow(_SUMS, bounds, until=position).to_pylist():
                nanos = int(row["usd"].scaleb(9))
                took = (row["requests"], row["tokens"], nanos, row["unpriced"])
                for budget, count in self._who(row["key_id"], row["user_id"], row["metadata"]):
                    if budget.window == window:
                        _add(spent[count, span.starts], took)
        return spent

    def ended_among(self, log: "EventLog", calls: Collection[str], position: int) -> set[str]:
        """Those of these calls that are over at this position of the log."""
        if not calls:
            return set()
        streams = [f"call:{call_id}" for call_id in calls]
        found = log.arrow(_ENDED, [streams], until=position)
        return {str(call_id) for call_id in found.column("call_id").to_pylist()}

    def _who(
        self, key_id: str | None, user_id: str | None, metadata: str | None
    ) -> Iterator[tuple[Budget, Count]]:
        """The budgets that calls of somebody count for, each with where."""
        team = self._keys.team(key_id) if self._teams and key_id else None
        tags: dict[str, str] = from_json(metadata) if metadata else {}
        subject = Subject(key_id, user_id, team, tags)
        for budget in self._budgets:
            if (count := count_for(budget, subject)) is not None:
                yield budget, count


def _took(end: Ended) -> tuple[int, int, int, int]:
    unpriced = end.kind in _BILLED and end.nano_usd is None and end.tokens > 0
    return int(end.attempts != 0), end.tokens, end.nano_usd or 0, int(unpriced)


def _add(sums: list[int], took: tuple[int, int, int, int]) -> None:
    for at, more in enumerate(took):
        sums[at] += more
