"""Personal data in records: redacted, replaced by stand-ins, or a reason to drop the record.

Columns decide which few texts may hold anything; only those are read by `tracemill.pii`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from tracemill.corpus.names import find_names, name_stand_in
from tracemill.corpus.stand_ins import keyed, pseudonymised, real
from tracemill.pii import HINT, KINDS, Change, Found, Redacted, redact, redact_json, replaced

if TYPE_CHECKING:
    import polars as pl

Action = Literal["redact", "pseudonym", "drop", "keep"]

TEXTS = ("content", "name")
JSONS = ("tool_calls",)
ALL_KINDS = (*KINDS, "name")


class Protected(NamedTuple):
    """Rows in = rows kept + rows dropped."""

    kept: "pl.DataFrame"
    dropped: "pl.DataFrame"
    """With `reason`: personal data, and of which kinds."""
    counts: "pl.DataFrame"
    """Columns kind, found (places) and records; those of several batches may be added."""


def protect(
    frame: "pl.DataFrame", action: Action, *, names: bool = False, salt: str = ""
) -> Protected:
    """A frame of records without personal data, or with it only counted (`keep`).

    Reads what messages say, names of speakers, tool calls and tools. Unless it is `keep`, user_id
    becomes `user-` and 16 hex digits, so that a user's records are still known to be one user's.

    Args:
        frame: records; ids stay those of what was read.
        action: `redact` puts `[email]`, `pseudonym` the same stand-in for the same value, `drop`
            refuses the record. Keys and passwords are never imitated.
        names: names of people count too; needs the extra `names`, raises `InputError` without.
        salt: keeps anybody without it from finding values by trying.
    """
    import polars as pl

    change = _changes(action, salt)
    turns, owners = _turns(frame)
    cells = list(_cells(turns, owners, change, names, action, salt))
    cells += _tool_cells(frame, change)
    counts = _counts(cells)
    if action == "drop":
        return _without(frame, cells, counts, salt)
    if action == "keep":
        kept = frame
    else:
        told = _rewritten(frame, turns, owners, cells) if cells else frame
        kept = _identities(told, salt)
    nothing = frame.clear().with_columns(pl.lit(None, pl.String).alias("reason"))
    return Protected(kept, nothing, counts)


def personal_data(frame: "pl.DataFrame", *, names: bool = False) -> "pl.DataFrame":
    """What is still in a frame of records: kind, found, records; stand-ins are not counted."""
    return protect(frame, "keep", names=names).counts


def suspects(texts: "pl.Series") -> "pl.Series":
    """Which texts may hold personal data, by columns alone: true wherever `find` finds something."""
    import polars as pl

    if texts.null_count() == len(texts):
        return pl.repeat(False, len(texts), dtype=pl.Boolean, eager=True)
    return texts.str.contains(HINT).fill_null(False)


class _Cell(NamedTuple):
    """A text that holds something."""

    record: int
    turn: int
    """Row of the frame of turns; -1 for the tools of the record."""
    column: str
    text: str
    """Without it."""
    counts: Counter[str]


def _changes(action: Action, salt: str) -> Change:
    if action == "redact":
        return redact
    return _without_real if action in {"drop", "keep"} else lambda text: pseudonymised(text, salt)


def _without_real(text: str) -> Redacted:
    """For counting: what was counted is gone, or a text in JSON would be counted with it again."""
    found = real(text)
    news = replaced(text, ((place, f"[{place.kind}]") for place in found)) if found else text
    return Redacted(news, Counter(place.kind for place in found))


def _turns(frame: "pl.DataFrame") -> "tuple[pl.DataFrame, pl.Series]":
    import polars as pl

    flat = frame.select(pl.int_range(pl.len()).alias("record"), "messages").explode("messages")
    return flat.select(pl.col("messages").struct.unnest()), flat["record"]


def _cells(
    turns: "pl.DataFrame",
    owners: "pl.Series",
    change: Change,
    names: bool,
    action: Action,
    salt: str,
) -> Iterator[_Cell]:
    for column in (*TEXTS, *JSONS):
        texts = turns[column]
        chosen = _json_suspects(texts) if column in JSONS else suspects(texts)
        if names and column == "content":
            chosen = texts.is_not_null()
        some = chosen.arg_true()
        rows, values = some.to_list(), texts.gather(some).to_list()
        if names and column == "content":
            once = dict.fromkeys(values)
            told = dict(zip(once, _named(list(once), change, action, salt), strict=True))
            new: Iterable[Redacted] = map(told.__getitem__, values)
        else:
            new = (redact_json(v, change) if column in JSONS else change(v) for v in values)
        for turn, owner, (text, counts) in zip(rows, owners.gather(some), new, strict=True):
            if counts:
                yield _Cell(owner, turn, column, text, Counter(counts))


def _tool_cells(frame: "pl.DataFrame", change: Change) -> Iterator[_Cell]:
    """Many records share their tools: each text is looked at once."""
    import polars as pl

    given = frame.select(pl.int_range(pl.len()).alias("record"), "tools").drop_nulls()
    texts = given["tools"].unique()
    changed = {text: redact_json(text, change) for text in texts.filter(_json_suspects(texts))}
    for record, text in given.filter(pl.col("tools").is_in(list(changed))).iter_rows():
        new, counts = changed[text]
        if counts:
            yield _Cell(record, -1, "tools", new, Counter(counts))


def _named(texts: Sequence[str], change: Change, action: Action, salt: str) -> Iterator[Redacted]:
    """Names first: a model reads sentences better before placeholders stand in them."""
    for text, found in zip(texts, find_names(texts), strict=True):
        others = real(text) if found else ()
        people = [place for place in found if not any(map(place_overlaps(place), others))]
        counts = Counter({"name": len(people)} if people else {})
        if people and action in {"redact", "pseudonym"}:
            news = (
                (
                    p,
                    name_stand_in(text[p.start : p.end], salt)
                    if action == "pseudonym"
                    else "[name]",
                )
                for p in people
            )
            text = replaced(text, news)
        changed, more = change(text)
        yield Redacted(changed, counts + Counter(more))


def place_overlaps(place: Found) -> Callable[[Found], bool]:
    """Whether another place shares a character with this one."""
    return lambda other: place.start < other.end and other.start < place.end


# JSON


def _json_suspects(texts: "pl.Series") -> "pl.Series":
    """As `suspects`, of texts inside texts: what is escaped is looked at as it will be read."""
    if texts.null_count() == len(texts):
        return suspects(texts)
    plain = (
        texts.str.replace_all(r'\\+"', '"')
        .str.replace_all(r"\\+[nr]", "\n")
        .str.replace_all(r"\\+[tbf]", " ")
        .str.replace_all(r"\\+/", "/")
    )
    return suspects(plain) | suspects(texts) | texts.str.contains(r"\\u").fill_null(False)


# Records


def _counts(cells: Sequence[_Cell]) -> "pl.DataFrame":
    import polars as pl

    found: Counter[str] = Counter()
    records: Counter[str] = Counter()
    for cell in cells:
        found.update(cell.counts)
    records.update(kind for _, kind in {(c.record, kind) for c in cells for kind in c.counts})
    rows = [(kind, found[kind], records[kind]) for kind in ALL_KINDS if found[kind]]
    schema = {"kind": pl.String, "found": pl.Int64, "records": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _without(
    frame: "pl.DataFrame", cells: Sequence[_Cell], counts: "pl.DataFrame", salt: str
) -> Protected:
    import polars as pl

    kinds: dict[int, set[str]] = {}
    for cell in cells:
        kinds.setdefault(cell.record, set()).update(cell.counts)
    reasons = [
        (record, f"personal data: {', '.join(kind for kind in ALL_KINDS if kind in its)}")
        for record, its in sorted(kinds.items())
    ]
    reason = pl.DataFrame(reasons, schema={"row": pl.Int64, "reason": pl.String}, orient="row")
    marked = frame.with_columns(pl.int_range(pl.len()).alias("row"))
    gone = marked.join(reason, on="row", how="inner", maintain_order="left").drop("row")
    kept = marked.join(reason, on="row", how="anti", maintain_order="left").drop("row")
    return Protected(_identities(kept, salt), gone, counts)


def _rewritten(
    frame: "pl.DataFrame", turns: "pl.DataFrame", owners: "pl.Series", cells: Sequence[_Cell]
) -> "pl.DataFrame":
    import polars as pl

    said = [cell for cell in cells if cell.turn >= 0]
    tools = [(cell.record, cell.text) for cell in cells if cell.turn < 0]
    new: dict[str, pl.DataFrame] = {}
    if said:
        new["messages"] = _retold(turns.with_columns(owners), said)
    if tools:
        schema = {"record": pl.Int64, "new tools": pl.String}
        new["tools"] = pl.DataFrame(tools, schema=schema, orient="row")
    marked = frame.with_columns(pl.int_range(pl.len()).alias("record"))
    for changed in new.values():
        marked = marked.join(changed, on="record", how="left", maintain_order="left")
    return marked.select(
        pl.coalesce(f"new {name}", name).alias(name) if name in new else name
        for name in frame.columns
    )


def _retold(turns: "pl.DataFrame", cells: Sequence[_Cell]) -> "pl.DataFrame":
    """The messages of the records in which something was found: record and `new messages`."""
    import polars as pl

    records = pl.Series([cell.record for cell in cells], dtype=pl.Int64).unique()
    fields = [name for name in turns.columns if name != "record"]
    said = turns.with_columns(pl.int_range(pl.len()).alias("turn")).filter(
        pl.col("record").is_in(records.implode())
    )
    for column in sorted({cell.column for cell in cells}):
        rows = [(cell.turn, cell.text) for cell in cells if cell.column == column]
        new = pl.DataFrame(rows, schema={"turn": pl.Int64, "new": pl.String}, orient="row")
        said = said.join(new, on="turn", how="left", maintain_order="left")
        said = said.with_columns(pl.coalesce("new", column).alias(column)).drop("new")
    return said.group_by("record", maintain_order=True).agg(pl.struct(fields).alias("new messages"))


def _identities(frame: "pl.DataFrame", salt: str) -> "pl.DataFrame":
    """User ids are always personal; those of conversations only where something is found."""
    import polars as pl

    users = {u: _identity("user", u, salt) for u in frame["user_id"].unique().drop_nulls()}
    held = frame["conversation_id"].unique().drop_nulls()
    talks = {c: _identity("conversation", c, salt) for c in held.filter(suspects(held)) if real(c)}
    return frame.with_columns(
        pl.col("user_id").replace(users), pl.col("conversation_id").replace(talks)
    )


def _identity(kind: str, value: str, salt: str) -> str:
    known = re.fullmatch(rf"{kind}-[0-9a-f]{{16}}", value)
    return value if known else f"{kind}-{keyed(kind, value, salt)[:16]}"
