"""Every exception that tracemill raises: one sentence each, written for the person who repairs it.

TracemillError
├── UsageError               the caller asked for something that cannot be (exit code 2)
│   ├── WarehouseNotFound    no warehouse from here upward
│   ├── VersionConflict      the stream has moved on since it was read
│   ├── KeyReused            an idempotency key came again with something else
│   ├── UnknownKind          an event of a kind that this version does not know
│   └── NotLocal             the log lies on a file system without sound locks
├── LogError                 the log could not do it (exit code 1)
│   ├── LogNotWritable       the folder or the file refuses writes
│   ├── LogFull              the disk is full; nothing was acknowledged
│   ├── LogDamaged           acknowledged events are missing or altered
│   └── JournalReplaced      a file of the journal was deleted or replaced while it was open
├── PromotionRefused         the evidence does not speak for a version of a model
├── NotDelivered             a sink could not be told of an alert
├── QueueUnreachable         the server that keeps the queue of jobs cannot be reached
├── KeyRefused               a virtual key is unknown, wrong, expired or revoked
├── BudgetExceeded           a call does not fit into a budget; the decision is in the log
├── InputError               a file or record from outside is not what it should be
└── CallFailed               a model call failed; its event is in the log
"""

from decimal import Decimal
from typing import Any


class TracemillError(Exception):
    """The root: its text is one line that names what was wrong, where, and the mend."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Across processes by its text and its fields, whatever `__init__` takes."""
        return _again, (type(self), self.args, self.__dict__)


class UsageError(TracemillError):
    """The caller asked for something that cannot be."""

    exit_code = 2


class WarehouseNotFound(UsageError):
    """There is no warehouse in this folder or above it."""


class VersionConflict(UsageError):
    """A stream is not at the version that the caller expected: read it again, then decide."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        self.stream, self.expected, self.actual = stream, expected, actual
        super().__init__(
            f"stream {stream!r} is at version {actual}, not {expected}: "
            "someone appended first; read the stream again and decide anew"
        )


class KeyReused(UsageError):
    """An idempotency key came again with another request: a new request needs a new key."""


class UnknownKind(UsageError):
    """An event in the log is of a kind or version that this tracemill does not know."""


class NotLocal(UsageError):
    """The log would lie on a network or shared file system, where locks cannot be trusted."""


class PromotionRefused(TracemillError):
    """A version of a model stays a candidate: its text is the reason, which is in the log too."""


class NotDelivered(TracemillError):
    """A sink could not be told of an alert; its text holds no address and no secret."""


class QueueUnreachable(TracemillError):
    """The server that keeps the queue of jobs cannot be reached. Nothing is lost by that."""


class KeyRefused(TracemillError):
    """A virtual key does not open; its text holds nothing of it."""


class BudgetExceeded(TracemillError):
    """A call does not fit into a budget: which one, why, and when its count begins anew."""

    error_type = "budget_exceeded"

    def __init__(
        self,
        message: str,
        *,
        budget: str,
        measure: str,
        limit: Decimal,
        spent: Decimal,
        reserved: Decimal,
        reset_s: float,
    ) -> None:
        """`measure` is requests, tokens or usd, and the amounts are in it; `reset_s` seconds remain
        of the window."""
        self.budget, self.measure, self.limit = budget, measure, limit
        self.spent, self.reserved, self.reset_s = spent, reserved, reset_s
        super().__init__(message)


class LogError(TracemillError):
    """The log could not do what it was asked."""


class LogNotWritable(LogError):
    """The log's folder or file refuses writes."""


class LogFull(LogError):
    """The disk is full. Nothing of this append was stored or acknowledged."""


class LogDamaged(LogError):
    """Acknowledged events are missing or altered."""


class JournalReplaced(LogError):
    """A file of the journal was deleted or replaced while a process had it open."""


class InputError(TracemillError):
    """A file or record that came from outside is not what it should be."""


class CallFailed(TracemillError):
    """A model call failed. `error_type` is the low-cardinality class; the event is in the log.

    Error types: `invalid_request`, `authentication`, `permission_denied`, `billing`, `not_found`,
    `conflict`, `request_too_large`, `context_length_exceeded`, `content_filter`, `rate_limited`,
    `overloaded`, `server_error`, `timeout`, `connection`, `malformed_response`, `missing_key`,
    `unknown_provider`, `unknown_model`, `damaged_model`, `circuit_open`, `limit_reached`, `guard`,
    `no_answer`, `interrupted`, `internal_error`.
    """

    def __init__(
        self,
        error_type: str,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        """`status` of HTTP; `code` and `request_id` are the provider's; `retry` says whether the
        same request may succeed later, `retry_after_s` when, where the provider told. `partial` is
        set where a part of a streamed answer had already been handed on, `call_id` where the log
        knows the call."""
        self.partial = False
        self.call_id: str | None = None
        self.error_type, self.status, self.code, self.request_id = (
            error_type,
            status,
            code,
            request_id,
        )
        self.retry, self.retry_after_s = retry, retry_after_s
        super().__init__(message)


def _again(kind: type[TracemillError], args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error
