"""`tracemill budgets ...`: how much calls may take, and what they have taken."""

import os
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tracemill.cli.options import Json, Warehouse, open_log
from tracemill.cli.output import plain, print_json, print_lines
from tracemill.errors import UsageError

if TYPE_CHECKING:
    from tracemill.access.budgets import Standing
    from tracemill.events.access import Scope

app = typer.Typer(no_args_is_help=True, help="Budgets: what calls may take, and what they took.")

Name = Annotated[str, typer.Argument(help="What the budget is called.")]
_COLUMNS = ("budget", "whose", "per", "requests", "tokens", "USD", "unpriced", "resets (UTC)")
_RIGHT = {"requests", "tokens", "USD", "unpriced"}


@app.command("set")
def set_(
    name: Name,
    per: Annotated[
        Literal["minute", "hour", "day", "month"],
        typer.Option(help="Of the calendar, in UTC: then the count begins anew."),
    ],
    usd: Annotated[str | None, typer.Option(help="So many US dollars.")] = None,
    tokens: Annotated[int | None, typer.Option(min=0, help="So many, read and written.")] = None,
    requests: Annotated[int | None, typer.Option(min=0, help="So many calls.")] = None,
    key: Annotated[str | None, typer.Option(help="Of this key, by its id; * is each one.")] = None,
    user: Annotated[str | None, typer.Option(help="Of this user; * is each one apart.")] = None,
    team: Annotated[str | None, typer.Option(help="Of this team; * is each one apart.")] = None,
    tag: Annotated[
        str | None, typer.Option(help="Of calls with this tag: feature=search, or feature=*.")
    ] = None,
    alert: Annotated[
        bool, typer.Option("--alert", help="Only tell of it, once in a window; refuse nothing.")
    ] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Set a budget; one of the same name is replaced. Without --key, --user ... it is for everything.

    What would pass it is refused with status 429 and the time of the reset. What calls of this window
    have taken counts already, whoever made them.

    Examples:

      tracemill budgets set total --usd 500 --per month
      tracemill budgets set each-user --user "*" --usd 5 --per day
      tracemill budgets set search --tag feature=search --requests 600 --per minute --alert
    """
    from tracemill.access.budgets import Budgets

    scope, of = _whose(key, user, team, tag)
    with open_log(warehouse) as log:
        budgets = Budgets(log)
        budgets.add(
            name,
            scope=scope,
            of=of,
            window=per,
            requests=requests,
            tokens=tokens,
            usd=_money(usd),
            action="alert" if alert else "refuse",
            actor=os.environ.get("USER"),
        )
        _print([standing for standing in budgets.all() if standing.name == name], as_json=as_json)


@app.command()
def ls(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """List the budgets, each with what is spent, and what calls in flight have reserved.

    Examples:

      tracemill budgets ls
      tracemill budgets ls --json | jq 'select(.left_usd == "0")'
      tracemill log sql "SELECT * FROM events WHERE kind = 'budget.refused'"
    """
    from tracemill.access.budgets import Budgets

    with open_log(warehouse) as log:
        _print(Budgets(log).all(), as_json=as_json)


@app.command()
def rm(name: Name, warehouse: Warehouse = None) -> None:
    """Remove a budget: its calls are refused no more, and what they took stays in the log."""
    from tracemill.access.budgets import Budgets

    with open_log(warehouse) as log:
        Budgets(log).remove(name, actor=os.environ.get("USER"))
    print(plain(f"{name} holds no more"))


def _whose(
    key: str | None, user: str | None, team: str | None, tag: str | None
) -> "tuple[Scope, str | None]":
    options: dict[Scope, str | None] = {"key": key, "user": user, "team": team, "tag": tag}
    given: list[tuple[Scope, str]] = [
        (scope, of) for scope, of in options.items() if of is not None
    ]
    if len(given) > 1:
        raise UsageError(f"a budget is of one: --{given[0][0]} or --{given[1][0]}, not of both")
    return given[0] if given else ("everything", None)


def _money(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        return Decimal(text.removeprefix("$"))
    except InvalidOperation:
        raise UsageError(f"--usd is an amount, as 500 or 2.50, not {text!r}") from None


def _print(found: "list[Standing]", *, as_json: bool) -> None:
    if as_json:
        for standing in found:
            print_json(asdict(standing))
    elif found:
        print_lines(_COLUMNS, [_row(each) for each in found], right=_RIGHT)
    else:
        print("no budgets: `tracemill budgets set total --usd 500 --per month` would be one")


def _row(each: "Standing") -> tuple[str, ...]:
    return (
        each.name,
        f"{each.scope} {each.of}" if each.of else each.scope,
        f"{each.window}, {each.action}",
        _used(each.spent_requests, each.reserved_requests, each.requests),
        _used(each.spent_tokens, each.reserved_tokens, each.tokens),
        _used(each.spent_usd, each.reserved_usd, each.usd),
        str(each.unpriced),
        plain(each.resets_at),
    )


def _used(spent: Decimal | int, reserved: Decimal | int, limit: Decimal | int | None) -> str:
    """As `12 (+3) / 100`: spent, reserved, allowed."""
    held = f" (+{_short(reserved)})" if reserved else ""
    return f"{_short(spent)}{held}" + ("" if limit is None else f" / {_short(limit)}")


def _short(amount: Decimal | int) -> str:
    return f"{amount:,}" if isinstance(amount, int) else f"{amount.normalize():,f}"
