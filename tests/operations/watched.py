"""A log with failures where a test wants them, and a file of rules over it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.log.made import call
from tracemill import EventLog, Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SECRET = "whsec_c2VjcmV0IGtleSBvZiB0aGUgdGVzdHMgMTIzNDU2"
RULE = """
rules:
  - name: failures
    description: calls fail
    query: >-
      SELECT count(*) FROM events
      WHERE kind = 'llm.call.failed' AND occurred_at >= $since AND occurred_at < $until
    window: 1h
    threshold: 2
    cooldown: 30m
"""
ALONE = """
  - {name: error-rate, enabled: false}
  - {name: unpriced-calls, enabled: false}
  - {name: spend-jump, enabled: false}
  - {name: events-lost, enabled: false}
  - {name: backup-age, enabled: false}
"""


def warehouse(folder: Path, rules: str = RULE + ALONE, sinks: str = "") -> Settings:
    settings = Settings(warehouse=folder / "warehouse").create()
    settings.raw_alerts.write_text(rules + sinks, encoding="utf-8")
    return settings


def fail(log: EventLog, count: int, at: datetime = NOW - 10 * MINUTE) -> None:
    """Calls that failed at a time."""
    log.append([event for _ in range(count) for event in call(None, at=at)])
