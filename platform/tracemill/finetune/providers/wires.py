"""What the languages of hosted trainers share: requests on the way to a value, and reading answers.

A module's functions are generators: they yield requests and are sent the bodies of the answers, and
so never touch the network.
"""

from collections.abc import Callable, Generator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from tracemill.errors import CallFailed
from tracemill.finetune.providers import BaseModel, JobSpec, Part, RemoteState, TrainingFile
from tracemill.llm.providers import Wire
from tracemill.llm.providers.batch import label, name_of
from tracemill.llm.providers.fields import count, malformed, obj, objects, text

T = TypeVar("T")
Steps = Generator["Ask", Any, T]
"""Requests on the way to a value; each is answered by the JSON of its answer's body."""

_CLOCKS_DIFFER_BY = timedelta(minutes=10)
_MANY_PAGES = 500


class Ask(NamedTuple):
    """A request on the way."""

    wire: Wire
    once: bool = False
    """Not sent again when its answer is lost: a second would be a second file or job."""


class Facts(NamedTuple):
    """What is known of a trainer besides its language."""

    title: str
    """Its name in a sentence."""
    methods: tuple[str, ...]
    hyperparameters: Mapping[str, frozenset[str]]
    """Method to the names that can be set, in the provider's words."""
    epochs: str
    """What the provider calls the number of epochs."""
    usual_epochs: int
    """How many there are where none are named."""
    min_rows: int
    max_file_bytes: int
    pausable: bool = False
    checkpoints: bool = False
    models: tuple[BaseModel, ...] = ()
    warning: str | None = None
    last_jobs: date | None = None
    """The last day on which it takes new jobs."""


def known_model(facts: Facts, name: str) -> BaseModel | None:
    """What is known of a model, of a dated version or of what was trained on it: `ft:name:...`."""
    name = name.removeprefix("ft:").split(":")[0].replace("gpt-35", "gpt-3.5")
    known = [each for each in facts.models if f"{name}-".startswith(f"{each.name}-")]
    return max(known, key=lambda each: len(each.name), default=None)


def file_of(job: JobSpec, part: Part) -> TrainingFile:
    """The file of a part. Raises `CallFailed` where the job has none."""
    file = job.training if part == "training" else job.validation
    if file is None:
        raise CallFailed("invalid_request", f"job {job.job_id} has no {part} file")
    return file


def file_name(job: JobSpec, part: Part) -> str:
    """What the file is called at the trainer: by this it is found again."""
    return f"tracemill-{job.job_id}-{part}.jsonl"


def form(fields: Mapping[str, str], name: str, content: bytes, path: str) -> Wire:
    """A form with fields and one file (RFC 7578)."""
    # Each line of the content begins with a brace, so that none of them can be the boundary.
    boundary = name.removesuffix(".jsonl")
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    ) + (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    body = b"".join((head.encode(), content, f"\r\n--{boundary}--\r\n".encode()))
    return Wire(path, body, {"content-type": f"multipart/form-data; boundary={boundary}"})


def get_ask(path: str) -> Ask:
    """Ask for what is there."""
    return Ask(Wire(path, method="GET"))


def older_than(job: JobSpec) -> datetime:
    """What was made before this is of no interest to who looks for a part of the job: its id, a
    UUIDv7, says when it was asked for."""
    number = UUID(job.job_id)
    if number.version != 7:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.fromtimestamp((number.int >> 80) / 1000, UTC) - _CLOCKS_DIFFER_BY


def pages(
    page: Callable[[str | None], Ask], since: datetime | None = None
) -> Steps[list[dict[str, Any]]]:
    """What a list holds, page by page, newest first; with `since`, up to the first page that is
    older as a whole. Pages have `data`, `has_more`, and the last id as the cursor of the next."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    for _ in range(_MANY_PAGES):
        body = obj((yield page(after)))
        data = objects(body.get("data"))
        found += data
        last = text(data[-1].get("id")) if data else ""
        moments = [moment(each.get("created_at")) for each in data]
        if since and all(made is not None and made < since for made in moments):
            break
        if body.get("has_more") is not True or not last or last == after:
            break
        after = last
    return found


def moment(value: Any) -> datetime | None:
    """A time in seconds since 1970, or of RFC 3339; None where it is something else."""
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            return time if time.tzinfo else time.replace(tzinfo=UTC)
        return datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def number(value: Any) -> float | None:
    """A finite number; None where it is something else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None


def whole(value: Any) -> int | None:
    """A number of things; None where nobody says how many."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        return int(value)
    return None if number(value) is None else count(value)


def state_of(word: str, states: Mapping[str, RemoteState]) -> RemoteState:
    """Ours for the provider's word; one that is new to us is `unknown`."""
    return states.get(word, "unknown")


def identified(body: Any, *, named: str = "id", state: str = "status") -> tuple[str, str]:
    """Id and state in the answer about a job. Raises `CallFailed` (`malformed_response`)."""
    job = obj(body)
    remote_id, word = name_of(job.get(named)), label(text(job.get(state)))
    if not remote_id or not word:
        raise malformed(f"the answer is not a fine-tune: it has no {named} or no {state}")
    return remote_id, word


def importing(file_id: str, word: str) -> CallFailed:
    """The file is there, but not yet ready to be trained on."""
    return CallFailed(
        "conflict", f"the file {file_id} is still being read by the provider ({word})", retry=True
    )


def refused(file_id: str, why: str) -> CallFailed:
    """The file will never be ready."""
    return CallFailed("invalid_request", f"the provider refuses the file {file_id}: {why}")


def unsupported(why: str) -> CallFailed:
    """The trainer has no such thing."""
    return CallFailed("unsupported", why)
