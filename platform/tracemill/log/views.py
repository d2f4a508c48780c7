"""The questions: every file in `views/` is a view over `events`, named after its file.

The same definitions serve `EventLog.sql` and `log.duckdb`, a small catalogue that any DuckDB client
opens; that one shows the sealed part of the log.
"""

import hashlib
import re
import shutil
from collections.abc import Collection, Sequence
from functools import cache, lru_cache
from graphlib import TopologicalSorter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tracemill.errors import LogNotWritable
from tracemill.files import write_atomically
from tracemill.log import derived
from tracemill.log.rows import COLUMNS
from tracemill.prices.relations import NAMES, relations
from tracemill.prices.table import Table

if TYPE_CHECKING:
    import duckdb

    Config = dict[str, str | bool | int | float | list[str]]

_FOLDER = Path(__file__).parent / "views"
_MACROS = Path(__file__).parent / "macros.sql"
_SHOWN = ", ".join(name for name in COLUMNS if name != "digest")
_MACROS_OF_PRICES = ("rates_among", "calls_priced", "costs_among", "reprice")
_READ_FROM = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)")
_NOTHING = (
    "SELECT "
    + ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in COLUMNS.items())
    + " WHERE false"
)


@cache
def definitions() -> dict[str, str]:
    """Name of a view to its SQL, in the order in which they can be created."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(_FOLDER.glob("*.sql"))}
    needed = {name: sorted(read_by(query, texts) - {name}) for name, query in texts.items()}
    return {name: texts[name] for name in TopologicalSorter(needed).static_order()}


def read_by(query: str, names: Collection[str]) -> set[str]:
    """Those of these relations that a query of ours reads from."""
    return set(_READ_FROM.findall(query)) & set(names)


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
    of_age: dict[tuple[str, ...], list[Path]] = {}
    for path in files:
        of_age.setdefault(derived.lacking(path), []).append(path)
    for lacked, alike in of_age.items():
        names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in alike)
        items = f"*, {derived.in_duckdb(lacked)}" if lacked else "*"
        parts.append(f"SELECT {items} FROM read_parquet([{names}], union_by_name = true)")  # noqa: S608
    if tail:
        parts.append(f"SELECT * FROM {tail}")  # noqa: S608
    bound = "" if until is None else f" WHERE position <= {int(until)}"
    union = " UNION ALL BY NAME ".join(parts)
    connection.execute(
        f"CREATE OR REPLACE VIEW events AS SELECT {_SHOWN} FROM ({union}){bound}"  # noqa: S608
    )


def show_prices(connection: "duckdb.DuckDBPyConnection", table: Table | None) -> None:
    """(Re)create the relations that hold the prices; without a table they are empty."""
    for name, contents in relations(table).items():
        connection.register(name, contents)


def ask_for_prices(query: str) -> bool:
    """Whether a query may name a view that needs prices. Most do not, and are spared the table."""
    lower = query.lower()
    return any(name in lower for name in _priced())


def asked_for(query: str) -> frozenset[str]:
    """The views that a query may name, with those that they stand on; all where it asks which there
    are. To create one takes milliseconds, to create all of them more than most questions take."""
    lower = query.lower()
    if any(word in lower for word in _CATALOGUES):
        return frozenset(definitions())
    if "reprice" in lower:
        lower += " call_costs"  # which its first argument names unless told otherwise
    named = (needed for name, needed in _standing_on().items() if name in lower)
    return frozenset[str]().union(*named)


_CATALOGUES = ("duckdb_", "information_schema", "pg_catalog", "sqlite_master", "show", "describe")


@cache
def _standing_on() -> dict[str, frozenset[str]]:
    """Name of a view to the views that it needs, itself among them."""
    known: dict[str, frozenset[str]] = {}
    for name, query in definitions().items():
        known[name] = frozenset({name}).union(*(known[other] for other in read_by(query, known)))
    return known


@cache
def _priced() -> frozenset[str]:
    """The relations of prices, and the views over them."""
    names = {*NAMES, *_MACROS_OF_PRICES}
    for view, query in definitions().items():
        if read_by(query, names):
            names.add(view)
    return frozenset(names)


def create_questions(
    connection: "duckdb.DuckDBPyConnection", wanted: Collection[str] | None = None
) -> None:
    """Create these views, or all, with what they stand on: they look `events` up when asked."""
    for name, query in definitions().items():
        if wanted is None or name in wanted:
            connection.execute(f"CREATE VIEW {name} AS {query}")


def create_macros(connection: "duckdb.DuckDBPyConnection") -> None:
    """Create the functions that views share."""
    connection.execute(_MACROS.read_text(encoding="utf-8"))


def write_catalogue(path: Path, files: Sequence[Path], prices: Table) -> None:
    """Write `log.duckdb`: the views over these segments, with nothing in it that must be kept."""
    import duckdb

    made_by = _made_by(prices)
    absolute = [file.absolute() for file in files]

    def write(aside: Path) -> None:
        # To show other segments in a copy takes a sixth of making every view again.
        if not _copied(path, aside, absolute, made_by):
            aside.write_bytes(_empty_catalogue(prices))
            with duckdb.connect(str(aside), config=_OLDEST_STORAGE) as connection:
                show(connection, absolute)

    try:
        write_atomically(path, write)
    except (OSError, duckdb.Error) as error:
        raise LogNotWritable(
            f"cannot write the catalogue {path}: {error}; the log itself is complete"
        ) from error


# The oldest storage that has what we need, so that older clients can open it too.
_OLDEST_STORAGE: "Config" = {"storage_compatibility_version": "v1.0.0"}


@lru_cache(maxsize=1)
def _empty_catalogue(prices: Table) -> bytes:
    """The file without segments."""
    import duckdb

    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.duckdb"
        with duckdb.connect(str(path), config=_OLDEST_STORAGE) as connection:
            show(connection, [])
            for name, contents in relations(prices).items():
                connection.register("contents", contents)
                connection.execute(f"CREATE TABLE {name} AS FROM contents")
                connection.execute(f"COMMENT ON TABLE {name} IS '{_made_by(prices)}'")
            connection.unregister("contents")
            create_macros(connection)
            create_questions(connection)
        return path.read_bytes()


def _copied(path: Path, aside: Path, files: Sequence[Path], made_by: str) -> bool:
    """Copy a catalogue that has these views and prices, and show these files in it."""
    import duckdb

    try:
        shutil.copyfile(path, aside)
        with duckdb.connect(str(aside), config=_OLDEST_STORAGE) as connection:
            found = connection.sql("SELECT DISTINCT comment FROM duckdb_tables()").fetchall()
            if found == [(made_by,)]:
                show(connection, files)
                return True
    except (OSError, duckdb.Error):
        pass
    return False


def _made_by(prices: Table) -> str:
    """A digest of all that is in a catalogue besides the names of segments."""
    texts = [
        _MACROS.read_text(encoding="utf-8"),
        *definitions().values(),
        *COLUMNS,
        prices.snapshot,
    ]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
