"""`tracemill forget`: remove a person, and prove it."""

from typing import Annotated

import typer

from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import print_json, print_table, progress
from tracemill.errors import TracemillError, UsageError


def forget(
    user: Annotated[str, typer.Option(help="The person, as `user_id` of the calls.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be touched; change nothing.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Also take lines and rows out of files in raw/.")
    ] = False,
    backups: Annotated[
        bool, typer.Option("--backups", help="Also delete the copies of the log that hold them.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Remove a person from the log, caches, splits, indexes, jobs, files and reports; search for them.

    The log keeps figures (tokens, costs, times, models), so that sums stay what they were; names and
    texts go for good. What is derived is deleted where it holds the person: `tracemill build` makes
    it again without them. Models that learned from the person's rows are named: train them anew.

    Examples:

      tracemill forget --user ann@example.org --dry-run
      tracemill forget --user ann@example.org --raw --backups
    """
    from tracemill.operations.forget import forget as forget_person
    from tracemill.operations.forget import plan

    settings = settings_for(warehouse)
    with open_log(warehouse) as log:
        with progress("looking"):
            found = plan(log, settings, user)
        if dry_run or not as_json:
            _tell(found.person.events, found.places, found.models, as_json=as_json and dry_run)
        if dry_run:
            return
        if not yes and not typer.confirm("This cannot be undone. Forget this person?"):
            raise UsageError("nothing was changed")
        with progress("forgetting"):
            done = forget_person(
                log, settings, user, raw=raw, backups=backups, actor="tracemill forget"
            )
    if as_json:
        print_json(done.model_dump(mode="json", exclude={"stream"}))
    else:
        print(
            f"{sum(done.events.values()):,} events emptied, {sum(done.removed.values()):,} things "
            f"removed elsewhere; {done.searched_files:,} files and the log searched"
        )
        if done.rebuild:
            print("`tracemill build` makes anew: " + ", ".join(done.rebuild))
    if done.left:
        places = ", ".join(f"{place} ({count})" for place, count in done.left.items())
        raise TracemillError(f"still found in {places}: {_mend(done.left)}")


def _tell(
    events: dict[str, int], places: dict[str, int], models: tuple[str, ...], *, as_json: bool
) -> None:
    if as_json:
        print_json({"events": events, "files": places, "models": models})
        return
    rows = [
        *((f"log: {kind}", f"{count:,} events") for kind, count in events.items()),
        *((place, f"{count:,} files") for place, count in sorted(places.items())),
    ]
    print_table(("where", "what"), rows)
    if models:
        print("trained on rows of this person: " + ", ".join(models))


def _mend(left: dict[str, int]) -> str:
    if any(place.startswith("raw") for place in left):
        return "--raw takes lines out of JSONL, CSV and Parquet in raw/; edit other files yourself"
    if any(place.startswith("files/") for place in left):
        return "DELETE /v1/files/file-... deletes a file of the server that cannot be cut by lines"
    if "backups" in left:
        return "--backups deletes the copies that hold the person"
    if "models" in left:
        return "a model remembers what it was trained on: retire and delete it, then train anew"
    return "edit or delete these files, then run this again"
