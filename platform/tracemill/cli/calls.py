"""`tracemill calls`, `call`, `tail` and `failures`: what was asked of models, and what came of it."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.options import Json, Since, Warehouse, moment_of, open_log
from tracemill.cli.output import plain, print_json, print_lines
from tracemill.errors import UsageError

if TYPE_CHECKING:
    from tracemill.log import EventLog

Row = Mapping[str, Any]

_STATUSES = ("running", "finished", "failed", "aborted", "crashed", "cached")
_COLUMNS = ("call", "started", "model", "status", "ms", "usd", "prompt")
_RIGHT = {"ms", "usd", "n", "share", "similarity"}
_SHORT_ID = 12
"""The last part of an id: it begins with the time, which calls of one moment share."""


def calls(
    since: Since = None,
    model: Annotated[
        str | None, typer.Option(help="Only this model, as gpt-5 or openai/gpt-5.")
    ] = None,
    status: Annotated[
        str | None, typer.Option(help=f"Only calls that are {', '.join(_STATUSES)}.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only calls made for this user.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Only this registered prompt: NAME or NAME@VERSION.")
    ] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="How many calls.")] = 20,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """List model calls, newest first. `tracemill call ID` tells the whole story of one.

    Examples:

      tracemill calls
      tracemill calls --since 2h --status failed
      tracemill calls --model anthropic/claude-sonnet-5-5 --user u-17 -n 100
      tracemill calls --json | jq -r .answer
    """
    if status is not None and status not in _STATUSES:
        raise UsageError(f"--status is one of {', '.join(_STATUSES)}, not {status!r}")
    with open_log(warehouse) as log:
        found = _newest(
            log, limit, since=since, model=model, status=status, user=user, prompt=prompt
        )
    if as_json:
        for row in found:
            print_json(row)
    elif found:
        print_lines(_COLUMNS, _cells(found), right=_RIGHT)
    else:
        print("no such calls", file=sys.stderr)


def call(
    call_id: Annotated[
        str, typer.Argument(metavar="ID", help="Of the call; its beginning or end is enough.")
    ],
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Tell the whole story of one call: attempts, messages, answer, tokens, cost, what came next.

    Examples:

      tracemill call 51a9d77ce0f2
      tracemill call 01a202af-525a-75a4-a7cb-7ad03f92ebb6 --json | jq .events
    """
    from tracemill.cli import story

    with open_log(warehouse) as log:
        told = story.of(log, whole_id(log, call_id))
    print_json(story.as_dict(told)) if as_json else story.print_story(told)


def tail(
    count: Annotated[int, typer.Option("-n", min=0, help="How many of the last calls first.")] = 10,
    once: Annotated[bool, typer.Option("--once", help="Then stop, instead of waiting.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many new lines; default: never.")
    ] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Follow the calls: a line when one ends, and for each attempt that failed. Ctrl-C stops it.

    Examples:

      tracemill tail
      tracemill tail -n 0 --json | jq 'select(.status == "failed")'
    """
    from tracemill.cli import live

    with open_log(warehouse) as log:
        end = log.position()
        if count:
            for row in reversed(_newest(log, count)):
                _print_line(row, as_json=as_json)
        sys.stdout.flush()
        if once:
            return
        for number, row in enumerate(live.rows(log, end), start=1):
            _print_line(row, as_json=as_json)
            sys.stdout.flush()
            if number == limit:
                return


def failures(
    since: Since = None,
    similar_to: Annotated[
        str | None,
        typer.Option(metavar="ID_OR_TEXT", help="A call, an error that you saw, or a prompt."),
    ] = None,
    clusters: Annotated[
        bool, typer.Option("--clusters", help="By root cause, in whatever words it was told.")
    ] = False,
    limit: Annotated[int, typer.Option("-n", min=1, help="How many rows.")] = 10,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Show what goes wrong, most frequent first; or past failures like the one you have.

    Failures whose messages differ only in numbers, ids and quoted values count as one; with
    --clusters also those that tell the same in other words, and refusals of similar prompts.

    Examples:

      tracemill failures --since 1d
      tracemill failures --clusters --since 30d
      tracemill failures --similar-to 51a9d77ce0f2
      tracemill failures --similar-to "context length exceeded: 210000 tokens"
    """
    if clusters and similar_to is not None:
        raise UsageError("--clusters and --similar-to exclude each other: choose one")
    with open_log(warehouse) as log:
        if clusters:
            _print_clusters(log, moment_of(since), limit, as_json=as_json)
        elif similar_to is None:
            _print_signatures(log, moment_of(since), limit, as_json=as_json)
        elif since is not None:
            raise UsageError("--since and --similar-to exclude each other: choose one")
        else:
            _print_similar(log, similar_to, limit, as_json=as_json)


def whole_id(log: "EventLog", part: str) -> str:
    """The id of the one call that begins or ends with `part`.

    Raises `UsageError` when there is none, or more than one.
    """
    query = """
        SELECT DISTINCT substr(stream, 6) AS id FROM events
        WHERE kind LIKE 'llm.call.%' AND (starts_with(stream, 'call:' || $1) OR ends_with(stream, $1))
        ORDER BY id LIMIT 5
    """
    wanted = part.strip().lower()
    found: list[Any] = log.arrow(query, [wanted])["id"].to_pylist() if wanted else []
    if len(found) > 1:
        raise UsageError(f"several calls are {wanted}: {', '.join(found)}; give more of the id")
    if not found:
        raise UsageError(f"no call is {plain(part)!r}: `tracemill calls` lists the latest")
    return found[0]


def _newest(
    log: "EventLog",
    limit: int,
    *,
    since: str | None = None,
    model: str | None = None,
    status: str | None = None,
    user: str | None = None,
    prompt: str | None = None,
) -> Sequence[Row]:
    """The columns that are typed find the calls; only of these the rest is read."""
    name, _, version = (prompt or "").partition("@")
    ids: list[Any] = log.arrow(
        """
        SELECT call_id FROM calls
        WHERE ($since IS NULL OR started_at >= $since::TIMESTAMP)
          AND ($model IS NULL OR request_model = $model OR provider || '/' || request_model = $model)
          AND ($status IS NULL OR status = $status)
          AND ($user IS NULL OR user_id = $user)
          AND ($name = '' OR prompt_name = $name)
          AND ($version = '' OR starts_with(prompt_version, $version))
        ORDER BY started_at DESC, call_id DESC LIMIT $limit
        """,
        {
            "since": moment_of(since),
            "model": model,
            "status": status,
            "user": user,
            "name": name,
            "version": version,
            "limit": limit,
        },
    )["call_id"].to_pylist()
    # The range is what lets DuckDB pass over most of the log; on its own, IN would read all of it.
    query = f"""
        SELECT * FROM calls
        WHERE call_id >= ? AND call_id <= ? AND call_id IN ({", ".join("?" * len(ids))})
        ORDER BY started_at DESC, call_id DESC
    """  # noqa: S608
    return log.arrow(query, [min(ids), max(ids), *ids]).to_pylist() if ids else []


def _cells(found: Sequence[Row]) -> list[list[str]]:
    same_day = len({row["started_at"].date() for row in found}) == 1
    return [
        [
            row["call_id"][-_SHORT_ID:],
            f"{row['started_at']:%H:%M:%S}" if same_day else f"{row['started_at']:%m-%d %H:%M}",
            f"{row['provider']}/{row['request_model']}",
            row["status"],
            _ms(row["latency_ms"]),
            _usd(row["cost_usd"]),
            _what(row),
        ]
        for row in found
    ]


def _what(row: Row) -> str:
    """The prompt; where the call failed, first why."""
    prompt = plain(row["prompt"] or "")
    return f"{row['error_type']}: {prompt}" if row["error_type"] else prompt


def _ms(latency_ms: float | None) -> str:
    return "" if latency_ms is None else f"{latency_ms:,.0f}"


def _usd(cost: Decimal | None) -> str:
    """Two figures that matter, as far as there is room for them: 12.34, 0.0012."""
    if cost is None or not cost:
        return "" if cost is None else "0"
    if cost < Decimal("0.000001"):
        return "<0.000001"
    places = 2 if cost >= 1 else min(6, 1 - cost.adjusted())
    return f"{cost:.{places}f}"


def _print_line(row: Row, *, as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    cells = _cells([row])[0]
    print_lines((), [cells], right=(), least=(12, 8, 24, 9, 8, 9, 0))


def _print_signatures(
    log: "EventLog", since: datetime | None, limit: int, *, as_json: bool
) -> None:
    found = log.arrow(
        """
        SELECT count(*) AS n, max(ended_at) AS last_at, arg_max(call_id, ended_at) AS last_call,
          list_sort(list_distinct(list(provider || '/' || request_model))) AS models, signature
        FROM failures WHERE $since IS NULL OR ended_at >= $since::TIMESTAMP
        GROUP BY signature ORDER BY n DESC, last_at DESC LIMIT $limit
        """,
        {"since": since, "limit": limit},
    ).to_pylist()
    if as_json:
        for row in found:
            print_json(row)
        return
    rows = [
        [
            f"{row['n']:,}",
            f"{row['last_at']:%m-%d %H:%M}",
            row["last_call"][-_SHORT_ID:],
            row["models"][0] + (f" +{len(row['models']) - 1}" if row["models"][1:] else ""),
            row["signature"],
        ]
        for row in found
    ]
    if rows:
        print_lines(("n", "last", "call", "model", "what"), rows, right=_RIGHT)
    else:
        print("no failures", file=sys.stderr)


def _print_clusters(log: "EventLog", since: datetime | None, limit: int, *, as_json: bool) -> None:
    from tracemill.analysis.failures import Failures

    found = Failures(log).cluster(since and since.replace(tzinfo=UTC)).frame.head(limit)
    if as_json:
        for row in found.iter_rows(named=True):
            print_json(row)
        return
    rows = [
        [
            f"{row['n']:,}",
            f"{row['share']:.0%}",
            row["trend"],
            f"{row['last']:%m-%d %H:%M}",
            row["example"][-_SHORT_ID:],
            row["label"],
        ]
        for row in found.iter_rows(named=True)
    ]
    if rows:
        print_lines(("n", "share", "trend", "last", "call", "what"), rows, right=_RIGHT)
    else:
        print("no failures", file=sys.stderr)


def _print_similar(log: "EventLog", asked: str, limit: int, *, as_json: bool) -> None:
    looks_like_id = len(asked) >= 8 and not set(asked.lower()) - set("0123456789abcdef-")
    found = log.find_similar_failures(whole_id(log, asked) if looks_like_id else asked, limit)
    if as_json:
        for row in found.iter_rows(named=True):
            print_json(row)
        return
    rows = [
        [
            f"{row['similarity']:.2f}",
            row["same"] or "",
            row["call_id"][-_SHORT_ID:],
            row["model"],
            _next(row["next"]),
            f"{row['signature']} | {row['prompt'] or ''}",
        ]
        for row in found.iter_rows(named=True)
    ]
    if rows:
        print_lines(("similarity", "same", "call", "model", "next", "what"), rows, right=_RIGHT)
    else:
        print("no failures", file=sys.stderr)


def _next(following: Mapping[str, str] | None) -> str:
    if following is None:
        return ""
    return f"{following['how']}, {following['model']}: {following['status']}"
