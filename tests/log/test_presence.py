"""A call whose process died is found and closed; a call in flight is left alone."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tracemill import EventLog
from tracemill.events import LlmCallCrashed, LlmCallFailed, LlmCallStarted, new_id
from tracemill.log import presence

START = """
import os, signal, sys
from tracemill import EventLog
from tracemill.events import LlmCallFailed, LlmCallStarted
from tracemill.log import presence

log = EventLog(sys.argv[1])
def start(call_id):
    about = {"call_id": call_id, "provider": "x", "request_model": "y"}
    log.append([LlmCallStarted(**about, process=log.process, user_id="u1")])
    presence.began(call_id)
    return about
"""
DIE = "os.kill(os.getpid(), signal.SIGKILL)"


def run(log: EventLog, code: str, *arguments: str) -> int:
    command = [sys.executable, "-c", START + code, str(log.folder), *arguments]
    return subprocess.run(command, check=False).returncode


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "log")


def test_calls_of_a_killed_process_are_closed_once(log: EventLog):
    calls = sorted(new_id() for _ in range(3))
    ended = "a = start(sys.argv[4])\nlog.append([LlmCallFailed(**a, error_type='x', error_message='x', latency_ms=0)])\n"
    code = f"start(sys.argv[2]); start(sys.argv[3])\n{ended}{DIE}"
    assert run(log, code, *calls) == -signal.SIGKILL
    assert log.position() == 4
    EventLog(log.folder)
    EventLog(log.folder)
    crashed = [r.event for r in log.read(kinds=["llm.call.crashed"])]
    assert sorted(e.call_id for e in crashed if isinstance(e, LlmCallCrashed)) == calls[:2]
    assert {e.user_id for e in crashed if isinstance(e, LlmCallCrashed)} == {"u1"}
    assert log.verify().ok
    assert not list((log.folder / "live").iterdir())


def test_a_process_that_ends_in_order_leaves_nothing(log: EventLog):
    assert run(log, "start(sys.argv[2]); presence.ended(sys.argv[2])", new_id()) == 0
    assert not list((log.folder / "live").iterdir())


def test_a_process_that_ends_with_a_call_in_flight_is_found(log: EventLog):
    assert run(log, "start(sys.argv[2])", new_id()) == 0
    EventLog(log.folder)
    assert [r.event.kind for r in log.read()] == ["llm.call.started", "llm.call.crashed"]  # pyright: ignore


def test_a_call_in_flight_is_left_alone(log: EventLog):
    about: dict[str, Any] = {"call_id": new_id(), "provider": "x", "request_model": "y"}
    log.append([LlmCallStarted(**about, process=log.process)])
    presence.began(about["call_id"])
    try:
        assert run(log, "") == 0
        EventLog(log.folder)
        assert log.position() == 1
    finally:
        log.append([LlmCallFailed(**about, error_type="x", error_message="x", latency_ms=0)])
        presence.ended(about["call_id"])


def _start_and_die(folder: Path, call_id: str) -> None:
    log = EventLog(folder)
    log.append(
        [LlmCallStarted(call_id=call_id, provider="x", request_model="y", process=log.process)]
    )
    presence.began(call_id)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_forked_child_is_a_process_of_its_own(log: EventLog):
    mine = log.process
    call_id = new_id()
    child = multiprocessing.get_context("fork").Process(
        target=_start_and_die, args=(log.folder, call_id)
    )
    child.start()
    child.join()
    EventLog(log.folder)
    crashed = [r.event for r in log.read(kinds=["llm.call.crashed"])]
    assert [e.call_id for e in crashed if isinstance(e, LlmCallCrashed)] == [call_id]
    assert mine != next(e.process for e in crashed if isinstance(e, LlmCallCrashed))
    assert log.process == mine
