"""Which chunks are meant: conditions on their columns and their metadata, as SQL with parameters.

    {"language": "en"}                                    equal
    {"modified_at": {">=": "2026-01-01"}, "tokens": {"<": 100}}   several conditions all hold
    {"metadata.team": {"in": ["core", "docs"]}, "headings": {"contains": "Install"}}

No value and no name of a field ever becomes part of the SQL text. A number is compared with numbers
only, and a text with texts: metadata in which `year` is sometimes "2020" is not guessed at.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tracemill.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

Where = Mapping[str, Any]

METADATA = "metadata."
OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "contains")
_TYPES = {"String": "text", "Int64": "number", "Datetime": "time", "List": "list"}
_LIKE = re.compile(
    r"^\s*([\w.\-]+?)\s*(==|!=|<=|>=|=|<|>|\s+in\s+|\s+contains\s+)\s*(.*?)\s*$", re.DOTALL
)


class Condition(NamedTuple):
    """A piece of SQL that is true or false for a chunk, and the values of its `?`."""

    sql: str
    values: tuple[Any, ...]


def rows(chunks: "pl.DataFrame", where: Where) -> "NDArray[np.int64]":
    """The rows of the chunks for which every condition holds, rising.

    Raises `UsageError` for a field or an operator that does not exist, a value of another type or
    one that DuckDB cannot hold.
    """
    import duckdb
    import polars as pl

    condition = compiled(chunks.schema, where)
    fields = {name.partition(".")[0] for name in where}
    table = chunks.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), *sorted(fields)
    ).to_arrow()
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("chunks", table)
        sql = f'SELECT "row" FROM chunks WHERE {condition.sql} ORDER BY "row"'  # noqa: S608
        try:
            found = con.sql(sql, params=list(condition.values)).to_arrow_table()
        except duckdb.Error as error:
            raise UsageError(f"{', '.join(where)}: {error}") from error
    return found["row"].to_numpy().astype("int64")


def compiled(schema: Mapping[str, Any], where: Where) -> Condition:
    """The conditions as one; true for every chunk when there are none."""
    parts = [
        _condition(schema, field, operator, value)
        for field, asked in where.items()
        for operator, value in _operators(field, asked)
    ]
    sql = " AND ".join(f"({part.sql})" for part in parts) or "true"
    return Condition(sql, tuple(value for part in parts for value in part.values))


def read(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Conditions as people type them: `language=en`, `tokens>=100`, `metadata.team in core,docs`.

    What reads as a number, true, false or null is one; quotes make a text of it. Raises `UsageError`.
    """
    where: dict[str, dict[str, Any]] = {}
    for text in texts:
        found = _LIKE.match(text)
        if not found:
            raise UsageError(
                f"{text!r} is no condition: write FIELD OPERATOR VALUE, as language=en, "
                "'tokens>=100', 'metadata.team in core,docs' or 'title contains guide'"
            )
        field, operator, value = found[1], found[2].strip(), found[3]
        operator = "==" if operator == "=" else operator
        several = operator == "in"
        where.setdefault(field, {})[operator] = (
            [_typed(part.strip()) for part in value.split(",")] if several else _typed(value)
        )
    return where


def _typed(text: str) -> Any:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if text in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[text]
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        return value if abs(value) < float("inf") else text
    return text


def _operators(field: str, asked: Any) -> list[tuple[str, Any]]:
    if not isinstance(asked, Mapping):
        return [("==", asked)]
    conditions = cast("Mapping[str, Any]", asked)
    for operator in conditions:
        if operator not in OPERATORS:
            raise UsageError(
                f"{field}: there is no operator {operator!r}; there are {', '.join(OPERATORS)}"
            )
    if not conditions:
        raise UsageError(f"{field}: no condition is given, as {{'==': 'en'}}")
    return list(conditions.items())


def _condition(schema: Mapping[str, Any], field: str, operator: str, value: Any) -> Condition:
    _values_fit(field, operator, value)
    if field.startswith(METADATA) and len(field) > len(METADATA):
        return _of_metadata(field, operator, value)
    if field not in schema:
        raise UsageError(
            f"chunks have no field {field!r}; there are {', '.join(schema)} and metadata.KEY"
        )
    return _of_column(field, _TYPES[type(schema[field]).__name__], operator, value)


def _values_fit(field: str, operator: str, value: Any) -> None:
    if operator == "in":
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise UsageError(f"{field}: `in` takes a list, not {value!r}")
        return
    allowed = (str, int, float, bool, datetime, date)
    if value is None and operator in ("==", "!="):
        return
    if not isinstance(value, allowed):
        raise UsageError(f"{field} {operator}: cannot compare with {value!r}")


def _of_column(field: str, kind: str, operator: str, value: Any) -> Condition:
    column = f'"{field}"'
    if operator == "in":
        return _any_of([_of_column(field, kind, "==", each) for each in value])
    if value is None:
        return Condition(f"{column} IS {'NOT ' if operator == '!=' else ''}NULL", ())
    if kind == "list":
        if operator != "contains":
            raise UsageError(f"{field} is a list: only `contains` can be asked of it")
        return Condition(f"list_contains({column}, ?)", (str(value),))
    if operator == "contains":
        if kind != "text":
            raise UsageError(f"{field} is a {kind}: `contains` is for texts and lists")
        return Condition(f"contains({column}, ?)", (str(value),))
    return _compared(column, operator, _of_type(field, kind, value))


def _of_type(field: str, kind: str, value: Any) -> Any:
    """The value as the column's type; a condition typed on a command line may look like another."""
    if kind == "time":
        return _moment(field, value)
    if kind == "number":
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
        raise UsageError(f"{field} is a number: it cannot be compared with {value!r}")
    if isinstance(value, (datetime, date)):
        raise UsageError(f"{field} is a text: it cannot be compared with {value!r}")
    return value if isinstance(value, str) else str(value)


def _moment(field: str, value: Any) -> datetime:
    try:
        if isinstance(value, datetime):
            moment = value
        elif isinstance(value, date):
            moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
        else:
            moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise UsageError(
            f"{field} is a time, as 2026-03-01 or 2026-03-01T09:00Z, not {value!r}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _of_metadata(field: str, operator: str, value: Any) -> Condition:
    """A dot goes one level down; the path is a JSON pointer, in which anything can be written."""
    keys = field.removeprefix(METADATA).split(".")
    path = "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)
    if operator == "in":
        return _any_of([_of_metadata(field, "==", each) for each in value])
    if value is None:
        missing = "coalesce(json_type(metadata, ?), 'NULL') = 'NULL'"
        return Condition(f"NOT {missing}" if operator == "!=" else missing, (path,))
    if operator == "contains":
        return _contains(path, value)
    if isinstance(value, bool):
        json, types = "CAST(json_extract_string(metadata, ?) AS BOOLEAN)", "BOOLEAN"
    elif isinstance(value, (int, float)):
        json, types = "CAST(json_extract_string(metadata, ?) AS DOUBLE)", "BIGINT UBIGINT DOUBLE"
    elif isinstance(value, (datetime, date)):
        json, types = "TRY_CAST(json_extract_string(metadata, ?) AS TIMESTAMPTZ)", "VARCHAR"
        value = _moment(field, value)
    else:
        json, types = "json_extract_string(metadata, ?)", "VARCHAR"
    names = ", ".join(f"'{name}'" for name in types.split())
    of_type = f"CASE WHEN json_type(metadata, ?) IN ({names}) THEN {json} END"
    compared = _compared(of_type, operator, value)
    return Condition(compared.sql, (path, path, *compared.values))


def _contains(path: str, value: Any) -> Condition:
    """A text holds a text; a list holds a value."""
    from json import dumps

    listed = (
        "json_type(metadata, ?) = 'ARRAY' AND json_contains(json_extract(metadata, ?), ?::JSON)"
    )
    if not isinstance(value, str):
        value = value.isoformat() if isinstance(value, date) else value
        return Condition(listed, (path, path, dumps(value)))
    said = "json_type(metadata, ?) = 'VARCHAR' AND contains(json_extract_string(metadata, ?), ?)"
    values = (path, path, dumps(value), path, path, value)
    return Condition(f"({listed}) OR ({said})", values)


def _compared(sql: str, operator: str, value: Any) -> Condition:
    """What is missing is not equal to anything, and neither larger nor smaller."""
    said = {"==": "=", "!=": "IS DISTINCT FROM"}.get(operator, operator)
    return Condition(f"{sql} {said} ?", (value,))


def _any_of(conditions: list[Condition]) -> Condition:
    sql = " OR ".join(f"({each.sql})" for each in conditions) or "false"
    return Condition(sql, tuple(value for each in conditions for value in each.values))
