"""The event log: an append-only journal, immutable segments, and views over both."""

from tracemill.log.store import EventLog
from tracemill.log.verify import Verification

__all__ = ["EventLog", "Verification"]
