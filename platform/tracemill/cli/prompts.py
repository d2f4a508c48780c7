"""`tracemill prompts ...`: the registered prompts, their versions and labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracemill.cli.options import Json, Warehouse, open_log
from tracemill.cli.output import print_facts, print_frame, print_json
from tracemill.errors import UsageError

if TYPE_CHECKING:
    from tracemill.llm.prompts import Prompt

app = typer.Typer(no_args_is_help=True, help="Prompts: versions that stay, labels that move.")

Name = Annotated[str, typer.Argument(help="The prompt's name.")]
_COLUMNS = "prompt_name, prompt_version[:12] AS version, labels, calls, failed, cost_usd"
_VERSION = "A version, its first digits, or a label."


@app.command()
def ls(
    name: Annotated[str | None, typer.Argument(help="Only this prompt.")] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """List every version of every prompt, with its labels and its use.

    Examples:

      tracemill prompts ls
      tracemill prompts ls summarisation --json
    """
    query = f"SELECT {'*' if as_json else _COLUMNS} FROM prompts WHERE ? IN (prompt_name, '')"  # noqa: S608
    with open_log(warehouse) as log:
        frame = log.sql(f"{query} ORDER BY prompt_name, added_at, prompt_version", [name or ""])
    if name and frame.is_empty():
        raise UsageError(f"there is no prompt {name!r}: `tracemill prompts ls` lists them all")
    print_frame(frame, as_json=as_json, as_csv=False)


@app.command()
def show(
    name: Name,
    version: Annotated[str, typer.Argument(help=_VERSION)] = "production",
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Print a version as the file that `add` reads.

    Examples:

      tracemill prompts show summarisation > summarisation.md
      tracemill prompts show summarisation 3fa92c --json
    """
    from tracemill.llm import prompts

    with open_log(warehouse) as log:
        prompt = prompts.get(log, name, version)
    print_json(_fields(prompt)) if as_json else print(prompts.write(prompt), end="")


@app.command()
def add(
    files: Annotated[list[Path] | None, typer.Argument(help="Prompts as files.")] = None,
    examples: Annotated[
        bool, typer.Option("--examples", help="The three that come with tracemill.")
    ] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Register prompts; what is there already stays as it is.

    A file is TOML between two lines of +++ (name, description, system, [variables]), then the
    template of the user message.

    Examples:

      tracemill prompts add --examples
      tracemill prompts add prompts/*.md
    """
    from tracemill.llm import prompts

    if not files and not examples:
        raise UsageError("name the files to add, or give --examples")
    read = [prompts.load(path) for path in files or ()]
    with open_log(warehouse) as log:
        added = dict(prompts.examples(log)) if examples else {}
        added |= {prompt.name: prompts.add(log, prompt) for prompt in read}
    print_json(added) if as_json else print_facts(added)


@app.command()
def label(
    name: Name,
    label: Annotated[str, typer.Argument(help="The label, such as production.")],
    version: Annotated[str, typer.Argument(help=_VERSION)],
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Let a label point to a version; whoever asks for the label gets that one from now on.

    Examples:

      tracemill prompts label summarisation production 3fa92c
      tracemill prompts label summarisation production beta
    """
    from tracemill.llm import prompts

    with open_log(warehouse) as log:
        moved = prompts.label(log, name, label, version)
    print_json({label: moved}) if as_json else print_facts({label: moved})


@app.command()
def diff(
    name: Name,
    old: Annotated[str, typer.Argument(help=_VERSION)],
    new: Annotated[str, typer.Argument(help=_VERSION)] = "production",
    warehouse: Warehouse = None,
) -> None:
    """Print what changed from one version to another, as a unified diff.

    Examples:

      tracemill prompts diff summarisation 3fa92c
      tracemill prompts diff summarisation production beta
    """
    from tracemill.llm import prompts

    with open_log(warehouse) as log:
        print(prompts.diff(*(prompts.get(log, name, each) for each in (old, new))), end="")


def _fields(prompt: "Prompt") -> dict[str, object]:
    names = ("name", "version", "description", "system", "template", "variables", "source")
    return {name: getattr(prompt, name) for name in names}
