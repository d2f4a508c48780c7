"""`tracemill keys` and `tracemill budgets`: what a person types, and what programs read."""

import json
from pathlib import Path

import pytest

from tests.access.calls import finished, started
from tests.cli.running import Run
from tracemill import EventLog, Settings
from tracemill.access.budgets import Budgets, Estimate, Subject
from tracemill.access.keys import Keys
from tracemill.errors import KeyRefused
from tracemill.events import new_id


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(settings.warehouse))
    return settings


def opens(place: Settings, secret: str) -> str | None:
    with EventLog.open(place) as log:
        try:
            return Keys(log).check(secret).name
        except KeyRefused:
            return None


def test_a_key_is_made_shown_once_rotated_and_revoked(run: Run, place: Settings) -> None:
    made = run(
        *["keys", "create", "search", "--team", "core", "--model", "openai/*", "--tag", "feature=x"]
    )
    assert (made.code, made.err) == (0, "Keep the first line now: it cannot be shown again.\n")
    secret, *facts = made.out.splitlines()
    assert opens(place, secret) == "search"
    assert any(line.split() == ["team", "core"] for line in facts)
    (listed,) = run("keys", "ls", "--json").lines
    assert (listed["state"], listed["models"], listed["tags"]) == (
        "active",
        ["openai/*"],
        {"feature": "x"},
    )
    assert secret[16:] not in run("keys", "ls").out + run("keys", "show", "search").out
    (rotated,) = run("keys", "rotate", listed["key_id"][:5], "--overlap", "0s", "--json").lines
    assert (opens(place, secret), opens(place, rotated["secret"])) == (None, "search")
    gone = run("keys", "revoke", rotated["secret"])
    assert (gone.code, gone.out) == (0, f"search ({listed['key_id']}) is refused from now on\n")
    assert opens(place, rotated["secret"]) is None
    assert "revoked" in run("keys", "ls").out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("keys show nobody", "no key matches 'nobody'"),
        ("keys create a --route chatt", "there is no route 'chatt'"),
        ("keys create a --tag x", "--tag is written name=value, not 'x'"),
        ("keys create a --expires soon", "--expires is an age, as 30d"),
        ("keys rotate a --overlap 1", "--overlap is a duration"),
        ("budgets set a --per day", "budget a limits nothing"),
        ("budgets set a --per day --usd much", "--usd is an amount"),
        ("budgets set a --per day --usd 1 --user b --team c", "--user or --team, not of both"),
        ("budgets rm a", "there is no budget 'a'; there are: none"),
    ],
)
def test_what_is_asked_the_wrong_way_is_told_in_one_line(
    run: Run, place: Settings, command: str, said: str
) -> None:
    done = run(*command.split())
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err


def test_a_pasted_key_that_is_not_known_is_not_repeated(run: Run, place: Settings) -> None:
    pasted = f"tm-{'0' * 12}-{'secret' * 7}x"
    done = run("keys", "revoke", pasted)
    assert (done.code, "secret" in done.err) == (2, False)


def test_budgets_are_set_listed_with_what_is_used_and_removed(run: Run, place: Settings) -> None:
    assert "no budgets" in run("budgets", "ls").out
    run("budgets", "set", "total", "--per", "month", "--usd", "$500", "--requests", "1000")
    shown = run(
        "budgets", "set", "each", "--user", "*", "--per", "day", "--tokens", "50", "--alert"
    )
    assert "user *" in shown.out
    ann, call_id = Subject(user_id="ann"), new_id()
    with EventLog.open(place) as log:
        budgets = Budgets(log)
        held = budgets.reserve(ann, Estimate(1, 20), new_id())
        log.append([started(call_id, ann), finished(call_id, ann, 40, "1.5")])
        listed = {b["name"]: b for b in run("budgets", "ls", "--json").lines}
        table = run("budgets", "ls").out
        budgets.release(held)
    total, each = listed["total"], listed["each"]
    assert (total["spent_usd"], total["left_usd"], total["reserved_requests"]) == (
        "1.5",
        "498.5",
        1,
    )
    assert (each["of"], each["spent_tokens"], each["reserved_tokens"], each["action"]) == (
        "ann",
        40,
        20,
        "alert",
    )
    assert "1.5 / 500" in table
    assert "40 (+20) / 50" in table
    assert run("budgets", "rm", "each").out == "each holds no more\n"
    assert [
        json.loads(line)["name"] for line in run("budgets", "ls", "--json").out.splitlines()
    ] == ["total"]
