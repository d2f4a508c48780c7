"""Fine-tunes: ask for one, take it further, step by step, until there is a model.

Every step is an event, appended only where nobody else was first, and each step looks for what is
there already: each function here may be cut anywhere and called again.
"""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tracemill.errors import CallFailed, InputError, UsageError, VersionConflict
from tracemill.events import FineTuneRequested, FineTuneSucceeded, Happened
from tracemill.files import only_one_writer
from tracemill.finetune.job import JobState, state
from tracemill.finetune.news import cancelled, failed, news, registered, stopping
from tracemill.finetune.providers import FineTuneProvider
from tracemill.finetune.providers.table import HERE, trainer
from tracemill.finetune.recipe import FineTune
from tracemill.finetune.request import asked, same
from tracemill.finetune.steps import adopted, polled, step
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.llm.client import Client
    from tracemill.log import EventLog

WAITS_S = {True: (0.05, 0.5), False: (5.0, 60.0)}
"""For trainers here and elsewhere: the first and the longest wait between two questions. It grows
by half each time, and begins anew when something happened."""
FINAL = frozenset(
    (
        *("authentication", "billing", "conflict", "content_filter", "invalid_request"),
        *("not_found", "permission_denied", "request_too_large", "unsupported"),
    )
)
"""Errors after which the same request would fail for ever."""


def request(
    log: "EventLog",
    settings: Settings,
    name: str,
    recipe: FineTune,
    *,
    actor: str | None = None,
    again: bool = False,
) -> str:
    """Ask for a model of the splits in force; returns the id of the job that gives it.

    The same request is the same job, whatever became of it: what was trained is not trained twice.
    Only a model that was trained here and is no longer there is trained anew. Nothing is sent.

    Args:
        name: of the model.
        recipe: what is wanted.
        actor: who asks.
        again: whether to make a new job of a request that was made before.

    Raises `UsageError` and `InputError` for a recipe that cannot be followed.
    """
    return begin(log, settings, asked(settings, name, recipe, actor), again=again)


def begin(
    log: "EventLog", settings: Settings, event: FineTuneRequested, *, again: bool = False
) -> str:
    """`request`, where `request.asked` was called before: examples are not written twice."""
    lock = settings.models / "jobs" / "requests.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with only_one_writer(lock):
        if not again and (known := same(log, settings, event)):
            return known.job_id
        log.append(event, expected={event.stream: 0})
    return event.job_id


def advance(
    log: "EventLog", settings: Settings, job_id: str, *, client: "Client | None" = None
) -> JobState:
    """Take one step: check, hand over a file, begin, or ask how far it is. Returns the state.

    One process at a time takes steps of a job; others wait. What the trainer refuses for good ends
    the job, with the trainer's words. What may pass, such as a trainer that cannot be reached,
    leaves it as it is, and `trouble` says why.

    Args:
        client: for trainers elsewhere; a new one by default.

    Raises `UsageError` where there is no such job, and `CallFailed` (`missing_key`) where nothing
    could be asked.
    """
    return _attempt(log, settings, job_id, client)[0]


def run(
    log: "EventLog",
    settings: Settings,
    job_id: str,
    *,
    client: "Client | None" = None,
    timeout_s: float | None = None,
    progress: Callable[[JobState], object] = lambda _: None,
    pause: Callable[[float], object] = time.sleep,
) -> JobState:
    """Take steps until the job has ended, stands still (`paused`), is in a state that nobody knows
    (`unknown`), or time is up; returns its state. Its deadline ends it.

    Args:
        timeout_s: how long to stay with it; None: until its deadline.
        progress: hears of the state after every step.
        pause: waits for so many seconds.
    """
    until = None if timeout_s is None else time.monotonic() + timeout_s
    version = wait_s = 0
    while True:
        known, trouble = _attempt(log, settings, job_id, client)
        progress(known)
        if known.ended or known.state in ("unknown", "paused"):
            return known
        first_s, longest_s = WAITS_S[known.provider in HERE]
        moved, version = known.version != version, known.version
        if moved and known.remote_id is None and not trouble:
            continue
        wait_s = first_s if moved or not wait_s else min(wait_s * 1.5, longest_s)
        wait_s = max(wait_s, (trouble and trouble.retry_after_s) or 0)
        left_s = wait_s if until is None else until - time.monotonic()
        if left_s <= 0:
            return known
        pause(min(wait_s, left_s))


def cancel(
    log: "EventLog",
    settings: Settings,
    job_id: str,
    *,
    reason: str = "somebody stopped it",
    client: "Client | None" = None,
) -> JobState:
    """Have the trainer stop a job. One that never reached it ends here.

    Some trainers take a while: the state is `cancelling` until `advance` sees the end. What has
    ended stays as it is. Raises `CallFailed` where the trainer cannot be reached, or refuses.
    """
    with _alone(settings, job_id):
        known = state(log, job_id)
        if known.ended:
            return known
        with _provider(log, settings, known, client) as provider:
            known = _appended(log, known, adopted(known, provider, settings))
            if known.remote_id is None:
                return _appended(log, known, [cancelled(known, reason)])
            try:
                remote = provider.cancel(known.remote_id)
            except CallFailed:
                # Trainers refuse to stop what has just ended.
                known = _appended(log, known, polled(known, provider))
                if known.ended:
                    return known
                raise
        return _appended(log, known, stopping(known, remote, reason))


def pause(
    log: "EventLog", settings: Settings, job_id: str, *, client: "Client | None" = None
) -> JobState:
    """Have training stand still; it is still given up at its deadline.

    Raises `UsageError` where it has not begun or has ended, and `CallFailed` (`unsupported`) where
    the trainer cannot.
    """
    return _ordered(log, settings, job_id, client, "pause")


def resume(
    log: "EventLog", settings: Settings, job_id: str, *, client: "Client | None" = None
) -> JobState:
    """Have training go on. Raises as `pause` does."""
    return _ordered(log, settings, job_id, client, "resume")


def _ordered(
    log: "EventLog", settings: Settings, job_id: str, client: "Client | None", order: str
) -> JobState:
    with _alone(settings, job_id):
        known = state(log, job_id)
        if known.ended or known.remote_id is None:
            where = known.state if known.ended else "not with its trainer yet"
            raise UsageError(f"fine-tune {job_id} is {where}: there is nothing to {order}")
        with _provider(log, settings, known, client) as provider:
            give = provider.pause if order == "pause" else provider.resume
            return _appended(log, known, news(known, give(known.remote_id)))


# A step


def _attempt(
    log: "EventLog", settings: Settings, job_id: str, client: "Client | None"
) -> tuple[JobState, CallFailed | None]:
    """The state after a step, and the error that it came to nothing by, where it may pass."""
    if (known := state(log, job_id)).ended:
        return known, None
    with _alone(settings, job_id):
        known = state(log, job_id)
        try:
            with _provider(log, settings, known, client) as provider:
                events = step(known, provider, settings, datetime.now(UTC))
        except CallFailed as error:
            if error.error_type in ("missing_key", "unknown_provider"):
                raise
            if error.retry or not _is_final(error):
                return known._replace(trouble=str(error)), error
            events = [failed(known, error.error_type, str(error), error.code)]
        except InputError as error:
            events = [failed(known, "invalid_data", str(error))]
        return _appended(log, known, events), None


def _is_final(error: CallFailed) -> bool:
    refused = error.status is not None and 400 <= error.status < 500
    return refused or error.error_type in FINAL


def _appended(log: "EventLog", known: JobState, events: Sequence[Happened]) -> JobState:
    """The state after these events. A model is registered in the same breath as its job succeeds."""
    if not events:
        return known
    expected = {known.stream: known.version}
    end = events[-1]
    if isinstance(end, FineTuneSucceeded):
        version = registered(known, end)
        there = list(log.read(stream=version.stream, kinds=["model.registered"]))
        if all(getattr(each.event, "digest", "") != version.digest for each in there):
            events = [*events, version]
    # Another one was first where the lock was taken away with its folder.
    with suppress(VersionConflict):
        log.append(events, expected=expected)
    return state(log, known.job_id)


@contextmanager
def _provider(
    log: "EventLog", settings: Settings, known: JobState, client: "Client | None"
) -> Generator[FineTuneProvider]:
    with ExitStack() as ours:
        if client is None and known.provider not in HERE:
            from tracemill.llm.client import Client

            client = ours.enter_context(closing(Client(log, settings)))
        yield trainer(known.provider, client=client, settings=settings, command=known.command)


@contextmanager
def _alone(settings: Settings, job_id: str) -> Generator[None]:
    folder = settings.models / "jobs" / job_id
    folder.mkdir(parents=True, exist_ok=True)
    with only_one_writer(folder / "advance.lock"):
        yield
