"""The questions: every file in `views/` is a view over `events`, named after its file.

The same definitions serve `EventLog.sql` and `log.duckdb`, a small catalogue that any DuckDB client
opens; that one shows the sealed part of the log.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tracemill.errors import LogNotWritable
from tracemill.files import write_atomically
from tracemill.log.rows import COLUMNS

if TYPE_CHECKING:
    import duckdb

_FOLDER = Path(__file__).parent / "views"
_MACROS = Path(__file__).parent / "macros.sql"
_SHOWN = ", ".join(name for name in COLUMNS if name != "digest")
_NOTHING = (
    "SELECT "
    + ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in COLUMNS.items())
    + " WHERE false"
)


@cache
def definitions() -> dict[str, str]:
    """Name of a view to its SQL, in the order in which they can be created."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(_FOLDER.glob("*.sql"))}


def show(
    connection: "duckdb.DuckDBPyConnection",
    files: Sequence[Path],
    *,
    tail: str | None = None,
    until: int | None = None,
) -> None:
    """(Re)create `events` over these segments and the relation named `tail`."""
    # Starting from no rows gives every column its type, also where old segments lack it.
    parts = [_NOTHING]
    if files:
        names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
        parts.append(f"SELECT * FROM read_parquet([{names}], union_by_name = true)")  # noqa: S608
    if tail:
        parts.append(f"SELECT * FROM {tail}")  # noqa: S608
    bound = "" if until is None else f" WHERE position <= {int(until)}"
    union = " UNION ALL BY NAME ".join(parts)
    connection.execute(
        f"CREATE OR REPLACE VIEW events AS SELECT {_SHOWN} FROM ({union}){bound}"  # noqa: S608
    )


def create_questions(connection: "duckdb.DuckDBPyConnection") -> None:
    """Create all other views, once: they look `events` up whenever they are asked."""
    connection.execute(_MACROS.read_text(encoding="utf-8"))
    for name, query in definitions().items():
        connection.execute(f"CREATE VIEW {name} AS {query}")


def write_catalogue(path: Path, files: Sequence[Path]) -> None:
    """Write `log.duckdb`: the views over these segments, with nothing in it that must be kept."""
    import duckdb

    def write(aside: Path) -> None:
        # The oldest storage that has what we need, so that older clients can open it too.
        with duckdb.connect(
            str(aside), config={"storage_compatibility_version": "v1.0.0"}
        ) as connection:
            show(connection, [file.absolute() for file in files])
            create_questions(connection)

    try:
        write_atomically(path, write)
    except (OSError, duckdb.Error) as error:
        raise LogNotWritable(
            f"cannot write the catalogue {path}: {error}; the log itself is complete"
        ) from error
