"""Alerts as they stand: the fold of the stream `alert:<rule>`, in which all that happened to the
alerts of one rule is recorded.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from tracemill.errors import UsageError
from tracemill.events import (
    AlertAcknowledged,
    AlertDelivered,
    AlertRaised,
    AlertResolved,
    Happened,
    Recorded,
)

if TYPE_CHECKING:
    from tracemill.log import EventLog

About = Literal["raised", "resolved"]


@dataclass(frozen=True)
class Told:
    """What came of telling one sink one thing."""

    attempts: int = 0
    last_at: datetime | None = None
    done: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Alert:
    """An alert as it stands."""

    raised: AlertRaised
    told: dict[tuple[str, About], Told] = field(default_factory=dict[tuple[str, About], Told])
    """By sink, and what it was told."""
    acknowledged: AlertAcknowledged | None = None
    resolved: AlertResolved | None = None

    @property
    def alert_id(self) -> str:
        return self.raised.alert_id

    @property
    def state(self) -> Literal["open", "acknowledged", "resolved"]:
        if self.resolved:
            return "resolved"
        return "acknowledged" if self.acknowledged else "open"


@dataclass(frozen=True)
class History:
    """The alerts of one rule, the oldest first, and the version of its stream."""

    rule: str
    alerts: tuple[Alert, ...] = ()
    version: int = 0

    @property
    def open(self) -> Alert | None:
        """The alert that is not resolved."""
        return self.alerts[-1] if self.alerts and not self.alerts[-1].resolved else None


# The fold


def stream(rule: str) -> str:
    """Where the alerts of a rule stand in the log."""
    return f"alert:{rule}"


def history(log: "EventLog", rule: str) -> History:
    """The alerts of one rule."""
    return fold(rule, log.read(stream=stream(rule)))


def histories(log: "EventLog") -> list[History]:
    """Those of every rule that ever raised one, by name."""
    query = "SELECT DISTINCT stream FROM events WHERE kind = 'alert.raised' ORDER BY stream"
    names = [str(each) for each in log.arrow(query).column("stream").to_pylist()]
    return [history(log, name.removeprefix("alert:")) for name in names]


def fold(rule: str, events: Iterable[Recorded]) -> History:
    """What the events of a rule lead to."""
    known = History(rule)
    for recorded in events:
        known = replace(after(known, recorded.event), version=recorded.version)
    return known


def after(known: History, event: Happened) -> History:
    """The alerts after one more event; one about an alert that is not there changes nothing."""
    if isinstance(event, AlertRaised):
        return replace(known, alerts=(*known.alerts, Alert(event)))
    changed = tuple(_after(alert, event) for alert in known.alerts)
    return replace(known, alerts=changed)


def _after(alert: Alert, event: Happened) -> Alert:
    if getattr(event, "alert_id", None) != alert.alert_id:
        return alert
    match event:
        case AlertAcknowledged():
            return replace(alert, acknowledged=alert.acknowledged or event)
        case AlertResolved():
            return replace(alert, resolved=alert.resolved or event)
        case AlertDelivered():
            key = (event.sink, event.about)
            before = alert.told.get(key, Told())
            now = Told(
                max(before.attempts, event.attempt),
                event.occurred_at,
                before.done or event.delivered,
                event.error_message,
            )
            return replace(alert, told={**alert.told, key: now})
        case _:
            return alert


def find(log: "EventLog", alert_id: str) -> Alert:
    """The alert whose id ends or begins so. Raises `UsageError` for none, and for several."""
    given = alert_id.strip().lower()
    every = [alert for known in histories(log) for alert in known.alerts]
    fits = [
        a for a in every if given and (a.alert_id.startswith(given) or a.alert_id.endswith(given))
    ]
    if len(fits) != 1:
        found = f"{len(fits)} alerts have" if fits else "no alert has"
        raise UsageError(f"{found} an id like {alert_id!r}: `tracemill alerts ls` tells them")
    return fits[0]
