"""What was done after a call had failed: another model, the same prompt again, the next turn.

Calls are told in the order of the log. For each failure the best link wins, and of equal ones the
first: a fallback says so itself, the same prompt says nearly as much, a conversation only goes on.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

HOW = ("fallback", "same prompt", "same conversation")
"""How a call can follow a failure, best first."""


class Next(NamedTuple):
    """The call that followed a failure."""

    how: str
    call_id: str
    model: str
    """Provider and model."""


class Followed:
    """Failures, and the calls that followed them."""

    def __init__(self) -> None:
        self._waiting: defaultdict[tuple[str, object], list[str]] = defaultdict(list)
        self._next: dict[str, Next] = {}
        self._status: dict[str, str] = {}

    def failed(self, call_id: str, prompt: int | None, conversation: str | None) -> None:
        """A call failed; `prompt` is a hash."""
        for how, key in zip(HOW, (call_id, prompt, conversation), strict=True):
            if key is not None:
                self._waiting[how, key].append(call_id)

    def started(
        self,
        call_id: str,
        model: str,
        *,
        fallback_of: str | None,
        prompt: int | None,
        conversation: str | None,
    ) -> None:
        """A call was started."""
        for how, key in zip(HOW, (fallback_of, prompt, conversation), strict=True):
            for failure in self._waiting.pop((how, key), ()):
                known = self._next.get(failure)
                if known is None or HOW.index(how) < HOW.index(known.how):
                    self._next[failure] = Next(how, call_id, model)
                    self._status[call_id] = "running"

    def ended(self, call_id: str, status: str) -> None:
        """A call came to its end."""
        if call_id in self._status:
            self._status[call_id] = status

    def next_of(self, call_id: str) -> dict[str, str] | None:
        """What followed this failure, and what became of that; None when nothing did."""
        known = self._next.get(call_id)
        return known and {**known._asdict(), "status": self._status[known.call_id]}

    def forget(self, calls: Iterable[str]) -> None:
        """These failures will not be asked about any more."""
        gone = set(calls)
        for key in list(self._waiting):
            self._waiting[key] = [call for call in self._waiting[key] if call not in gone]
            if not self._waiting[key]:
                del self._waiting[key]
        self._next = {call: next_ for call, next_ in self._next.items() if call not in gone}
        alive = {next_.call_id for next_ in self._next.values()}
        self._status = {call: s for call, s in self._status.items() if call in alive}
