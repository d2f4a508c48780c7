"""`tracemill batches` as its user meets it, against a provider on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import Run
from tests.llm.batch_server import KEYS, BatchServer, serving
from tracemill import EventLog, Request, Settings
from tracemill.llm import batches
from tracemill.llm.client import Client


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    with serving() as server:
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"{server.url}/anthropic/v1")
        yield server


@pytest.fixture
def batch_id(tmp_path: Path, server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a batch of two calls that runs."""
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(settings.warehouse))
    asked = [Request.of(f"question {n}", model="anthropic/claude-haiku-4-5") for n in range(2)]
    with EventLog.open(settings) as log:
        client = Client(log, settings)
        batch_id = batches.submit(client, asked)
        client.close()
    return batch_id


def test_ls_lists_batches_by_state(run: Run, batch_id: str, server: BatchServer) -> None:
    row = run("batches", "ls").out.splitlines()[-1]
    assert row.split()[0] == batch_id[-12:]
    assert row.split()[-3:] == ["anthropic/claude-haiku-4-5", "running", "2"]
    (told,) = run("batches", "ls", "--json").lines
    assert (told["batch_id"], told["state"], told["calls"]) == (batch_id, "running", 2)
    server.finish()
    run("batches", "wait", batch_id)
    assert run("batches", "ls").out.splitlines()[-1].split()[-4:] == ["collected", "2", "2", "0"]


def test_a_warehouse_without_batches_says_so(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init", str(tmp_path))
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(tmp_path / "warehouse"))
    ran = run("batches", "ls")
    assert (ran.code, ran.out, ran.err) == (0, "", "no batches\n")


def test_show_tells_of_one_by_the_end_of_its_id(
    run: Run, batch_id: str, server: BatchServer
) -> None:
    shown = run("batches", "show", batch_id[-12:]).out
    assert "running" in shown
    assert server.batches[0].id in shown
    (told,) = run("batches", "show", batch_id[:20], "--json").lines
    assert told["remote_id"] == server.batches[0].id
    assert told["counts"]["processing"] == 2


def test_an_id_that_is_not_there_is_a_sentence(run: Run, batch_id: str) -> None:
    ran = run("batches", "show", "nothing")
    assert ran.code == 2
    assert ran.err == "error: no batch matches 'nothing': `tracemill batches ls` lists them\n"


def test_wait_collects_once_it_has_ended(run: Run, batch_id: str, server: BatchServer) -> None:
    ran = run("batches", "wait", batch_id, "--timeout", "0")
    assert ran.code == 1
    assert f"batch {batch_id} has not ended: running" in ran.err
    server.finish(["error"], extra=["stranger"])
    ran = run("batches", "wait", batch_id)
    assert (ran.code, ran.out) == (0, "1 calls finished, 1 failed\n")
    assert f"left in quarantine/batches/{batch_id}.jsonl" in ran.err
    (told,) = run("batches", "wait", batch_id, "--json").lines
    assert (told["finished"], told["failed"], told["collected"]) == (1, 1, True)


def test_cancel_asks_the_provider(run: Run, batch_id: str, server: BatchServer) -> None:
    (told,) = run("batches", "cancel", batch_id, "--json").lines
    assert told["state"] == server.batches[0].state == "cancelling"


def test_abandon_ends_what_the_provider_lost(run: Run, batch_id: str, server: BatchServer) -> None:
    server.batches.clear()
    ran = run("batches", "wait", batch_id)
    assert (ran.code, ran.err) == (1, "error: no such batch\n")
    (told,) = run("batches", "cancel", batch_id, "--abandon", "--json").lines
    assert (told["state"], told["finished"], told["failed"]) == ("failed", 0, 2)
