"""`tracemill alerts ...`: what is wrong, who was told, and whether the rules and sinks work."""

import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import plain, print_facts, print_json, print_lines
from tracemill.errors import NotDelivered, TracemillError, UsageError

if TYPE_CHECKING:
    from tracemill.operations.alert_history import Alert
    from tracemill.operations.alerts import Outcome
    from tracemill.operations.rules import Alerts, Rule
    from tracemill.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Alerts: what is wrong, and who is told.")

Id = Annotated[str, typer.Argument(help="Of an alert; its beginning or its end is enough.")]


@app.command()
def ls(
    only_open: Annotated[
        bool, typer.Option("--open", help="Only those that are not over.")
    ] = False,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """List the alerts, the latest first.

    Examples:

      tracemill alerts ls --open
      tracemill alerts ls --json | jq .rule
    """
    from tracemill.operations.alert_history import histories
    from tracemill.operations.rules import alerts

    with open_log(warehouse) as log:
        every = [alert for known in histories(log) for alert in known.alerts]
    every.sort(key=lambda alert: alert.raised.occurred_at, reverse=True)
    shown = [alert for alert in every if not (only_open and alert.resolved)]
    if as_json:
        for alert in shown:
            print_json(_fields(alert))
    elif shown:
        print_lines(("id", "raised (UTC)", "severity", "state", "what"), [_row(a) for a in shown])
    else:
        watched = [rule.name for rule in alerts(settings_for(warehouse)).rules if rule.enabled]
        print(f"no {'open ' if only_open else ''}alert; watched are {', '.join(watched)}")


@app.command()
def show(alert_id: Id, as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Show one alert: what was found, who was told, who took note."""
    from tracemill.operations.alert_history import find

    with open_log(warehouse) as log:
        alert = find(log, alert_id)
    print_json(_fields(alert)) if as_json else print_facts(_facts(alert))


@app.command()
def ack(
    alert_id: Id,
    note: Annotated[str, typer.Option(help="What is being done about it.")] = "",
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Take note of an alert: it is not told again. It stays open until its rule says that it is over.

    Examples:

      tracemill alerts ack 4f2a91c0 --note "the key was revoked; a new one is on its way"
    """
    from tracemill.operations.alerts import acknowledge

    with open_log(warehouse) as log:
        alert = acknowledge(log, alert_id, note, actor=os.environ.get("USER"))
    if as_json:
        print_json(_fields(alert))
    else:
        print(f"{alert.raised.rule}: noted; it is told nobody until it is over")


@app.command()
def check(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Look at every rule once, and tell the sinks what is new. Cron or Dagster's sensor runs this.

    Exit code 1: a rule could not be asked, or a sink could not be told (which is tried again).
    """
    from tracemill.operations.alerts import check as look

    with open_log(warehouse) as log:
        outcomes = look(log, settings_for(warehouse))
    for outcome in outcomes:
        if as_json:
            print_json(asdict(outcome))
    if not as_json:
        print_lines(("rule", "state", "value", "told"), [_outcome(each) for each in outcomes])
    failed = [each.rule for each in outcomes if each.error or each.not_told]
    if failed:
        raise TracemillError(f"not all could be asked or told: {', '.join(failed)}; see above")


@app.command("test")
def try_out(
    rule: Annotated[str | None, typer.Argument(help="Ask this rule, and tell its sinks.")] = None,
    sink: Annotated[str | None, typer.Option(help="Tell this sink only.")] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Send a message that says it is a test, and tell what came of it. Nothing is recorded.

    Examples:

      tracemill alerts test                    every sink
      tracemill alerts test --sink team
      tracemill alerts test error-rate         what the rule gives now, and its sinks
    """
    from tracemill.operations.rules import alerts

    settings = settings_for(warehouse)
    known = alerts(settings)
    asked = known.rule(rule) if rule else None
    text = _asked(asked, warehouse) if asked else "a test: nothing is wrong"
    names = [sink] if sink else list(known.sinks_of(asked) if asked else known.sinks)
    came = [_tried(known, settings, name, asked, text) for name in names]
    if as_json:
        print_json({"rule": rule, "found": text, "sinks": dict(zip(names, came, strict=True))})
    else:
        print(plain(text))
        for name, error in zip(names, came, strict=True):
            print(f"{name}: {error or 'told'}")
    failed = [name for name, error in zip(names, came, strict=True) if error]
    if failed:
        raise TracemillError(f"not told: {', '.join(failed)}; the lines above say why")


def _asked(rule: "Rule", warehouse: Any) -> str:
    """What a rule gives at this moment."""
    from tracemill.operations.alerts import ask, sentence

    with open_log(warehouse) as log:
        try:
            value = ask(log, rule, datetime.now(UTC))
        except UsageError as error:
            raise UsageError(f"rule {rule.name}: {error}") from None
    if value is None:
        return f"a test: {rule.name} has nothing to look at"
    if rule.beyond(value):
        return f"a test: {sentence(rule, value)}: an alert would be raised"
    return f"a test: {rule.name} is {value:.4g}, not {rule.comparison} {rule.threshold:.4g}"


def _tried(
    known: "Alerts", settings: "Settings", name: str, rule: "Rule | None", text: str
) -> str | None:
    from tracemill.events import new_id
    from tracemill.operations.sinks import Message, tell

    severity, described = ("info", "") if rule is None else (rule.severity, rule.description)
    message = Message(
        id=new_id(),
        about="test",
        rule=rule.name if rule else "test",
        severity=severity,
        text=text,
        description=" ".join(described.split()),
        facts={},
        happened_at=datetime.now(UTC),
    )
    try:
        tell(known.sink(name), message, settings)
    except NotDelivered as error:
        return str(error)
    return None


def _row(alert: "Alert") -> tuple[str, ...]:
    raised = alert.raised
    when = plain(raised.occurred_at)
    # The end of an id is what differs: it begins with the time.
    return (alert.alert_id[-12:], when, raised.severity, _state(alert), raised.message)


def _state(alert: "Alert") -> str:
    from tracemill.operations.delivery import parked

    given_up = parked(alert)
    return f"{alert.state}, not told: {', '.join(given_up)}" if given_up else alert.state


def _outcome(outcome: "Outcome") -> tuple[str, ...]:
    value = "" if outcome.value is None else f"{outcome.value:.4g}"
    told = [*outcome.told, *(f"not {sink}: {why}" for sink, why in outcome.not_told.items())]
    return (outcome.rule, outcome.state, value, outcome.error or "; ".join(told))


def _fields(alert: "Alert") -> dict[str, Any]:
    from tracemill.operations.delivery import parked

    raised = alert.raised.model_dump(mode="json", exclude={"kind", "event_id", "erased"})
    return {
        **raised,
        "state": alert.state,
        "acknowledged_at": alert.acknowledged and alert.acknowledged.occurred_at,
        "acknowledged_by": alert.acknowledged and alert.acknowledged.actor,
        "note": alert.acknowledged and alert.acknowledged.note,
        "resolved_at": alert.resolved and alert.resolved.occurred_at,
        "resolved_value": alert.resolved and alert.resolved.value,
        "told": [
            {"sink": sink, "about": about, **asdict(told)}
            for (sink, about), told in alert.told.items()
        ],
        "parked": parked(alert),
    }


def _facts(alert: "Alert") -> dict[str, str]:
    raised, noted, over = alert.raised, alert.acknowledged, alert.resolved
    facts = {
        "alert": alert.alert_id,
        "rule": raised.rule,
        "severity": raised.severity,
        "state": _state(alert),
        "what": raised.message,
        "window": f"{plain(raised.window_from)} to {plain(raised.window_until)} UTC",
        "raised": f"{plain(raised.occurred_at)} UTC",
    }
    if noted:
        by = f" by {noted.actor}" if noted.actor else ""
        facts["noted"] = plain(f"{plain(noted.occurred_at)} UTC{by} {noted.note}".rstrip())
    if over:
        facts["over"] = f"{plain(over.occurred_at)} UTC"
    lines = [
        f"{sink}: {about}, {'told' if told.done else told.error} (attempt {told.attempts})"
        for (sink, about), told in alert.told.items()
    ]
    return {**facts, "told": "\n".join(lines) or "nobody"}
