"""The event log: an append-only journal, immutable segments, and views over both."""

from tracemill.log.backup import Backup, backups, damage, prune
from tracemill.log.erase import Erased, Older
from tracemill.log.persons import Held
from tracemill.log.restore import Restored, restore
from tracemill.log.store import EventLog
from tracemill.log.verify import Verification

__all__ = [
    "Backup",
    "Erased",
    "EventLog",
    "Held",
    "Older",
    "Restored",
    "Verification",
    "backups",
    "damage",
    "prune",
    "restore",
]
