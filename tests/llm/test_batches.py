"""Batches end to end against a server on loopback: every call ends once, every batch exists once."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FULL
from tests.llm.batch_server import KEYS, BatchServer, Refused, serving
from tracemill import EventLog, Request, Settings, prices
from tracemill.errors import CallFailed, UsageError
from tracemill.events import BatchProgressed, Happened, new_id
from tracemill.llm import batch_results, batches
from tracemill.llm.batches import Collected
from tracemill.llm.client import Client
from tracemill.llm.guard import Guard
from tracemill.llm.providers import Reply, Wire

MODELS = {
    "openai": "openai/gpt-5.4-mini",
    "openai-responses": "openai-responses/gpt-5.4-mini",
    "anthropic": "anthropic/claude-haiku-4-5",
    "gemini": "gemini/gemini-3-flash-preview",
}
ENDS = ("llm.call.finished", "llm.call.failed", "llm.call.crashed", "llm.call.aborted")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    with serving() as server:
        for name, value in environment(server).items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture(params=["openai", "anthropic", "gemini"])
def prefix(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def client(tmp_path: Path, server: BatchServer) -> Iterator[Client]:
    with opened(tmp_path) as client:
        yield client


def environment(server: BatchServer) -> dict[str, str]:
    urls = {
        "OPENAI_BASE_URL": f"{server.url}/openai/v1",
        "ANTHROPIC_BASE_URL": f"{server.url}/anthropic/v1",
        "GEMINI_BASE_URL": f"{server.url}/gemini/v1beta",
    }
    return KEYS | urls


class opened:
    """A client of a warehouse, as after a restart."""

    def __init__(self, folder: Path, log: type[EventLog] = EventLog) -> None:
        settings = Settings(warehouse=folder / "warehouse").create()
        self.client = Client(log(settings.log), settings)

    def __enter__(self) -> Client:
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.client.log.close()


def requests(prefix: str, count: int = 3, **more: Any) -> list[Request]:
    return [Request.of(f"question {n}", model=MODELS[prefix], **more) for n in range(count)]


def events(log: EventLog, *kinds: str) -> list[Happened]:
    return [recorded.event for recorded in log.read(kinds=kinds or None)]


def ended(log: EventLog) -> dict[str, tuple[str, str]]:
    """Question to how its call ended, and with what; fails where one has two ends or none."""
    asked = {e.call_id: e.messages[-1].text for e in log_of(log, "llm.call.started")}
    ends = log_of(log, *ENDS)
    assert sorted(asked) == sorted(end.call_id for end in ends)
    said = {
        end.call_id: (end.kind.rpartition(".")[2], getattr(end, "content", None) or end.error_type)
        for end in ends
    }
    return {question: said[call_id] for call_id, question in sorted(asked.items())}


def refusing(status: int, body: object) -> Callable[[str, str], None]:
    """What a server does that answers everything like this."""

    def before(method: str, path: str) -> None:
        raise Refused(status, body)

    return before


def log_of(log: EventLog, *kinds: str) -> list[Any]:
    return events(log, *kinds)


# A whole life


@pytest.mark.parametrize("prefix", MODELS)
def test_a_batch_is_submitted_waited_for_and_collected(
    client: Client, server: BatchServer, prefix: str
) -> None:
    batch_id = batches.submit(client, requests(prefix))
    assert batches.poll(client, batch_id).state == "running"
    server.finish()
    known = batches.wait(client, batch_id, pause=lambda _: pytest.fail("it had ended"))
    assert (known.state, known.remote_id) == ("ended", server.batches[0].id)
    assert batches.collect(client, batch_id) == Collected(3, 0)
    answers = {f"question {n}": ("finished", f"re: question {n}") for n in range(3)}
    assert ended(client.log) == answers
    assert len(server.batches) == 1
    assert client.log.verify().ok


def test_the_log_knows_everything_before_anything_is_sent(
    client: Client, server: BatchServer, prefix: str
) -> None:
    def before(method: str, path: str) -> None:
        kinds = [type(event).__name__ for event in events(client.log)]
        assert kinds == ["BatchSubmitted", *["LlmCallStarted"] * 3]

    server.before = before
    batch_id = batches.submit(client, requests(prefix, conversation_id="c1", user_id="u1"))
    submitted, *starts = log_of(client.log, "llm.batch.submitted", "llm.call.started")
    assert submitted.stream == f"batch:{batch_id}"
    assert list(submitted.calls.values()) == [start.call_id for start in starts]
    assert {start.batch_id for start in starts} == {batch_id}
    # Nobody's process makes these calls, so that none is closed as crashed when it dies.
    assert {start.process for start in starts} == {None}
    assert {(s.conversation_id, s.user_id, s.operation) for s in starts} == {("c1", "u1", "chat")}


def test_answers_are_priced_at_batch_rates(
    client: Client, server: BatchServer, prefix: str
) -> None:
    batch_id = batches.submit(client, requests(prefix, 1))
    server.finish()
    batches.collect(client, batch_id)
    (finished,) = log_of(client.log, "llm.call.finished")
    assert finished.service_tier == "batch"
    assert (finished.usage.input_tokens, finished.usage.output_tokens) == (20, 5)
    usage, when = finished.usage, finished.occurred_at
    model = MODELS[prefix].partition("/")[2]
    batch = prices.cost(finished.provider, model, usage, when, service_tier="batch")
    plain = prices.cost(finished.provider, model, usage, when)
    assert (finished.cost_usd, finished.price_snapshot) == (batch.usd, batch.snapshot)
    assert batch.usd is not None
    assert plain.usd is not None
    assert batch.usd == plain.usd / 2


def test_events_of_one_call_agree(client: Client, server: BatchServer, prefix: str) -> None:
    asked = requests(prefix, 2, conversation_id="c", user_id="u", prompt_name="p")
    batch_id = batches.submit(client, asked)
    server.finish(["ok", "error"])
    batches.collect(client, batch_id)
    starts = {start.call_id: start for start in log_of(client.log, "llm.call.started")}
    for end in log_of(client.log, *ENDS):
        start = starts[end.call_id]
        shared = ("provider", "request_model", "conversation_id", "user_id", "prompt_name")
        assert [getattr(end, name) for name in shared] == [getattr(start, name) for name in shared]
        assert end.causation_id == start.event_id
        assert end.latency_ms > 0


def test_every_fate_of_a_call_becomes_one_end(
    client: Client, server: BatchServer, prefix: str
) -> None:
    batch_id = batches.submit(client, requests(prefix, 5))
    server.finish(["ok", "error", "expired", "cancelled", "missing"])
    assert batches.collect(client, batch_id) == Collected(1, 4)
    assert ended(client.log) == {
        "question 0": ("finished", "re: question 0"),
        "question 1": (
            "failed",
            "invalid_request" if prefix == "gemini" else "context_length_exceeded",
        ),
        "question 2": ("failed", "timeout"),
        "question 3": ("failed", "interrupted"),
        "question 4": ("failed", "no_answer"),
    }
    missing = log_of(client.log, "llm.call.failed")[-1]
    assert missing.error_message.endswith("without a result for this call")


def test_results_that_nobody_asked_for_are_told_and_kept(
    client: Client, server: BatchServer, prefix: str
) -> None:
    batch_id = batches.submit(client, requests(prefix, 1))
    (call_id,) = batches.state(client.log, batch_id).calls
    server.finish(extra=["stranger", call_id])
    collected = batches.collect(client, batch_id)
    assert (collected.finished, collected.failed) == (1, 0)
    reasons = " ".join(collected.unknown)
    assert len(collected.unknown) == 2
    assert "belongs to no call of this batch: custom_id 'stranger'" in reasons
    assert f"a second result for call {call_id}" in reasons
    assert client.settings
    kept = client.settings.quarantine / "batches" / f"{batch_id}.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [f"{row['source']}: {row['reason']}" for row in rows] == list(collected.unknown)
    assert any("stranger" in row["raw"] for row in rows)


def test_a_batch_that_fails_as_a_whole_fails_its_calls(client: Client, server: BatchServer) -> None:
    for prefix in ("openai", "gemini"):
        batch_id = batches.submit(client, requests(prefix, 2))
        server.fail("the file is not good")
        known = batches.poll(client, batch_id)
        assert known.state == "failed"
        assert "the file is not good" in str(known.error_message)
        assert batches.collect(client, batch_id) == Collected(0, 2)
    messages = [failed.error_message for failed in log_of(client.log, "llm.call.failed")]
    assert len(messages) == 4
    assert all("the file is not good" in message for message in messages)


def test_collecting_twice_changes_nothing_and_asks_nobody(
    client: Client, server: BatchServer, prefix: str
) -> None:
    batch_id = batches.submit(client, requests(prefix))
    server.finish(["error"])
    first = batches.collect(client, batch_id)
    position, asked = client.log.position(), len(server.seen)
    assert batches.collect(client, batch_id) == first
    assert batches.poll(client, batch_id).collected
    assert (client.log.position(), len(server.seen)) == (position, asked)


def test_two_processes_may_collect_at_once(
    client: Client, server: BatchServer, prefix: str, tmp_path: Path
) -> None:
    batch_id = batches.submit(client, requests(prefix, 6))
    server.finish()
    first = EventLog.append

    class Raced(EventLog):
        """Lets another collector end it all just before the first end is appended."""

        def append(self, events: Any, **more: Any) -> list[int]:
            events = [events] if isinstance(events, Happened) else list(events)
            if events[0].kind in ENDS and not done:
                done.append(True)
                with opened(tmp_path) as other:
                    batches.collect(other, batch_id)
            return first(self, events, **more)

    done: list[bool] = []
    with opened(tmp_path, Raced) as racing:
        assert batches.collect(racing, batch_id) == Collected(6, 0)
    assert done
    assert len(ended(client.log)) == 6
    assert len(log_of(client.log, "llm.batch.collected")) == 1


def test_calls_are_appended_in_chunks(
    client: Client, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_results, "CHUNK", 4)
    sizes: list[int] = []
    plain = EventLog.append

    def append(self: EventLog, events: Any, **more: Any) -> list[int]:
        events = [events] if isinstance(events, Happened) else list(events)
        sizes.append(len(events))
        return plain(self, events, **more)

    monkeypatch.setattr(EventLog, "append", append)
    batch_id = batches.submit(client, requests("anthropic", 10))
    server.finish()
    batches.collect(client, batch_id)
    assert sizes == [1, 4, 4, 2, 1, 1, 4, 4, 2, 1]


# Waiting and cancelling


def test_wait_asks_less_and_less_often_until_it_has_ended(
    client: Client, server: BatchServer, prefix: str
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 14:
            server.finish()

    batch_id = batches.submit(client, requests(prefix))
    assert batches.wait(client, batch_id, pause=pause).state == "ended"
    assert pauses[:3] == [5.0, 7.5, 11.25]
    assert pauses[-1] == batches.LONGEST_WAIT_S
    # Only what is new is an event.
    progress = log_of(client.log, "llm.batch.progressed")
    assert [event.state for event in progress] == ["running", "ended"]


def test_wait_gives_up_at_its_deadline(client: Client, server: BatchServer, prefix: str) -> None:
    batch_id = batches.submit(client, requests(prefix))
    known = batches.wait(client, batch_id, timeout_s=0, pause=lambda _: pytest.fail("too long"))
    assert (known.state, known.ended) == ("running", False)


def test_wait_does_not_loop_on_a_state_that_nobody_knows(
    client: Client, server: BatchServer, prefix: str
) -> None:
    batch_id = batches.submit(client, requests(prefix))
    server.batches[0].state = "hibernating"
    known = batches.wait(client, batch_id, pause=lambda _: pytest.fail("it looped"))
    assert known.state == "unknown"
    assert known.raw_state.endswith("hibernating")


def test_wait_outlasts_a_provider_that_is_away(
    client: Client, server: BatchServer, prefix: str
) -> None:
    batch_id = batches.submit(client, requests(prefix))
    # A header that waives the client's own retries: this is about those of hours.
    server.answering = lambda method, path: False
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        server.answering = lambda method, path: True
        server.finish()

    calls = batches_without_retries(client)
    assert batches.wait(calls, batch_id, pause=pause).state == "ended"
    assert len(waits) == 1


def batches_without_retries(client: Client) -> Client:
    """The same client, which sends each request once: no test waits for a backoff."""
    plain = client.exchange
    client.exchange = lambda prefix, wire, *, retry=True: plain(prefix, wire, retry=False)  # type: ignore[method-assign]
    return client


def test_a_batch_that_the_provider_lost_is_an_error_and_can_be_abandoned(
    client: Client, server: BatchServer, prefix: str
) -> None:
    batch_id = batches.submit(client, requests(prefix))
    server.batches.clear()
    with pytest.raises(CallFailed) as lost:
        batches.wait(client, batch_id, pause=lambda _: pytest.fail("it looped"))
    assert lost.value.error_type == "not_found"
    assert batches.abandon(client, batch_id) == Collected(0, 3)
    assert batches.abandon(client, batch_id) == Collected(0, 3)
    assert batches.collect(client, batch_id) == Collected(0, 3)
    assert set(ended(client.log).values()) == {("failed", "interrupted")}
    assert len(log_of(client.log, "llm.batch.collected")) == 1


def test_cancelling_keeps_what_was_answered(
    client: Client, server: BatchServer, prefix: str
) -> None:
    batch_id = batches.submit(client, requests(prefix))
    known = batches.cancel(client, batch_id)
    assert known.state == ("ended" if prefix == "gemini" else "cancelling")
    if prefix != "gemini":
        server.finish(["ok", "cancelled", "cancelled"])
        assert batches.collect(client, batch_id) == Collected(1, 2)
    else:
        assert batches.collect(client, batch_id) == Collected(0, 3)
    assert len(ended(client.log)) == 3


def test_cancelling_what_has_just_ended_is_no_error(client: Client, server: BatchServer) -> None:
    batch_id = batches.submit(client, requests("openai"))
    server.before = lambda method, path: server.finish() if path.endswith("/cancel") else None
    assert batches.cancel(client, batch_id).state == "ended"
    assert batches.collect(client, batch_id) == Collected(3, 0)


def test_late_pollers_do_not_wake_a_batch_that_has_ended(
    client: Client, server: BatchServer
) -> None:
    batch_id = batches.submit(client, requests("openai"))
    server.finish()
    remote_id = batches.poll(client, batch_id).remote_id
    late = BatchProgressed(batch_id=batch_id, remote_id=remote_id, state="running", raw_state="x")
    client.log.append(late)
    assert batches.state(client.log, batch_id).ended


def test_collecting_too_early_says_what_to_do(client: Client, server: BatchServer) -> None:
    batch_id = batches.submit(client, requests("openai"))
    with pytest.raises(UsageError, match=f"is running: `tracemill batches wait {batch_id}`"):
        batches.collect(client, batch_id)


# Refusals


def test_bad_batches_are_refused_with_a_sentence_before_anything_happens(
    client: Client, server: BatchServer
) -> None:
    mixed = [*requests("openai", 1), *requests("anthropic", 1)]
    for asked, message in (
        ([], "at least one request"),
        (mixed, "for one model, and these requests are for 2: openai/.*, anthropic/"),
    ):
        with pytest.raises(UsageError, match=message):
            batches.submit(client, asked)
    with pytest.raises(UsageError, match="'mine' is no UUID"):
        batches.submit(client, requests("openai"), batch_id="mine")
    with pytest.raises(CallFailed, match="local has no batches here: openai"):
        batches.submit(client, [Request.of("?", model="local/echo")])
    with pytest.raises(CallFailed, match=r"request 2: .*seed"):
        batches.submit(client, [*requests("anthropic", 1), *requests("anthropic", 1, seed=1)])
    with pytest.raises(CallFailed, match="write openai/model"):
        batches.submit(client, [Request.of("?", model="openai/")])
    with pytest.raises(UsageError, match="no batch"):
        batches.poll(client, new_id())
    assert (client.log.position(), server.seen) == (0, [])


def test_limits_of_the_provider_are_told_before_anything_is_sent(
    client: Client, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracemill.llm.providers import openai_batch
    from tracemill.llm.providers.batch import Limits

    monkeypatch.setattr(openai_batch, "LIMITS", Limits(2, 1000))
    with pytest.raises(CallFailed, match=r"takes up to 2 calls, not 3: submit several batches"):
        batches.submit(client, requests("openai", 3))
    long = Request.of("x" * 600, model=MODELS["openai"])
    with pytest.raises(CallFailed, match=r"takes up to 1,000 bytes, and request 2 is beyond"):
        batches.submit(client, [long, long])
    assert (client.log.position(), server.seen) == (0, [])


@pytest.mark.parametrize("status", [400, 401, 413])
def test_a_refused_batch_fails_its_calls_at_once(
    client: Client, server: BatchServer, prefix: str, status: int
) -> None:
    def before(method: str, path: str) -> None:
        if method == "POST":
            raise Refused(status, {"error": {"message": "no", "type": "x", "code": status}})

    server.before = before
    batch_id = new_id()
    with pytest.raises(CallFailed, match="no"):
        batches.submit(client, requests(prefix), batch_id=batch_id)
    kinds = {400: "invalid_request", 401: "authentication", 413: "request_too_large"}
    assert set(ended(client.log).values()) == {("failed", kinds[status])}
    known = batches.state(client.log, batch_id)
    assert (known.state, known.raw_state, known.failed) == ("failed", "refused", 3)
    assert server.batches == []


def test_a_missing_key_is_a_sentence_and_fails_the_calls(
    client: Client, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    with pytest.raises(CallFailed, match="needs a key"):
        batches.submit(client, requests(prefix))
    assert set(ended(client.log).values()) == {("failed", "missing_key")}


def test_the_guard_keeps_what_is_private_out_of_the_log(
    client: Client, server: BatchServer, prefix: str
) -> None:
    asked = [Request.of("write to jane.roe@example.com", model=MODELS[prefix])]
    batch_id = batches.submit(client, asked)
    server.finish()
    batches.collect(client, batch_id)
    text = "".join(event.model_dump_json() for event in events(client.log))
    assert "jane.roe" not in text
    sides = [event.side for event in log_of(client.log, "llm.guard.decided")]
    assert sides == ["input", "output"]
    # What was sent, and what came back, is whole.
    ((_, answer),) = batches.answers(client, batch_id)
    assert isinstance(answer, Reply)
    assert answer.text == "re: write to jane.roe@example.com"


def test_what_the_guard_blocks_makes_no_batch(tmp_path: Path, server: BatchServer) -> None:
    with opened(tmp_path) as client:
        client.guard = Guard(max_input_characters=20)
        asked = [*requests("openai", 1), Request.of("x" * 21, model=MODELS["openai"])]
        with pytest.raises(CallFailed, match=r"request 2: .*max_input_characters") as blocked:
            batches.submit(client, asked)
        assert blocked.value.error_type == "guard"
        assert (client.log.position(), server.seen) == (0, [])
        client.guard = None
        batch_id = batches.submit(client, asked)
        server.finish()
        assert batches.collect(client, batch_id) == Collected(2, 0)
        assert log_of(client.log, "llm.guard.decided") == []


def test_answers_can_be_had_again_and_whole(
    client: Client, server: BatchServer, prefix: str
) -> None:
    batch_id = batches.submit(client, requests(prefix))
    with pytest.raises(UsageError, match="is running"):
        list(batches.answers(client, batch_id))
    server.finish(["ok", "error", "missing"], extra=["stranger"])
    batches.collect(client, batch_id)
    found = dict(batches.answers(client, batch_id))
    calls = list(batches.state(client.log, batch_id).calls.values())
    assert sorted(found) == sorted(calls[:2])
    assert isinstance(found[calls[1]], CallFailed)
    first = found[calls[0]]
    assert isinstance(first, Reply)
    assert first.text == "re: question 0"


def test_a_key_that_the_provider_repeats_stays_out_of_log_and_error(
    client: Client, server: BatchServer, prefix: str
) -> None:
    def before(method: str, path: str) -> None:
        said = f"wrong: {' '.join(KEYS.values())} of jane.roe@example.com"
        raise Refused(400, {"error": {"message": said, "type": "x"}})

    server.before = before
    with pytest.raises(CallFailed) as refused:
        batches.submit(client, requests(prefix))
    key = KEYS[f"{prefix.upper()}_API_KEY"]
    text = "".join(event.model_dump_json() for event in events(client.log)) + repr(refused.value)
    assert "wrong" in text
    assert [one for one in (key, "jane.roe") if one in text] == []


def test_words_that_no_label_can_hold_are_cut_or_refused(
    client: Client, server: BatchServer
) -> None:
    batch_id = batches.submit(client, requests("anthropic"))
    server.batches[0].state = "odd\x00" * 100
    known = batches.poll(client, batch_id)
    assert (known.state, known.raw_state) == ("unknown", ("odd" * 100)[:200])
    server.before = refusing(200, {"id": "x\x07", "processing_status": "ended"})
    with pytest.raises(CallFailed, match="not a batch: it has no id"):
        batches.poll(client, batch_id)


def test_no_key_gets_into_the_log(client: Client, server: BatchServer, prefix: str) -> None:
    batch_id = batches.submit(client, requests(prefix))
    server.finish(["error"])
    batches.collect(client, batch_id)
    text = "".join(event.model_dump_json() for event in events(client.log))
    assert [key for key in KEYS.values() if key in text] == []


# Crashes


class Crash(BaseException):
    """The process dies here."""


class Mortal:
    """Lets the process die before its deed of this number: an append or an exchange.

    That is also the death right after the one before it.
    """

    def __init__(self, at: int) -> None:
        self.at, self.deeds = at, 0

    def __call__(self, deed: Callable[[], Any]) -> Any:
        self.deeds += 1
        if self.deeds == self.at:
            raise Crash
        return deed()


def mortal(folder: Path, fate: Mortal) -> Client:
    class MortalLog(EventLog):
        def append(self, events: Happened | Iterable[Happened], **more: Any) -> list[int]:
            return fate(lambda: EventLog.append(self, events, **more))

    client = opened(folder, MortalLog).client
    plain = client.exchange

    def exchange(prefix: str, wire: Wire, *, retry: bool = True) -> Any:
        return fate(lambda: plain(prefix, wire, retry=retry))

    client.exchange = exchange  # type: ignore[method-assign]
    return client


def live(client: Client, server: BatchServer, batch_id: str, asked: list[Request]) -> Collected:
    """The whole life of a batch, from wherever it stands."""
    try:
        batches.submit(client, asked, batch_id=batch_id)
    except CallFailed as error:
        # Anthropic tells which calls a batch has only at its end.
        if error.error_type != "conflict":
            raise
        server.finish()
        batches.submit(client, asked, batch_id=batch_id)
    server.finish()
    batches.wait(client, batch_id, pause=lambda _: None)
    return batches.collect(client, batch_id)


def test_a_crash_at_any_step_makes_no_second_batch_and_loses_no_call(
    server: BatchServer,
    tmp_path: Path,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_results, "CHUNK", 2)
    asked = requests(prefix)
    crashes = 0
    for step in range(1, 40, 1 if FULL or prefix == "openai" else 3):
        folder, batch_id = tmp_path / str(step), new_id()
        server.batches.clear()
        dying = mortal(folder, Mortal(step))
        try:
            live(dying, server, batch_id, asked)
            break
        except Crash:
            crashes += 1
        finally:
            dying.close()
            dying.log.close()
        with opened(folder) as client:
            assert live(client, server, batch_id, asked) == Collected(3, 0)
            assert len(server.batches) == 1, f"step {step}"
            assert {how for how, _ in ended(client.log).values()} == {"finished"}
            for kind in ("llm.batch.submitted", "llm.batch.collected"):
                assert len(log_of(client.log, kind)) == 1
            assert client.log.verify().ok
    # Submitted, two chunks of starts, create, created; poll, ended; fetch, two chunks of ends, ...
    assert crashes >= (12 if FULL or prefix == "openai" else 4)


def test_a_batch_whose_answer_was_lost_is_found_again(
    client: Client, server: BatchServer, prefix: str
) -> None:
    server.answering = lambda method, path: not (method == "POST" and "/files" not in path)
    batch_id = new_id()
    with pytest.raises(
        CallFailed, match=f"submit the same requests again with batch_id='{batch_id}'"
    ):
        batches.submit(client, requests(prefix), batch_id=batch_id)
    assert batches.state(client.log, batch_id).state == "submitted"
    server.answering = lambda method, path: True
    server.finish()
    known = batches.wait(client, batch_id, pause=lambda _: None)
    assert known.remote_id == server.batches[0].id
    assert batches.submit(client, requests(prefix), batch_id=batch_id) == batch_id
    assert batches.collect(client, batch_id) == Collected(3, 0)
    assert len(server.batches) == 1


def test_a_batch_is_found_behind_pages_of_others(
    client: Client, server: BatchServer, prefix: str
) -> None:
    server.answering = lambda method, path: not (method == "POST" and "/files" not in path)
    batch_id = new_id()
    with pytest.raises(CallFailed):
        batches.submit(client, requests(prefix), batch_id=batch_id)
    server.answering = lambda method, path: True
    ours = server.batches[0]
    server.finish()
    name = prefix.partition("-")[0]
    given = ours.given | {"metadata": None, "displayName": "another's"}
    for _ in range(250):
        server._new(name, ours.calls[:1], given).state = "ended"
    assert batches.poll(client, batch_id).remote_id == ours.id


def test_a_look_for_a_batch_does_not_read_old_pages(client: Client, server: BatchServer) -> None:
    asked = requests("openai")
    for _ in range(250):
        other = server._new("openai", [], {"endpoint": "/v1/x", "input_file_id": "f"})
        other.created_at = datetime.now(UTC) - timedelta(days=2)
    server.before = refusing(503, {"error": "down"})
    once = batches_without_retries(client)
    batch_id = new_id()
    with pytest.raises(CallFailed):
        batches.submit(once, asked, batch_id=batch_id)
    server.before = lambda method, path: None
    server.seen.clear()
    batches.submit(client, asked, batch_id=batch_id)
    assert [path for method, path in server.seen if method == "GET"] == [
        "/openai/v1/batches?limit=100"
    ]


def test_anothers_batch_of_as_many_calls_is_not_taken_for_ours(
    client: Client, server: BatchServer
) -> None:
    server.before = refusing(529, {"error": {}})
    once, batch_id = batches_without_retries(client), new_id()
    with pytest.raises(CallFailed):
        batches.submit(once, requests("anthropic"), batch_id=batch_id)
    server.before = lambda method, path: None
    request = {"model": "claude", "messages": [{"role": "user", "content": "another's"}]}
    other = server._new("anthropic", [(f"other-{n}", request) for n in range(3)], {})
    with pytest.raises(CallFailed, match=f"runs {other.id}, of as many calls") as unsure:
        batches.submit(client, requests("anthropic"), batch_id=batch_id)
    assert (unsure.value.error_type, unsure.value.retry) == ("conflict", True)
    server.finish()
    batches.submit(client, requests("anthropic"), batch_id=batch_id)
    assert batches.state(client.log, batch_id).remote_id == server.batches[1].id


def test_a_submission_is_not_resumed_with_other_requests(
    client: Client, server: BatchServer
) -> None:
    batch_id = batches.submit(client, requests("openai"))
    assert batches.submit(client, requests("openai"), batch_id=batch_id) == batch_id
    with pytest.raises(UsageError, match="submitted with other requests"):
        batches.submit(client, requests("openai", 2), batch_id=batch_id)
    assert len(server.batches) == 1


def test_what_never_reached_the_provider_can_be_cancelled(
    server: BatchServer, tmp_path: Path, prefix: str
) -> None:
    batch_id = new_id()
    dying = mortal(tmp_path, Mortal(3))
    with pytest.raises(Crash):
        batches.submit(dying, requests(prefix), batch_id=batch_id)
    dying.log.close()
    with opened(tmp_path) as client:
        assert batches.cancel(client, batch_id).raw_state == "never_created"
        assert batches.collect(client, batch_id) == Collected(0, 3)
        assert set(ended(client.log).values()) == {("failed", "interrupted")}
        with pytest.raises(UsageError, match=r"ended before \w+ had it \(never_created\)"):
            batches.submit(client, requests(prefix), batch_id=batch_id)
    assert server.batches == []


_CHILD = """
import sys
from pathlib import Path
from tracemill import EventLog, Request, Settings
from tracemill.llm import batches
from tracemill.llm.client import Client

settings = Settings(warehouse=Path(sys.argv[1]) / "warehouse").create()
client = Client(EventLog(settings.log), settings)
asked = [Request.of(f"question {n}", model=sys.argv[2]) for n in range(3)]
batches.submit(client, asked, batch_id=sys.argv[3])
"""


def test_a_killed_process_leaves_one_batch_that_the_next_one_finds(
    server: BatchServer, tmp_path: Path, prefix: str
) -> None:
    created, release = threading.Event(), threading.Event()

    def answering(method: str, path: str) -> bool:
        if method == "POST" and "/files" not in path and not release.is_set():
            created.set()
            release.wait(30)
        return True

    server.answering = answering
    batch_id = new_id()
    command = [sys.executable, "-c", _CHILD, str(tmp_path), MODELS[prefix], batch_id]
    child = subprocess.Popen(command, env={**os.environ, **environment(server)})
    try:
        assert created.wait(30)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
        release.set()
    with opened(tmp_path) as client:
        assert batches.state(client.log, batch_id).state == "submitted"
        assert live(client, server, batch_id, requests(prefix)) == Collected(3, 0)
        assert len(ended(client.log)) == 3
        assert len(server.batches) == 1


# States


def test_every_batch_is_listed_with_its_state(client: Client, server: BatchServer) -> None:
    first = batches.submit(client, requests("openai"))
    server.finish()
    batches.collect(client, first)
    second = batches.submit(client, requests("gemini"))
    listed = batches.states(client.log)
    assert [(b.batch_id, b.state, b.collected) for b in listed] == [
        (first, "ended", True),
        (second, "running", False),
    ]
    assert [b.prefix for b in listed] == ["openai", "gemini"]
    assert listed[0].submitted_at.tzinfo is UTC


def test_many_calls_are_collected_without_delay(client: Client, server: BatchServer) -> None:
    count = 2_000
    batch_id = batches.submit(client, requests("anthropic", count))
    server.finish()
    assert batches.collect(client, batch_id) == Collected(count, 0)
    assert len(ended(client.log)) == count
