"""`tracemill validate FILE`: what is wrong with a file of training data, before a provider says so."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.options import Json
from tracemill.cli.output import harmless, print_facts, print_json, progress

if TYPE_CHECKING:
    from tracemill.corpus.validation import Group, Lengths, Report

_SHOWN = 3
_BAR = 40


def validate(
    file: Annotated[Path, typer.Argument(help="JSON lines, plain or .gz.")],
    model: Annotated[
        str | None,
        typer.Option(help="The model to train, as gpt-4.1-mini: its limit, tokenizer and price."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="default, o200k_base, cl100k_base or qwen; otherwise the model's."),
    ] = None,
    min_rows: Annotated[int, typer.Option(min=0, help="Fewer rows are an error.")] = 10,
    epochs: Annotated[int, typer.Option(min=1, help="For the estimate of costs.")] = 3,
    every: Annotated[
        bool, typer.Option("--all", help="Every issue, not the first of each kind.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell everything that is wrong with a file of training data, with line, path and mend.

    A row of chat training, as OpenAI and most others take it:

      {"messages": [{"role": "system", "content": "You answer in one word."},
                    {"role": "user", "content": "The capital of France?"},
                    {"role": "assistant", "content": "Paris"}]}

    Rows of ShareGPT, Alpaca, Anthropic, questions with answers, completions and preferences are
    known by their fields. Exit code 0: no errors (there may be warnings); 1: errors.

    Examples:

      tracemill validate train.jsonl
      tracemill validate train.jsonl --model gpt-4.1-mini
      tracemill validate train.jsonl.gz --json | jq '.groups[] | [.code, .count]'
    """
    from tracemill.corpus import validation

    size = file.stat().st_size if file.is_file() else None
    with progress(f"reading {file.name}", size) as advance:
        report = validation.validate(
            file,
            tokenizer=tokenizer,
            model=model,
            min_rows=min_rows,
            epochs=epochs,
            keep=None if every else 100,
            progress=advance,
        )
    print_json(_fields(report)) if as_json else _print(report, shown=None if every else _SHOWN)
    raise typer.Exit(0 if report.ok else 1)


def _fields(report: "Report") -> dict[str, Any]:
    groups = [
        {**vars(group), "issues": [issue._asdict() for issue in group.issues]}
        for group in report.groups
    ]
    lengths, cost = report.lengths, report.cost
    return {
        "path": report.path,
        "ok": report.ok,
        "shape": report.shape,
        "lines": report.lines,
        "rows": report.rows,
        "errors": report.errors,
        "warnings": report.warnings,
        "groups": groups,
        "tokens": lengths._asdict() if lengths else None,
        "cost": cost._asdict() if cost else None,
        "answers": report.answers,
        "personal": report.personal,
    }


def _print(report: "Report", shown: int | None) -> None:
    for group in report.groups:
        _print_group(group, shown)
    print_facts(_facts(report))
    if report.lengths:
        _print_histogram(report.lengths)
    verdict = ", ".join((_number(report.errors, "error"), _number(report.warnings, "warning")))
    print(f"\n{harmless(report.path)}: {verdict}")


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}" if count else f"no {what}s"


def _print_group(group: "Group", shown: int | None) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    style = "bold red" if group.level == "error" else "bold yellow"
    number = f" ({group.count:,} times)" if group.count > 1 else ""
    console.print(Text.assemble((group.level, style), f"  {group.what}{number}"))
    issues = group.issues if shown is None else group.issues[:shown]
    for issue in issues:
        place = f"line {issue.line}" if issue.line else "the file"
        where = f"{place}, {issue.path}" if issue.path else place
        console.print(Text(harmless(f"  {where}: {issue.message}")))
    if rest := group.count - len(issues):
        console.print(Text(f"  and {rest:,} more; --all shows them", style="dim"))
    console.print(Text(f"  mend: {group.mend}\n", style="green"))


def _facts(report: "Report") -> dict[str, str]:
    facts = {"rows": f"{report.rows:,} in {report.lines:,} lines", "layout": report.shape or "-"}
    if tokens := report.lengths:
        facts["tokens"] = (
            f"{tokens.total:,} by {tokens.tokenizer}; a row has {tokens.p50:,} (half have fewer), "
            f"p90 {tokens.p90:,}, p99 {tokens.p99:,}, most {tokens.most:,}"
        )
        if tokens.counted < tokens.rows:
            facts["tokens"] += f"; estimated from {tokens.counted:,} rows"
        if tokens.rows < report.rows:
            facts["tokens"] += f"; of the {tokens.rows:,} rows without errors"
    if cost := report.cost:
        facts["training"] = (
            f"about {cost.usd:,f} USD: {cost.epochs} epochs, {cost.tokens:,} tokens at "
            f"{cost.usd_per_million.normalize():f} USD per million ({cost.source}; {cost.as_of})"
        )
    if report.answers:
        top = list(report.answers.items())[:5]
        told = ", ".join(f"{answer} {count:,}" for answer, count in top)
        facts["answers"] = harmless(f"{len(report.answers)} different ones: {told}")
    if report.personal:
        facts["personal"] = ", ".join(f"{kind} {n:,}" for kind, n in report.personal.items())
    return facts


def _print_histogram(lengths: "Lengths") -> None:
    top = max(count for _, _, count in lengths.histogram)
    width = len(f"{lengths.histogram[-1][1]:,}")
    print("\ntokens of a row")
    for start, end, count in lengths.histogram:
        bar = "█" * max(round(count / top * _BAR), 1 if count else 0)
        print(f"  {start:>{width},} to {end:>{width},}  {bar} {count:,}")
