"""`tracemill models ...`: versions of fine-tuned models, and which of them is in production."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.options import Json, Warehouse, open_log
from tracemill.cli.output import harmless, plain, print_json, print_lines
from tracemill.errors import UsageError

if TYPE_CHECKING:
    from rich.tree import Tree

    from tracemill.finetune.registry import Version
    from tracemill.log import EventLog

app = typer.Typer(
    no_args_is_help=True, help="Models that were trained here: list, promote, roll back, retire."
)

Wanted = Annotated[
    str,
    typer.Argument(metavar="NAME:DIGEST", help="A version; the digest's beginning is enough."),
]
Reason = Annotated[str, typer.Option(help="Why, in a sentence; it is kept.")]
_COLUMNS = ("version", "state", "since", "trained", "by", "method", "examples", "USD", "why")
_RIGHT = {"examples", "USD"}
_SHORT = 8
_SHORT_ID = 12
_PIPE_WIDTH = 1_000
_FIGURES = """
    SELECT * FROM evaluations WHERE model = $model
    QUALIFY row_number() OVER (PARTITION BY name, dataset, figure ORDER BY finished_at DESC) = 1
    ORDER BY finished_at DESC, figure
"""
_TESTS = """
    SELECT * FROM comparisons WHERE model = $model
    QUALIFY row_number() OVER (
      PARTITION BY reference_model, dataset, against, figure ORDER BY compared_at DESC) = 1
    ORDER BY compared_at DESC, figure
"""
_SEEN = """
    SELECT payload ->> '$.dataset' AS dataset, CAST(payload ->> '$.found' AS BIGINT) AS found,
      CAST(payload ->> '$.cases' AS BIGINT) AS cases
    FROM events WHERE kind = 'evaluation.contamination_checked'
      AND payload ->> '$.trained_on' = $trained_on AND payload ->> '$.split' = $split
    QUALIFY row_number() OVER (PARTITION BY dataset ORDER BY position DESC) = 1
    ORDER BY dataset
"""


@app.command()
def ls(
    name: Annotated[str | None, typer.Argument(help="Only versions of this model.")] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """List the versions of all models, or of one: the oldest first.

    Examples:

      tracemill models ls
      tracemill models ls routing
      tracemill models ls --json | jq -r 'select(.state == "production") | .model'
    """
    with open_log(warehouse) as log:
        found = log.sql(
            "FROM models WHERE $name IS NULL OR name = $name ORDER BY name, registered_at, digest",
            {"name": name},
        ).to_dicts()
    if as_json:
        for row in found:
            print_json(row)
    elif found:
        print_lines(_COLUMNS, [_cells(row) for row in found], right=_RIGHT)
    else:
        whose = f" of {name}" if name else ""
        print(f"no versions{whose}: `tracemill finetune start NAME` trains one", file=sys.stderr)


@app.command()
def show(
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:DIGEST]",
            help="A version; by default the one in production, or the newest.",
        ),
    ],
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Tell what a version was made of, how good it is, and what became of it.

    Examples:

      tracemill models show api-questions
      tracemill models show api-questions:3fa9 --json | jq .evaluations
    """
    with open_log(warehouse) as log:
        version = _found(log, wanted, whole=False)
        about = _about(log, version)
    if as_json:
        print_json(about)
        return
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    console.print(_tree(version, about), soft_wrap=not console.is_terminal)


@app.command()
def promote(
    wanted: Wanted,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also against, or without, the evidence; needs --reason."),
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Why it is forced.")] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Put a version into production, where its evaluations speak for it.

    It takes an evaluation that passes, cases that it was not trained on, and, where another version
    is in production, a comparison with that one which shows that it is not worse. A refusal says
    what is lacking, is kept in the log, and exits with 1.

    Examples:

      tracemill models promote routing:3fa9
      tracemill models promote routing:3fa9 --force --reason "the old one is too slow"
    """
    from tracemill.finetune import registry

    if force != (reason is not None):
        raise UsageError("--force and --reason go together: say why the evidence does not matter")
    with open_log(warehouse) as log:
        version = _found(log, wanted)
        before = registry.production(log, version.name)
        actor = "tracemill models promote"
        now = registry.promote(log, version.name, version.digest, force_reason=reason, actor=actor)
    same = before is not None and before.digest == now.digest
    left = f", instead of {before.label}" if before and not same else ""
    line = "is in production already" if same else f"is in production{left}: {now.reason}"
    _print(now, line, as_json=as_json)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="Of the model.")],
    reason: Reason,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Put the version into production that was there before; the present one is retired.

    Again, it goes to the one before that, and never back to one that was left so.

    Example: tracemill models rollback routing --reason "it sends refunds to sales"
    """
    from tracemill.finetune import registry

    with open_log(warehouse) as log:
        now = registry.rollback(log, name, reason=reason, actor="tracemill models rollback")
    _print(now, f"is in production again: {now.reason}", as_json=as_json)


@app.command()
def retire(
    wanted: Wanted, reason: Reason, as_json: Json = False, warehouse: Warehouse = None
) -> None:
    """Say that a version is not to be used any more: nothing is rolled back to it.

    Example: tracemill models retire routing:3fa9 --reason "trained on data that was withdrawn"
    """
    from tracemill.finetune import registry

    with open_log(warehouse) as log:
        version = _found(log, wanted)
        actor = "tracemill models retire"
        now = registry.retire(log, version.name, version.digest, reason=reason, actor=actor)
    _print(now, f"is retired: {now.reason}", as_json=as_json)


def _found(log: "EventLog", wanted: str, *, whole: bool = True) -> "Version":
    """The version that is meant: NAME:DIGEST, the name of a request, or with `whole` not a NAME."""
    from tracemill.finetune import registry

    for version in registry.versions(log):
        if version.model == wanted:
            return version
    name, colon, digest = wanted.removeprefix("ft:local:").partition(":")
    if colon:
        return registry.find(log, name, digest)
    if not whole and (known := registry.versions(log, name)):
        return registry.production(log, name) or known[-1]
    if not registry.versions(log, name):
        return registry.find(log, name, digest)
    raise UsageError(f"say which version of {name!r}: `tracemill models ls {name}` lists them")


# What is printed


def _cells(row: dict[str, Any]) -> list[str]:
    cost = row["training_cost_usd"]
    return [
        f"{row['name']}:{row['digest'][:_SHORT]}",
        row["state"],
        plain(row["changed_at"]),
        plain(row["registered_at"]),
        row["provider"],
        row["method"],
        f"{row['rows']:,}",
        "" if cost is None else f"{cost.normalize():f}",
        row["reason"],
    ]


def _print(version: "Version", line: str, *, as_json: bool) -> None:
    if as_json:
        print_json(version._asdict())
    else:
        print(plain(f"{version.label} {line}"))


def _about(log: "EventLog", version: "Version") -> dict[str, Any]:
    """A version with its job, its evidence and its history."""
    job = log.sql("FROM finetunes WHERE job_id = $job", {"job": version.job_id}).to_dicts()
    seen = {"trained_on": version.dataset_digest, "split": version.split}
    history = [
        {
            "when": each.event.occurred_at,
            "what": getattr(each.event, "kind", ""),
            **_said(each.event),
        }
        for each in log.read(stream=f"model:{version.name}")
        if version.digest
        in (getattr(each.event, "digest", ""), getattr(each.event, "previous", ""))
    ]
    return {
        **version._asdict(),
        "job": job[0] if job else None,
        "evaluations": log.sql(_FIGURES, {"model": version.model}).to_dicts(),
        "comparisons": log.sql(_TESTS, {"model": version.model}).to_dicts(),
        "contamination": log.sql(_SEEN, seen).to_dicts(),
        "history": history,
    }


def _said(event: Any) -> dict[str, Any]:
    names = ("digest", "previous", "forced", "reason", "actor")
    return {name: value for name in names if (value := getattr(event, name, None)) is not None}


def _tree(version: "Version", about: dict[str, Any]) -> "Tree":
    from rich.text import Text
    from rich.tree import Tree

    def branch(under: Tree, text: str, style: str = "") -> Tree:
        return under.add(Text(harmless(text), style=style))

    tree = Tree(Text(f"{version.label}  {version.state}", style="bold"))
    branch(tree, f"answers as {version.model}")
    branch(tree, f"since {plain(version.changed_at)}: {version.reason}")
    job = about["job"]
    made = branch(tree, f"made by {version.provider}: {version.method} of {version.base_model}")
    branch(made, _cost(version, job))
    branch(made, f"fine-tune {version.job_id[-_SHORT_ID:]}" + (f", {job['state']}" if job else ""))
    if version.metrics:
        branch(made, f"at its end: {plain(dict(version.metrics))}")
    data = branch(
        made, f"of {version.rows:,} examples: {version.dataset} {version.dataset_digest[:16]}"
    )
    branch(data, f"split {version.split}, file {version.training_sha256[:16]}")
    for each in about["contamination"]:
        branch(
            data, f"{each['found']:,} of {each['cases']:,} cases of {each['dataset']} stand in it"
        )
    shown = branch(tree, "evaluations" if about["evaluations"] else "not evaluated yet")
    for each in about["evaluations"]:
        branch(shown, _figure(each))
    if about["comparisons"]:
        held = branch(tree, "comparisons")
        for each in about["comparisons"]:
            branch(held, _test(each))
    told = branch(tree, "history")
    for each in about["history"]:
        branch(told, _happened(version, each))
    return tree


def _cost(version: "Version", job: dict[str, Any] | None) -> str:
    cost, size = version.training_cost_usd, version.size_bytes
    parts = ["cost unknown" if cost is None else f"{cost.normalize():f} USD"]
    if job and job["trained_tokens"] is not None:
        parts.append(f"{job['trained_tokens']:,} tokens")
    if job and job["duration_s"] is not None:
        parts.append(f"{job['duration_s']:,.1f} s")
    if size is not None:
        parts.append(f"{size / 1e6:,.2f} MB")
    return ", ".join(parts)


def _figure(row: dict[str, Any]) -> str:
    asked = "" if row["threshold"] is None else f", {row['threshold']:g} is asked for"
    return (
        f"{row['figure']} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}] on {row['n']:,} "
        f"cases of {row['dataset']}{asked}: {row['outcome'].replace('_', ' ')} "
        f"(evaluation {row['evaluation_id'][-_SHORT_ID:]})"
    )


def _test(row: dict[str, Any]) -> str:
    change = ""
    if row["difference"] is not None and row["low"] is not None:
        change = f" {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    return (
        f"{row['figure']}{change} on {row['n']:,} cases of {row['dataset']}, against "
        f"{row['against']} {row['reference_model']}: {row['verdict'].replace('_', ' ')}"
    )


def _happened(version: "Version", each: dict[str, Any]) -> str:
    what = each["what"].removeprefix("model.").replace("_", " ")
    if each.get("digest") != version.digest:
        other = f"{version.name}:{each.get('digest', '')[:_SHORT]}"
        what = f"left, as {other} was {what}" if what == "promoted" else f"rolled back to {other}"
        what = f"left out, as {other} was refused" if each["what"].endswith("refused") else what
    forced = ", by force" if each.get("forced") else ""
    why = f": {each['reason']}" if "reason" in each else ""
    return f"{plain(each['when'])} {what}{forced}{why}"
