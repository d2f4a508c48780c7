"""The command line: thin. Each command opens what it needs, calls the platform, prints.

Exit codes: 0 it worked, 1 it failed, 2 it was asked the wrong way. An error is one line on stderr.
The heavy parts are imported by the command that needs them, so that `--help` is immediate.
"""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from tracemill.cli import (
    alerts,
    backups,
    batches,
    budgets,
    calls,
    checkout,
    collection,
    evals,
    evaluation,
    exports,
    finetunes,
    forget,
    imports,
    jobs,
    keys,
    log,
    models,
    prompts,
    questions,
    records,
    retention,
    serve,
    trainers,
    validate,
    warehouse,
    worker,
)
from tracemill.cli.output import plain
from tracemill.errors import TracemillError

app = typer.Typer(
    name="tracemill",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""One append-only log, and everything else derived from it.

First steps:

  tracemill demo                                 harvest real text, build everything, ask
  tracemill status                               what the warehouse holds
  tracemill ask "What does a yield expression do?"
  tracemill calls                                the latest model calls; `call ID` tells all
  tracemill log sql "from costs_by_day"          any question, in DuckDB's SQL
  tracemill ui                                   assets and runs, in the browser

Data lies in the nearest warehouse/ upward from here; TRACEMILL_WAREHOUSE or --warehouse names
another.""",
)
for command in (
    checkout.demo,
    checkout.build,
    checkout.ui,
    serve.serve,
    worker.worker,
    questions.ask,
    collection.search,
    validate.validate,
):
    app.command(rich_help_panel="Work")(command)
for command in (calls.calls, calls.call, calls.tail, calls.failures):
    app.command(rich_help_panel="Calls")(command)
for command in (records.quarantine, records.explain):
    app.command(rich_help_panel="Training data")(command)
collection.app.command()(evaluation.evaluate)
app.add_typer(collection.app, name="collections", rich_help_panel="Work")
app.add_typer(evals.app, name="evals", rich_help_panel="Work")
finetunes.app.command()(trainers.trainers)
app.add_typer(finetunes.app, name="finetune", rich_help_panel="Work")
app.add_typer(models.app, name="models", rich_help_panel="Work")
app.add_typer(prompts.app, name="prompts", rich_help_panel="Calls")
for command in (warehouse.init, warehouse.status, warehouse.doctor, warehouse.verify):
    app.command(rich_help_panel="Warehouse")(command)
app.command(rich_help_panel="Warehouse")(forget.forget)
app.add_typer(batches.app, name="batches", rich_help_panel="Calls")
app.command("import", rich_help_panel="Calls")(imports.import_)
app.add_typer(exports.app, name="export", rich_help_panel="Calls")
app.add_typer(jobs.app, name="jobs", rich_help_panel="Server")
app.add_typer(keys.app, name="keys", rich_help_panel="Server")
app.add_typer(budgets.app, name="budgets", rich_help_panel="Server")
app.add_typer(alerts.app, name="alerts", rich_help_panel="Warehouse")
app.add_typer(retention.app, name="retention", rich_help_panel="Warehouse")
for command in (backups.backup, backups.backups, backups.restore):
    log.app.command()(command)
app.add_typer(log.app, name="log", rich_help_panel="Warehouse")


def _print_version(wanted: bool) -> None:
    if wanted:
        print("tracemill", version("tracemill"))
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print it and exit."
        ),
    ] = False,
) -> None: ...


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: with 0, 1 or 2, and never with a traceback that nobody asked for."""
    try:
        app(args=arguments, prog_name="tracemill")
    except TracemillError as error:
        _refuse(str(error), error.exit_code)
    except OSError as error:
        _refuse(str(error), 1)
    except Exception as error:
        # Whatever nobody foresaw is shown as a fault of ours, in one line too.
        if os.environ.get("TRACEMILL_TRACEBACK"):
            raise
        summary = f"unexpected {type(error).__name__}: {error}; TRACEMILL_TRACEBACK=1 shows where"
        _refuse(summary, 1)


def _refuse(message: str, exit_code: int) -> None:
    print("error:", plain(message), file=sys.stderr)
    raise SystemExit(exit_code)
