"""Rows as columns: what is plain becomes records without a Python object for each row.

The rule is certainty: a row is taken here only where `chat.conversation` would say the very same of
it. Parts, calls of tools, odd types and whatever else needs a look are left to the reading by rows.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tracemill.corpus import fields
from tracemill.corpus.chat import ROLE_NAMES
from tracemill.corpus.recipe import Source
from tracemill.corpus.records import Message, record_schema, with_ids
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
        found.turns(),
        found.alpaca(),
        *(found.text(column) for column in ("system", "user_query", "assistant_response")),
        found.text("context"),
        *(found.text(column) for column in fields.IDS),
        *(found.scalar(column) for column in ("timestamp", "rating")),
        found.odd(),
    )
    plain = pl.concat([_chats(base, place.recipe), _pairs(base, place.recipe)])
    plain = _converted(_converted(plain, "timestamp"), "rating")
    kept = with_ids(_lineage(plain.filter(~pl.col("odd")).sort("row"), place))
    mask = pl.Series([False]).new_from_index(0, frame.height)
    if kept.height == frame.height:
        return kept.drop("row"), ~mask
    return kept.drop("row"), mask.scatter(kept["row"], True)


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

    def turns(self) -> "pl.Expr":
        """The messages, each with role, content, name, weight and whether it is odd."""
        import polars as pl

        values: list[pl.Expr] = [pl.lit(None, pl.List(pl.Struct(_turn_kinds())))]
        for value, kind in self._found("messages"):
            inner = kind.inner if isinstance(kind, pl.List) else None
            if isinstance(inner, pl.Struct):
                values.append(value.list.eval(_turn({f.name: f.dtype for f in inner.fields})))
            elif kind != pl.Null:
                self.careful.append(value.is_not_null())
        return pl.coalesce(values).alias("messages")

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


def _turn_kinds() -> "dict[str, Any]":
    import polars as pl

    return {name: pl.String for name in ("role", "content", "name")} | {
        "weight": pl.Int8,
        "odd": pl.Boolean,
        "blank": pl.Boolean,
    }


def _turn(kinds: "dict[str, Any]") -> "pl.Expr":
    """One turn as role, content, name, weight, odd."""
    import polars as pl

    def texts(*names: str) -> pl.Expr:
        there = [name for name in names if kinds.get(name) == pl.String]
        return pl.coalesce([pl.lit(None, pl.String), *map(turn.field, there)])

    turn = pl.element().struct
    known = {name: pl.String for name in ("role", "from", "content", "value", "name")}
    odd = [
        turn.field(name).is_not_null()
        for name, kind in kinds.items()
        if (name in CAREFUL_FIELDS and kind != pl.Null and not _is_empty_list(kind))
        or (name in known and kind not in (pl.String, pl.Null))
    ]
    odd += [turn.field(n).list.len() > 0 for n in CAREFUL_FIELDS if _is_empty_list(kinds.get(n))]
    weight = turn.field("weight") if "weight" in kinds else pl.lit(None, pl.Int8)
    if not (kinds.get("weight", pl.Int8()).is_integer() or kinds["weight"] == pl.Null):
        odd.append(weight.is_not_null())
        weight = pl.lit(None, pl.Int8)
    said = texts("role", "from")
    role = said.replace_strict(PLAIN_ROLES, default=None, return_dtype=pl.String)
    content = texts("content", "value")
    name = texts("name")
    odd += [role.is_null(), content.is_null()]
    odd.append(weight.is_not_null() & ~weight.is_in([0, 1]))
    return pl.struct(
        role=role,
        content=content,
        name=pl.when(name != "").then(name),
        weight=pl.when(role == "assistant").then(weight.cast(pl.Int8, strict=False)),
        odd=pl.any_horizontal(odd).fill_null(True),
        blank=content.str.strip_chars(fields.BLANKS) == "",
    )


def _is_empty_list(kind: Any) -> bool:
    import polars as pl

    return isinstance(kind, pl.List) and kind.inner == pl.Null


def _chats(base: "pl.DataFrame", recipe: Source) -> "pl.DataFrame":
    """The rows that have messages, up to the last answer."""
    import polars as pl

    found = base.filter(pl.col("messages").is_not_null())
    if recipe.format == "pairs" or found.is_empty():
        return found.clear()
    turn = pl.element().struct
    each = pl.col("messages").list
    answers = each.eval((turn.field("role") == "assistant") & ~turn.field("blank"))
    found = found.with_columns(
        pl.col("odd")
        | (each.eval(turn.field("odd")).list.any() | ~answers.list.any()).fill_null(True),
        last=answers.list.last(),
        after=answers.list.reverse().list.arg_max(),
    )
    if not found["last"].fill_null(True).all():
        end = each.len().cast(pl.Int64) - pl.col("after")
        found = found.with_columns(pl.col("messages").list.head(end))
    found = found.with_columns(pl.col("odd") | each.eval(turn.field("blank")).list.any())
    return _with_system(found.drop("last", "after"))


def _with_system(found: "pl.DataFrame") -> "pl.DataFrame":
    """The text that stands above a conversation as its first message."""
    import polars as pl

    stands = pl.col("system").str.strip_chars(fields.BLANKS) != ""
    some = found.filter(stands)
    if some.is_empty():
        return found
    first = _message("system", pl.col("system"))
    some = some.with_columns(pl.concat_list(first, pl.col("messages")).alias("messages"))
    return pl.concat([found.filter(~stands.fill_null(False)), some])


def _message(role: str, content: "pl.Expr") -> "pl.Expr":
    import polars as pl

    return pl.struct(
        role=pl.lit(role),
        content=content,
        name=pl.lit(None, pl.String),
        weight=pl.lit(None, pl.Int8),
        odd=pl.lit(False),
        blank=pl.lit(False),
    )


def _pairs(base: "pl.DataFrame", recipe: Source) -> "pl.DataFrame":
    """The rows that have no messages but a question and an answer."""
    import polars as pl

    if recipe.format in ("chat", "sharegpt"):
        return base.clear()
    found = base.filter(pl.col("messages").is_null())
    query, response, context = map(pl.col, ("user_query", "assistant_response", "context"))

    def blank(value: pl.Expr) -> pl.Expr:
        return (value.str.strip_chars(fields.BLANKS) == "").fill_null(True)

    asked = (
        pl.when(blank(context))
        .then(query)
        .when(pl.col("alpaca"))
        .then(pl.concat_str(query, context, separator="\n\n"))
        .otherwise(pl.concat_str(context, query, separator="\n\n"))
    )
    odd = pl.col("odd") | blank(query) | blank(response)
    found = found.with_columns(asked.alias("user_query"), odd)
    said = _side_by_side(found["user_query"], found["assistant_response"])
    return _with_system(found.with_columns(said.alias("messages")))


def _side_by_side(asked: "pl.Series", answered: "pl.Series") -> "pl.Series":
    """Two messages a row. Lists of structs are slow to put together, a reshaped column is not."""
    import polars as pl

    turns = pl.DataFrame({"content": pl.concat([asked, answered])}).select(
        role=pl.when(pl.int_range(pl.len()) < len(asked))
        .then(pl.lit("user"))
        .otherwise(pl.lit("assistant")),
        content="content",
        name=pl.lit(None, pl.String),
        weight=pl.lit(None, pl.Int8),
        odd=pl.lit(False),
        blank=pl.lit(False),
    )
    order = pl.int_range(2 * len(asked), eager=True)
    turns = turns[order // 2 + order % 2 * len(asked)]
    return turns.to_struct("messages").reshape((len(asked), 2)).arr.to_list()


def _converted(found: "pl.DataFrame", column: str) -> "pl.DataFrame":
    """Times and ratings, each distinct value once, by the rules that rows are read with."""
    import polars as pl

    kind = record_schema()[column]
    if found[column].dtype == pl.Null or found[column].is_null().all():
        return found.with_columns(pl.lit(None, kind).alias(column))
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
    joined = found.join(table, on=column, how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(pl.col("odd") | pl.col("bad"), pl.col("new").alias(column)).drop(
        "new", "bad"
    )


def _lineage(plain: "pl.DataFrame", place: Place) -> "pl.DataFrame":
    """The columns of records but the ids, and `row`."""
    import polars as pl

    turn = pl.element().struct
    none = pl.lit(None, pl.String)
    given = {name: turn.field(name) for name in ("role", "content", "name", "weight")}
    messages = pl.struct([given.get(name, none).alias(name) for name in Message._fields])
    where = pl.concat_str(pl.lit(f"{place.file}:"), pl.col("line"))

    def named(column: str) -> pl.Expr:
        return pl.when(pl.col(column) != "").then(pl.col(column))

    columns = {
        "messages": pl.col("messages").list.eval(messages),
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
