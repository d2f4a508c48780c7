"""Telling sinks of alerts: at least once, with waits that double, and given up after a day's tries.

An alert and its delivery are two facts. Between them a process may die: the next look finds what is
raised and not told, and tells it under the same id.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tracemill.errors import NotDelivered
from tracemill.events import AlertDelivered
from tracemill.log.turn import only_one
from tracemill.operations.alert_history import About, Alert, Told, histories
from tracemill.operations.rules import Alerts, Rule
from tracemill.operations.sinks import Message, tell
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.log import EventLog

FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=4)
MOST_ATTEMPTS = 14
"""They take a day; then the message is parked, and `tracemill alerts ls` says so."""
STALE = timedelta(days=1)
"""An alert that was over for longer before a sink was told is not news any more."""


def deliver(
    log: "EventLog", settings: Settings, known: Alerts, *, now: datetime
) -> dict[str, dict[str, str | None]]:
    """Tell every sink what is due; rule -> sink -> why it could not be told, None where it was.

    One process at a time: while another one tells, this one leaves it to that.
    """
    came: dict[str, dict[str, str | None]] = {}
    rules = {rule.name: rule for rule in known.rules}
    with only_one(log.folder / "alerts.lock", wait=False) as alone:
        for each in histories(log) if alone else ():
            rule = rules.get(each.rule)
            for alert in each.alerts:
                for sink, about in due(alert, _sinks(known, rule, alert), now):
                    event = _told(settings, known, rule, alert, sink, about, now)
                    log.append(event)
                    came.setdefault(each.rule, {})[sink] = event.error_message
    return came


def due(alert: Alert, sinks: tuple[str, ...], now: datetime) -> list[tuple[str, About]]:
    """What is to be told now, and to whom: that it was raised, then that it is over."""
    found: list[tuple[str, About]] = []
    stale = alert.resolved is not None and now - alert.resolved.occurred_at > STALE
    if stale:
        return found
    for sink in sinks:
        raised = alert.told.get((sink, "raised"), Told())
        if not raised.done:
            if not alert.acknowledged and _now(raised, now):
                found.append((sink, "raised"))
        elif alert.resolved and _now(alert.told.get((sink, "resolved"), Told()), now):
            found.append((sink, "resolved"))
    return found


def parked(alert: Alert) -> list[str]:
    """The sinks that are not tried any more."""
    spent = {s for (s, _), t in alert.told.items() if not t.done and t.attempts >= MOST_ATTEMPTS}
    return sorted(spent)


def _now(told: Told, now: datetime) -> bool:
    if told.done or told.attempts >= MOST_ATTEMPTS:
        return False
    if told.last_at is None:
        return True
    wait = min(FIRST_WAIT * 2 ** (told.attempts - 1), LONGEST_WAIT)
    return now >= told.last_at + wait


def _sinks(known: Alerts, rule: Rule | None, alert: Alert) -> tuple[str, ...]:
    """Those of the rule; of one that is gone, those that heard of the alert."""
    if rule is not None:
        return known.sinks_of(rule)
    return tuple(dict.fromkeys(sink for sink, _ in alert.told if sink in known.sinks))


def _told(
    settings: Settings,
    known: Alerts,
    rule: Rule | None,
    alert: Alert,
    sink: str,
    about: About,
    now: datetime,
) -> AlertDelivered:
    """Tell one sink, and what came of it."""
    error: str | None = None
    try:
        tell(known.sinks[sink], message(alert, rule, about), settings)
    except NotDelivered as problem:
        error = str(problem)
    before = alert.told.get((sink, about), Told())
    return AlertDelivered(
        alert_id=alert.alert_id,
        rule=alert.raised.rule,
        sink=sink,
        about=about,
        delivered=error is None,
        attempt=before.attempts + 1,
        error_message=error,
        occurred_at=now,
    )


def message(alert: Alert, rule: Rule | None, about: About) -> Message:
    """What a sink is told of an alert."""
    raised, over = alert.raised, alert.resolved
    text = raised.message
    if about == "resolved" and over:
        value = "" if over.value is None else f": it is {over.value:.4g} now"
        text = f"{raised.rule} is over{value}"
    return Message(
        # The id of a repeat is that of the first: whoever saw it lets the second go.
        id=alert.alert_id if about == "raised" else f"{alert.alert_id}:resolved",
        about=about,
        rule=raised.rule,
        severity=raised.severity,
        text=text,
        description=" ".join(rule.description.split()) if rule and about == "raised" else "",
        facts={
            "alert_id": alert.alert_id,
            "value": raised.value if about == "raised" or not over else over.value,
            "comparison": raised.comparison,
            "threshold": raised.threshold,
            "window_from": raised.window_from.isoformat(),
            "window_until": raised.window_until.isoformat(),
        },
        happened_at=over.occurred_at if about == "resolved" and over else raised.occurred_at,
    )
