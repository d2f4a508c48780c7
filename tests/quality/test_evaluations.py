"""Evaluations: what is asked, counted and told; and that one which stops half way tells nothing."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.finetune import labelled_made
from tests.llm.serving import Say, Seen, say, serving
from tracemill import EventLog, Settings
from tracemill.errors import CallFailed, UsageError
from tracemill.events import CasesScored, EvaluationFinished
from tracemill.finetune.local import classify, lm
from tracemill.intervals import wilson
from tracemill.llm import prompts
from tracemill.llm.client import Client
from tracemill.llm.prompts import Prompt
from tracemill.llm.trained.artefact import publish
from tracemill.quality import scorers
from tracemill.quality.ask import registered
from tracemill.quality.cases import Cases, cases_of
from tracemill.quality.evaluate import case_scores, evaluate, get, latest, listed


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "log")


@pytest.fixture
def client(log: EventLog) -> Iterator[Client]:
    client = Client(log)
    yield client
    client.close()


def numbered(count: int, *, right: int | None = None) -> Cases:
    """Cases whose input is right as it stands, but for those from `right` on."""
    right = count if right is None else right
    return cases_of(
        "numbers",
        [
            {
                "id": f"c{n}",
                "input": f"say {n}",
                "expected": f"say {n}" if n < right else "x",
                "tags": ["odd" if n % 2 else "even"],
            }
            for n in range(count)
        ],
    )


def told(log: EventLog, kind: str) -> list[Any]:
    return [recorded.event for recorded in log.read(kinds=[kind])]


def test_each_answer_is_a_call_and_the_whole_is_told_once(log: EventLog, client: Client) -> None:
    cases = numbered(20, right=15)
    seen: list[int] = []
    made = evaluate(
        client,
        cases,
        model="local/echo",
        name="numbers",
        scorers=[scorers.accuracy(), scorers.contains()],
        thresholds={"accuracy": 0.4},
        actor="me",
        progress=seen.append,
    )
    event = made.event
    assert told(log, "evaluation.finished") == [event]
    assert sum(seen) == 20
    assert event.metrics["accuracy"].model_dump() == wilson(0.75, 20)._asdict()
    assert (event.outcome, event.thresholds) == ("pass", {"accuracy": 0.4})
    assert (event.cases, event.failed, event.cost_usd) == (20, 0, Decimal(0))
    assert event.dataset_digest == cases.digest
    assert event.latency_ms is not None
    calls = log.sql(
        "SELECT calls.call_id, metadata ->> '$.case_id' AS id FROM calls ORDER BY started_at"
    )
    scores = case_scores(log, event.evaluation_id)
    assert scores.select("call_id", "id").rows() == calls.rows()
    assert scores["accuracy"].to_list() == [1.0] * 15 + [0.0] * 5
    started = told(log, "llm.call.started")
    assert {each.correlation_id for each in started} == {event.evaluation_id}
    assert {each.actor for each in started} == {"me"}
    assert get(log, event.evaluation_id[-12:]) == event == listed(log)[0]


def test_figures_by_tag_have_their_own_intervals(log: EventLog, client: Client) -> None:
    made = evaluate(client, numbered(10, right=5), model="local/echo", scorers=[scorers.accuracy()])
    rows = {tag: (value, n) for tag, _, value, _, _, n in made.by_tag().iter_rows()}
    assert rows == {"even": (0.6, 5), "odd": (0.4, 5)}
    assert made.wrong("accuracy")["id"].to_list() == ["c5", "c6", "c7", "c8", "c9"]


def test_too_few_cases_are_not_enough_to_pass(log: EventLog, client: Client) -> None:
    made = evaluate(
        client,
        numbered(30),
        model="local/echo",
        scorers=[scorers.accuracy()],
        thresholds={"accuracy": 0.95},
    )
    assert made.event.outcome == "not_enough_data"
    assert "43 more cases" in made.event.reason


def test_a_function_is_evaluated_like_a_model(log: EventLog, client: Client) -> None:
    def routed(text: str) -> str | None:
        number = int(text.split()[1])
        if number == 3:
            raise KeyError(number)
        return None if number == 4 else text

    made = evaluate(client, numbered(10), model=routed, scorers=[scorers.accuracy()])
    assert (made.event.model, made.event.failed) == ("routed", 2)
    assert made.event.metrics["accuracy"].value == 0.8
    failed = made.answers.filter(pl.col("answer").is_null())
    assert failed["error_type"].to_list() == ["KeyError", "no_answer"]
    assert made.event.cost_usd == 0
    assert told(log, "llm.call.started") == []


def test_a_function_gets_messages_and_values_as_they_are(log: EventLog, client: Client) -> None:
    seen: list[Any] = []
    talk = [{"role": "user", "content": "hi"}]
    cases = cases_of("x", [{"id": "a", "messages": talk}, {"id": "b", "input": {"n": 1}}])
    evaluate(
        client,
        cases,
        model=lambda given: seen.append(given) or {"said": given},
        scorers=[scorers.json_schema({"type": "object", "required": ["said"]})],
    )
    assert seen == [talk, {"n": 1}]


def test_samples_are_averaged_by_case_and_their_agreement_is_told(
    log: EventLog, client: Client
) -> None:
    turn = iter(range(1000))
    made = evaluate(
        client,
        cases_of("x", [{"id": "a", "input": "q", "expected": "yes"}] * 1),
        model=lambda _: "yes" if next(turn) % 2 else "no",
        scorers=[scorers.accuracy()],
        samples=4,
    )
    assert made.scores.row(0, named=True)["accuracy"] == 0.5
    # Of the six pairs of two yes and two no, two agree.
    assert made.event.metrics["consistency"].value == pytest.approx(1 / 3)
    assert made.event.metrics["accuracy"].n == 1
    assert (made.event.samples, made.answers.height) == (4, 4)


def test_a_prompt_is_rendered_around_each_input(log: EventLog, client: Client) -> None:
    prompt = Prompt(name="shout", template="{{ text }}!", system=None, variables={"text": "string"})
    version = prompts.add(log, prompt)
    prompts.label(log, "shout", "production", version)
    made = evaluate(
        client,
        cases_of("x", [{"id": "a", "input": "hi", "expected": "hi!"}]),
        model="local/echo",
        scorers=[scorers.exact_match()],
        prompt=registered(log, "shout"),
    )
    assert made.event.metrics["exact_match"].value == 1
    assert (made.event.prompt_name, made.event.prompt_version) == ("shout", version)
    with pytest.raises(UsageError, match="holds values: name the prompt"):
        evaluate(
            client,
            cases_of("x", [{"id": "a", "input": {"text": "hi"}, "expected": "hi!"}]),
            model="local/echo",
            scorers=[scorers.exact_match()],
        )


def chat(text: str) -> Say:
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
    }
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return say({"id": "1", "model": "gpt-5.4-mini", "choices": [choice], "usage": usage})


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdefghijklmn")


def test_failed_calls_count_as_wrong_and_many_are_under_way(
    log: EventLog, client: Client, monkeypatch: pytest.MonkeyPatch, keyed: None
) -> None:
    together = threading.Barrier(4, timeout=20)

    def answer(seen: Seen) -> Say:
        together.wait()
        text = str(seen.json["messages"][0]["content"])
        if text.endswith(("1", "2")):
            return say({"error": {"message": "no such thing", "type": "invalid"}}, 400)
        return chat(text)

    with serving(answer) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        made = evaluate(
            client,
            numbered(8),
            model="openai/gpt-5.4-mini",
            scorers=[scorers.accuracy()],
            concurrency=4,
        )
    assert made.event.failed == 2
    assert made.event.metrics["accuracy"].value == 0.75
    assert made.answers["id"].to_list() == [f"c{n}" for n in range(8)]
    failed = made.answers.filter(pl.col("answer").is_null())
    assert failed.select("id", "error_type").rows() == [
        ("c1", "invalid_request"),
        ("c2", "invalid_request"),
    ]
    assert failed["call_id"].null_count() == 0


def test_format_compliance_is_measured_and_not_repaired(
    log: EventLog, client: Client, monkeypatch: pytest.MonkeyPatch, keyed: None
) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }

    def answer(seen: Seen) -> Say:
        return chat(
            '{"n": 1}' if "c0" in seen.body.decode() or "say 0" in seen.body.decode() else "one"
        )

    with serving(answer) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        made = evaluate(
            client,
            numbered(4),
            model="openai/gpt-5.4-mini",
            scorers=[scorers.json_schema(schema)],
            asked={"response_schema": schema},
            concurrency=1,
        )
        asked = len(server.seen)
    assert asked == 4
    assert made.event.metrics["format_compliance"].value == 0.25
    assert made.event.failed == 0


def test_where_no_call_can_succeed_nothing_is_told(
    log: EventLog, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for model in ("openai/gpt-5.4-mini", "local/none", "nobody/x"):
        with pytest.raises(CallFailed):
            evaluate(client, numbered(3), model=model, scorers=[scorers.accuracy()])
    assert told(log, "evaluation.finished") == []


def test_an_interrupted_evaluation_leaves_calls_and_nothing_else(
    log: EventLog, client: Client
) -> None:
    def stop(done: int) -> None:
        if len(told(log, "llm.call.finished")) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(
            client,
            numbered(10),
            model="local/echo",
            scorers=[scorers.accuracy()],
            progress=stop,
        )
    assert len(told(log, "llm.call.finished")) == 3
    assert told(log, "evaluation.cases_scored") == told(log, "evaluation.finished") == []
    made = evaluate(client, numbered(10), model="local/echo", scorers=[scorers.accuracy()])
    assert made.event.cases == 10


_KILLED = """
import os, signal, sys
from tests.quality.test_evaluations import numbered
from tracemill import EventLog, Settings
from tracemill.llm.client import Client
from tracemill.quality import scorers
from tracemill.quality.evaluate import evaluate
def stop(_, seen=[]):
    seen.append(1)
    if len(seen) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
log = EventLog(sys.argv[1])
evaluate(Client(log), numbered(10), model="local/echo", scorers=[scorers.accuracy()], progress=stop)
"""


def test_a_killed_evaluation_is_run_again(log: EventLog, client: Client) -> None:
    here = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(log.folder)],
        check=False,
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(here)},
    )
    assert done.returncode == -signal.SIGKILL
    assert told(log, "evaluation.cases_scored") == told(log, "evaluation.finished") == []
    evaluate(client, numbered(10), model="local/echo", scorers=[scorers.accuracy()])
    assert len(told(log, "evaluation.finished")) == 1


def test_many_cases_are_told_in_parts(log: EventLog, client: Client) -> None:
    made = evaluate(client, numbered(2_001), model=lambda text: text, scorers=[scorers.accuracy()])
    parts = told(log, "evaluation.cases_scored")
    assert [len(part.case_ids) for part in parts] == [1_000, 1_000, 1]
    assert all(isinstance(part, CasesScored) and not part.call_ids for part in parts)
    assert case_scores(log, made.event.evaluation_id).height == 2_001


def test_the_latest_evaluation_of_the_same_is_found(log: EventLog, client: Client) -> None:
    cases = numbered(4)
    how: dict[str, Any] = {"model": "local/echo", "scorers": [scorers.accuracy()]}
    same: Any = {
        "name": "n", "model": "local/echo", "dataset_digest": cases.digest,
    }  # fmt: skip
    assert latest(log, **same) is None
    first = evaluate(client, cases, name="n", **how).event
    assert latest(log, **same) == first
    second = evaluate(client, cases, name="n", thresholds={"accuracy": 0.1}, **how).event
    assert latest(log, **same) == second
    assert latest(log, **same, thresholds={}) == first
    assert latest(log, **same, figures=["accuracy", "contains"]) is None
    assert latest(log, **same, samples=2) is None
    assert latest(log, **same, prompt_version="v") is None
    assert latest(log, **(same | {"model": "local/extract"})) is None
    assert latest(log, **(same | {"dataset_digest": numbered(5).digest})) is None


def test_what_cannot_be_measured_is_refused_before_anything_is_asked(
    log: EventLog, client: Client
) -> None:
    def refused(match: str, cases: Cases, **how: Any) -> None:
        how = {"model": "local/echo", "scorers": [scorers.accuracy()], **how}
        with pytest.raises(UsageError, match=match):
            evaluate(client, cases, **how)

    nothing = cases_of("x", [{"id": "a", "input": "q"}])
    refused("no case says what is expected", nothing)
    refused("figures, each once", numbered(1), scorers=[])
    refused("a threshold for recall, which is not measured", numbered(1), thresholds={"recall": 1})
    refused("samples", numbered(1), samples=0)
    refused("trained here", numbered(1), scorers=[scorers.bits_per_byte()])
    refused("a name has 1 to 200", numbered(1), name="a\nb")
    twice = Cases("x", pl.concat([numbered(1).frame] * 2))
    refused("two cases have the same id", twice)
    assert list(log.read()) == []


def test_cases_without_an_expected_answer_are_left_out_of_a_figure(
    log: EventLog, client: Client
) -> None:
    rows = [{"id": "a", "input": "q", "expected": "q"}, {"id": "b", "input": "q"}]
    made = evaluate(
        client, cases_of("x", rows), model="local/echo", scorers=[scorers.exact_match()]
    )
    assert made.event.metrics["exact_match"].n == 1
    assert case_scores(log, made.event.evaluation_id)["exact_match"].to_list() == [1.0, None]
    assert isinstance(made.event, EvaluationFinished)


@pytest.fixture
def trained(tmp_path: Path) -> Iterator[tuple[Client, dict[str, str]]]:
    """A client of a warehouse with a classifier and a language model; names by method."""
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    orders = labelled_made.write(tmp_path / "orders.jsonl", labelled_made.orders(120, 1))
    how: dict[str, Any] = {"seed": 0, "report": lambda _: None}
    classify.train(orders, None, tmp_path / "a", hyperparameters={"epochs": 2}, **how)
    lm.train(orders, None, tmp_path / "b", hyperparameters={"base": False}, **how)
    names = {
        name: f"ft:local:{name}:{publish(tmp_path / folder / 'model', settings.models, name)}"
        for name, folder in (("classify", "a"), ("lm", "b"))
    }
    client = Client(EventLog.open(settings), settings)
    yield client, names
    client.close()


def of_orders(count: int) -> Cases:
    rows = enumerate(labelled_made.orders(count, 2))
    return cases_of("orders", [{"id": f"c{n}", "input": q, "expected": a} for n, (q, a) in rows])


def test_models_that_were_trained_here_are_evaluated(
    trained: tuple[Client, dict[str, str]],
) -> None:
    client, names = trained
    cases = of_orders(60)
    routed = evaluate(client, cases, model=names["classify"], scorers=[scorers.accuracy()])
    assert routed.event.metrics["accuracy"].value > 0.9
    spent = client.log.sql("SELECT sum(cost_usd) AS usd, count(*) AS calls FROM calls")
    assert spent.rows() == [(routed.event.cost_usd, 60)]
    told = evaluate(
        client,
        cases,
        model=names["lm"],
        scorers=[scorers.bits_per_byte()],
        thresholds={"bits_per_byte": 3},
    )
    figure = told.event.metrics["bits_per_byte"]
    assert (told.event.outcome, told.event.failed, told.event.latency_ms) == ("pass", 0, None)
    assert 0 < figure.low < figure.value < figure.high < 3
    # Only the answer counts: a wrong one takes more bits.
    frame = cases.frame.with_columns(expected=pl.Series([["velocipede"]] * 60))
    wrong = evaluate(
        client, Cases("wrong", frame), model=names["lm"], scorers=[scorers.bits_per_byte()]
    )
    assert wrong.event.metrics["bits_per_byte"].low > figure.high
    with pytest.raises(UsageError, match="is no language model"):
        evaluate(client, cases, model=names["classify"], scorers=[scorers.bits_per_byte()])
    with pytest.raises(CallFailed, match="no version of lm is in production"):
        evaluate(client, cases, model="ft:local:lm", scorers=[scorers.bits_per_byte()])
