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
_SUMS = Path(__file__).parent / "sums"
_MACROS = Path(__file__).parent / "macros.sql"
_SHOWN = ", ".join(name for name in COLUMNS if name != "digest")
_MACROS_OF_PRICES = ("rates_among", "calls_priced", "costs_among", "spent_by", "reprice")
_CREATE_MACRO = re.compile(r"^(?=CREATE MACRO )", re.MULTILINE)
_CALLED = re.compile(r"\b(\w+)\(")
_READ_FROM = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)")
_NOTHING = (
    "SELECT "
    + ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in COLUMNS.items())
    + " WHERE false"
)


SUMMED = {
    "part": "VARCHAR",
    "day": "DATE",
    **dict.fromkeys(("provider", "request_model", "kind", "class", "status"), "VARCHAR"),
    **dict.fromkeys(("key_id", "user_id", "metadata"), "VARCHAR"),
    **dict.fromkeys(("prompt_name", "prompt_version", "call_id"), "VARCHAR"),
    **dict.fromkeys(("position", "calls", "billed", "priced", "hits", "saved"), "BIGINT"),
    **dict.fromkeys(("estimated", "told_input", "told_output"), "BIGINT"),
    **dict.fromkeys(("input_tokens", "input_uncached", "cache_read", "cache_write"), "BIGINT"),
    **dict.fromkeys(("input_audio", "output_tokens", "reasoning", "output_audio"), "BIGINT"),
    **dict.fromkeys(("cost_usd", "saved_usd"), "DECIMAL(38,9)"),
    **dict.fromkeys(("repriced_usd", "cache_saved_usd", "cache_write_usd"), "DECIMAL(38,18)"),
}
"""Columns of all sums together, and their types; `part` is the name of the query."""


@cache
def definitions() -> dict[str, str]:
    """Name of a view to its SQL, in the order in which they can be created."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(_FOLDER.glob("*.sql"))}
    needed = {name: sorted(read_by(query, texts) - {name}) for name, query in texts.items()}
    return {name: texts[name] for name in TopologicalSorter(needed).static_order()}


@cache
def sums() -> dict[str, str]:
    """Name of a sum that is kept of sealed files to its SQL, over the events of `unsummed`."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(_SUMS.glob("*.sql"))}


@cache
def macros() -> dict[str, str]:
    """Name of a function that views share to its SQL, in the order in which they can be created."""
    _, *texts = _CREATE_MACRO.split(_MACROS.read_text(encoding="utf-8"))
    return {text.partition("(")[0].removeprefix("CREATE MACRO "): text for text in texts}


@cache
def _all() -> dict[str, str]:
    """The views that sums are seen through, and those that everybody may ask."""
    seen = {
        name: f"FROM summed WHERE part = '{name}' UNION ALL BY NAME SELECT * FROM ({query})"  # noqa: S608
        for name, query in sums().items()
    }
    return seen | definitions()


def read_by(query: str, names: Collection[str]) -> set[str]:
    """Those of these relations that a query of ours reads from."""
    return set(_READ_FROM.findall(query)) & set(names)


def show(
    connection: "duckdb.DuckDBPyConnection",
    files: Sequence[Path],
    *,
    tail: str | None = None,
    until: int | None = None,
    name: str = "events",
) -> None:
    """(Re)create `events`, or so, over these segments and the relation named `tail`."""
    # Starting from no rows gives every column its type, also where old segments lack it.
    parts = [_NOTHING]
    of_age: dict[tuple[str, ...], list[Path]] = {}
    for path in files:
        of_age.setdefault(derived.lacking(path), []).append(path)
    for lacked, alike in of_age.items():
        items = f"*, {derived.in_duckdb(lacked)}" if lacked else "*"
        parts.append(f"SELECT {items} FROM read_parquet([{quoted(alike)}], union_by_name = true)")  # noqa: S608
    if tail:
        parts.append(f"SELECT * FROM {tail}")  # noqa: S608
    bound = "" if until is None else f" WHERE position <= {int(until)}"
    union = " UNION ALL BY NAME ".join(parts)
    connection.execute(
        f"CREATE OR REPLACE VIEW {name} AS SELECT {_SHOWN} FROM ({union}){bound}"  # noqa: S608
    )


def show_sums(
    connection: "duckdb.DuckDBPyConnection",
    sums_of: Sequence[Path],
    rest: Sequence[Path],
    *,
    tail: str | None = None,
    until: int | None = None,
) -> None:
    """(Re)create `summed`, what is in these sums, and `unsummed`, the events that are in none."""
    show(connection, rest, tail=tail, until=until, name="unsummed")
    items = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in SUMMED.items())
    query = f"SELECT {items} WHERE false"
    if sums_of:
        query += f" UNION ALL BY NAME SELECT * FROM read_parquet([{quoted(sums_of)}])"  # noqa: S608
    connection.execute(f"CREATE OR REPLACE VIEW summed AS {query}")


def quoted(files: Sequence[Path]) -> str:
    """Names of files as a list in SQL."""
    return ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)


def show_prices(connection: "duckdb.DuckDBPyConnection", table: Table | None) -> None:
    """(Re)create the relations that hold the prices; without a table they are empty."""
    for name, contents in relations(table).items():
        connection.register(name, contents)


def ask_for_prices(query: str) -> bool:
    """Whether a query may name a view that needs prices. Most do not, and are spared the table."""
    lower = query.lower()
    return any(name in lower for name in _priced())


def ask_for_sums(query: str) -> bool:
    """Whether a query may name a view that stands on sums."""
    return bool(asked_for(query) & sums().keys())


def asked_for(query: str) -> frozenset[str]:
    """The views that a query may name, with those that they stand on; all where it asks which there
    are. To create one takes milliseconds, to create all of them more than most questions take."""
    lower = query.lower()
    if any(word in lower for word in _CATALOGUES):
        return frozenset(_all())
    if "reprice" in lower:
        lower += " call_costs"  # which its first argument names unless told otherwise
    named = (needed for name, needed in _standing_on().items() if name in lower)
    return frozenset[str]().union(*named)


def called_for(query: str) -> frozenset[str]:
    """The functions that a query, or a view that it may name, calls. To create those that views of
    costs need takes longer than most questions."""
    lower = query.lower()
    if any(word in lower for word in _CATALOGUES):
        return frozenset(macros())
    named = (called for name, called in _calling().items() if name in lower)
    viewed = (_called_by_view()[name] for name in asked_for(query))
    return frozenset[str]().union(*named, *viewed)


_CATALOGUES = ("duckdb_", "information_schema", "pg_catalog", "sqlite_master", "show", "describe")


@cache
def _standing_on() -> dict[str, frozenset[str]]:
    """Name of a view to the views that it needs, itself among them."""
    known: dict[str, frozenset[str]] = {}
    for name, query in _all().items():
        known[name] = frozenset({name}).union(*(known[other] for other in read_by(query, known)))
    return known


@cache
def _calling() -> dict[str, frozenset[str]]:
    """Name of a function to the functions that it needs, itself among them."""
    known: dict[str, frozenset[str]] = {}
    for name, text in macros().items():
        others = (known[other] for other in _CALLED.findall(text) if other in known)
        known[name] = frozenset({name}).union(*others)
    return known


@cache
def _called_by_view() -> dict[str, frozenset[str]]:
    known = _calling()
    return {
        name: frozenset[str]().union(
            *(known[each] for each in _CALLED.findall(query) if each in known)
        )
        for name, query in _all().items()
    }


@cache
def _priced() -> frozenset[str]:
    """The relations of prices, and the views over them."""
    names = {*NAMES, *_MACROS_OF_PRICES}
    for view, query in _all().items():
        if read_by(query, names) or view in sums():
            names.add(view)
    return frozenset(names)


def create_questions(
    connection: "duckdb.DuckDBPyConnection", wanted: Collection[str] | None = None
) -> None:
    """Create these views, or all, with what they stand on: they look `events` up when asked."""
    for name, query in _all().items():
        if wanted is None or name in wanted:
            connection.execute(f"CREATE VIEW {name} AS {query}")


def create_macros(
    connection: "duckdb.DuckDBPyConnection", wanted: Collection[str] | None = None
) -> None:
    """Create these functions that views share, or all."""
    for name, text in macros().items():
        if wanted is None or name in wanted:
            connection.execute(text)


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
                show_sums(connection, [], absolute)

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
            show_sums(connection, [], [])
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
                show_sums(connection, [], files)
                return True
    except (OSError, duckdb.Error):
        pass
    return False


def _made_by(prices: Table) -> str:
    """A digest of all that is in a catalogue besides the names of segments."""
    texts = [
        *macros().values(),
        *_all().values(),
        *COLUMNS,
        prices.snapshot,
    ]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
