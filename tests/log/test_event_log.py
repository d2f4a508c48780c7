"""The log in a folder keeps the contract."""

from tests.log.contract import EventLogContract
from tracemill.log import EventLog


class TestEventLog(EventLogContract):
    store = EventLog
