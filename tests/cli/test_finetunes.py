"""`tracemill finetune`: a real classifier on a small split, and what is asked before money is spent."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import TRACEMILL, Run, spawned
from tests.finetune.splits_made import made
from tracemill import EventLog, Settings
from tracemill.finetune.job import states

RECIPE = "method: classify\nexamples:\n  target: label\nhyperparameters:\n  epochs: 2\n"
PAID = "provider: openai\nbase_model: gpt-4.1-nano-2025-04-14\n"


@pytest.fixture
def settings(warehouse: Path) -> Settings:
    """A split with four labels, and a recipe for a model of it."""
    settings = Settings(warehouse=warehouse)
    made(settings)
    settings.raw_models.mkdir(parents=True)
    (settings.raw_models / "topics.yaml").write_text(RECIPE)
    return settings


def test_a_model_is_trained_once_and_told_again(run: Run, settings: Settings) -> None:
    first = run("finetune", "start", "topics", "--json")
    assert first.code == 0, first.err
    (job,) = first.lines
    assert (job["name"], job["state"], job["step"]) == ("topics", "succeeded", 2)
    for part in ("local, classify of classify", "60 examples of ", "split train", "0 USD"):
        assert part in first.err
    assert "step 2 of 2, loss " in first.err
    again = run("finetune", "start", "topics", "--json")
    assert (again.code, again.lines) == (0, first.lines)
    assert "learns from" not in again.err
    (listed,) = run("finetune", "ls", "--json").lines
    assert (listed["job_id"], listed["state"], listed["model"]) == (
        job["job_id"],
        "succeeded",
        job["model"],
    )
    row = run("finetune", "ls").out.splitlines()[1].split()
    assert row[0] == job["job_id"][-12:]
    assert row[3:8] == ["topics", "local", "classify", "succeeded", "2/2"]
    (version,) = run("models", "ls", "--json").lines
    assert (version["model"], version["state"]) == (job["model"], "candidate")
    for given in (job["job_id"], job["job_id"][:-3], job["job_id"][-9:].upper()):
        assert run("finetune", "show", given, "--json").lines == first.lines
    told = run("finetune", "watch", job["job_id"]).out
    assert ["model", job["model"]] in [line.split() for line in told.splitlines()]
    assert "60 examples, split train" in told


def test_names_that_are_none_say_what_there_is(run: Run, settings: Settings) -> None:
    refused = run("finetune", "start", "unknown")
    assert refused.code == 2
    assert "no recipe is called 'unknown': there are api-questions, topics" in refused.err
    missing = run("finetune", "start", "topics", "--recipe", str(settings.warehouse / "no.yaml"))
    assert (missing.code, "no recipe at" in missing.err) == (1, True)
    for command in ("show", "watch", "cancel", "pause", "resume"):
        refused = run("finetune", command, "7cad")
        assert (refused.code, refused.err) == (
            2,
            "error: no fine-tune matches '7cad': `tracemill finetune ls` lists them\n",
        )
    empty = run("finetune", "ls")
    assert (empty.code, empty.out) == (0, "")
    assert "`tracemill finetune start NAME` begins one" in empty.err


def test_money_is_not_spent_unasked(
    run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdefghij")
    (settings.raw_models / "paid.yaml").write_text(PAID)
    refused = run("finetune", "start", "paid")
    assert refused.code == 2
    for part in ("openai, supervised of gpt-4.1-nano", "60 examples", " USD", "tokens"):
        assert part in refused.err
    assert "this costs money, and nobody is there to agree: give --yes" in refused.err
    with EventLog.open(settings) as log:
        assert states(log) == []


def test_a_job_that_is_only_begun_goes_on_and_can_be_stopped(run: Run, settings: Settings) -> None:
    slow = settings.warehouse / "slow.yaml"
    trainer = "import time; time.sleep(60)"
    slow.write_text(f"provider: subprocess\ncommand: [{sys.executable}, -c, '{trainer}']\n")
    begun = run("finetune", "start", "slow", "--recipe", str(slow), "--no-wait", "--json")
    assert begun.code == 0, begun.err
    (job,) = begun.lines
    assert job["remote_id"]
    stopped = run("finetune", "cancel", job["job_id"][-12:], "--reason", "wrong data", "--json")
    assert stopped.code == 0, stopped.err
    ended = run("finetune", "watch", job["job_id"][-12:])
    assert ended.code == 1
    assert f"fine-tune {job['job_id']} cancelled: wrong data" in ended.err


def test_who_leaves_is_told_how_to_come_back(settings: Settings, tmp_path: Path) -> None:
    recipe = tmp_path / "slow.yaml"
    recipe.write_text(
        f"provider: subprocess\ncommand: [{sys.executable}, -c, 'import time; time.sleep(60)']\n"
    )
    command = [str(TRACEMILL), "finetune", "start", "slow", "--recipe", str(recipe)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr
    seen: list[str] = []
    for line in process.stderr:
        seen.append(line)
        if "slow running" in line or "slow queued" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=30)[1]
    assert process.returncode == 130, [*seen, rest]
    assert "the fine-tune goes on; `tracemill finetune watch " in rest
    with EventLog.open(settings) as log:
        (known,) = states(log)
    assert not known.ended
    ran = spawned(str(TRACEMILL), "finetune", "cancel", known.job_id, "--json")
    assert ran.code == 0, ran.err


def test_who_trains_is_told_with_prices_and_ends_before_any_key_is_there(
    run: Run, settings: Settings
) -> None:
    listed = {each["trainer"]: each for each in run("finetune", "trainers", "--json").lines}
    assert [each["name"] for each in listed["local"]["models"]] == ["classify", "lm"]
    assert listed["subprocess"]["models"] == []
    assert {"openai", "azure", "together", "fireworks"} < listed.keys()
    shown = run("finetune", "trainers").out
    assert "2027-01-14" in shown
    assert "OpenAI takes its last new fine-tuning jobs on 6 January 2027" in shown
