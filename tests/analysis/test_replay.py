"""`tm.replay`: logged calls are asked again and compared in pairs, and every replay is a call too."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.analysis.asked import call, id_of, opened
from tests.llm.serving import Seen, say, serving
from tracemill.analysis import asked_again
from tracemill.analysis.opened import Opened
from tracemill.errors import CallFailed, UsageError
from tracemill.events import Happened, LlmCallCached, LlmCallStarted, new_id
from tracemill.llm import prompts
from tracemill.llm.line import labels
from tracemill.llm.prompts import Prompt
from tracemill.llm.providers import PROVIDERS
from tracemill.messages import Image, Message, Text
from tracemill.quality import scorers

ECHO = "local/echo"
FIRST = Prompt("route", "Label this: {{ text }} (one word)", None, {"text": "string"})
SECOND = Prompt("route", "Which label? {{ text }}", "Be brief.", {"text": "string"})


def made(prompt: Prompt, text: str, answer: str | None = "yes", **more: Any) -> list[Happened]:
    """A call that a prompt made."""
    asked = prompts.render(prompt, {"text": text}, model=ECHO)
    return call(
        asked.messages[0].text,
        answer,
        model=ECHO,
        prompt_name=prompt.name,
        prompt_version=prompt.version,
        **more,
    )


def test_each_call_is_asked_again_and_logged_as_a_replay(tmp_path: Path):
    asked = {"system": "Be kind.", "temperature": 0.5, "max_output_tokens": 50}
    first = call("one", "one", model=ECHO, user_id="ann", conversation_id="c", asked=asked)
    second = call("two", "other", model=ECHO, metadata={"team": "a"})
    tm = opened(tmp_path, [*first, *second])

    found = tm.replay(tm.calls())

    assert found.frame.sort("answer_before").select(
        "call_id", "status_before", "status_after", "answer_before", "answer_after"
    ).rows() == [
        (id_of(first), "finished", "finished", "one", "one"),
        (id_of(second), "finished", "finished", "other", "two"),
    ]
    assert found.agreement.select("figure", "value", "n").rows() == [("normalised", 0.5, 2)]
    made = [
        r.event
        for r in tm.log.read(kinds={"llm.call.started"})
        if isinstance(r.event, LlmCallStarted) and r.event.actor == "replay"
    ]
    [again] = [one for one in made if one.metadata["replay_of"] == id_of(first)]
    assert again.correlation_id == found.replay_id
    assert (again.system, again.temperature, again.max_output_tokens) == ("Be kind.", 0.5, 50)
    assert (again.user_id, again.conversation_id, again.metadata["sample"]) == ("ann", None, "0")
    assert again.call_id in found.frame["replays"].explode().to_list()
    assert "team" not in {name for one in made for name in one.metadata}


def test_a_prompt_takes_the_values_that_a_call_was_made_of(tmp_path: Path):
    tm = opened(tmp_path, [*made(FIRST, "rain\nand {{ snow }}"), *made(FIRST, "sun")])
    for prompt in (FIRST, SECOND):
        prompts.add(tm.log, prompt)
    found = tm.replay(tm.calls(), prompt=f"route@{SECOND.version[:8]}")
    assert sorted(found.frame["answer_after"]) == [
        "Which label? rain\nand {{ snow }}",
        "Which label? sun",
    ]
    assert found.prompt == f"route@{SECOND.version[:8]}"
    versions = {
        r.event.prompt_version
        for r in tm.log.read(kinds={"llm.call.started"})
        if isinstance(r.event, LlmCallStarted) and r.event.actor == "replay"
    }
    assert versions == {SECOND.version}


def test_a_call_of_no_prompt_gives_its_only_message_and_variables_go_first(tmp_path: Path):
    events = call("what?", model=ECHO)
    tm = opened(tmp_path, events)
    assert tm.replay([id_of(events)], prompt=SECOND).frame["answer_after"].to_list() == [
        "Which label? what?"
    ]
    given = {id_of(events): {"text": "mine"}}
    found = tm.replay([id_of(events)], prompt=SECOND, variables=given)
    assert found.frame["answer_after"].to_list() == ["Which label? mine"]


TWO = Prompt("two", "{{ a }} and {{ b }}", None, {"a": "string", "b": "string"})
SHORT = Prompt("short", "{{ text | truncate(20) }}", None, {"text": "string"})
SHOUT = Prompt("shout", "{{ text | upper }}", None, {"text": "string"})


@pytest.mark.parametrize(
    ("events", "prompt", "why"),
    [
        (call("x", model=ECHO), TWO, "two has 2 variables"),
        (
            call(
                model=ECHO,
                asked={
                    "messages": (
                        Message(role="user", content="a"),
                        Message(role="assistant", content="b"),
                        Message(role="user", content="c"),
                    )
                },
            ),
            SECOND,
            "it has 3 turns",
        ),
        (made(FIRST, "x"), TWO, "two takes a, b beside what the call had"),
        (
            call("p and q and r", model=ECHO, prompt_name=TWO.name, prompt_version=TWO.version),
            TWO,
            "cannot be read back out of what two@",
        ),
        (
            call("LOUD", model=ECHO, prompt_name="shout", prompt_version=SHOUT.version),
            SECOND,
            "cannot be read back out of what shout@",
        ),
        (
            call("cut ...", model=ECHO, prompt_name="short", prompt_version=SHORT.version),
            SECOND,
            "cannot be read back out of what short@",
        ),
    ],
)
def test_values_that_cannot_be_told_are_asked_for(
    tmp_path: Path, events: list[Happened], prompt: Prompt, why: str
):
    tm = opened(tmp_path, events)
    for each in (FIRST, TWO, SHOUT, SHORT):
        prompts.add(tm.log, each)
    with pytest.raises(UsageError, match="give variables=") as error:
        tm.replay(tm.calls(), prompt=prompt)
    assert why in str(error.value)
    assert tm.log.position() == 6  # Nothing was sent.


def test_what_cannot_be_replayed_is_left_out_and_said(tmp_path: Path):
    good = call("q", model=ECHO)
    cached = LlmCallCached(
        call_id=new_id(),
        provider="local",
        request_model="echo",
        cached_call_id=id_of(good),
        latency_ms=1,
    )
    picture = Image(uri="data:image/png;sha256=" + "0" * 64)
    seen = {"messages": (Message(role="user", content=(Text(content="see"), picture)),)}
    events = [
        *good,
        cached,
        *call("q", model=ECHO, operation="embeddings"),
        call("q", model=ECHO)[0],
        *call(model=ECHO, asked=seen),
    ]
    tm = opened(tmp_path, events)
    found = tm.replay(tm.calls())
    assert found.frame["call_id"].to_list() == [id_of(good)]
    assert sorted(found.left_out.values()) == [
        "answered by the cache: replay the call whose answer it is",
        "it holds a picture or a file, of which the log keeps the digest alone",
        "of the operation embeddings: answers alone are compared",
        "still running",
    ]
    assert "1 left out: still running" in repr(found)
    again = tm.replay(tm.calls(status="finished", model="echo"))
    assert "a replay itself" in again.left_out.values()
    with pytest.raises(UsageError, match="no call can be replayed: answered by the cache"):
        tm.replay([cached.call_id])


def test_erased_and_unknown_calls_are_refused_by_name(tmp_path: Path):
    events = [event.model_copy(update={"erased": True}) for event in call(model=ECHO)]
    tm = opened(tmp_path, events)
    with pytest.raises(UsageError, match=f"was erased and cannot be replayed: {id_of(events)}"):
        tm.replay([id_of(events)])
    with pytest.raises(UsageError, match=r"has no call .*: tm\.calls"):
        tm.replay([new_id()])
    with pytest.raises(UsageError, match="no call is to be replayed"):
        tm.replay([])
    with pytest.raises(UsageError, match="there are n"):
        tm.replay(pl.DataFrame({"n": [1]}))
    with pytest.raises(UsageError, match="has no option sample: it has variables, expected"):
        tm.replay([new_id()], sample=3)  # pyright: ignore


def test_placeholders_of_redaction_are_replayed_as_they_are_and_counted(tmp_path: Path):
    tm = opened(tmp_path, [*call("write to [email]", model=ECHO), *call("hello", model=ECHO)])
    found = tm.replay(tm.calls())
    assert found.redacted == 1
    assert "1 calls hold placeholders for personal data" in repr(found)


def test_a_dry_run_tells_the_cost_and_sends_nothing(tmp_path: Path):
    tm = opened(tmp_path, [e for _ in range(3) for e in call("q", model=ECHO, tokens=1000)])
    plan = tm.replay(tm.calls(), model="openai/gpt-5.4", samples=2, dry_run=True)
    assert plan.frame.select("model", "input_tokens", "output_tokens").unique().rows() == [
        ("openai/gpt-5.4", 1000, 100)
    ]
    [one] = set(plan.frame["cost_usd"])
    assert plan.cost_usd == pytest.approx(6 * one)
    assert plan.cost_usd > 0
    assert repr(plan).startswith("6 requests to openai/gpt-5.4: about ")
    assert "nothing was sent" in repr(plan)
    unknown = tm.replay(tm.calls(), model="openai/nobody-priced-this", dry_run=True)
    assert "no price is known for 3 of them" in repr(unknown)
    assert tm.log.position() == 6


def test_a_call_that_no_key_is_there_for_ends_it_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    tm = opened(tmp_path, call("q", model=ECHO))
    with pytest.raises(CallFailed, match="OPENAI_API_KEY"):
        tm.replay(tm.calls(), model="openai/gpt-5.4")


def labelled(wrong_every: int) -> Callable[[Seen], Any]:
    """A model that repeats the number asked about, and errs on some of them when asked as SECOND."""

    def answer(seen: Seen) -> Any:
        asked = seen.json["messages"][-1]["content"]
        number = int("".join(filter(str.isdigit, asked)))
        is_wrong = asked.startswith("Which") and number % wrong_every == 0
        message = {"role": "assistant", "content": "wrong" if is_wrong else f"n{number}"}
        return say(
            {
                "id": "x",
                "model": "gpt-5.4-mini",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
            }
        )

    return answer


def test_a_worse_prompt_version_is_found_and_its_calls_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    numbers = {f"{new_id()}": number for number in range(60)}
    events: list[Happened] = []
    for one, number in numbers.items():
        asked = prompts.render(FIRST, {"text": str(number)}, model=ECHO).messages[0].text
        about = {"prompt_name": "route", "prompt_version": FIRST.version, "tokens": 20}
        events += call(asked, f"n{number}", call_id=one, **about)
    tm = opened(tmp_path, events)
    for prompt in (FIRST, SECOND):
        prompts.add(tm.log, prompt)
    right = {one: f"N{number}." for one, number in numbers.items()}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdefghij")
    with serving(labelled(wrong_every=4)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        found = tm.replay(tm.calls(), prompt=SECOND, expected=right)
        same = tm.replay(list(numbers), prompt=FIRST, expected=right)
        assert len(server.seen) == 120
    [row] = found.differences.filter(figure="normalised").to_dicts()
    assert (row["before"], row["after"], row["n"], row["verdict"]) == (1.0, 0.75, 60, "worse")
    assert row["high"] < 0
    assert row["p_adjusted"] < 0.01
    assert found.verdict.startswith("worse: normalised")
    fell = {numbers[one] for one in found.worse("normalised")["call_id"]}
    assert fell == {number for number in range(60) if number % 4 == 0}
    assert len(found.better("normalised")) == 0
    words = dict(same.differences.select("figure", "verdict").rows())
    assert (words["normalised"], words["cost_usd"]) == ("same", "better")
    assert "worse" not in {word for name, word in words.items() if name != "latency_ms"}
    assert len(found.agreement) == 0
    shown = found._repr_html_()  # pyright: ignore
    assert found.verdict in shown
    assert found.plot().axes[0].get_xlabel() == "% of before; intervals for 95 %"
    with pytest.raises(UsageError, match="no figure 'colour': it has answered, normalised"):
        found.worse("colour")


def test_failures_count_as_wrong_on_both_sides_and_samples_are_averaged(tmp_path: Path):
    failed, good = call("a", None, model=ECHO), call("b", "b", model=ECHO)
    tm = opened(tmp_path, [*failed, *good])
    right = {id_of(failed): "a", id_of(good): ["x", "b"]}
    found = tm.replay(tm.calls(), expected=right, samples=3, scorers=["exact_match", "normalised"])
    rows = found.frame.sort("answer_after").select(
        "exact_match_before", "exact_match_after", "answered_before", "answered_after"
    )
    assert rows.rows() == [(0.0, 1.0, 0.0, 1.0), (1.0, 1.0, 1.0, 1.0)]
    assert found.frame["replays"].list.len().to_list() == [3, 3]
    assert "after is the mean of 3 answers" in repr(found)


def test_scorers_that_need_nothing_expected_are_compared_on_both_sides(tmp_path: Path):
    tm = opened(tmp_path, call(json.dumps({"a": 1}), "no json", model=ECHO))
    schema = scorers.json_schema({"type": "object"})
    found = tm.replay(tm.calls(), scorers=[schema, "normalised"])
    assert found.frame.select("format_compliance_before", "format_compliance_after").row(0) == (
        0,
        1,
    )
    assert found.agreement["figure"].to_list() == ["normalised"]
    with pytest.raises(UsageError, match="bits_per_byte is measured of models"):
        tm.replay(tm.calls(), scorers=["bits_per_byte"])


@pytest.mark.parametrize("prefix", sorted(PROVIDERS))
def test_the_model_of_a_logged_call_is_asked_where_it_was(prefix: str):
    named = labels(f"{prefix}/m")
    started = LlmCallStarted(
        call_id=new_id(),
        provider=named.provider,
        request_model=named.model,
        operation=named.operation,
        occurred_at=datetime.now(UTC),
    )
    assert labels(asked_again.model_of(started)) == named


def test_a_model_that_was_trained_here_keeps_its_name(tmp_path: Path):
    events = call("q", model="ft:local:router:abcd", asked={})
    tm: Opened = opened(tmp_path, events)
    plan = tm.replay(tm.calls(), dry_run=True)
    assert plan.frame["model"].to_list() == ["ft:local:router:abcd"]
