"""The file of rules: its mistakes are told with file, line, rule, field and mend; built-ins stay quiet."""

import random
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.log.made import call
from tests.operations.watched import DAY, HOUR, MINUTE, NOW, RULE, warehouse
from tracemill import EventLog, Settings
from tracemill.errors import InputError
from tracemill.events import BackupMade, LogTailLost
from tracemill.operations.alerts import ask, check
from tracemill.operations.retention import retention
from tracemill.operations.rules import File, Rule, alerts

MODEL = "a-model-without-a-price"


def test_without_a_file_the_built_in_rules_are_there(tmp_path: Path):
    known = alerts(Settings(warehouse=tmp_path))
    assert {rule.name: rule.enabled for rule in known.rules} == {
        **dict.fromkeys(("error-rate", "unpriced-calls", "spend-jump"), True),
        "daily-spend": False,
        **dict.fromkeys(("events-lost", "backup-age"), True),
    }
    assert known.sinks == {"file": File()}


def test_a_rule_of_the_file_changes_the_built_in_one_of_its_name(tmp_path: Path):
    text = (
        "rules: [{name: daily-spend, threshold: 25, enabled: true}, {name: error-rate, window: 2h}]"
    )
    known = alerts(warehouse(tmp_path, text))
    spend, errors = known.rule("daily-spend"), known.rule("error-rate")
    assert (spend.threshold, spend.enabled, spend.severity) == (25, True, "critical")
    assert (errors.window, errors.threshold) == (timedelta(hours=2), 5)
    assert len(known.rules) == 6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rules: [{name: a, query: SELECT 1", "line 1: this is not YAML: "),
        ("- a", "the whole file: give names and values, as {a: b}"),
        ("rules: {}", "line 1: rules: give a list, as [a, b]"),
        (
            "rules:\n  - name: slow\n    query: SELECT 1\n    treshold: 3\n    threshold: 2\n",
            "line 4: rule slow: treshold: there is no such field: did you mean threshold?",
        ),
        (
            "rules:\n  - name: slow\n    query: SELECT 1\n",
            "line 2: rule slow: threshold: it is missing",
        ),
        (
            "rules:\n  - name: slow\n    query: SELECT 1\n    threshold: 1\n    window: 1 hour\n",
            "line 5: rule slow: window: give a duration, as 30m, 1h or 7d",
        ),
        (
            "rules:\n- {name: slow, query: SELECT 1, threshold: 1, window: 0s}",
            "line 2: rule slow: window: it cannot be 0",
        ),
        (
            "rules:\n- {name: slow, query: SELECT 1, threshold: .nan}",
            "line 2: rule slow: threshold: it should be a finite number",
        ),
        (
            "rules:\n- {query: SELECT 1, threshold: 1}",
            "line 2: rule 1: name: it is missing",
        ),
        (
            "rules:\n- {name: a/b, query: SELECT 1, threshold: 1}",
            "line 2: rule a/b: name: letters, digits, `-` and `_` only, the first a letter or digit",
        ),
        (
            "rules: [{name: a, query: SELECT 1, threshold: 1},\n{name: a, query: '', threshold: 1}]",
            "line 2: a second rule is named a",
        ),
        (
            "rules:\n- {name: a, query: SELECT 1, threshold: 1, sinks: [pager]}",
            "line 2: rule a: sinks: there is no sink pager; there are file",
        ),
        (
            "sinks:\n  team:\n    kind: slack\n    url: https://hooks.example/T0K3N\n",
            "line 4: sinks team url: no address may stand in a file: put it into an environment ",
        ),
        (
            "sinks:\n  team: {kind: webhook, url_env: https://hooks.example/T0K3N, secret_env: S}\n",
            "line 2: sinks team url_env: letters, digits, `-` and `_` only",
        ),
        ("sinks:\n  team: {kind: pager}", "line 2: sinks team: `kind` is file, webhook or slack"),
        ("sinks:\n  team: {url_env: A}", "line 2: sinks team: `kind` is missing"),
    ],
)
def test_each_mistake_is_told_with_its_place_and_its_mend(tmp_path: Path, text: str, says: str):
    settings = warehouse(tmp_path, text)
    with pytest.raises(InputError) as refused:
        alerts(settings)
    told = str(refused.value)
    place = f"{settings.raw_alerts}"
    assert told.startswith(place)
    assert says in told
    assert "\n" not in told
    assert "T0K3N" not in told


def burst(hours: int, failing: dict[int, float], calls: int, seed: int) -> list:
    """Calls hour by hour before `NOW`; so many of them fail, 2 % where nothing else is said."""
    chance = random.Random(seed)
    return [
        event
        for hour in range(hours)
        for number in range(calls)
        for event in call(
            None if chance.random() < failing.get(hour, 0.02) else "yes",
            at=NOW - (hours - hour) * HOUR + number * HOUR / calls,
            cost=Decimal("0.001"),
        )
    ]


def test_an_error_burst_is_found_in_its_hour_and_at_no_other(tmp_path: Path):
    settings = warehouse(tmp_path, "")
    rule = alerts(settings).rule("error-rate")
    with EventLog.open(settings) as log:
        log.append(burst(48, {40: 0.3}, 40, seed=1))
        values = {hour: ask(log, rule, NOW + (hour - 47) * HOUR) for hour in range(25, 48)}
    assert [hour for hour, value in values.items() if value and rule.beyond(value)] == [40]


@pytest.mark.parametrize("base", [0.0, 0.02, 0.3])
def test_the_error_rate_is_quiet_on_quiet_hours(tmp_path: Path, base: float):
    settings = warehouse(tmp_path, "")
    rule = alerts(settings).rule("error-rate")
    query = rule.query.replace("FROM events", "FROM made")
    made = (
        "WITH made AS (SELECT * FROM (SELECT i, CASE WHEN hash(i, {seed}) % 10000 < {base} "
        "THEN 'llm.call.failed' ELSE 'llm.call.finished' END AS kind, $until::TIMESTAMP "
        "- INTERVAL 25 HOUR + i * INTERVAL 25 HOUR / {n} + INTERVAL 1 SECOND AS occurred_at "
        "FROM range({n}) AS t(i))), "
    )
    values: list[float] = []
    with EventLog.open(settings) as log:
        for seed in range(30):
            n = (600, 1_500, 5_000)[seed % 3]
            head = made.format(seed=seed, base=int(base * 10_000), n=n)
            asked = rule.model_copy(update={"query": query.replace("WITH ", head, 1)})
            value = ask(log, asked, NOW)
            assert value is not None
            values.append(value)
    assert max(values) < rule.threshold


def test_the_other_built_in_rules_find_what_they_are_for(tmp_path: Path):
    settings = warehouse(tmp_path, "rules: [{name: daily-spend, threshold: 4, enabled: true}]")

    def states(log: EventLog) -> dict[str, str]:
        return {o.rule: o.state for o in check(log, settings, now=NOW)}

    with EventLog.open(settings) as log:
        for ago in range(1, 9):
            log.append(call(model=MODEL, at=NOW - ago * DAY + HOUR, cost=Decimal("0.5")))
        quiet = states(log)
        assert set(quiet.values()) == {"quiet"}
        for n in range(20):
            log.append(call(model=MODEL, at=NOW - HOUR + n * MINUTE, cost=Decimal("0.25")))
        log.append(LogTailLost(after_position=1, through_position=2, occurred_at=NOW - HOUR))
        log.append(
            BackupMade(
                backup="b", position=1, files=1, size_bytes=1, sha256="a", occurred_at=NOW - 3 * DAY
            )
        )
        found = states(log)
    assert found == {
        "error-rate": "quiet",
        "unpriced-calls": "raised",
        "spend-jump": "raised",
        "daily-spend": "raised",
        "events-lost": "raised",
        "backup-age": "raised",
    }


def test_comparisons_mean_what_they_say():
    for comparison, beyond in (
        (">", (0, 0, 1)),
        (">=", (0, 1, 1)),
        ("<", (1, 0, 0)),
        ("<=", (1, 1, 0)),
    ):
        rule = Rule(name="a", query="", threshold=2, comparison=comparison)  # type: ignore[arg-type]
        assert tuple(map(rule.beyond, (1, 2, 3))) == tuple(map(bool, beyond))


def test_the_rule_of_these_tests_is_one(tmp_path: Path):
    assert alerts(warehouse(tmp_path, RULE)).rule("failures").cooldown == timedelta(minutes=30)


def test_the_rules_of_the_page_are_rules(tmp_path: Path):
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    examples = page.read_text(encoding="utf-8").split("```yaml\n")[1:]
    rules, terms = (example.split("```")[0] for example in examples)
    settings = warehouse(tmp_path, rules)
    known = alerts(settings)
    assert [rule.name for rule in known.rules][-1] == "slow-answers"
    assert set(known.sinks) == {"file", "team", "pager"}
    settings.raw_retention.write_text(terms)
    assert len(retention(settings).policies) == 2
    with EventLog.open(settings) as log:
        assert {o.error for o in check(log, settings, now=NOW)} == {None}
