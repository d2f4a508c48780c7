"""What a log that was written with fewer columns says in the newer ones: it stands in the payload.

Each column has one expression that DuckDB and SQLite both understand, so that sealed files and
journals of any age give the same answers. Tags and keys of old calls stand on their starts alone.
"""
# pyarrow's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tracemill.log import rows
from tracemill.log.rows import HOT
from tracemill.messages import Usage

if TYPE_CHECKING:
    import pyarrow as pa

_ENDED = "('llm.call.finished', 'llm.call.failed', 'llm.call.aborted')"
_TEXT = {
    **{name: f"payload ->> '$.{name}'" for name in HOT},
    **{name: f"payload ->> '$.usage.{name}'" for name in HOT if name in Usage.model_fields},
    "call_id": (
        "CASE WHEN kind LIKE 'llm.call.%' THEN substr(stream, 6) ELSE payload ->> '$.call_id' END"
    ),
    # What an event does not say is what its class has for a default.
    "operation": (
        "CASE WHEN kind IN ('llm.call.started', 'llm.call.retried', 'llm.call.crashed', "
        f"'llm.call.cached') OR kind IN {_ENDED} "
        "THEN coalesce(payload ->> '$.operation', 'chat') END"
    ),
    "metadata": "nullif(CAST(payload -> '$.metadata' AS TEXT), '{}')",
    "billed": "nullif(CAST(payload -> '$.usage.billed' AS TEXT), '{}')",
    "attempts": f"CASE WHEN kind IN {_ENDED} THEN coalesce(payload ->> '$.attempts', '1') END",
    "finish_reason": (
        "CASE WHEN instr(CAST(payload -> '$.finish_reasons' AS TEXT), '\"content_filter\"') > 0 "
        "THEN 'content_filter' "
        "WHEN instr(CAST(payload -> '$.finish_reasons' AS TEXT), '\"refusal\"') > 0 "
        "OR (kind = 'llm.call.finished' AND (payload ->> '$.refusal') IS NOT NULL) THEN 'refusal' "
        "ELSE payload ->> '$.finish_reasons[0]' END"
    ),
    "error_message": "coalesce(payload ->> '$.error_message', payload ->> '$.refusal')",
    "usage_estimated": (
        "CASE WHEN (payload -> '$.usage') IS NOT NULL "
        "THEN coalesce(payload ->> '$.usage.estimated', '0') END"
    ),
}


def lacking(path: Path) -> tuple[str, ...]:
    """The hot columns that a sealed file was written without; none where it cannot be read."""
    try:
        return _lacking(path.name, path)
    except (OSError, ValueError):
        return ()  # whoever asks it next says more


@lru_cache(maxsize=100_000)
def _lacking(_name: str, path: Path) -> tuple[str, ...]:
    import pyarrow.parquet as pq

    held = set(pq.read_schema(path).names)
    return tuple(column for column in HOT if column not in held)


def in_duckdb(columns: Collection[str]) -> str:
    """These columns as items of a SELECT over rows that lack them."""
    return ", ".join(f"TRY_CAST({_TEXT[name]} AS {HOT[name]}) AS {name}" for name in columns)


def in_sqlite(column: str) -> str:
    """The column as a value of an UPDATE of the journal, in the journal's own units."""
    if HOT[column] == "DECIMAL(18,9)":
        return f"CAST(round(({_TEXT[column]}) * 1e9) AS INTEGER)"
    return _TEXT[column]


def todays_columns(table: "pa.Table") -> "pa.Table":
    """Rows of an older file in the columns of today."""
    import duckdb

    lacked = [name for name in HOT if name not in table.column_names]
    if lacked:
        with duckdb.connect() as connection:
            connection.register("older", table)
            query = f"SELECT *, {in_duckdb(lacked)} FROM older"  # noqa: S608
            table = connection.sql(query).to_arrow_table()
    schema = rows.arrow_schema()
    return table.select(schema.names).cast(schema)
