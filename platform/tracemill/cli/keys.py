"""`tracemill keys ...`: who may use the server."""

import os
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.options import Json, Warehouse, open_log
from tracemill.cli.output import plain, print_facts, print_json, print_lines
from tracemill.errors import UsageError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from tracemill.access.keys import Key, Keys

app = typer.Typer(no_args_is_help=True, help="Keys of the server: make, list, rotate, revoke.")

Id = Annotated[
    str, typer.Argument(metavar="KEY", help="Of a key: its id, the beginning of it, or its name.")
]
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what will use it.")],
    team: Annotated[str | None, typer.Option(help="Whose budgets its calls count for.")] = None,
    user: Annotated[
        str | None, typer.Option(help="Whose calls they are, unless a call says.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Only this one, or these: openai/*; may be repeated.")
    ] = None,
    route: Annotated[
        list[str] | None,
        typer.Option(help="Only this part of the server, as chat; may be repeated."),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(help="Put on each of its calls: feature=search; may be repeated."),
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="May also look after the server.")] = False,
    expires: Annotated[
        str | None, typer.Option(help="Refused after an age, as 30d, or from a time on.")
    ] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Make a key and print it. This once: only a digest of it is kept.

    With the first key, the server asks everybody for one.

    Examples:

      tracemill keys create search --team core --tag feature=search
      tracemill keys create ci --model "openai/*" --route chat --route embeddings --expires 30d
      export OPENAI_API_KEY=$(tracemill keys create me --json | jq -r .secret)
    """
    from tracemill.access.keys import Keys

    with open_log(warehouse) as log:
        key, secret = Keys(log).create(
            name,
            team=team,
            user=user,
            models=model or ("*",),
            routes=route or ("*",),
            tags=_tags(tag or []),
            admin=admin,
            expires_at=_expiry(expires),
            actor=os.environ.get("USER"),
        )
    _show_once(key, secret, as_json=as_json)


@app.command()
def ls(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """List the keys, the oldest first; nothing that is shown opens anything.

    Examples:

      tracemill keys ls
      tracemill log sql "SELECT name, state, calls, last_used_at FROM keys"
    """
    from tracemill.access.keys import Keys

    with open_log(warehouse) as log:
        found = Keys(log).all()
    if as_json:
        for key in found:
            print_json(_told(key))
    elif found:
        columns = ("id", "created (UTC)", "name", "state", "team", "routes", "models")
        print_lines(columns, [_row(key) for key in found])
    else:
        print("no keys: whoever is on this machine may use the server; `tracemill keys create`")


@app.command()
def show(key_id: Id, as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Tell all about one key but its secret, which nobody knows."""
    from tracemill.access.keys import Keys

    with open_log(warehouse) as log:
        key = _found(Keys(log), key_id)
    _print(key, as_json=as_json)


@app.command()
def rotate(
    key_id: Id,
    overlap: Annotated[
        str, typer.Option(help="How long the old secret holds besides, as 0s, 30m, 24h, 7d.")
    ] = "24h",
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Give a key a new secret and print it. Its id, and what is counted for it, stay.

    Examples:

      tracemill keys rotate search
      tracemill keys rotate 4f2a91c0b7de --overlap 0s
    """
    from tracemill.access.keys import Keys

    overlap_s = _seconds(overlap)
    if overlap_s is None:
        raise UsageError(f"--overlap is a duration, as 0s, 30m, 24h or 7d, not {overlap!r}")
    with open_log(warehouse) as log:
        keys = Keys(log)
        known = _found(keys, key_id)
        key, secret = keys.rotate(known.key_id, overlap_s, actor=os.environ.get("USER"))
    _show_once(key, secret, as_json=as_json)


@app.command()
def revoke(key_id: Id, as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Refuse a key from now on, in every process that runs. It cannot be taken back.

    Examples:

      tracemill keys revoke 4f2a91c0b7de
    """
    from tracemill.access.keys import Keys

    with open_log(warehouse) as log:
        keys = Keys(log)
        key = keys.revoke(_found(keys, key_id).key_id, actor=os.environ.get("USER"))
    if as_json:
        print_json(_told(key))
    else:
        print(plain(f"{key.name} ({key.key_id}) is refused from now on"))


def _found(keys: "Keys", given: str) -> "Key":
    """The key whose id begins so, or whose name it is."""
    every = keys.all()
    # Whoever pastes the whole key means its id.
    pasted = re.fullmatch(r"tm-([0-9a-f]{12})-\S+", given)
    wanted = pasted[1] if pasted else given
    found = [key for key in every if wanted in (key.key_id, key.name)]
    found = found or [key for key in every if wanted and key.key_id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    why = f"{len(found)} keys match" if found else "no key matches"
    shown = "what was given" if pasted else repr(given[:60])
    raise UsageError(f"{why} {shown}: `tracemill keys ls` lists them, each with its id")


def _seconds(text: str) -> float | None:
    given = re.fullmatch(r"(\d{1,9})([smhdw])", text.strip())
    return float(int(given[1]) * _UNITS[given[2]]) if given else None


def _expiry(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        if (age_s := _seconds(text)) is not None:
            return datetime.now(UTC) + timedelta(seconds=age_s)
        moment = datetime.fromisoformat(text.strip())
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--expires is an age, as 30d, or a time, as 2027-01-31T09:00, not {text!r}"
        ) from None


def _tags(given: list[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in given]
    if wrong := [
        item for item, (name, _, value) in zip(given, pairs, strict=True) if not (name and value)
    ]:
        raise UsageError(f"--tag is written name=value, not {wrong[0]!r}")
    return {name: value for name, _, value in pairs}


def _show_once(key: "Key", secret: "SecretStr", *, as_json: bool) -> None:
    text = secret.get_secret_value()
    if as_json:
        print_json({**_told(key), "secret": text})
        return
    print(text)
    print_facts(_facts(key))
    typer.echo("Keep the first line now: it cannot be shown again.", err=True)


def _print(key: "Key", *, as_json: bool) -> None:
    print_json(_told(key)) if as_json else print_facts(_facts(key))


def _told(key: "Key") -> dict[str, Any]:
    return {**asdict(key), "state": _state(key)}


def _facts(key: "Key") -> dict[str, str]:
    told = {name: value for name, value in _told(key).items() if value not in (None, "", {})}
    return {name.replace("_", " "): plain(value) for name, value in told.items()}


def _row(key: "Key") -> tuple[str, ...]:
    return (
        key.key_id,
        plain(key.created_at),
        key.name,
        _state(key),
        key.team or "",
        plain(key.routes),
        plain(key.models),
    )


def _state(key: "Key") -> str:
    if key.revoked_at:
        return "revoked"
    if key.expires_at and key.expires_at <= datetime.now(UTC):
        return "expired"
    return "admin" if key.admin else "active"
