"""`tracemill jobs ...`: many requests at once, done by `tracemill worker`."""

import json
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import plain, print_facts, print_json, print_lines
from tracemill.errors import InputError, UsageError

if TYPE_CHECKING:
    from tracemill.jobs.job import Job
    from tracemill.jobs.jobs import Jobs
    from tracemill.messages import Request

app = typer.Typer(no_args_is_help=True, help="Jobs: hand in, list, look, read answers, cancel.")

JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="Of the job; its beginning or end is enough.")
]
_COLUMNS = ("job", "submitted (UTC)", "state", "requests", "done", "failed", "parked", "name")
_RIGHT = {"requests", "done", "failed", "parked"}
_SHORT_ID = 12
_MOST_LOOKED_THROUGH = 1_000


@app.command()
def submit(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSONL: a request a line, or a prompt as a JSON string; - reads stdin."
        ),
    ],
    model: Annotated[str, typer.Option(help="For the lines that name none.")] = "local/extract",
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher goes first.")] = 0,
    name: Annotated[str | None, typer.Option(help="What you call it.")] = None,
    callback: Annotated[
        str | None, typer.Option(help="Address that is told once the job has ended, signed.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same again with the same requests is the same job.")
    ] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Hand in up to 100,000 requests and print the job's id; `tracemill worker` does them.

    Examples:

      tracemill jobs submit requests.jsonl --model openai/gpt-5.4-mini
      echo '{"model": "local/extract", "messages": [{"role": "user", "content": "Hello"}]}' |
        tracemill jobs submit -
    """
    with _jobs(warehouse) as jobs:
        job = jobs.submit(
            _requests(file, model),
            priority=priority,
            name=name,
            callback_url=callback,
            idempotency_key=idempotency_key,
        )
        if as_json:
            print_json(_told(job))
        else:
            print(job.id)


@app.command()
def ls(
    state: Annotated[
        str | None, typer.Option(help="queued, running, finished, failed or cancelled.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many at most.")] = 20,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """List jobs, the latest first.

    Examples:

      tracemill jobs ls --state running
      tracemill log sql "SELECT name, done / total FROM queued_jobs WHERE ended_at IS NULL"
    """
    with _jobs(warehouse) as jobs:
        found = jobs.list(limit=limit, state=_state(state))
    if as_json:
        for job in found:
            print_json(_told(job))
    elif found:
        print_lines(_COLUMNS, [_cells(job) for job in found], right=_RIGHT)
    else:
        print("no jobs", file=sys.stderr)


@app.command()
def show(job_id: JobId, as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Tell how far a job is."""
    with _jobs(warehouse) as jobs:
        _print(jobs.get(_whole(jobs, job_id)), as_json=as_json)


@app.command()
def result(job_id: JobId, warehouse: Warehouse = None) -> None:
    """Print what became of each request, in their order: a JSON text a line.

    Examples:

      tracemill jobs result 7cad03f92ebb > answers.jsonl
      tracemill jobs result 7cad03f92ebb | jq -r 'select(.state == "done") | .response.content'
    """
    with _jobs(warehouse) as jobs:
        for each in jobs.results(_whole(jobs, job_id)):
            print_json(
                {
                    "index": each.index,
                    "state": each.state,
                    "response": each.response and each.response.model_dump(mode="json"),
                    "error": each.error and each.error._asdict(),
                    "call_id": each.call_id,
                }
            )


@app.command()
def cancel(job_id: JobId, as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Give up what has not begun; what runs is finished and recorded."""
    with _jobs(warehouse) as jobs:
        _print(jobs.cancel(_whole(jobs, job_id)), as_json=as_json)


@app.command()
def retry(
    job_id: JobId,
    failed: Annotated[
        bool, typer.Option("--failed", help="Also what was refused for good.")
    ] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Begin again what was parked, once what it failed of is mended."""
    with _jobs(warehouse) as jobs:
        _print(jobs.retry(_whole(jobs, job_id), failed=failed), as_json=as_json)


@contextmanager
def _jobs(warehouse: Path | None) -> Generator["Jobs"]:
    from tracemill.jobs.jobs import Jobs

    with open_log(warehouse) as log, closing(Jobs(log, settings_for(warehouse))) as jobs:
        yield jobs


def _requests(file: Path, model: str) -> Iterator["Request"]:
    from contextlib import nullcontext

    lines = nullcontext(sys.stdin) if str(file) == "-" else file.open(encoding="utf-8")
    with lines as opened:
        for number, line in enumerate(opened, 1):
            if line.strip():
                yield _request(line, model, f"{file}, line {number}")


def _request(line: str, model: str, where: str) -> "Request":
    from tracemill.messages import Request

    try:
        fields: Any = json.loads(line)
        if isinstance(fields, str):
            return Request.of(fields, model=model)
        if not isinstance(fields, dict):
            raise InputError(f"{where}: a request is a JSON object, or a prompt as a JSON string")
        named: dict[str, Any] = {"model": model, **fields}
        return Request(**named)
    except (ValueError, TypeError, UsageError) as error:
        raise InputError(f"{where}: {error}") from None


def _state(state: str | None) -> Any:
    from typing import get_args

    from tracemill.jobs.job import State

    if state is not None and state not in get_args(State):
        raise UsageError(f"--state is one of {', '.join(get_args(State))}, not {state!r}")
    return state


def _whole(jobs: "Jobs", part: str) -> str:
    """The id that a part of it stands for."""
    if len(part) == 36:
        return part
    ids = [stream.removeprefix("job:") for stream in jobs.log.versions("job:")]
    found = [each for each in ids if each.startswith(part) or each.endswith(part)]
    if len(found) != 1:
        many = "no job" if not found else f"{len(found)} jobs"
        raise UsageError(f"{many} with an id like {part!r}: `tracemill jobs ls` lists them")
    return found[0]


def _print(job: "Job", *, as_json: bool) -> None:
    if as_json:
        print_json(_told(job))
    else:
        print_facts({k: plain(v) for k, v in _told(job).items() if v is not None})


def _told(job: "Job") -> dict[str, Any]:
    told = asdict(job)
    for name in ("again", "version", "has_files", "counts"):
        told.pop(name)
    return {"job_id": told.pop("id"), **told, **job.counts._asdict()}


def _cells(job: "Job") -> tuple[str, ...]:
    numbers = (f"{number:,}" for number in job.counts)
    return (job.id[-_SHORT_ID:], plain(job.created_at), job.state, *numbers, job.name or "")
