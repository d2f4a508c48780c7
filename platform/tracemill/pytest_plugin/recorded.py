"""Answers that were recorded for replay: calls in the log, found by what was asked.

A call that was made with --llm-record carries the digest of its request, which test asked, and the
run that recorded it; the newest recording counts. Nothing else is kept: no key is ever in the log.
"""

from collections import defaultdict
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.errors import CallFailed, UsageError
from tracemill.events import LlmCallFailed, LlmCallFinished, LlmCallStarted
from tracemill.messages import Response

if TYPE_CHECKING:
    from tracemill.log import EventLog

KEY, RECORDING, ASK, TEST = "pytest_key", "pytest_recording", "pytest_ask", "pytest_test"
"""In the metadata of a call: the digest of its request, the run that recorded it, the ask (of which
a repair or a fallback is a second call), the test."""
_FOUND = f"""
    SELECT position, stream, payload ->> '$.metadata.{KEY}' AS key,
      payload ->> '$.metadata.{RECORDING}' AS recording, payload ->> '$.metadata.{ASK}' AS ask,
      payload ->> '$.metadata.{TEST}' AS test
    FROM events
    WHERE kind = 'llm.call.started' AND payload ->> '$.metadata.{KEY}' IS NOT NULL
    ORDER BY position
"""  # noqa: S608 (names of our own)


class _Asked(NamedTuple):
    recording: str
    test: str
    stream: str


class Recordings:
    """What a log has recorded; read when it is first needed."""

    def __init__(self, log: "EventLog") -> None:
        self._log = log

    def answer(self, key: str, test: str, time: int) -> Response | None:
        """What came back when the request was made for the `time`-th time (from 0) by a test.

        Answers to other tests count where this one has none. None where nothing is recorded.
        Raises `UsageError` where it was asked fewer times, `CallFailed` where the call had failed.
        """
        asked = self._asked.get(key, [])
        own = [one for one in asked if one.test == test] or asked
        newest = [one for one in own if one.recording == own[-1].recording]
        if not newest:
            return None
        if time >= len(newest):
            raise UsageError(
                f"{test} asks this for the {time + 1}. time, and its recording has {len(newest)} "
                f"answers to it: {mend(test)}"
            )
        return self._end(newest[time].stream, test)

    @cached_property
    def _asked(self) -> dict[str, list[_Asked]]:
        """By key, in the order of the asks."""
        last: dict[str, tuple[str, _Asked]] = {}
        for row in self._log.arrow(_FOUND).to_pylist():
            # The last call of an ask has what was handed on; its place is that of the first.
            last[row["ask"]] = row["key"], _Asked(row["recording"], row["test"], row["stream"])
        by_key: dict[str, list[_Asked]] = defaultdict(list)
        for key, asked in last.values():
            by_key[key].append(asked)
        return by_key

    def _end(self, stream: str, test: str) -> Response:
        end = [each.event for each in self._log.read(stream=stream)][-1]
        if isinstance(end, LlmCallFailed):
            raise CallFailed(end.error_type, end.error_message, status=end.status)
        if not isinstance(end, LlmCallFinished):
            what = "is not at its end" if isinstance(end, LlmCallStarted) else "was cut"
            raise UsageError(
                f"the recorded call {stream.removeprefix('call:')} {what}: {mend(test)}"
            )
        told: dict[str, Any] = {
            name: getattr(end, name) for name in Response.model_fields if hasattr(end, name)
        }
        told |= {"attempts": 0, "from_cache": True, "cost_usd": Decimal(0)}
        return Response(**told)


def mend(test: str) -> str:
    """How to record a test."""
    return f"run `pytest --llm-record '{test}'` where the model can be reached"
