"""`tracemill calls`, `call`, `tail` and `failures`, as their user meets them."""

import json
import re
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tests.cli.running import TRACEMILL, Run, failed, finished, spawned
from tracemill import EventLog, Message, Usage
from tracemill.events import (
    FeedbackGiven,
    GuardDecided,
    Happened,
    LlmCallCached,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallRetried,
    LlmCallStarted,
    new_id,
)
from tracemill.messages import File, Native, Reasoning, Text, Tool, ToolCall, ToolResult

STEERING = "\x1b[2J\x1b]0;gone\x07 \u202egnp.exe\x9b1m"
MORNING = datetime(2026, 3, 1, 9, tzinfo=UTC)


@pytest.fixture
def log(warehouse: Path) -> EventLog:
    return EventLog(warehouse / "log")


def model_call(prompt: str = "Well?", *, at: datetime = MORNING, **more: Any) -> list[Happened]:
    same: dict[str, Any] = {"provider": "openai", "request_model": "gpt-5", "occurred_at": at}
    same |= {"call_id": new_id()} | more
    asked = LlmCallStarted(messages=(Message(role="user", content=prompt),), **same)
    end = LlmCallFinished(
        response_model="gpt-5-may",
        content="Yes.",
        finish_reasons=("stop",),
        usage=Usage(input_tokens=3, output_tokens=2),
        latency_ms=1234,
        **same,
    )
    return [asked, end]


def id_of(events: list[Happened]) -> str:
    (first, *_) = events
    assert isinstance(first, LlmCallStarted)
    return first.call_id


# calls


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        ("12.346", "12.35"),
        ("1", "1.00"),
        ("0.5", "0.50"),
        ("0.001234", "0.0012"),
        ("0", "0"),
        ("0.00000123", "0.000001"),
        ("0.0000009", "<0.000001"),
        ("0.099", "0.099"),
    ],
)
def test_a_cost_is_shown_to_two_figures(run: Run, log: EventLog, cost: str, shown: str) -> None:
    asked, end = model_call(at=datetime.now(UTC) + timedelta(hours=1))
    log.append([asked, end.model_copy(update={"cost_usd": Decimal(cost)})])
    assert run("calls", "-n", "1").out.splitlines()[1].split()[5] == shown


def test_calls_are_listed_newest_first(run: Run, warehouse: Path) -> None:
    lines = run("calls").out.splitlines()
    assert lines[0].split() == ["call", "started", "model", "status", "ms", "usd", "prompt"]
    assert [line.split()[-1] for line in lines[1:]] == ["third?", "second?", "first?"]
    assert lines[1].split()[2:] == ["local/echo", "failed", "30,000", "timeout:", "third?"]
    assert lines[2].split()[2:] == ["local/echo", "finished", "2", "<0.000001", "second?"]
    (newest,) = run("calls", "-n", "1", "--json").lines
    assert (newest["status"], newest["prompt"], newest["call_id"][-12:]) == (
        "failed",
        "third?",
        lines[1].split()[0],
    )


def test_calls_are_chosen_by_what_they_are(run: Run, log: EventLog) -> None:
    old = model_call(user_id="u1", prompt_name="answer", prompt_version="abcdef")
    other = model_call(user_id="u2", prompt_name="answer", prompt_version="123456")
    log.append([*old, *other])

    def chosen(*arguments: str) -> set[str]:
        return {row["call_id"] for row in run("calls", "--json", "-n", "99", *arguments).lines}

    everything = chosen()
    both = {id_of(old), id_of(other)}
    assert len(everything) == 5
    assert chosen("--user", "u1") == {id_of(old)}
    assert chosen("--model", "gpt-5") == chosen("--model", "openai/gpt-5") == both
    assert chosen("--prompt", "answer") == both
    assert chosen("--prompt", "answer@abc") == {id_of(old)}
    assert len(chosen("--status", "failed")) == 1
    assert chosen("--since", "1h") == everything - both
    assert chosen("--since", "2026-03-01T10:00:00+01:00") == everything
    assert chosen("--since", "2026-03-01T10:00") == everything - both
    assert chosen("--user", "' OR true --") == set()


def test_nothing_to_list_is_said_on_stderr(run: Run, warehouse: Path) -> None:
    ran = run("calls", "--user", "nobody")
    assert (ran.code, ran.out, ran.err) == (0, "", "no such calls\n")


@pytest.mark.parametrize("columns", ["80", "120"])
def test_a_line_fits_the_terminal(run: Run, log: EventLog, columns: str) -> None:
    log.append(model_call("\u6771\u4eac" * 500, request_model="m" * 100))
    program = f"COLUMNS={columns} script -qec '{TRACEMILL} calls' /dev/null"
    shown = spawned("bash", "-c", program, TERM="dumb").out
    if "script" in shown and "not found" in shown:
        pytest.skip("no script here")
    lines = [line.rstrip("\r") for line in shown.splitlines()]
    assert len(lines) == 5
    assert max(map(cell_len, lines)) <= int(columns)
    assert "\u6771" in shown


# call


def story(log: EventLog) -> str:
    """A call with everything, in place of one that failed; returns its id."""
    first = failed("first try?")
    same: dict[str, Any] = {
        "call_id": new_id(),
        "provider": "openai",
        "request_model": "gpt-5",
        "user_id": "u1",
        "conversation_id": "c1",
        "prompt_name": "answer",
        "prompt_version": "abc",
    }
    messages = (
        Message(role="user", content=f"Is it?{STEERING}\nTell me."),
        Message(role="assistant", content=(ToolCall(id="t0", name="look", arguments="{}"),)),
        Message(role="tool", content=(ToolResult(id="t0", response="rain"),)),
    )
    content = (
        Reasoning(content="hm"),
        Text(content="It is."),
        ToolCall(id="t1", name="say", arguments='{"a":1}'),
    )
    usage = Usage(
        input_tokens=1200, output_tokens=5, cache_read_input_tokens=1000, reasoning_output_tokens=2
    )
    log.append(
        [
            *first,
            LlmCallStarted(
                messages=messages,
                system="Be kind.",
                tools=(Tool(name="look"),),
                temperature=0.5,
                streamed=True,
                fallback_of=first[0].call_id,
                occurred_at=MORNING,
                **same,
            ),
            LlmCallRetried(
                attempt=1,
                error_type="rate_limited",
                error_message="slow\ndown",
                status=429,
                wait_ms=250,
                latency_ms=12,
                occurred_at=MORNING + timedelta(milliseconds=20),
                **same,
            ),
            LlmCallFinished(
                response_model="gpt-5-may",
                request_id="req_1",
                content=content,
                finish_reasons=("tool_call",),
                raw_finish_reason="tool_calls",
                usage=usage,
                attempts=2,
                latency_ms=1500,
                time_to_first_chunk_ms=300,
                cost_usd=Decimal("0.000012"),
                price_snapshot="2026-02",
                occurred_at=MORNING + timedelta(seconds=2),
                **same,
            ),
            GuardDecided(
                call_id=same["call_id"],
                rule="pii",
                side="input",
                action="redacted",
                message="2 addresses",
                occurred_at=MORNING,
            ),
            FeedbackGiven(call_id=same["call_id"], score=-0.5, comment="It was not.", user_id="u1"),
        ]
    )
    return same["call_id"]


def test_call_tells_the_whole_story(run: Run, log: EventLog) -> None:
    call_id = story(log)
    before = run("calls", "--status", "failed", "-n", "1", "--json").lines[0]["call_id"]
    ran = run("call", call_id[-12:])
    assert ran.err == ""
    assert (
        ran.out
        == f"""\
call {call_id}: chat with openai/gpt-5, finished
user u1, conversation c1, prompt answer@abc, temperature 0.5, tools look

Timeline (UTC)
  2026-03-01 09:00:00.000  started, streamed
  2026-03-01 09:00:00.020  attempt 1 failed after 12 ms: rate_limited (429): slow down; then waited 250 ms
  2026-03-01 09:00:02.000  finished after 1,500 ms, the first piece after 300 ms, 2 attempts: tool_call (tool_calls) from gpt-5-may; request req_1
  2026-03-01 09:00:00.000  guard, input, pii: redacted: 2 addresses

Messages
  system: Be kind.
  user: Is it?\\x1b[2J\\x1b]0;gone\\x07 \\u202egnp.exe\\x9b1m
  Tell me.
  assistant: (tool call t0) look({{}})
  tool: (tool result t0) rain

Answer
  (thought) hm
  It is.
  (tool call t1) say({{"a":1}})

Tokens
        200 read
      1,000 read from the provider's cache
          3 written
          2 thought

Cost
  0.000012 USD, at the prices of 2026-02

Fallbacks
  {before}  local/echo  failed
  {call_id}  openai/gpt-5  finished  <- this one

Feedback
  -0.5 by u1: It was not.
"""
    )
    (told,) = run("call", call_id, "--json").lines
    assert [e["event"]["kind"] for e in told["events"]] == [
        "llm.call.started",
        "llm.call.retried",
        "llm.call.finished",
    ]
    assert [link["call_id"] for link in told["fallbacks"]] == [before, call_id]
    assert (told["status"], len(told["guard"]), len(told["feedback"])) == ("finished", 1, 1)
    # Seen from the call that failed, the chain is the same.
    (other,) = run("call", before, "--json").lines
    assert other["fallbacks"] == told["fallbacks"]


def test_what_only_a_provider_has_and_files_are_told_in_a_line_each(
    run: Run, log: EventLog
) -> None:
    report = File(uri="https://example.org/report.pdf", name="report.pdf")
    found = {"type": "web_search_tool_result", "content": "x" * 1_000}
    asked, end = model_call()
    assert isinstance(asked, LlmCallStarted)
    assert isinstance(end, LlmCallFinished)
    asked = asked.model_copy(update={"messages": (Message(role="user", content=(report,)),)})
    end = end.model_copy(update={"content": (Native(body=found), Text(content="It is."))})
    log.append([asked, end])
    lines = run("call", asked.call_id).out.splitlines()
    assert "  user: (file report.pdf) https://example.org/report.pdf" in lines
    (native,) = (line for line in lines if "web_search_tool_result" in line)
    assert native.endswith("xxx...")
    assert len(native) < 600


def test_a_cached_a_failed_and_a_running_call_have_their_stories(run: Run, log: EventLog) -> None:
    cached = LlmCallCached(
        call_id=new_id(),
        provider="openai",
        request_model="gpt-5",
        messages=(Message(role="user", content="Again?"),),
        cached_call_id=new_id(),
        saved_usd=Decimal("0.5"),
        latency_ms=1,
    )
    running = model_call()[0]
    log.append([cached, running])
    shown = run("call", cached.call_id).out
    assert f"response cache with call {cached.cached_call_id}, which saved 0.5 USD" in shown
    assert "user: Again?" in shown
    assert ", running\n" in run("call", id_of([running])).out
    before = run("calls", "--status", "failed", "--json").lines[0]["call_id"]
    assert (
        "failed after 30,000 ms, 1 attempt: timeout: no answer in 30 s" in run("call", before).out
    )


def test_an_id_that_names_no_call_or_several_is_refused(run: Run, log: EventLog) -> None:
    first, second = "01a202af-dd02-77cf-9d8e-51863ab63d96", "01a202af-dd02-77cf-9d8e-5183e31555ff"
    log.append([*model_call(call_id=first), *model_call(call_id=second)])
    ran = run("call", "01a202af-dd")
    assert (ran.code, ran.out) == (2, "")
    assert first in ran.err
    assert second in ran.err
    for nobody in ("ffffffff", "%", "", "' OR 1=1 --", STEERING):
        ran = run("call", nobody)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert "no call is" in ran.err
        assert "\x1b" not in ran.err


# tail


def test_tail_once_prints_the_last_calls_oldest_first(run: Run, warehouse: Path) -> None:
    lines = run("tail", "--once", "-n", "2").out.splitlines()
    assert [line.split()[-1] for line in lines] == ["second?", "third?"]
    assert [row["prompt"] for row in run("tail", "--once", "--json").lines] == [
        "first?",
        "second?",
        "third?",
    ]


def test_tail_follows_new_calls_and_ctrl_c_ends_it_quietly(warehouse: Path, log: EventLog) -> None:
    command = [TRACEMILL, "tail", "-n", "1", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as tail:
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["prompt"] == "third?"
        log.append(finished("fourth?"))
        story(log)
        shown = [json.loads(tail.stdout.readline()) for _ in range(4)]
        tail.send_signal(signal.SIGINT)
        out, err = tail.communicate(timeout=20)
    assert (tail.returncode, out, err) == (130, "", "")
    assert [(row["status"], row["prompt"][:7]) for row in shown] == [
        ("finished", "fourth?"),
        ("failed", "first t"),
        ("retried", "Is it?\x1b"),
        ("finished", "Is it?\x1b"),
    ]
    assert shown[0]["answer"] == "fourth?\nindeed"


def test_tail_stops_after_so_many_new_lines(warehouse: Path, log: EventLog) -> None:
    command = [TRACEMILL, "tail", "-n", "1", "--limit", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        assert "third?" in tail.stdout.readline()
        log.append(failed(f"fourth?{STEERING}"))
        out, _ = tail.communicate(timeout=20)
    assert tail.returncode == 0
    assert "timeout: fourth?\\x1b[2J\\x1b]0;gone\\x07" in out
    assert "\x1b" not in out


# failures


def test_failures_are_counted_by_what_they_have_in_common(run: Run, log: EventLog) -> None:
    for seconds in (3, 4):
        (asked, end) = failed("again?")
        assert isinstance(end, LlmCallFailed)
        log.append([asked, end.model_copy(update={"error_message": f"no answer in {seconds} s"})])
    (row,) = run("failures", "--json").lines
    assert (row["n"], row["signature"], row["models"]) == (
        3,
        "timeout: no answer in <n> s",
        ["local/echo"],
    )
    assert run("failures").out.splitlines()[1].endswith("local/echo  timeout: no answer in <n> s")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert run("failures", "--since", later).err == "no failures\n"


def test_failures_cluster_by_root_cause(run: Run, log: EventLog) -> None:
    for message in ("no answer within 3 s", "an answer did not come within 9 s", STEERING):
        for _ in range(3):
            (asked, end) = failed("again?")
            assert isinstance(end, LlmCallFailed)
            log.append([asked, end.model_copy(update={"error_message": message})])
    text = run("failures", "--clusters").out
    assert "\x1b" not in text
    rows = run("failures", "--clusters", "--json").lines
    assert [(row["n"], row["error_type"]) for row in rows] == [(7, "timeout"), (3, "timeout")]
    assert rows[0]["wordings"] == 3
    assert run("failures", "--clusters", "--since", "2200-01-01").err == "no failures\n"


def test_failures_like_a_call_or_a_text_are_found(run: Run, log: EventLog) -> None:
    log.append(events := failed("third one?"))
    call_id = events[0].call_id
    log.append(finished("third one?"))
    (row,) = run("failures", "--similar-to", call_id[-12:], "--json").lines
    assert (row["same"], row["prompt"]) == ("signature", "third?")
    both = run("failures", "--similar-to", "no answer in 7 s").out.splitlines()
    assert len(both) == 3
    assert "same prompt, local/echo: finished" in both[1]
    assert (
        run("failures", "--similar-to", "third one?", "-n", "1", "--json").lines[0]["call_id"]
        == call_id
    )
    assert "no call is 'feedfacefeed'" in run("failures", "--similar-to", "feedfacefeed").err


# Refusals and pipes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("calls", "--status", "lost"), "--status is one of running"),
        (("calls", "--since", "yesterday"), "--since is an age"),
        (("calls", "--since", "99999999999d"), "--since is an age"),
        (("failures", "--since", "1d", "--similar-to", "x"), "exclude each other"),
        (("failures", "--clusters", "--similar-to", "x"), "exclude each other"),
        (("failures", "--similar-to", " "), "nothing to compare"),
        (("calls", "--warehouse", "/no/such/place"), "tracemill init"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    run: Run, warehouse: Path, arguments: tuple[str, ...], says: str
) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert says in ran.err


@pytest.mark.parametrize("command", ["calls", "call", "tail", "failures"])
def test_help_shows_examples(run: Run, command: str) -> None:
    assert re.search(rf"^ +tracemill {command}\b", run(command, "--help").out, re.MULTILINE)


@pytest.mark.parametrize("command", ["calls -n 9999 --json", "tail -n 9999 --json"])
def test_a_reader_that_leaves_ends_it_quietly(log: EventLog, command: str) -> None:
    log.append([event for i in range(400) for event in model_call(f"{i} " + "long " * 200)])
    ran = spawned("bash", "-c", f"{TRACEMILL} {command} | head -n 1")
    assert (ran.code, len(ran.lines), ran.err) == (0, 1, "")


def test_what_a_prompt_says_cannot_steer_the_terminal(run: Run, log: EventLog) -> None:
    log.append(failed(STEERING))
    for command in ("calls", "tail --once", "failures --similar-to timeout", "log tail"):
        shown = run(*command.split()).out
        assert "\\x1b[2J" in shown
        assert not set("\x1b\x07\x9b\u202e") & set(shown)
