"""`tracemill evals`: figures for people and programs, and exit codes that say the outcome."""

import json
from pathlib import Path

import pytest

from tests.cli.running import Run
from tests.llm.serving import Say, Seen, say, serving
from tracemill import EventLog, Settings
from tracemill.quality.cases import read_set

ARITHMETIC = Path(__file__).parents[2] / "evals" / "arithmetic.jsonl"


@pytest.fixture
def settings(warehouse: Path) -> Settings:
    """A warehouse with a set beside it of 40 cases; `local/echo` has 30 of them right."""
    rows = [
        {
            "id": f"c{n}",
            "input": f"say {n}",
            "expected": f"say {n}" if n < 30 else "nothing",
            "tags": ["right" if n < 30 else "wrong"],
        }
        for n in range(40)
    ]
    evals = warehouse.parent / "evals"
    evals.mkdir()
    (evals / "echoes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Settings(warehouse=warehouse)


def ran(run: Run, *more: str) -> dict:
    done = run("evals", "run", "echoes", "--model", "local/echo", "--json", *more)
    return json.loads(done.out) | {"code": done.code}


def test_the_outcome_is_the_exit_code(settings: Settings, run: Run) -> None:
    assert ran(run)["outcome"] == "pass"
    assert ran(run, "--min", "accuracy=0.5")["code"] == 0
    assert ran(run, "--min", "accuracy=0.95")["code"] == 1
    unsure = ran(run, "--min", "accuracy=0.7")
    assert (unsure["code"], unsure["outcome"]) == (3, "not_enough_data")
    assert "more cases" in unsure["reason"]


def test_people_see_figures_tags_and_what_was_wrong(settings: Settings, run: Run) -> None:
    done = run("evals", "run", "echoes", "--model", "local/echo", "--min", "accuracy=0.5")
    assert "accuracy   0.750  0.598 to 0.858     40     0.5" in done.out
    assert "pass: accuracy 0.750 [0.598, 0.858] of 40 cases is at least 0.5" in done.out
    assert "always the same answer" in done.out
    assert "wrong  accuracy" in done.out
    assert "c30: 'say 30' where 'nothing' is right" in done.err
    assert "and 5 more" in done.err


def test_cases_are_chosen_and_figures_too(settings: Settings, run: Run) -> None:
    made = ran(run, "--tag", "wrong", "--figure", "exact_match", "--figure", "contains")
    assert (made["cases"], set(made["metrics"])) == (10, {"exact_match", "contains"})
    assert ran(run, "--cases", "7")["cases"] == 7
    assert ran(run, "--samples", "2")["metrics"]["consistency"]["value"] == 1
    schema = settings.warehouse / "schema.json"
    schema.write_text('{"type": "object"}')
    assert ran(run, "--schema", str(schema))["metrics"]["format_compliance"]["value"] == 0


def test_a_question_to_the_log_is_a_set(settings: Settings, run: Run) -> None:
    ran(run, "--cases", "6")
    question = settings.warehouse / "asked.sql"
    question.write_text(
        "SELECT 'say ' || (row_number() OVER (ORDER BY position)) AS input, input AS expected "
        "FROM events WHERE kind = 'llm.call.finished' LIMIT 6"
    )
    asked = ["evals", "run", str(question), "--model", "local/echo", "--json"]
    made = json.loads(run(*asked).out)
    assert (made["dataset"], made["cases"]) == ("asked", 6)
    assert made["metrics"]["accuracy"]["value"] == 1
    question.write_text("SELECT nothing FROM events")
    assert (run(*asked).code, run(*asked).err.count("\n")) == (2, 1)
    gone = run("evals", "run", "gone.sql", "--model", "local/echo")
    assert (gone.code, "gone.sql cannot be read" in gone.err) == (1, True)


def test_a_model_judges_by_a_rubric(
    settings: Settings, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(_: Seen) -> Say:
        message = {"role": "assistant", "content": '{"reason": "plain", "score": 4}'}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return say({"id": "1", "model": "gpt-5.4-mini", "choices": [choice], "usage": usage})

    by = ("--judge", "openai/gpt-5.4-mini", "--rubric", "It is short.")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdefghijklmn")
    with serving(judged) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        made = ran(run, "--cases", "8", *by, "--min", "judged=0.5")
    assert (made["metrics"].keys(), made["metrics"]["judged"]["value"]) == ({"judged"}, 0.75)
    alone = run("evals", "run", "echoes", "--model", "local/echo", *by[:2])
    assert (alone.code, "go together" in alone.err) == (2, True)


def test_evaluations_and_sets_are_listed_and_shown(settings: Settings, run: Run) -> None:
    assert run("evals", "ls").err == "no evaluations\n"
    made = ran(run, "--name", "echoing")
    [listed] = run("evals", "ls", "--json").lines
    assert listed["evaluation_id"] == made["evaluation_id"]
    assert "echoing" in run("evals", "ls").out
    assert run("evals", "ls", "--name", "other", "--json").lines == []
    shown = run("evals", "show", made["evaluation_id"][-12:], "--json")
    assert json.loads(shown.out) == listed
    cases = run("evals", "show", made["evaluation_id"], "--cases", "--json").lines
    assert [case["accuracy"] for case in cases] == [1.0] * 30 + [0.0] * 10
    assert "accuracy" in run("evals", "show", made["evaluation_id"]).out
    [one] = run("evals", "ls", "--sets", "--json").lines
    assert (one["name"], one["cases"], one["tags"]) == ("echoes", 40, ["right", "wrong"])
    assert run("evals", "show", "feed").code == 2


def test_evaluations_are_held_against_each_other_and_a_baseline(
    settings: Settings, run: Run
) -> None:
    good = ran(run, "--name", "echoing")["evaluation_id"]
    again = ran(run, "--name", "echoing")["evaluation_id"]
    assert run("evals", "compare", again, good).code == 0
    refused = run("evals", "compare", again)
    assert (refused.code, "there is no baseline of echoing" in refused.err) == (2, True)
    set_one = ["evals", "baseline", "set", "echoing", good, "--tolerance", "accuracy=0.01"]
    assert "is the baseline" in run(*set_one, "--reason", "the first").out
    [held] = run("evals", "baseline", "ls", "--json").lines
    assert held["metrics"]["accuracy"]["tolerance"] == 0.01
    assert "the first" in run("evals", "baseline", "ls").out
    compared = run("evals", "compare", again, "--json")
    assert (compared.code, json.loads(compared.out)["against"]) == (0, "baseline")
    worse = run("evals", "run", "echoes", "--model", "local/extract", "--name", "echoing", "--json")
    fell = run("evals", "compare", json.loads(worse.out)["evaluation_id"])
    assert (fell.code, "fail" in fell.out) == (1, True)


def test_wrong_requests_are_refused_in_a_line(settings: Settings, run: Run) -> None:
    def refused(*arguments: str) -> str:
        done = run("evals", *arguments)
        assert done.code == 2
        assert done.err.count("\n") == 1
        return done.err

    assert "there is no set 'none'" in refused("run", "none", "--model", "local/echo")
    run_it = ("run", "echoes", "--model", "local/echo")
    assert "write accuracy=0.9" in refused(*run_it, "--min", "0.9")
    assert "no figure is called" in refused(*run_it, "--figure", "nice")
    assert "there is no prompt" in refused(*run_it, "--prompt", "none@v1")
    with EventLog.open(settings) as log:
        assert not [each for each in log.read() if each.event.stream.startswith("evaluation")]


def test_the_example_set_is_sound() -> None:
    cases = read_set(ARITHMETIC)
    assert len(cases) == 40
    for question, right in cases.frame.select("input", "expected").iter_rows():
        if question.startswith("What is"):
            first, sign, second = question.removeprefix("What is ").partition("?")[0].split()
            value = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[sign](
                int(first), int(second)
            )
            assert right == [str(value)]
