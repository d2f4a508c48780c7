"""Failures like one that you have, and clusters of what goes wrong; offline, the same each time.

What failed is read from the view `failures`; the nearest are found by the log's own index.
"""

from typing import TYPE_CHECKING

from tracemill.analysis.period import Moment, Period, period
from tracemill.analysis.table import Table
from tracemill.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tracemill.analysis.clusters import Clusters
    from tracemill.log import EventLog

COMPARED = 1_000
"""So many characters of a prompt are compared; failures of one prompt differ early if at all."""
_FAILED = f"""
    SELECT f.call_id, f.position, f.ended_at, f.provider || '/' || f.request_model AS model,
      f.error_type, left(f.error_message, 300) AS error, f.signature, f.user_id,
      f.prompt_name || '@' || left(f.prompt_version, 12) AS prompt_version,
      left(f.prompt, 300) AS prompt, words_of(left(f.prompt, {COMPARED})) AS prompt_words,
      words_of(regexp_replace(
        substr(f.signature, length(f.error_type) + 1), '<(n|id|url|value)>s?', ' ', 'g'
      )) AS error_words,
      greatest(coalesce(e.attempts, 1) - 1, 0) AS retries
    FROM failures AS f
    LEFT JOIN (
      SELECT position, attempts FROM events
      WHERE kind IN ('llm.call.failed', 'llm.call.aborted', 'llm.call.finished')
    ) AS e USING (position)
    WHERE ($since::TIMESTAMP IS NULL OR f.ended_at >= $since::TIMESTAMP)
      AND ($until::TIMESTAMP IS NULL OR f.ended_at < $until::TIMESTAMP)
    ORDER BY f.position DESC LIMIT $n
"""  # noqa: S608
_ALL = 2**62


class Failures:
    """The failures of a log."""

    def __init__(self, log: "EventLog") -> None:
        self._log = log

    def similar(self, text_or_call_id: str, n: int = 10) -> Table:
        """The past failures most like a call, a prompt or an error message.

        First those with the same signature (the class of error and the message without numbers and
        ids), then those of the same class, within each by the words of the prompt; among equals
        the latest. Columns as `EventLog.find_similar_failures` gives them.

        Args:
            text_or_call_id: the id of a call, failed or not, or some text.
            n: how many.

        Raises `UsageError`: nothing to compare with, or no such call.
        """
        found = self._log.find_similar_failures(text_or_call_id, n)
        told = Period(None, None).told(found["when"].min(), found["when"].max())  # type: ignore[arg-type]
        title = f"Failures like {_short(text_or_call_id)}"
        return Table(found, title, "similarity, from 0 to 1", told, len(found), "failures")

    def cluster(
        self, since: Moment | None = None, until: Moment | None = None, n: int | None = None
    ) -> "Clusters":
        """What goes wrong, by root cause: the same answer to the same question about the same log.

        Failures are parted by class of error; within a class by what the messages mean, so that one
        cause in several wordings is one cluster; refusals and filtered answers, whose messages are
        alike, by what was asked. What is like nothing else comes last, together.

        Args:
            since: the beginning: `7d`, `2026-11-01`, a date, an aware datetime.
            until: the end, which is not part of it.
            n: only the latest so many; 10,000 take some seconds.

        Raises `UsageError` for what is no time, and for n below 1.
        """
        from tracemill.analysis import clusters

        if n is not None and n < 1:
            raise UsageError(f"n is how many failures to look at, at least 1, not {n}")
        asked = period(since, until)
        return clusters.of(self.frame(asked, n), asked)

    def frame(self, asked: Period, n: int | None = None) -> "pl.DataFrame":
        """The failures that ended in the period, in the order of the log, as `clusters.of` wants them."""
        found = self._log.sql(_FAILED, {**asked.parameters, "n": _ALL if n is None else n})
        return found.reverse()


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else f"{line[:59]}…")
