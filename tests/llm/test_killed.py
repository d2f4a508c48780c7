"""Processes that die or fork in the middle of calls: each call gets one end, and others none."""

import multiprocessing
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.llm.serving import Say, Seen, Server, say, serving
from tests.llm.test_client_http import ENDS, STREAM, answered, ask, piece, say_events
from tracemill import EventLog
from tracemill.errors import UsageError
from tracemill.events import LlmCallCrashed
from tracemill.llm.client import Client
from tracemill.messages import Delta

ENDS_HERE = ENDS | {"llm.call.crashed"}
CALLER = """
import asyncio, os, signal, sys
from tracemill import EventLog, Request
from tracemill.llm.client import Client
log = EventLog(sys.argv[1])
client = Client(log)
request = Request.of("Capital of France?", model="openai/gpt-5.4-mini")
def ready():
    print("ready", flush=True)
"""
STREAMING = "with client.stream(request) as stream:\n  next(stream); ready(); list(stream)"
CALLING = "ready(); client.generate(request)"
CACHED = "ready(); client.generate(request, cache='both', timeout_s=1)"
GATHER = """
async def one(ready_at):
    async for _ in client.astream(request):
        ready_at.release()
async def twenty():
    begun = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(one(begun)) for _ in range(20)]
    for _ in tasks:
        await begun.acquire()
    ready()
    await asyncio.gather(*tasks)
asyncio.run(twenty())
"""
ENDED_BY_SIGNAL = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"


@pytest.fixture
def enough() -> Iterator[threading.Event]:
    """Set at the end: until then the server holds back what it has to say."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, enough: threading.Event) -> Iterator[Server]:
    with serving(lambda seen: say(answered())) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdefghij")
        monkeypatch.setenv("PYTHONWARNINGS", "error::ResourceWarning")
        yield server
        enough.set()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


def held(enough: threading.Event) -> Generator[bytes]:
    """One piece of a stream, and the rest when it is enough."""
    first, *rest = say_events(*STREAM).body
    yield bytes(first)
    enough.wait(60)
    yield from map(bytes, rest)


def hold_streams(server: Server, enough: threading.Event) -> None:
    headers = {"content-type": "text/event-stream"}
    server.answer = lambda seen: Say(held(enough), 200, headers)


def hold_answers(server: Server, enough: threading.Event) -> threading.Event:
    """Says when a request has arrived."""
    arrived = threading.Event()

    def answer(seen: Seen) -> Say:
        arrived.set()
        enough.wait(60)
        return say(answered())

    server.answer = answer
    return arrived


@contextmanager
def caller(log: EventLog, code: str) -> Generator[subprocess.Popen[str]]:
    """A process that calls; it has said that it is ready."""
    command = [sys.executable, "-c", CALLER + code, str(log.folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n", process.stderr and process.stderr.read()
            yield process
        finally:
            process.kill()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def ends(log: EventLog) -> Counter[str]:
    """Ends of calls by kind; each call that began has exactly one."""
    recorded = list(log.read())
    started = [
        r.event.stream for r in recorded if r.event.model_dump()["kind"] == "llm.call.started"
    ]
    ended = [r.event.stream for r in recorded if r.event.model_dump()["kind"] in ENDS_HERE]
    assert sorted(started) == sorted(ended)
    assert log.verify().ok
    rows = log.sql("SELECT call_id, status FROM calls")
    assert sorted(f"call:{each}" for each in rows["call_id"]) == sorted(started)
    return Counter(rows["status"])


def open_at_once(log: EventLog, count: int = 4) -> None:
    """The log is opened by several processes at the same moment."""
    code = "import sys; from tracemill import EventLog; sys.stdin.read(1); EventLog(sys.argv[1])"
    command = [sys.executable, "-c", code, str(log.folder)]
    openers = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(count)]
    for opener in openers:
        opener.communicate(b"x")
    assert [opener.returncode for opener in openers] == [0] * count


@pytest.mark.parametrize(("code", "calls"), [(STREAMING, 1), (GATHER, 20)])
def test_killed_in_mid_stream(
    server: Server, log: EventLog, enough: threading.Event, code: str, calls: int
):
    hold_streams(server, enough)
    with caller(log, code) as process:
        EventLog(log.folder)  # while it lives, nothing is closed
        assert set(log.sql("SELECT status FROM calls")["status"]) == {"running"}
        kill(process)
    open_at_once(log)
    assert ends(log) == {"crashed": calls}
    position = log.position()
    EventLog(log.folder)
    assert log.position() == position
    assert not list((log.folder / "live").iterdir())


def test_killed_before_the_first_byte(server: Server, log: EventLog, enough: threading.Event):
    arrived = hold_answers(server, enough)
    with caller(log, CALLING) as process:
        assert arrived.wait(30)
        kill(process)
    EventLog(log.folder)
    assert ends(log) == {"crashed": 1}


def test_a_log_opens_whose_questions_cannot_be_asked(
    server: Server, log: EventLog, enough: threading.Event, monkeypatch: pytest.MonkeyPatch
):
    arrived = hold_answers(server, enough)
    with caller(log, CALLING) as process:
        assert arrived.wait(30)
        kill(process)
    with monkeypatch.context() as broken:
        broken.setattr("tracemill.log.crashed._UNENDED", "SELECT nothing, ?, ?")
        EventLog(log.folder)
    assert log.position() == 1
    EventLog(log.folder)
    assert ends(log) == {"crashed": 1}


def test_killed_between_two_attempts(server: Server, log: EventLog):
    server.answer = lambda seen: say({"error": {"message": "busy"}}, 503, retry_after="60")
    with caller(log, CALLING) as process:
        for recorded in log.subscribe():
            if recorded.event.model_dump()["kind"] == "llm.call.retried":
                break
        kill(process)
    EventLog(log.folder)
    assert ends(log) == {"crashed": 1}
    crashed = next(r.event for r in log.read(kinds=["llm.call.crashed"]))
    assert isinstance(crashed, LlmCallCrashed)
    assert crashed.request_model == "gpt-5.4-mini"


def test_the_calls_of_a_living_sibling_are_left_alone(
    server: Server, log: EventLog, enough: threading.Event
):
    hold_streams(server, enough)
    with caller(log, STREAMING) as lives, caller(log, STREAMING) as dies:
        kill(dies)
        open_at_once(log)
        assert Counter(log.sql("SELECT status FROM calls")["status"]) == {
            "running": 1,
            "crashed": 1,
        }
        enough.set()
        assert lives.wait(30) == 0
    EventLog(log.folder)
    assert ends(log) == {"finished": 1, "crashed": 1}


def test_a_flight_whose_leader_was_killed_is_led_by_another(
    server: Server, log: EventLog, enough: threading.Event, monkeypatch: pytest.MonkeyPatch
):
    arrived = hold_answers(server, enough)
    with caller(log, CACHED) as leader:
        assert arrived.wait(30)
        kill(leader)
    client = Client(log)
    # The lease of the dead ends by the clock alone.
    client.cache._clock = lambda: __import__("time").time() + 3600  # pyright: ignore
    server.answer = lambda seen: say(answered())
    assert client.generate(ask(), cache="both", timeout_s=1).text == "Paris"
    EventLog(log.folder)
    assert ends(log) == {"crashed": 1, "finished": 1}
    client.cache.close()
    client.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("code", "status"), [(STREAMING, "aborted"), (CALLING, "failed"), (GATHER, "aborted")]
)
def test_a_signal_that_python_sees_ends_calls_in_order(
    server: Server,
    log: EventLog,
    enough: threading.Event,
    code: str,
    status: str,
    number: signal.Signals,
):
    if code == CALLING:
        arrived = hold_answers(server, enough)
    else:
        hold_streams(server, enough)
        arrived = None
    with caller(log, ENDED_BY_SIGNAL + code) as process:
        assert arrived is None or arrived.wait(30)
        process.send_signal(number)
        assert process.wait(30) != 0
        assert process.stderr
        assert "ResourceWarning" not in process.stderr.read()
    calls = 20 if code == GATHER else 1
    assert ends(log) == {status: calls}
    assert set(log.sql("SELECT error_type FROM calls")["error_type"]) == {"interrupted"}
    assert not list((log.folder / "live").iterdir())


def test_a_plain_sigterm_is_a_crash(server: Server, log: EventLog, enough: threading.Event):
    hold_streams(server, enough)
    with caller(log, STREAMING) as process:
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
    EventLog(log.folder)
    assert ends(log) == {"crashed": 1}


def forked(work: Any) -> int:
    """What a forked child ends with when it leaves as programs do: with all its finalizers."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    assert child.exitcode is not None
    return child.exitcode


def test_a_parent_that_forks_while_it_streams(
    server: Server, log: EventLog, enough: threading.Event
):
    hold_streams(server, enough)
    client = Client(log)
    stream = client.stream(ask())
    assert next(stream) == Delta(text="Par")

    def child() -> None:
        with pytest.raises(UsageError, match="belongs to the process"):
            list(stream)
        stream.close()

    enough.set()
    assert forked(child) == 0
    assert log.sql("SELECT status FROM calls")["status"].to_list() == ["running"]
    stream.close()
    EventLog(log.folder)
    assert ends(log) == {"aborted": 1}
    client.close()


def test_a_child_that_leaves_a_copied_stream_behind_ends_nothing(
    server: Server, log: EventLog, enough: threading.Event
):
    hold_streams(server, enough)
    code = """
stream = client.stream(request, cache="both")
next(stream)
child = os.fork()
if child == 0:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
ready()
sys.stdin.read(1)
assert "".join(delta.text for delta in stream) == "is"
"""
    command = [sys.executable, "-c", CALLER + code, str(log.folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        assert log.sql("SELECT status FROM calls")["status"].to_list() == ["running"]
        enough.set()
        process.communicate("x", 30)
        assert process.returncode == 0
    EventLog(log.folder)
    assert ends(log) == {"finished": 1}


def test_a_forked_child_shares_no_connection(server: Server, log: EventLog):
    # The server has a thread for each connection, and says which.
    server.answer = lambda seen: say(answered(str(threading.get_ident())))
    client = Client(log)
    mine = client.generate(ask()).text

    def child() -> None:
        first, second = (client.generate(ask()).text for _ in range(2))
        assert first == second != mine

    assert [forked(child) for _ in range(3)] == [0, 0, 0]
    assert client.generate(ask()).text == mine
    assert ends(log) == {"finished": 8}
    client.close()


def test_a_lock_that_was_held_at_the_fork_stops_no_child(server: Server, log: EventLog):
    client = Client(log)
    client.generate(ask())
    line = client._lines.to("openai/gpt-5.4-mini")  # pyright: ignore[reportPrivateUsage]
    with line.limiter._lock, line.breaker._lock, client._lock:  # pyright: ignore
        assert forked(lambda: client.generate(ask())) == 0
    assert ends(log) == {"finished": 2}
    client.close()


def test_a_call_is_never_ended_by_two(server: Server, log: EventLog):
    """The journal's rule holds also where a process was taken for dead."""
    server.answer = lambda seen: say_events(piece("Par"), cut=True)
    client = Client(log)
    stream = client.stream(ask())
    next(stream)
    started = next(iter(log.read(kinds=["llm.call.started"]))).event
    about: dict[str, Any] = {"provider": "openai", "request_model": "gpt-5.4-mini"}
    call_id = started.call_id  # pyright: ignore
    log.append(LlmCallCrashed(call_id=call_id, process="taken", **about))
    with pytest.raises(UsageError, match="version"):
        list(stream)
    assert ends(log) == {"crashed": 1}
    client.close()
