"""One step of a fine-tune: what the trainer is asked, and the events that its answers are worth.

Everything is looked for before it is done, since whoever was here before may have been cut between
the deed and its event.
"""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from tracemill.errors import CallFailed, InputError
from tracemill.events import FineTuneCreated, FineTuneValidated, TrainingData
from tracemill.events.finetunes import FineTune
from tracemill.finetune.examples import examples_path
from tracemill.finetune.job import ENDED, JobState, next_action
from tracemill.finetune.news import failed, news, uploaded
from tracemill.finetune.providers import (
    Events,
    FineTuneProvider,
    JobSpec,
    Part,
    Remote,
    TrainingFile,
)

if TYPE_CHECKING:
    from tracemill.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
MOST_PAGES = 200
"""Of a trainer's list of events in one step; the others come in the next."""
_TOLD = 5
"""Errors of a file that are told; the others are counted."""


def step(
    known: JobState, provider: FineTuneProvider, settings: "Settings", now: datetime
) -> list[FineTune]:
    """Do what is to be done next; the events that are to be recorded of it, in order.

    Raises `CallFailed` as trainers do, and `InputError` where the examples are gone.
    """
    action = next_action(known, now)
    match action.kind:
        case "validate":
            return validated(known, provider, settings)
        case "upload":
            assert action.part
            return [sent(known, provider, spec(known, settings), action.part)]
        case "create":
            return created(known, provider, spec(known, settings))
        case "poll":
            return polled(known, provider)
        case "expire":
            return expired(known, provider, settings)
        case "none":
            return []


def spec(known: JobState, settings: "Settings") -> JobSpec:
    """All that a trainer is told. Raises `InputError` where the examples are gone."""
    return JobSpec(
        job_id=known.job_id,
        name=known.name,
        base_model=known.base_model,
        method=known.method,
        hyperparameters=known.hyperparameters,
        seed=known.seed,
        suffix=known.suffix or known.name,
        dataset=known.dataset,
        dataset_digest=known.dataset_digest,
        training=_file(settings, known.training),
        validation=_file(settings, known.validation) if known.validation else None,
        command=known.command,
    )


def validated(known: JobState, provider: FineTuneProvider, settings: "Settings") -> list[FineTune]:
    """Check the examples and estimate what training takes; errors in them end the job."""
    job = spec(known, settings)
    found = provider.validate(job)
    if found.errors:
        more = len(found.errors) - _TOLD
        told = [*found.errors[:_TOLD], *([f"and {more:,} more"] if more > 0 else [])]
        return [failed(known, "invalid_data", "; ".join(told))]
    estimate = provider.estimate(job)
    return [
        FineTuneValidated(
            job_id=known.job_id,
            issues=dict(found.warnings),
            trained_tokens=estimate.trained_tokens,
            estimated_cost_usd=estimate.cost_usd,
        )
    ]


def sent(known: JobState, provider: FineTuneProvider, job: JobSpec, part: Part) -> FineTune:
    """Hand over a file, unless the trainer has it."""
    file = provider.find_upload(job, part) or provider.upload(job, part)
    return uploaded(known, part, file)


def created(known: JobState, provider: FineTuneProvider, job: JobSpec) -> list[FineTune]:
    """Have the job begun, unless the trainer has it."""
    remote = provider.find(job, known.files) or provider.create(job, known.files)
    return news(known, remote)


def adopted(known: JobState, provider: FineTuneProvider, settings: "Settings") -> list[FineTune]:
    """The news of a job that the trainer has and the log does not know to be there."""
    if known.remote_id is not None or "training" not in known.files:
        return []
    remote = provider.find(spec(known, settings), known.files)
    return news(known, remote) if remote else []


def polled(known: JobState, provider: FineTuneProvider) -> list[FineTune]:
    """Ask how far it is, what was said and what was kept; an end waits until all was heard."""
    assert known.remote_id is not None
    remote = provider.get(known.remote_id)
    said, all_heard = _heard(known, provider, remote)
    moved = said or remote.step != known.step or remote.state in ENDED
    kept = _extra(provider.checkpoints, known.remote_id) if moved else None
    if not all_heard and remote.state in ENDED:
        remote = remote._replace(state="running", raw_state=known.raw_state)
    return news(known, remote, said, kept or ())


def expired(known: JobState, provider: FineTuneProvider, settings: "Settings") -> list[FineTune]:
    """Give a job up whose time has run out; one that has ended meanwhile has its own end."""
    events: list[FineTune] = []
    why = f"it was not done by {known.deadline_at:%Y-%m-%d %H:%M} UTC, its deadline"
    try:
        events = adopted(known, provider, settings)
        began = (each.remote_id for each in events if isinstance(each, FineTuneCreated))
        remote_id = known.remote_id or next(began, None)
        if remote_id is not None:
            remote = provider.get(remote_id)
            if remote.state in ENDED:
                return news(known, remote)
            provider.cancel(remote_id)
    except (CallFailed, InputError) as error:
        why += f"; {known.provider} could not be told to stop: {error}"
    return [*events, failed(known, "deadline", why)]


def _heard(
    known: JobState, provider: FineTuneProvider, remote: Remote
) -> tuple[list[Events], bool]:
    """What was said since the cursor, a page each; and whether that is all."""
    said: list[Events] = []
    cursor = known.cursor
    while len(said) < MOST_PAGES:
        page = _extra(provider.events, remote.remote_id, cursor)
        if page is None or not (page.messages or page.step is not None or page.metrics):
            return said, True
        said.append(page)
        if page.cursor is None or page.cursor == cursor:
            return said, True
        cursor = page.cursor
    return said, False


def _extra(ask: Callable[P, T], *args: P.args, **named: P.kwargs) -> T | None:
    """The answer to what is good to know; None where the trainer has none for this job."""
    try:
        return ask(*args, **named)
    except CallFailed as error:
        if error.retry:
            raise
        return None


def _file(settings: "Settings", data: TrainingData) -> TrainingFile:
    path = examples_path(settings, data.sha256)
    if not path.is_file():
        raise InputError(f"the examples {path} are gone: ask for the model again")
    return TrainingFile(path, data.split, data.sha256, data.rows, data.size_bytes)
