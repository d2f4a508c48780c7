"""A long conversation as several: cut between exchanges, never between a call and its result.

An exchange is what a user says and all that follows until the user speaks again. Each part begins
with the system message, ends with an answer, and is as long as the limit allows.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.corpus.records import STANDING, record_schema, with_ids

if TYPE_CHECKING:
    import polars as pl

Turn = dict[str, Any]


class _Exchange(NamedTuple):
    turns: list[Turn]
    tokens: int


def parts(frame: "pl.DataFrame", max_tokens: int, name: str) -> "pl.DataFrame":
    """The records of a frame, each cut into several of at most `max_tokens` tokens; those that
    cannot be cut are not in it.

    `part_of` is the id of the whole; `conversation_id` that of the whole too where it had none, so
    that a split keeps the parts on one side. A part in which nothing is learned is left out.
    """
    import polars as pl

    schema = {**frame.schema, "part_of": pl.String()}
    pieces = [
        {**row, "messages": turns, "part_of": row["record_id"]}
        for row, costs in zip(frame.iter_rows(named=True), _costs(frame, name), strict=True)
        for turns in _cut(row["messages"], costs, max_tokens)
    ]
    cut = pl.DataFrame(pieces, schema=schema).with_columns(
        conversation_id=pl.coalesce("conversation_id", "part_of")
    )
    named = with_ids(cut.drop("record_id")).select(*record_schema(), *_extra(schema))
    return named.unique(("record_id", "part_of"), keep="first", maintain_order=True)


def _extra(schema: dict[str, Any]) -> list[str]:
    return [column for column in schema if column not in record_schema()]


class _Costs(NamedTuple):
    turns: Sequence[int]
    record: int
    """What each part costs beside its turns: tools, and the overhead of a record."""


def _costs(frame: "pl.DataFrame", name: str) -> Iterator[_Costs]:
    """The tokens of every turn, for each record."""
    import polars as pl

    from tracemill.corpus.tokens import TOKENIZERS, count

    once = TOKENIZERS[name].per_record
    numbered = frame.select("messages", "tools").with_row_index("row")
    single = numbered.explode("messages").with_columns(
        pl.concat_list("messages"), tools=pl.lit(None, pl.String)
    )
    turns = single.select("row", tokens=count(single, name) - once)
    by_row = turns.group_by("row", maintain_order=True).agg("tokens")["tokens"]
    empty = numbered.with_columns(messages=pl.col("messages").list.head(0))
    for costs, record in zip(by_row.to_list(), count(empty, name).to_list(), strict=True):
        yield _Costs(costs, record)


def _cut(turns: list[Turn], costs: _Costs, max_tokens: int) -> list[list[Turn]]:
    """The parts, or none where an exchange alone is too long."""
    head, exchanges = _exchanges(turns, costs.turns)
    room = max_tokens - costs.record - head.tokens
    if not exchanges or max(each.tokens for each in exchanges) > room:
        return []
    found: list[list[Turn]] = []
    part, used = list(head.turns), 0
    for exchange in exchanges:
        if used + exchange.tokens > room:
            found.append(part)
            part, used = list(head.turns), 0
        part, used = part + exchange.turns, used + exchange.tokens
    return [each for each in (*found, part) if any(map(_is_learned, each))]


def _is_learned(turn: Turn) -> bool:
    return turn["role"] == "assistant" and turn["weight"] != 0


def _exchanges(turns: list[Turn], costs: Sequence[int]) -> tuple[_Exchange, list[_Exchange]]:
    """What stands above the conversation, and its exchanges, each of which ends with an answer."""
    start = next((i for i, t in enumerate(turns) if t["role"] not in STANDING), len(turns))
    head = _Exchange(turns[:start], sum(costs[:start]))
    bounds = [start, *(i for i in range(start + 1, len(turns)) if _begins(turns, i)), len(turns)]
    found = [_Exchange(turns[a:b], sum(costs[a:b])) for a, b in pairwise(bounds) if a < b]
    return head, found


def _begins(turns: list[Turn], at: int) -> bool:
    """Whether a user speaks here after an answer that left no call open."""
    before = turns[at - 1]
    answered = before["role"] == "assistant" and not before["tool_calls"]
    return turns[at]["role"] == "user" and answered
