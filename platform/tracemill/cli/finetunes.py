"""`tracemill finetune ...`: models that are trained of the splits, from the request to the version."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import plain, print_facts, print_json, print_lines
from tracemill.errors import InputError, TracemillError, UsageError

if TYPE_CHECKING:
    from tracemill.events import FineTuneRequested
    from tracemill.finetune.job import JobState
    from tracemill.finetune.recipe import FineTune
    from tracemill.llm.client import Client
    from tracemill.log import EventLog
    from tracemill.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Fine-tunes: start, watch, pause, cancel, list.")

JobId = Annotated[
    str, typer.Argument(metavar="ID", help="Of the fine-tune; its beginning or end is enough.")
]
_COLUMNS = (
    "fine-tune",
    "requested",
    "model",
    "by",
    "method",
    "state",
    "step",
    "loss",
    "USD",
    "why",
)
_RIGHT = {"step", "loss", "USD"}
_SHORT_ID = 12
"""The last part of an id: it begins with the time, which jobs of one moment share."""
_INTERRUPTED = 130


class Opened(NamedTuple):
    """What the commands that may ask a trainer need."""

    log: "EventLog"
    settings: "Settings"
    client: "Client"


@app.command()
def ls(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """List all fine-tunes, oldest first, as the log knows them.

    Examples:

      tracemill finetune ls
      tracemill finetune ls --json | jq -r 'select(.state == "failed") | .error'
      tracemill log sql "SELECT name, sum(cost_usd) FROM finetunes GROUP BY name"
    """
    with open_log(warehouse) as log:
        found = log.sql("FROM finetunes ORDER BY requested_at, job_id").to_dicts()
    if as_json:
        for row in found:
            print_json(row)
    elif found:
        print_lines(_COLUMNS, [_cells(row) for row in found], right=_RIGHT)
    else:
        print("no fine-tunes: `tracemill finetune start NAME` begins one", file=sys.stderr)


@app.command()
def show(job_id: JobId, as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Tell how far a fine-tune is, as the log knows it; `watch` asks the trainer."""
    from tracemill.finetune.job import state

    with open_log(warehouse) as log:
        _print(state(log, _whole(log, job_id)), as_json=as_json)


@app.command()
def start(
    name: Annotated[str, typer.Argument(help="Of the model: a recipe in raw/models.")],
    recipe: Annotated[
        Path | None, typer.Option(help="A recipe elsewhere, instead of raw/models/NAME.yaml.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Stay until it has ended, or only begin it.")
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask what it may cost.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Train anew what was asked for before.")
    ] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Train a model of the splits in force. Shows what that takes before anything is sent.

    The same request is the same fine-tune: asked again it goes on, or tells what came of it.
    Exit code 1 where no model came of it.

    Examples:

      tracemill finetune start api-questions
      tracemill finetune start routing --no-wait --yes
      tracemill finetune start routing --recipe experiments/larger.yaml --again
    """
    from tracemill.finetune import jobs
    from tracemill.finetune.request import asked, same

    with _opened(warehouse) as opened:
        log, settings, client = opened
        wanted = _recipe(settings, name, recipe)
        event = asked(settings, name, wanted, "tracemill finetune start")
        # What was asked for before was agreed to then.
        if again or same(log, settings, event) is None:
            _agree(opened, event, yes=yes)
        job_id = jobs.begin(log, settings, event, again=again)
        if wait:
            _follow(opened, job_id, as_json=as_json)
            return
        known = jobs.run(log, settings, job_id, client=client, timeout_s=0)
        _print(known, as_json=as_json)
        if not as_json and not known.ended:
            print(_later(known.job_id), file=sys.stderr)
        _end(known)


@app.command()
def watch(job_id: JobId, as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Follow a fine-tune until it has ended: step, loss and metrics as the trainer tells them.

    Ctrl-C leaves it alone: it goes on, and `watch` comes back to it. Exit code 1 where no model
    came of it.

    Examples:

      tracemill finetune watch 7cad03f92ebb
      tracemill finetune watch 7cad03f92ebb --json | jq .model
    """
    with _opened(warehouse) as opened:
        _follow(opened, _whole(opened.log, job_id), as_json=as_json)


@app.command()
def cancel(
    job_id: JobId,
    reason: Annotated[str, typer.Option(help="Why.")] = "somebody stopped it",
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Have the trainer stop. What was trained by then is lost, and may have to be paid for."""
    from tracemill.finetune import jobs

    with _opened(warehouse) as (log, settings, client):
        whole = _whole(log, job_id)
        _print(jobs.cancel(log, settings, whole, reason=reason, client=client), as_json=as_json)


@app.command()
def pause(job_id: JobId, as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Have training stand still, where the trainer can; its deadline stays."""
    from tracemill.finetune import jobs

    with _opened(warehouse) as (log, settings, client):
        _print(jobs.pause(log, settings, _whole(log, job_id), client=client), as_json=as_json)


@app.command()
def resume(job_id: JobId, as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Have training go on."""
    from tracemill.finetune import jobs

    with _opened(warehouse) as (log, settings, client):
        _print(jobs.resume(log, settings, _whole(log, job_id), client=client), as_json=as_json)


@contextmanager
def _opened(warehouse: Path | None) -> Generator[Opened]:
    from tracemill.llm.client import Client

    with open_log(warehouse) as log:
        settings = settings_for(warehouse)
        client = Client(log, settings)
        try:
            yield Opened(log, settings, client)
        finally:
            client.close()


# Before anything is sent


def _recipe(settings: "Settings", name: str, path: Path | None) -> "FineTune":
    from tracemill.finetune.recipe import finetune_recipe, recipes

    if path is not None:
        if not path.is_file():
            raise InputError(f"no recipe at {path}: name a YAML file")
        return finetune_recipe(path)
    there = recipes(settings)
    if name in there:
        return there[name]
    known = f"there are {', '.join(sorted(there))}" if there else "there are none yet"
    raise UsageError(
        f"no recipe is called {name!r}: {known}; write {settings.raw_models / name}.yaml "
        "(an empty one is enough), or name one with --recipe"
    )


def _agree(opened: Opened, event: "FineTuneRequested", *, yes: bool) -> None:
    """Show what it takes; where that is money, somebody has to say yes."""
    from tracemill.finetune.job import fold
    from tracemill.finetune.providers.table import HERE, trainer
    from tracemill.finetune.steps import spec

    known = fold([_unrecorded(event)])
    assert known
    provider = trainer(
        event.provider, client=opened.client, settings=opened.settings, command=event.command
    )
    job = spec(known, opened.settings)
    estimate = provider.estimate(job)
    tokens, usd = estimate.trained_tokens, estimate.cost_usd
    facts = {
        "trainer": f"{event.provider}, {event.method} of {event.base_model}",
        "learns from": f"{event.training.rows:,} examples of {event.dataset} "
        f"{event.dataset_digest[:8]}, split {event.training.split}",
        "tokens": "unknown" if tokens is None else f"{tokens:,} in all epochs",
        "cost": "unknown: the trainer's price is not known" if usd is None else f"{usd:f} USD",
    }
    for fact, text in facts.items():
        print(f"{fact:<12} {plain(text)}", file=sys.stderr)
    if warning := provider.capabilities().warning:
        print(f"{'note':<12} {plain(warning)}", file=sys.stderr)
    if event.provider in HERE or usd == 0 or yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("this costs money, and nobody is there to agree: give --yes")
    if not typer.confirm("Send the examples and train?", err=True):
        raise TracemillError("nothing was sent")


def _unrecorded(event: Any) -> Any:
    from tracemill.events import Recorded

    return Recorded(0, event.stream, 0, event.occurred_at, event)


# While it runs


def _follow(opened: Opened, job_id: str, *, as_json: bool) -> None:
    """Take the job further and show how far it is, until it has ended or somebody leaves."""
    from tracemill.finetune import jobs

    log, settings, client = opened
    try:
        with _shown() as progress:
            known = jobs.run(log, settings, job_id, client=client, progress=progress)
    except KeyboardInterrupt:
        print(_later(job_id), file=sys.stderr)
        raise SystemExit(_INTERRUPTED) from None
    _print(known, as_json=as_json)
    if not known.ended and not as_json:
        mend = "resume" if known.state == "paused" else "watch"
        line = f"it is {known.state}: `tracemill finetune {mend} {job_id[-_SHORT_ID:]}` goes on"
        print(line, file=sys.stderr)
    _end(known)


@contextmanager
def _shown() -> "Generator[Callable[[JobState], None]]":
    """Yields what shows a state: as a bar at a terminal, else as a line where something is new."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        TimeElapsedColumn(),
    )
    last = ""
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None, told="")

        def show(known: "JobState") -> None:
            nonlocal last
            told = plain(_told(known))
            bar.update(
                task,
                description=f"{known.name} {known.state}",
                total=known.total_steps,
                completed=known.step or 0,
                told=told,
            )
            line = f"{known.name} {known.state} {told}".rstrip()
            if line != last and not console.is_terminal:
                print(line, file=sys.stderr)
            last = line

        yield show


def _told(known: "JobState") -> str:
    """Step, loss, metrics, and what hinders."""
    parts: list[str] = []
    if known.step is not None:
        of = f" of {known.total_steps:,}" if known.total_steps else ""
        parts.append(f"step {known.step:,}{of}")
    if known.loss is not None:
        parts.append(f"loss {known.loss:.4g}")
    parts += [f"{name} {value:.4g}" for name, value in known.metrics.items()]
    if known.trouble:
        parts.append(known.trouble)
    return ", ".join(parts)


def _later(job_id: str) -> str:
    return (
        f"the fine-tune goes on; `tracemill finetune watch {job_id[-_SHORT_ID:]}` comes back to it, "
        "`tracemill finetune cancel` stops it"
    )


def _end(known: "JobState") -> None:
    if known.state in ("failed", "cancelled"):
        raise TracemillError(
            f"fine-tune {known.job_id} {known.state}: {known.error_message or known.reason}"
        )


# What is printed


def _whole(log: "EventLog", given: str) -> str:
    """The id that begins or ends so."""
    query = "SELECT substr(stream, 10) AS id FROM events WHERE kind = 'finetune.requested'"
    wanted = given.strip().lower()
    ids = [str(found) for found in log.arrow(query).column("id").to_pylist()]
    found = [one for one in ids if wanted and (one.startswith(wanted) or one.endswith(wanted))]
    if len(found) == 1:
        return found[0]
    why = f"{len(found)} fine-tunes match" if found else "no fine-tune matches"
    raise UsageError(f"{why} {given!r}: `tracemill finetune ls` lists them")


def _cells(row: dict[str, Any]) -> list[str]:
    step, total, loss = row["step"], row["total_steps"], row["loss"]
    done = "" if step is None else f"{step:,}" + (f"/{total:,}" if total else "")
    cost = row["cost_usd"] if row["cost_usd"] is not None else row["estimated_cost_usd"]
    return [
        row["job_id"][-_SHORT_ID:],
        plain(row["requested_at"]),
        row["name"],
        row["provider"],
        row["method"],
        row["state"],
        done,
        "" if loss is None else f"{loss:.4g}",
        "" if cost is None else f"{cost.normalize():f}",
        row["error"] or row["model"] or "",
    ]


def _print(known: "JobState", *, as_json: bool) -> None:
    told = known._asdict()
    for name in ("training", "validation"):
        told[name] = told[name] and told[name].model_dump()
    told["checkpoints"] = [each._asdict() for each in known.checkpoints]
    for name in ("position", "version"):
        del told[name]
    if as_json:
        print_json(told)
        return
    told["checkpoints"] = len(known.checkpoints)
    told["training"] = _file(told["training"])
    told["validation"] = _file(told["validation"])
    shown = {name: value for name, value in told.items() if value not in (None, "", {}, (), 0)}
    print_facts({name.replace("_", " "): plain(value) for name, value in shown.items()})


def _file(told: dict[str, Any] | None) -> str:
    return f"{told['rows']:,} examples, split {told['split']}" if told else ""
