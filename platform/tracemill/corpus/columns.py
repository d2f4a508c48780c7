"""Rows as columns: what is plain becomes records without a Python object for each row.

The rule is certainty: a row is taken here only where `chat.conversation` would say the very same of
it. Parts, calls of tools, odd types and whatever else needs a look are left to the reading by rows.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tracemill.corpus import fields
from tracemill.corpus.chat import ROLE_NAMES
from tracemill.corpus.recipe import Source
from tracemill.corpus.records import listed, record_schema, with_ids
from tracemill.errors import InputError

if TYPE_CHECKING:
    import polars as pl

PLAIN_ROLES = {
    name: role
    for name, role in ROLE_NAMES.items()
    if role != "tool" and name not in ("function_call", "function")
}
CAREFUL_FIELDS = ("tool_calls", "function_call")
"""Fields of a turn that say more than its text."""

_TURNS = "turns in "
"""Columns with turns as they are in the file begin so."""
_TEXTS = ("String", "Categorical", "Enum", "Null")


class Place(NamedTuple):
    """Where rows come from, for the columns that a file does not have."""

    origin: str
    file: str
    modified: datetime
    recipe: Source


def records_of(
    frame: "pl.DataFrame", lines: "pl.Series", place: Place
) -> "tuple[pl.DataFrame, pl.Series]":
    """The plain rows of a frame of a file's fields as records, and which rows they are.

    Returns the records in the order of the rows, and a mask over the rows.
    """
    import polars as pl

    found = _Fields(frame, place.recipe)
    base = frame.select(
        pl.Series("row", range(frame.height), dtype=pl.UInt32),
        lines.alias("line"),
        *found.turns(),
        found.alpaca(),
        *(found.text(column) for column in ("system", "user_query", "assistant_response")),
        found.text("context"),
        *(found.text(column) for column in fields.IDS),
        *(found.scalar(column) for column in ("timestamp", "rating")),
        found.odd(),
    )
    base = _converted(_converted(base, "timestamp"), "rating")
    plain = base.filter(~pl.col("odd")) if base["odd"].any() else base
    kept = with_ids(_lineage(_said(plain, place.recipe), place))
    mask = pl.Series([kept.height == frame.height]).new_from_index(0, frame.height)
    return kept.drop("row"), mask if mask.all() else mask.scatter(kept["row"], True)


def _said(base: "pl.DataFrame", recipe: Source) -> "pl.DataFrame":
    """The rows that say something, with `messages`."""
    import polars as pl

    parts: list[pl.DataFrame] = []
    for name in [each for each in base.columns if each.startswith(_TURNS)]:
        missing = base[name].is_null() if base[name].has_nulls() else None
        there = base if missing is None else base.filter(~missing)
        parts.append(_chats(there, name, recipe))
        base = base.clear() if missing is None else base.filter(missing)
    if not parts or base.height:
        parts.append(_pairs(base, recipe))
    whole = pl.concat([_with_system(part) for part in parts])
    return whole if whole["row"].is_sorted() else whole.sort("row")


def _filtered(frame: "pl.DataFrame", mask: "pl.Series") -> "pl.DataFrame":
    """As `filter`, which also copies where every row is taken."""
    return frame if mask.all() else frame.filter(mask)


class _Fields:
    """Our columns as expressions over the fields of a file, and which rows need care."""

    def __init__(self, frame: "pl.DataFrame", recipe: Source) -> None:
        self.frame, self.recipe = frame, recipe
        self.paths = fields.names(recipe)
        self.careful: list[pl.Expr] = []
        for column in ("tools", "history"):
            self._must_be_none(column)

    def _found(self, column: str) -> "list[tuple[pl.Expr, pl.DataType]]":
        each = (_at(self.frame, path) for path in self.paths[column])
        return [pair for paths in each for pair in paths]

    def _must_be_none(self, column: str) -> None:
        import polars as pl

        for value, kind in self._found(column):
            empty = value.list.len() == 0 if isinstance(kind, pl.List) else pl.lit(False)
            self.careful.append(value.is_not_null() & ~empty)

    def text(self, column: str) -> "pl.Expr":
        """A column of text; numbers are welcome where it is a name."""
        import polars as pl

        values = [pl.lit(None, pl.String)]
        for value, kind in self._found(column):
            whole = kind.is_integer() and column in fields.IDS
            if str(kind.base_type()) in _TEXTS or whole:
                values.append(value.cast(pl.String))
            else:
                self.careful.append(value.is_not_null())
        return pl.coalesce(values).alias(column)

    def scalar(self, column: str) -> "pl.Expr":
        """A column as it is, where all its fields are of one kind."""
        import polars as pl

        found = [pair for pair in self._found(column) if pair[1] != pl.Null]
        if len({str(kind) for _, kind in found}) == 1 and not found[0][1].is_nested():
            return pl.coalesce([value for value, _ in found]).alias(column)
        self.careful += [value.is_not_null() for value, _ in found]
        return pl.lit(None, pl.String).alias(column)

    def alpaca(self) -> "pl.Expr":
        """Whether the context follows the question."""
        import polars as pl

        names = ("instruction", "output")
        looks_so = fields.may_be_alpaca(self.recipe) and set(names) <= set(self.frame.columns)
        if fields.is_alpaca(self.recipe) or not looks_so:
            return pl.lit(fields.is_alpaca(self.recipe)).alias("alpaca")
        return pl.all_horizontal(pl.col(name).is_not_null() for name in names).alias("alpaca")

    def turns(self) -> "list[pl.Expr]":
        """The lists of turns, as they are."""
        import polars as pl

        values: list[pl.Expr] = []
        for value, kind in self._found("messages"):
            if isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct):
                values.append(value.alias(f"{_TURNS}{len(values)}"))
            elif kind != pl.Null:
                self.careful.append(value.is_not_null())
        return values

    def odd(self) -> "pl.Expr":
        """Whether something in a row needs care, whatever its layout."""
        import polars as pl

        return pl.any_horizontal(pl.lit(False), *self.careful).alias("odd")


def _at(frame: "pl.DataFrame", path: str) -> "list[tuple[pl.Expr, pl.DataType]]":
    """What may lie at a path: a column of that name, then what the steps lead to."""
    import polars as pl

    found = [(pl.col(path), frame.schema[path])] if path in frame.columns else []
    name, *steps = path.split(".")
    if not steps or name not in frame.columns:
        return found
    value, kind = pl.col(name), frame.schema[name]
    for step in steps:
        if isinstance(kind, pl.Struct) and step in {each.name for each in kind.fields}:
            value = value.struct.field(step)
            kind = next(each.dtype for each in kind.fields if each.name == step)
        elif isinstance(kind, pl.List) and step.isdecimal():
            value, kind = value.list.get(int(step), null_on_oob=True), kind.inner
        else:
            return found
    return [*found, (value, cast("pl.DataType", kind))]


def _turns(found: "pl.DataFrame") -> "pl.DataFrame":
    """Turns as role, content, name and weight; whether one answers, is odd and is blank."""
    import polars as pl

    kinds: dict[str, Any] = dict(found.schema)

    def texts(*names: str) -> pl.Expr:
        there = [name for name in names if kinds.get(name) == pl.String]
        return pl.coalesce(there) if there else pl.lit(None, pl.String)

    known = {name: pl.String for name in ("role", "from", "content", "value", "name")}
    odd = [
        pl.col(name).is_not_null()
        for name, kind in kinds.items()
        if (name in CAREFUL_FIELDS and kind != pl.Null and not _is_empty_list(kind))
        or (name in known and kind not in (pl.String, pl.Null))
    ]
    odd += [pl.col(n).list.len() > 0 for n in CAREFUL_FIELDS if _is_empty_list(kinds.get(n))]
    weight = pl.col("weight") if "weight" in kinds else pl.lit(None, pl.Int8)
    if not (kinds.get("weight", pl.Int8()).is_integer() or kinds["weight"] == pl.Null):
        odd.append(weight.is_not_null())
        weight = pl.lit(None, pl.Int8)
    role = texts("role", "from").replace_strict(PLAIN_ROLES, default=None, return_dtype=pl.String)
    content, name = texts("content", "value"), texts("name")
    blank = _is_blank(content)
    odd += [role.is_null(), content.is_null()]
    odd.append(weight.is_not_null() & ~weight.is_in([0, 1]))
    return found.select(
        role=role,
        content=content,
        name=pl.when(name != "").then(name),
        weight=pl.when(role == "assistant").then(weight.cast(pl.Int8, strict=False)),
        answers=((role == "assistant") & ~blank).fill_null(False),
        odd=pl.any_horizontal(odd).fill_null(True),
        blank=blank,
    )


def _is_blank(text: "pl.Expr") -> "pl.Expr":
    return (text.str.strip_chars(fields.BLANKS) == "").fill_null(True)


def _is_empty_list(kind: Any) -> bool:
    import polars as pl

    return isinstance(kind, pl.List) and kind.inner == pl.Null


def _chats(found: "pl.DataFrame", name: str, recipe: Source) -> "pl.DataFrame":
    """The rows whose turns are all plain, as messages up to the last answer."""
    import numpy as np
    import polars as pl

    counts = found[name].list.len().to_numpy().astype(np.int64)
    if recipe.format == "pairs" or not counts.any():
        return found.clear().with_columns(pl.Series("messages", [], record_schema()["messages"]))
    found, counts = _filtered(found, pl.Series(counts > 0)), counts[counts > 0]
    starts = np.cumsum(counts) - counts
    turns = _turns(found[name].explode().struct.unnest())
    answers, odd, blank = (turns[each].to_numpy() for each in ("answers", "odd", "blank"))
    places = np.arange(turns.height)
    last = np.maximum.reduceat(np.where(answers, places, -1), starts)
    heard = places <= np.repeat(last, counts)
    odd = odd | (blank & heard)
    plain = (last >= 0) & ~np.logical_or.reduceat(odd, starts)
    turns = _filtered(turns, pl.Series(heard & np.repeat(plain, counts)))
    turns = turns.select("role", "content", "name", "weight")
    messages = listed(turns, (last - starts + 1)[plain])
    return _filtered(found, pl.Series(plain)).with_columns(messages)


def _with_system(found: "pl.DataFrame") -> "pl.DataFrame":
    """The text that stands above a conversation as its first message."""
    import numpy as np
    import polars as pl

    if found["system"].null_count() == found.height:
        return found
    stands = found.select(~_is_blank(pl.col("system"))).to_series()
    some = found.filter(stands)
    texts = pl.DataFrame({"role": "system", "content": some["system"]})
    first = listed(texts, np.ones(some.height, np.int64))
    some = some.with_columns(first.list.concat(some["messages"]))
    return pl.concat([found.filter(~stands), some])


def _pairs(base: "pl.DataFrame", recipe: Source) -> "pl.DataFrame":
    """The rows with a question and an answer."""
    import numpy as np
    import polars as pl

    if recipe.format in ("chat", "sharegpt"):
        base = base.clear()
    query, response, context = map(pl.col, ("user_query", "assistant_response", "context"))

    asked = (
        pl.when(_is_blank(context))
        .then(query)
        .when(pl.col("alpaca"))
        .then(pl.concat_str(query, context, separator="\n\n"))
        .otherwise(pl.concat_str(context, query, separator="\n\n"))
    )
    if base["context"].null_count() == base.height:
        asked = query
    found = base.with_columns(user_query=asked, odd=_is_blank(query) | _is_blank(response))
    found = found.filter(~pl.col("odd")) if found["odd"].any() else found
    sides = found.select(pl.concat_arr("user_query", "assistant_response")).to_series()
    roles = pl.Series(["user", "assistant"] * found.height, dtype=pl.String)
    turns = pl.DataFrame({"role": roles, "content": sides.explode()})
    return found.with_columns(listed(turns, np.full(found.height, 2)))


def _converted(found: "pl.DataFrame", column: str) -> "pl.DataFrame":
    """Times and ratings, each distinct value once, by the rules that rows are read with."""
    import polars as pl

    kind = record_schema()[column]
    if found[column].null_count() == found.height:
        none = pl.Series(column, [None], kind).new_from_index(0, found.height)
        return found.with_columns(none)
    given = found[column].unique()
    rule: Any = fields.timestamp if column == "timestamp" else fields.rating
    values: list[Any] = []
    odd: list[bool] = []
    for value in given.to_list():
        try:
            values.append(rule(value))
            odd.append(False)
        except InputError:
            values.append(None)
            odd.append(True)
    table = pl.DataFrame({column: given, "new": pl.Series(values, dtype=kind), "bad": odd})
    new = found.select(column).join(
        table, on=column, how="left", nulls_equal=True, maintain_order="left"
    )
    return found.with_columns(pl.col("odd") | new["bad"], new["new"].alias(column))


def _lineage(plain: "pl.DataFrame", place: Place) -> "pl.DataFrame":
    """The columns of records but the ids, and `row`."""
    import polars as pl

    none = pl.lit(None, pl.String)
    where = pl.concat_str(pl.lit(f"{place.file}:"), pl.col("line"))

    def named(column: str) -> pl.Expr:
        return pl.when(pl.col(column) != "").then(pl.col(column))

    columns = {
        "messages": pl.col("messages"),
        "origin": pl.lit(place.origin),
        "source": pl.coalesce(named("source"), where),
        "timestamp": pl.col("timestamp").fill_null(place.modified),
        "tools": none,
        "call_id": none,
        **{name: named(name) for name in ("conversation_id", "user_id", "label")},
        "rating": pl.col("rating"),
        "licence": pl.coalesce(named("licence"), pl.lit(place.recipe.licence, pl.String)),
    }
    return plain.select("row", **columns)
