"""Rows of other tools' databases, read as they are: SQLite files, and PostgreSQL by its address."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import apsw
from pydantic_core import from_json

from tracemill.errors import InputError, UsageError

Json = dict[str, Any]

_SQLITE = b"SQLite format 3\x00"


def is_sqlite(source: str) -> bool:
    """Whether a source is a file of SQLite."""
    try:
        with Path(source).open("rb") as file:
            return file.read(16) == _SQLITE
    except (OSError, ValueError):
        return False


def is_postgres(source: str) -> bool:
    """Whether a source is the address of a PostgreSQL."""
    return source.startswith(("postgresql://", "postgres://"))


def shown(source: str) -> str:
    """A source as it may be told: an address without the name and the password in it."""
    if not is_postgres(source):
        return source
    parts = urlsplit(source)
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def sqlite(path: str) -> Generator[apsw.Connection]:
    """A database file, opened to be read. Raises `InputError`."""
    try:
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(10_000)
    except apsw.Error as error:
        raise InputError(f"{path}: {error}") from None
    try:
        yield connection
    except apsw.Error as error:
        raise InputError(f"{path}: {error}") from None
    finally:
        connection.close()


def tables(connection: apsw.Connection) -> set[str]:
    """The names of the tables."""
    return {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_schema")}


def selected(
    connection: apsw.Connection, query: str, parameters: tuple[Any, ...] = ()
) -> Iterator[Json]:
    """The rows of a query, by the names of their columns."""
    cursor = connection.cursor()
    cursor.execute(query, parameters)
    names: list[str] | None = None
    for row in cursor:
        names = names or [column[0] for column in cursor.get_description()]
        yield dict(zip(names, row, strict=True))


def postgres(source: str, query: str) -> Iterator[Json]:
    """The rows of a query whose one column is a JSON text, a batch at a time.

    Raises `UsageError`: the driver is not installed. `InputError`: it cannot be reached or asked; what
    is said of that holds no password.
    """
    try:
        from adbc_driver_manager import Error
        from adbc_driver_postgresql import dbapi  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise UsageError("this needs a driver: pip install 'tracemill[postgres]'") from None
    connect = cast(Any, dbapi.connect)  # pyright: ignore
    try:
        with connect(source) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            for batch in cursor.fetch_record_batch():
                for text in batch.column(0).to_pylist():
                    yield from_json(text)
    except Error as error:
        password = urlsplit(source).password
        told = str(error).splitlines()[0].replace(source, shown(source))
        told = told.replace(password, "...") if password else told
        raise InputError(f"{shown(source)}: {told[:300]}") from None
