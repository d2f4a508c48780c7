"""Alerts: rules are asked, what is wrong is raised, told to sinks, and resolved when it is over.

What has happened is the fold of the stream `alert:<rule>`. Whoever raises names the version of the
stream that it saw, so that two who look at once raise one alert; telling is at least once.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from tracemill.errors import TracemillError, UsageError, VersionConflict
from tracemill.events import AlertAcknowledged, AlertRaised, AlertResolved, new_id
from tracemill.operations.alert_history import Alert, History, find, histories, history
from tracemill.operations.delivery import deliver
from tracemill.operations.rules import Rule, alerts
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.log import EventLog

State = Literal["quiet", "raised", "open", "acknowledged", "cooling down", "resolved", "failed"]
_ATTEMPTS = 20
"""So often somebody else may be first before a note is given up."""


@dataclass(frozen=True)
class Outcome:
    """What one look at one rule came to."""

    rule: str
    state: State
    value: float | None = None
    """What the question gave; None: nothing to look at, or it could not be asked."""
    alert_id: str | None = None
    error: str | None = None
    """Why the question could not be asked."""
    told: tuple[str, ...] = ()
    """Sinks that took a message."""
    not_told: dict[str, str] = field(default_factory=dict[str, str])
    """Sink -> why it did not; it is tried again."""


# Looking


def check(log: "EventLog", settings: Settings, *, now: datetime | None = None) -> list[Outcome]:
    """Look at every rule once: raise, resolve, and tell the sinks what they have not taken yet.

    A rule whose question does not run is told in its outcome, and stops no other. Safe to run at
    any time, by any number of processes at once.

    Args:
        now: the end of the windows; the clock's, when left out.

    Raises `InputError` for a file of rules that is not right.
    """
    now = (now or datetime.now(UTC)).astimezone(UTC)
    known = alerts(settings)
    outcomes = [_look(log, rule, now) for rule in known.rules if rule.enabled]
    outcomes += _close_the_unwatched(log, {o.rule for o in outcomes}, now)
    return _with(outcomes, deliver(log, settings, known, now=now))


def _with(outcomes: list[Outcome], came: dict[str, dict[str, str | None]]) -> list[Outcome]:
    """The outcomes with what came of telling; also of rules that were not looked at."""
    by_rule = {outcome.rule: outcome for outcome in outcomes}
    for rule, sinks in came.items():
        told = tuple(sink for sink, error in sinks.items() if error is None)
        not_told = {sink: error for sink, error in sinks.items() if error is not None}
        before = by_rule.get(rule, Outcome(rule, "quiet"))
        by_rule[rule] = replace(before, told=told, not_told=not_told)
    return list(by_rule.values())


def ask(log: "EventLog", rule: Rule, now: datetime) -> float | None:
    """The number that a rule's question gives; None: there is nothing to look at.

    Raises `UsageError` when the question does not run, or gives something else.
    """
    import duckdb

    try:
        statements = duckdb.extract_statements(rule.query)
        wanted = statements[0].named_parameters if statements else set[str]()
    except duckdb.Error as error:
        raise UsageError(f"this query does not run: {str(error).splitlines()[0]}") from None
    window = {"since": now - rule.window, "until": now}
    unknown = sorted(wanted - window.keys())
    if unknown:
        raise UsageError(f"there is no ${unknown[0]}: a query may name $since and $until")
    # The log's columns are UTC without a zone.
    named = {name: window[name].astimezone(UTC).replace(tzinfo=None) for name in wanted}
    answer = log.arrow(rule.query, named)
    if answer.num_columns != 1 or answer.num_rows > 1:
        raise UsageError(
            f"the query gives {answer.num_rows} rows of {answer.num_columns} columns, not one number"
        )
    value = answer.column(0)[0].as_py() if answer.num_rows else None
    return _number(value)


def _number(value: object) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        raise UsageError(f"the query gives a {type(value).__name__}, not a number") from None
    if not math.isfinite(number):
        raise UsageError(f"the query gives {number}, which is no number to compare")
    return number


def _look(log: "EventLog", rule: Rule, now: datetime) -> Outcome:
    try:
        value = ask(log, rule, now)
    except TracemillError as error:
        return Outcome(rule.name, "failed", error=str(error))
    for _ in range(_ATTEMPTS):
        known = history(log, rule.name)
        outcome, event = decide(known, rule, value, now)
        try:
            if event:
                log.append(event, expected={event.stream: known.version}, durability="power")
            return outcome
        except VersionConflict:
            continue
    return Outcome(
        rule.name, "failed", value, error="others change this rule's alerts all the time"
    )


def decide(
    known: History, rule: Rule, value: float | None, now: datetime
) -> tuple[Outcome, AlertRaised | AlertResolved | None]:
    """What a rule's number means after what happened, and what is to be recorded for it."""
    beyond = value is not None and rule.beyond(value)
    if known.open and not beyond:
        event = _resolved(known.open, value, now)
        return Outcome(rule.name, "resolved", value, known.open.alert_id), event
    if known.open:
        state = "acknowledged" if known.open.acknowledged else "open"
        return Outcome(rule.name, state, value, known.open.alert_id), None
    if value is None or not beyond:
        return Outcome(rule.name, "quiet", value), None
    if known.alerts and now < _last(known.alerts[-1]) + rule.cooldown:
        return Outcome(rule.name, "cooling down", value), None
    event = _raised(rule, value, now)
    return Outcome(rule.name, "raised", value, event.alert_id), event


def _last(alert: Alert) -> datetime:
    return alert.resolved.occurred_at if alert.resolved else alert.raised.occurred_at


def _raised(rule: Rule, value: float, now: datetime) -> AlertRaised:
    return AlertRaised(
        alert_id=new_id(),
        rule=rule.name,
        severity=rule.severity,
        value=value,
        comparison=rule.comparison,
        threshold=rule.threshold,
        window_from=now - rule.window,
        window_until=now,
        message=sentence(rule, value),
        occurred_at=now,
    )


def sentence(rule: Rule, value: float) -> str:
    """What is wrong, on one line."""
    return (
        f"{rule.name} is {value:.4g}, {rule.comparison} {rule.threshold:.4g}, "
        f"in the last {_told(rule.window)}"
    )


def _told(span: timedelta) -> str:
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if span.total_seconds() % seconds == 0:
            return f"{span.total_seconds() / seconds:g} {unit}"
    return f"{span.total_seconds():g} s"


def _resolved(alert: Alert, value: float | None, now: datetime) -> AlertResolved:
    return AlertResolved(
        alert_id=alert.alert_id, rule=alert.raised.rule, value=value, occurred_at=now
    )


def _close_the_unwatched(log: "EventLog", watched: set[str], now: datetime) -> Iterator[Outcome]:
    """Alerts of rules that are gone or switched off are over: nobody would ever resolve them."""
    for known in histories(log):
        if known.open and known.rule not in watched:
            event = _resolved(known.open, None, now)
            try:
                log.append(event, expected={event.stream: known.version}, durability="power")
            except VersionConflict:
                continue  # Somebody else was first, or the next look does it.
            yield Outcome(known.rule, "resolved", None, known.open.alert_id)


# Notes


def acknowledge(
    log: "EventLog", alert_id: str, note: str = "", *, actor: str | None = None
) -> Alert:
    """Take note of an open alert: it is not told again. Once is enough; a second changes nothing.

    Raises `UsageError` for an alert that is not there or is resolved.
    """
    rule = find(log, alert_id).raised.rule
    for _ in range(_ATTEMPTS):
        version = history(log, rule).version
        alert = find(log, alert_id)
        if alert.state == "acknowledged":
            return alert
        if alert.resolved:
            when = f"{alert.resolved.occurred_at:%Y-%m-%d %H:%M}"
            raise UsageError(f"alert {alert.alert_id} was resolved at {when} UTC: nothing to note")
        event = AlertAcknowledged(alert_id=alert.alert_id, rule=rule, note=note, actor=actor)
        try:
            log.append(event, expected={event.stream: version}, durability="power")
            return find(log, alert.alert_id)
        except VersionConflict:
            continue
    raise UsageError(f"others change the alerts of {rule} all the time: try again")
