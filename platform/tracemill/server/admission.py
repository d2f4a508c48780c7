"""The budgets, for workers: a request of a job counts for the same budgets as one that waits."""

from collections.abc import Callable

from tracemill.access.budgets import Budgets
from tracemill.access.keys import Keys
from tracemill.access.limits import Subject
from tracemill.log import EventLog
from tracemill.messages import Request, Response
from tracemill.server.estimate import estimate


def admission(log: EventLog) -> Callable[[Request, str], Callable[[Response | None], None]]:
    """What a worker asks before each call: raises `BudgetExceeded`, or returns what is told the end."""
    budgets, keys = Budgets(log), Keys(log)

    def admit(request: Request, call_id: str) -> Callable[[Response | None], None]:
        if not budgets.any:
            return lambda _: None
        subject = Subject(
            key_id=request.key_id,
            user_id=request.user_id,
            team=keys.team(request.key_id) if request.key_id else None,
            tags=request.metadata,
        )
        reserved = budgets.reserve(subject, estimate(log, request, request.model), call_id)

        def ended(response: Response | None) -> None:
            if response is None:
                budgets.release(reserved)
            else:
                budgets.settle(reserved, call_id=response.call_id)

        return ended

    return admit
