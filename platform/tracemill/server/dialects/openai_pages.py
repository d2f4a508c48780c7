"""Lists page by page, as OpenAI's clients turn them: `after` is the id of the last one that was seen."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tracemill.messages import Json
from tracemill.server.incoming import Incoming
from tracemill.server.trouble import invalid

T = TypeVar("T")


def page(
    found: Sequence[T],
    asked: Incoming,
    name: Callable[[T], str],
    told: Callable[[T], object],
    *,
    usual: int = 20,
    most: int = 100,
) -> Json:
    """The page that is asked for.

    Args:
        found: all, in the order of the list.
        name: the id of one.
        usual: how many are on a page where nothing is said.

    Raises `Trouble` (400): `limit` is no such number, or `after` is not among them.
    """
    size = number(asked, "limit", usual, most)
    after = asked.query.get("after")
    start = 0
    if after:
        start = next((n for n, each in enumerate(found, 1) if name(each) == after), 0)
        if not start:
            raise invalid(f"after: there is no {after[:100]}", "after")
    here = found[start : start + size]
    return {
        "object": "list",
        "data": [told(each) for each in here],
        "has_more": start + size < len(found),
        "first_id": name(here[0]) if here else None,
        "last_id": name(here[-1]) if here else None,
    }


def ordered(newest_first: Iterable[T], asked: Incoming) -> list[T]:
    """In the order that is asked for: newest first, or oldest. Raises `Trouble` (400)."""
    found = list(newest_first)
    match asked.query.get("order", "desc"):
        case "desc":
            return found
        case "asc":
            return found[::-1]
        case other:
            raise invalid(f"order: it is asc or desc, not {other[:40]!r}", "order")


def number(asked: Incoming, name: str, usual: int, most: int) -> int:
    """A number of the query, from 1 on. Raises `Trouble` (400)."""
    given = asked.query.get(name) or str(usual)
    if not given.isdecimal() or len(given) > 9 or not 1 <= int(given) <= most:
        raise invalid(f"{name}: it is a number from 1 to {most}, not {given[:40]!r}", name)
    return int(given)
