"""The history of runs, written in batches where Dagster hands over many events at once.

A run over sixty days tells sixty times that each asset is planned, and sixty times that it is made.
Dagster's storage in SQLite syncs the disk thrice for each of these; here, twice for all of them.
"""

import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import dagster as dg
from dagster._core.events import ASSET_EVENTS
from dagster._core.storage.event_log import SqliteEventLogStorage
from sqlalchemy import Engine, event

_SIZE = "DAGSTER_EVENT_BATCH_SIZE"


@contextmanager
def in_batches(instance: dg.DagsterInstance) -> Generator[None]:
    """Store what comes in batches as batches; a history that is not in SQLite is left to itself.

    Nor is each commit synced: a power failure takes the last runs from the history, and breaks none.
    """
    storage = instance.event_log_storage
    if type(storage) is not SqliteEventLogStorage or _SIZE in os.environ:
        yield
        return
    os.environ[_SIZE] = "1000"
    storage.store_event_batch = lambda events: _store(storage, events)
    event.listen(Engine, "connect", _unsynced)
    try:
        yield
    finally:
        event.remove(Engine, "connect", _unsynced)
        del storage.store_event_batch, os.environ[_SIZE]


def _unsynced(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")


def _store(storage: SqliteEventLogStorage, events: Sequence[dg.EventLogEntry]) -> None:
    """What `SqliteEventLogStorage.store_event` does for each, in one transaction for each file."""
    for each in events:
        if each.dagster_event_type not in ASSET_EVENTS:
            storage.store_event(each)
    events = [each for each in events if each.dagster_event_type in ASSET_EVENTS]
    if not events:
        return
    inserts = [storage.prepare_insert_event(each) for each in events]
    # One after the other: the storage has one lock for both.
    with storage.run_connection(events[0].run_id) as run:
        for insert in inserts:
            run.execute(insert)
    with storage.index_transaction() as index:
        keys = [index.execute(insert).inserted_primary_key for insert in inserts]
        ids = [key[0] for key in keys if key]
        storage._store_asset_event_tags(index, events, ids)
        for each, event_id in zip(events, ids, strict=True):
            storage._store_asset_event(index, each, event_id)
