"""Alerts are raised once, told at least once, cool down, and are over when their rule says so."""

import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.operations.watched import ALONE, DAY, HOUR, MINUTE, NOW, RULE, fail, warehouse
from tracemill import EventLog, Settings
from tracemill.errors import UsageError
from tracemill.events import AlertDelivered, AlertRaised, new_id
from tracemill.operations.alert_history import History, after, find, history
from tracemill.operations.alerts import Outcome, acknowledge, check
from tracemill.operations.delivery import MOST_ATTEMPTS, due, parked

NOWHERE = """
sinks:
  nowhere: {kind: webhook, url_env: NO_SUCH_ADDRESS, secret_env: NO_SUCH_SECRET}
"""


def states(log: EventLog, settings: Settings, *moments: datetime) -> list[str]:
    return [check(log, settings, now=moment)[-1].state for moment in moments]


def lines(settings: Settings) -> list[str]:
    path = settings.reports / "alerts.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_an_alert_is_raised_once_and_is_over_when_its_rule_says_so(tmp_path: Path):
    settings = warehouse(tmp_path)
    with EventLog.open(settings) as log:
        assert states(log, settings, NOW) == ["quiet"]
        fail(log, 3)
        later = NOW + MINUTE
        (raised,) = check(log, settings, now=later)
        assert raised == Outcome("failures", "raised", 3.0, raised.alert_id, told=("file",))
        assert states(log, settings, NOW + 2 * MINUTE, NOW + 3 * MINUTE) == ["open", "open"]
        assert states(log, settings, NOW + HOUR, NOW + HOUR + MINUTE) == ["resolved", "quiet"]
        (alert,) = history(log, "failures").alerts
    assert alert.raised.message == "failures is 3, > 2, in the last 1 h"
    assert (alert.raised.window_from, alert.raised.window_until) == (later - HOUR, later)
    assert alert.resolved is not None
    assert alert.resolved.value == 0
    assert [line.split(",")[0] for line in lines(settings)] == [
        '{"type": "alert.raised"',
        '{"type": "alert.resolved"',
    ]


def test_no_new_alert_is_raised_within_the_cooldown(tmp_path: Path):
    settings = warehouse(tmp_path)
    with EventLog.open(settings) as log:
        fail(log, 3)
        over = NOW + HOUR
        assert states(log, settings, NOW, over) == ["raised", "resolved"]
        fail(log, 3, at=over)
        cooling, again = over + 29 * MINUTE, over + 30 * MINUTE
        assert states(log, settings, cooling, again) == ["cooling down", "raised"]
        assert len(history(log, "failures").alerts) == 2


def test_who_looks_at_the_same_time_raises_one_alert(tmp_path: Path):
    settings = warehouse(tmp_path)
    start = threading.Barrier(4)

    def look(log: EventLog) -> Outcome:
        start.wait()
        return check(log, settings, now=NOW)[0]

    # Two of each: what one object knows of the log, the other one has to find out.
    with EventLog.open(settings) as one, EventLog.open(settings) as other:
        fail(one, 3)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(look, (one, other, one, other)))
        (alert,) = history(one, "failures").alerts
        assert {outcome.alert_id for outcome in found} == {alert.alert_id}
        assert sorted(outcome.state for outcome in found) == ["open", "open", "open", "raised"]
        check(one, settings, now=NOW)
    assert len(lines(settings)) == 1


def test_a_question_that_does_not_run_stops_no_other(tmp_path: Path):
    broken = """
rules:
  - {name: no-sql, query: SELEKT 1, threshold: 0}
  - {name: no-table, query: SELECT n FROM nowhere, threshold: 0}
  - {name: not-a-number, query: "SELECT 'many'", threshold: 0}
  - {name: rows, query: "SELECT * FROM range(2)", threshold: 0}
  - {name: infinite, query: "SELECT 'inf'::DOUBLE", threshold: 0}
  - {name: not-known, query: "SELECT $from", threshold: 0}
  - {name: nothing, query: SELECT NULL, threshold: 0}
  - {name: no-row, query: SELECT 1 WHERE false, threshold: 0}
  - {name: sound, query: SELECT 1, threshold: 0}
  - {name: changes, query: DROP TABLE events, threshold: 0}
"""
    settings = warehouse(tmp_path, broken + ALONE)
    with EventLog.open(settings) as log:
        found = {outcome.rule: outcome for outcome in check(log, settings, now=NOW)}
    assert {name: outcome.state for name, outcome in found.items()} == {
        **dict.fromkeys(("no-sql", "no-table", "not-a-number", "rows", "infinite"), "failed"),
        **dict.fromkeys(("not-known", "changes"), "failed"),
        **dict.fromkeys(("nothing", "no-row"), "quiet"),
        "sound": "raised",
    }
    assert "Table with name nowhere does not exist" in (found["no-table"].error or "")
    assert found["not-a-number"].error == "the query gives a str, not a number"
    assert found["rows"].error == "the query gives 2 rows of 1 columns, not one number"
    assert found["not-known"].error == "there is no $from: a query may name $since and $until"


def test_a_rule_that_is_switched_off_leaves_no_alert_open(tmp_path: Path):
    settings = warehouse(tmp_path)
    with EventLog.open(settings) as log:
        fail(log, 3)
        check(log, settings, now=NOW)
        settings.raw_alerts.write_text(f"rules: {ALONE}")
        (over,) = check(log, settings, now=NOW + MINUTE)
        assert (over.rule, over.state, over.told) == ("failures", "resolved", ("file",))
        assert check(log, settings, now=NOW + 2 * MINUTE) == []


def test_an_acknowledged_alert_is_told_no_more(tmp_path: Path):
    settings = warehouse(tmp_path, sinks=NOWHERE)
    with EventLog.open(settings) as log:
        fail(log, 3)
        (raised,) = check(log, settings, now=NOW)
        assert raised.not_told == {"nowhere": "the environment variable NO_SUCH_ADDRESS is not set"}
        assert raised.alert_id is not None
        noted = acknowledge(log, raised.alert_id[-12:], "on it", actor="ann")
        assert acknowledge(log, raised.alert_id).acknowledged == noted.acknowledged
        assert noted.acknowledged is not None
        assert (noted.acknowledged.note, noted.acknowledged.actor) == ("on it", "ann")
        (quiet,) = check(log, settings, now=NOW + 5 * MINUTE)
        assert (quiet.state, quiet.not_told) == ("acknowledged", {})
        (over,) = check(log, settings, now=NOW + HOUR)
        # Who heard of it hears that it is over; who did not, does not.
        assert (over.state, over.told, over.not_told) == ("resolved", ("file",), {})
        with pytest.raises(UsageError, match=r"was resolved at 2026-03-01 13:00 UTC"):
            acknowledge(log, raised.alert_id)
        with pytest.raises(UsageError, match=r"no alert has an id like 'nothing'"):
            find(log, "nothing")


def test_waits_double_until_a_sink_is_given_up():
    same: dict[str, Any] = {"alert_id": new_id(), "rule": "failures", "occurred_at": NOW}
    window: dict[str, Any] = {"window_from": NOW - HOUR, "window_until": NOW}
    raised = AlertRaised(value=3, comparison=">", threshold=2, message="3", **window, **same)
    known = after(History("failures"), raised)
    tried: list[int] = []
    for minute in range(3 * 24 * 60):
        if due(known.alerts[0], ("team",), NOW + minute * MINUTE):
            tried.append(minute)
            moment: dict[str, Any] = same | {"occurred_at": NOW + minute * MINUTE}
            event = AlertDelivered(sink="team", delivered=False, attempt=len(tried), **moment)
            assert parked(known.alerts[0]) == []
            known = after(known, event)
    assert [b - a for a, b in pairwise(tried)] == [*(2**n for n in range(8)), *[240] * 5]
    assert len(tried) == MOST_ATTEMPTS
    assert parked(known.alerts[0]) == ["team"]


def test_an_alert_whose_process_was_killed_before_it_told_is_told_by_the_next(tmp_path: Path):
    settings = warehouse(tmp_path)
    with EventLog.open(settings) as log:
        fail(log, 3)
    program = (
        "import os, signal, sys; from datetime import datetime; from pathlib import Path\n"
        "from tracemill import EventLog, Settings\n"
        "from tracemill.operations import alerts, delivery\n"
        "delivery.tell = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "settings = Settings(warehouse=Path(sys.argv[1]))\n"
        "alerts.check(EventLog.open(settings), settings, now=datetime.fromisoformat(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", program, str(settings.warehouse), NOW.isoformat()]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert lines(settings) == []
    with EventLog.open(settings) as log:
        (outcome,) = check(log, settings, now=NOW + MINUTE)
        assert (outcome.state, outcome.told) == ("open", ("file",))
        assert check(log, settings, now=NOW + 2 * MINUTE)[0].told == ()
    assert len(lines(settings)) == 1


def test_what_was_over_for_a_day_is_not_told_to_a_new_sink(tmp_path: Path):
    settings = warehouse(tmp_path)
    with EventLog.open(settings) as log:
        fail(log, 3)
        assert states(log, settings, NOW, NOW + HOUR) == ["raised", "resolved"]
        settings.raw_alerts.write_text(RULE + ALONE + NOWHERE)
        (late,) = check(log, settings, now=NOW + HOUR + DAY + MINUTE)
        assert late == Outcome("failures", "quiet", 0.0)


def test_a_line_that_was_cut_short_stays_alone(tmp_path: Path):
    settings = warehouse(tmp_path)
    settings.reports.mkdir(parents=True)
    (settings.reports / "alerts.jsonl").write_text('{"type": "alert.rai')
    with EventLog.open(settings) as log:
        fail(log, 3)
        check(log, settings, now=NOW)
    cut, whole = lines(settings)
    assert cut == '{"type": "alert.rai'
    assert json.loads(whole)["data"]["rule"] == "failures"
