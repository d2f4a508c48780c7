"""The columns of an asset's table, as Dagster shows them: names, types, what they mean, whence they come.

Types are read from the footers of its Parquet files, meanings from the comments of the view that
it is a copy of; a column comes from the columns of the same name that its asset reads.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import dagster as dg

Columns = Mapping[str, str]
"""Name -> type."""
Column = tuple[str, str]
"""An asset, as in `corpus/clean_records`, and one of its columns."""


def table_of(files: Iterable[Path]) -> Path | None:
    """The Parquet file that an asset's rows are in: its first; what it refused comes after it."""
    return next((file for file in files if file.suffix == ".parquet" and file.is_file()), None)


def read(files: Iterable[Path]) -> dict[str, str]:
    """The columns of files that are one table; a type that is not the same in all is told in full."""
    import pyarrow.parquet as pq

    types: dict[str, set[str]] = {}
    for file in files:
        for column in pq.read_schema(file):
            types.setdefault(column.name, set()).add(str(column.type))
    return {name: " or ".join(sorted(found)) for name, found in types.items()}


def schema(columns: Columns, table: str) -> dg.TableSchema:
    """For `dagster/column_schema`."""
    meant = meanings(table)
    return dg.TableSchema(
        [dg.TableColumn(name, kind, meant.get(name)) for name, kind in columns.items()]
    )


def lineage(
    columns: Columns,
    upstream: Mapping[dg.AssetKey, Columns],
    renamed: Mapping[str, Sequence[Column]],
) -> dg.TableColumnLineage:
    """For `dagster/column_lineage`; `renamed` tells of columns that have other names upstream."""
    deps: dict[str, list[dg.TableColumnDep]] = {}
    for name in columns:
        if name in renamed:
            told = [
                (dg.AssetKey.from_user_string(asset), column) for asset, column in renamed[name]
            ]
        else:
            told = [(key, name) for key, has in upstream.items() if name in has]
        if told:
            deps[name] = [dg.TableColumnDep(key, column) for key, column in told]
    return dg.TableColumnLineage(deps)


@cache
def meanings(table: str) -> Mapping[str, str]:
    """What the columns of a view mean, by the comments in its SQL; `costs` is `costs_by_day`."""
    from tracemill.log.views import definitions

    views = definitions()
    query = views.get(table) or views.get(f"{table}_by_day", "")
    return dict(re.findall(r"^\s+.*?(\w+),?\s+-- (.+)$", query, flags=re.MULTILINE))
