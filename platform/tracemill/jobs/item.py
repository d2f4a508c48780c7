"""One request of a job: made, and its one result recorded.

The answer goes to a file first, then the log says where it is, under the condition that nobody was
faster: whatever is killed or done twice, one result stands.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.errors import (
    BudgetExceeded,
    CallFailed,
    InputError,
    LogError,
    VersionConflict,
)
from tracemill.events import (
    JobItemFailed,
    JobItemFinished,
    JobItemParked,
    JobItemRetried,
    new_id,
)
from tracemill.events.jobs import item_stream, tries_stream
from tracemill.jobs.files import Answers, Item, Requests
from tracemill.llm.guard import redact_error
from tracemill.llm.options import Options
from tracemill.messages import Request, Response

if TYPE_CHECKING:
    from tracemill.log import EventLog

Release = Callable[[Response | None], object]
"""Told the answer, or that there is none."""
Admit = Callable[[Request, str], Release]
"""Asked before each call, with its id, whether it may be made; raises `BudgetExceeded`, and then it
is put off."""
Admission = Callable[["EventLog"], Admit]
"""Makes the `Admit` of a process; a function of a module, because processes are started with it."""
Generate = Callable[[Request, Options], Response]


@dataclass(frozen=True)
class Terms:
    """How often, and how long."""

    tries: int = 6
    """Then a request that may yet succeed is parked."""
    first_wait_s: float = 5.0
    """After the first try; each further wait is `growth` times as long, by up to a quarter less."""
    growth: float = 4.0
    longest_wait_s: float = 3_600.0
    drain_s: float = 30.0
    """What runs when a worker is asked to stop may take so long."""
    mend_s: float = 30.0
    """Between two looks for what was lost."""

    def wait_s(self, tries: int, told_s: float | None) -> float:
        """Seconds until the next try, after `tries` that brought nothing; whoever told is heard."""
        wait_s = self.first_wait_s * self.growth ** (tries - 1)
        return min(max(wait_s, told_s or 0.0), self.longest_wait_s)


@dataclass(frozen=True)
class Which:
    """One request of a job."""

    job_id: str
    round: int
    index: int

    @property
    def result(self) -> str:
        """The stream of its one result."""
        return item_stream(self.job_id, self.round, self.index)

    @property
    def tries(self) -> str:
        """The stream of what brought nothing."""
        return tries_stream(self.job_id, self.round, self.index)


class Again(NamedTuple):
    """The request is to be tried again."""

    wait_s: float


@dataclass(frozen=True)
class Doing:
    """What a worker does requests with."""

    log: "EventLog"
    generate: Generate
    admit: Admit | None
    terms: Terms

    def do(self, which: Which, requests: Requests, answers: Answers) -> Again | None:
        """Make the call and record what came of it; `Again` where nothing did yet.

        Raises `LogError` and `OSError` where it cannot be recorded.
        """
        if self.log.version(which.result):
            return None
        call_id = new_id()
        try:
            item = requests.item(which.index)
            if item is None:
                raise CallFailed("erased", "the request was erased: somebody was forgotten")
            response = self._called(which, item, call_id)
        except (LogError, OSError):
            raise
        except Exception as error:  # noqa: BLE001
            # Whatever nobody foresaw, such as a fault in a local model: this request has no answer.
            return self._unanswered(which, error)
        told = answers.append(which.index, response)
        self._ended(
            JobItemFinished(
                **asdict(which),
                call_id=response.call_id,
                attempts=self._tries(which) + 1,
                **told._asdict(),
            )
        )
        return None

    def fail(self, which: Which, error: InputError) -> None:
        """Record that a request cannot be read."""
        self._unanswered(which, error)

    def _called(self, which: Which, item: Item, call_id: str) -> Response:
        options: Options = {**item.options, "call_id": call_id, "correlation_id": which.job_id}
        if self.admit is None:
            return self.generate(item.request, options)
        release = self.admit(item.request, call_id)
        response: Response | None = None
        try:
            response = self.generate(item.request, options)
            return response
        finally:
            release(response)

    def _tries(self, which: Which) -> int:
        return self.log.version(which.tries)

    def _unanswered(self, which: Which, error: Exception) -> Again | None:
        """Record why there is no answer, and whether there will be another try."""
        tries = self._tries(which) + 1
        known = _known(error)
        said: dict[str, Any] = {
            **asdict(which),
            "attempts": tries,
            "error_type": known.error_type[:200],
            "error_message": redact_error(str(known))[:4_000],
            "call_id": known.call_id,
        }
        if not known.retry:
            self._ended(JobItemFailed(**said))
        elif tries >= self.terms.tries:
            self._ended(JobItemParked(**said))
        else:
            wait_s = self.terms.wait_s(tries, known.retry_after_s)
            event = JobItemRetried(**said, reason="failed", wait_s=wait_s)
            # Whoever tried it at the same time has said so already.
            with suppress(VersionConflict):
                self.log.append(event, expected={event.stream: tries - 1})
            return Again(wait_s)
        return None

    def _ended(self, event: JobItemFinished | JobItemFailed | JobItemParked) -> None:
        # Where somebody else was faster, that result stands.
        with suppress(VersionConflict):
            self.log.append(event, expected={event.stream: 0})


def _known(error: Exception) -> CallFailed:
    """What is said of any failure."""
    match error:
        case CallFailed():
            if error.error_type in ("circuit_open", "limit_reached"):
                error.retry = True
            return error
        case BudgetExceeded():
            return CallFailed(
                "budget_exceeded", str(error), retry=True, retry_after_s=error.reset_s
            )
        case InputError():
            return CallFailed("invalid_request", str(error))
        case _:
            return CallFailed("internal_error", f"{type(error).__name__}: {error}")
