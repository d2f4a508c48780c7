"""The rules of alerts and where alerts go: one YAML, over rules that are built in.

A rule is a question to the log that gives one number, and what that number may be. A rule in the
file that is named like a built-in one changes only the fields that it gives.
"""

from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, StringConstraints

from tracemill.errors import InputError, UsageError
from tracemill.operations.yaml_file import Duration, Name, Strict, checked, loaded, told
from tracemill.settings import Settings

Comparison = Literal[">", ">=", "<", "<="]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
BUILT_IN = Path(__file__).with_name("rules.yaml")
FILE = "file"
"""The sink that is always there."""


def _some_time(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("it cannot be 0")
    return value


class Rule(Strict):
    """What is asked of the log again and again."""

    name: Name
    description: Annotated[str, StringConstraints(max_length=500)] = ""
    """What is wrong where it holds, and what to do: it goes into the message."""
    query: str
    """SQL that gives one number; NULL or no row: there is nothing to look at. `$since` and `$until`
    are the window, in UTC."""
    window: Annotated[Duration, AfterValidator(_some_time)] = timedelta(hours=1)
    """How far back the question looks."""
    comparison: Comparison = ">"
    threshold: Annotated[float, Field(allow_inf_nan=False)]
    """An alert is raised where the number is `comparison` than this."""
    cooldown: Duration = timedelta(hours=1)
    """No new alert of the rule within it after one was raised or resolved."""
    severity: Literal["info", "warning", "critical"] = "warning"
    sinks: tuple[Name, ...] | None = None
    """Who is told; left out: every sink of the file."""
    enabled: bool = True

    def beyond(self, value: float) -> bool:
        """Whether this number is one to raise an alert for."""
        match self.comparison:
            case ">":
                return value > self.threshold
            case ">=":
                return value >= self.threshold
            case "<":
                return value < self.threshold
            case "<=":
                return value <= self.threshold


class File(Strict):
    """A file with a line of JSON for each message."""

    kind: Literal["file"] = "file"
    path: Annotated[str, StringConstraints(min_length=1)] = "alerts.jsonl"
    """Below warehouse/reports; an absolute path goes elsewhere."""


class _Address(Strict):
    url_env: Variable
    """The environment variable that holds the address."""
    insecure: bool = False
    """Whether `http://` will do for addresses other than this machine's."""
    allow_private: bool = False
    """Whether the address may be one of this machine or of a private network."""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 10
    """For all of it: the name, the connection, the answer."""


class Webhook(_Address):
    """A POST of JSON, signed as the Standard Webhooks say."""

    kind: Literal["webhook"]
    secret_env: Variable
    """The environment variable that holds the secret of the signature."""


class Slack(_Address):
    """An incoming webhook of Slack, or of what understands the same: Mattermost, Rocket.Chat."""

    kind: Literal["slack"]


Sink = Annotated[File | Webhook | Slack, Field(discriminator="kind")]


class Alerts(Strict):
    """The whole file."""

    rules: tuple[Rule, ...] = ()
    sinks: dict[Name, Sink] = Field(default_factory=dict)

    def sinks_of(self, rule: Rule) -> tuple[str, ...]:
        """The names of the sinks that are told of this rule's alerts."""
        return tuple(self.sinks) if rule.sinks is None else rule.sinks

    def rule(self, name: str) -> Rule:
        """Raises `UsageError` for one that is not there."""
        found = next((rule for rule in self.rules if rule.name == name), None)
        if found is None:
            known = ", ".join(rule.name for rule in self.rules)
            raise UsageError(f"no rule is called {name!r}: there are {known}")
        return found

    def sink(self, name: str) -> File | Webhook | Slack:
        """Raises `UsageError` for one that is not there."""
        if name not in self.sinks:
            raise UsageError(f"no sink is called {name!r}: there are {', '.join(self.sinks)}")
        return self.sinks[name]


def alerts(settings: Settings) -> Alerts:
    """The built-in rules, changed and followed by those of `raw/alerts.yaml`, if it is there.

    Raises `InputError` that names the file, the line, the rule, the field and the mend.
    """
    path = settings.raw_alerts
    fields, lines = loaded(path)
    given = fields.get("rules")
    merged = dict(_built_in())
    if isinstance(given, list):
        every = cast("list[Any]", given)
        # Those of the file keep their places in the list: a mistake is told with its line.
        completed = [_over(merged, rule) for rule in every]
        fields = {**fields, "rules": completed}
    found = checked(path, fields, Alerts, lines)
    names = [rule.name for rule in found.rules]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise told(path, lines, ("rules", number), f"a second rule is named {name}")
    rest = checked(BUILT_IN, {"rules": list(merged.values())}, Alerts, {}).rules
    sinks = {FILE: File()} | found.sinks
    _refuse_unknown_sinks(path, found, sinks, lines)
    others = tuple(rule for rule in rest if rule.name not in names)
    return found.model_copy(update={"rules": (*others, *found.rules), "sinks": sinks})


def _over(built_in: dict[str, dict[str, Any]], rule: Any) -> Any:
    """A rule of the file, with what it leaves out from the built-in one of its name."""
    if not isinstance(rule, dict):
        return cast(object, rule)
    fields = cast("dict[str, Any]", rule)
    name = fields.get("name")
    return {**(built_in.get(name, {}) if isinstance(name, str) else {}), **fields}


def _refuse_unknown_sinks(
    path: Path, found: Alerts, sinks: dict[str, Any], lines: dict[tuple[str | int, ...], int]
) -> None:
    for number, rule in enumerate(found.rules):
        for name in rule.sinks or ():
            if name not in sinks:
                mistake = f"rule {rule.name}: sinks: there is no sink {name}; there are "
                raise told(path, lines, ("rules", number, "sinks"), mistake + ", ".join(sinks))


@cache
def _built_in() -> dict[str, dict[str, Any]]:
    fields, _ = loaded(BUILT_IN)
    if not fields:
        raise InputError(f"{BUILT_IN} is missing: install tracemill again")
    return {rule["name"]: rule for rule in fields["rules"]}
