"""`tracemill log backup`, `backups` and `restore`: copies of the log, and the way back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import print_json, print_table, progress

if TYPE_CHECKING:
    from tracemill.log import Backup


def backup(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A new folder for it. Default: the time, in backups/ of the warehouse."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Check the bytes alone, not every law of the log.")
    ] = False,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Then delete all but the latest N beside it.")
    ] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Copy the log while it is in use, and check the copy.

    Sealed files that an earlier backup beside it has take no space again.

    Examples:

      tracemill log backup
      tracemill log backup /mnt/disk/tracemill/monday --keep 14
    """
    from tracemill.log import backups as known
    from tracemill.log import prune
    from tracemill.log.backup import new_name

    parent = settings_for(warehouse).backups
    with open_log(warehouse) as log:
        target = folder or parent / new_name([each.name for each in known(parent)])
        total = log.position() * (1 if quick else 2)
        with progress("copying", total) as advance:
            made = log.backup(target, quick=quick, actor="tracemill log backup", progress=advance)
    pruned = prune(made.folder.parent, keep=keep) if keep else []
    if as_json:
        print_json({**_facts(made), "pruned": pruned})
        return
    print(
        f"{made.position:,} events in {len(made.manifest.files):,} files, "
        f"{made.size_bytes:,} bytes, checked: {made.manifest.checked}"
    )
    print(made.folder)
    if pruned:
        print("deleted: " + ", ".join(pruned))


def backups(
    folder: Annotated[
        Path | None, typer.Argument(help="Default: backups/ of the warehouse.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Read every byte of them.")] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """List the copies of the log, oldest first; with --check, exit code 1 where one is damaged.

    Examples:

      tracemill log backups
      tracemill log backups --check
    """
    from tracemill.log import backups as known
    from tracemill.log import damage

    found = known((folder or settings_for(warehouse).backups).absolute())
    problems = {each.name: damage(each) for each in found} if check else {}
    if as_json:
        print_json([{**_facts(each), "damage": problems.get(each.name)} for each in found])
    else:
        print_table(
            ("backup", "made", "events", "files", "bytes", "checked"),
            [
                (
                    each.name,
                    each.manifest.made_at,
                    each.position,
                    len(each.manifest.files),
                    each.size_bytes,
                    each.manifest.checked,
                )
                for each in found
            ],
            right=(False, False, True, True, True, False),
        )
    lines = [line for each in problems.values() for line in each]
    if lines and not as_json:
        print(*lines, sep="\n")
    if lines:
        raise typer.Exit(1)


def restore(
    folder: Annotated[Path, typer.Argument(help="The backup: its folder, or its name.")],
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Also where the log has events that the backup lacks."),
    ] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Put a copy in the place of the log; the log that was there is moved aside, never deleted.

    Whatever was recorded after the backup is then only in the log that was moved aside, and whatever
    was emptied since, as by `tracemill forget`, is back: empty it again.

    Examples:

      tracemill log restore 20260301T120000Z
      tracemill log restore /mnt/disk/tracemill/monday --replace
    """
    from tracemill.log import EventLog
    from tracemill.log import restore as put_back

    settings = settings_for(warehouse)
    source = folder if folder.is_dir() else settings.backups / folder
    with progress("restoring") as advance:
        done = put_back(source, settings.log, replace=replace, progress=advance)
    with EventLog.open(settings) as log:
        log.fold()
    if as_json:
        print_json({"log": settings.log, "position": done.position, "aside": done.aside})
        return
    print(f"{settings.log} has {done.position:,} events, all of them checked")
    if done.aside:
        print(f"the log that was there is now {done.aside}")


def _facts(made: "Backup") -> dict[str, object]:
    return {
        "backup": made.name,
        "folder": made.folder,
        "made_at": made.manifest.made_at,
        "position": made.position,
        "files": len(made.manifest.files),
        "size_bytes": made.size_bytes,
        "checked": made.manifest.checked,
    }
