"""`tracemill retention ...`: what is too old to be kept, and its removal."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import plain, print_json, print_table, progress

if TYPE_CHECKING:
    from tracemill.operations.retention import Plan

app = typer.Typer(no_args_is_help=True, help="How long what is kept: raw/retention.yaml says so.")


@app.command()
def show(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Show what is due by raw/retention.yaml; nothing is changed."""
    _due(as_json, warehouse)


@app.command()
def apply(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Empty the events that are due, prune caches, delete old reports, backups and results of jobs.

    Examples:

      tracemill retention apply --dry-run
      tracemill retention apply
    """
    from tracemill.operations.retention import apply as carry_out
    from tracemill.operations.retention import retention

    if dry_run:
        _due(as_json, warehouse)
        return
    settings = settings_for(warehouse)
    terms = retention(settings)
    with open_log(warehouse) as log, progress("emptying events") as advance:
        went = carry_out(log, settings, terms, actor=os.environ.get("USER"), progress=advance)
    _print(went, as_json, _PAST)


def _due(as_json: bool, warehouse: Warehouse) -> None:
    from tracemill.operations.retention import plan, retention

    settings = settings_for(warehouse)
    terms = retention(settings)
    with open_log(warehouse) as log:
        due = plan(log, settings, terms)
    if not as_json and not settings.raw_retention.exists():
        print(f"everything is kept: there is no {settings.raw_retention}")
        return
    _print(due, as_json, _FUTURE)


@dataclass(frozen=True)
class _Words:
    nothing: str
    go: str


_FUTURE = _Words("nothing is due", "would go")
_PAST = _Words("nothing was due", "went")


def _print(plan: "Plan", as_json: bool, words: _Words) -> None:
    if as_json:
        print_json({**plan._asdict(), "events": [each._asdict() for each in plan.events]})
        return
    if plan.nothing:
        print(words.nothing)
    if plan.events:
        columns = ("kind", "kept", "events", "oldest (UTC)", "newest (UTC)")
        rows = [
            (each.kind, each.keep, f"{each.events:,}", plain(each.oldest), plain(each.newest))
            for each in plan.events
        ]
        print_table(columns, rows, right=(False, False, True, False, False))
    for name, entries in plan.cached.items():
        if entries:
            print(f"{entries:,} {name} of the cache {words.go}")
    if plan.reports:
        print(f"{plan.reports:,} reports {words.go}")
    if plan.jobs:
        print(f"the requests and answers of {plan.jobs:,} jobs {words.go}")
    if plan.backups:
        print(f"{len(plan.backups):,} backups {words.go}: {', '.join(plan.backups)}")
