"""Processes that are killed between any two steps of a job at a provider: nothing is done twice, and
nothing is lost.

At every fourth request that a life takes (at each with TRACEMILL_TEST_FULL, and another fourth for
each provider), a process is killed with SIGKILL: as the request arrives, and the next one when it was
served and before its answer leaves. Another process then goes on.
"""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.finetune.finetune_server import FineTuneServer, serving
from tests.finetune.hosted_jobs import BASES, write_demo
from tracemill import EventLog, Settings
from tracemill.finetune import jobs
from tracemill.finetune.recipe import FineTune

EVERY = 1 if os.environ.get("TRACEMILL_TEST_FULL") else 4
WAYS = {
    "openai": ("validating_files", "running", "succeeded"),
    "together": ("pending", "running", "completed"),
    "fireworks": ("CREATING", "RUNNING", "COMPLETED"),
}
# Forks a process for each line that it reads, so that none has to import anything anew.
FORKING = """
import os, sys
from pathlib import Path
from tracemill import EventLog, Settings
from tracemill.corpus import validation
from tracemill.finetune import jobs
from tracemill.finetune.providers import examined, hosted, openai, together, fireworks
from tracemill.llm import network
from tracemill.llm.client import Client
def work(warehouse, job_id):
    settings = Settings(warehouse=Path(warehouse))
    with EventLog(settings.log) as log:
        client = Client(log, settings)
        known = jobs.run(log, settings, job_id, client=client, pause=lambda _: None, timeout_s=30)
        client.close()
    assert known.state == "succeeded", known
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            work(*line.split())
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forker:
    """Runs jobs in processes of their own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.child = 0
        self.known = threading.Event()

    def run(self, settings: Settings, job_id: str) -> int:
        """Take a job to its end; what the process ended with."""
        assert self._process.stdin
        assert self._process.stdout
        self.known.clear()
        self._process.stdin.write(f"{settings.warehouse} {job_id}\n")
        self._process.stdin.flush()
        self.child = int(self._process.stdout.readline())
        self.known.set()
        return int(self._process.stdout.readline())

    def kill(self) -> None:
        assert self.known.wait(30)
        os.kill(self.child, signal.SIGKILL)


@pytest.fixture(scope="module")
def server() -> Iterator[FineTuneServer]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def forker(server: FineTuneServer) -> Iterator[Forker]:
    pipe = subprocess.PIPE
    environment = os.environ | server.environment | {"TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-c", FORKING]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            yield Forker(process)
        finally:
            assert process.stdin
            process.stdin.close()


@contextmanager
def asked(folder: Path, provider: str) -> Iterator[tuple[Settings, str]]:
    """A warehouse in which a model was asked for."""
    settings = Settings(warehouse=folder / "warehouse").create()
    write_demo(settings)
    recipe = FineTune.model_validate({"provider": provider, "base_model": BASES[provider]})
    with EventLog(settings.log) as log:
        job_id = jobs.request(log, settings, "routing", recipe)
    yield settings, job_id


def fresh(server: FineTuneServer) -> None:
    server.__dict__.update({k: v for k, v in FineTuneServer().__dict__.items() if k != "url"})


class Killing:
    """Kills whoever sends a request that was not sent before: once as it arrives, and once more when
    it was served and its answer is about to leave."""

    def __init__(self, server: FineTuneServer, forker: Forker, first: int) -> None:
        """Leaves all but every fourth alone, from the `first` on."""
        self._server, self._forker = server, forker
        self._spared, self._new = set[tuple[object, ...]](), -first
        self._sent: Counter[tuple[object, ...]] = Counter()
        self._cut, self.kills = False, 0
        server.before, server.answering = self._arrived, self._served

    def _kill(self) -> None:
        self._forker.kill()
        self.kills += 1

    def _arrived(self, method: str, path: str) -> None:
        held = [(file.name, file.status) for file in self._server.files.values()]
        states = [job.state for job in self._server.jobs]
        key = (method, path, str(held), str(states))
        if key not in self._sent and key not in self._spared:
            self._new += 1
            if (self._new - 1) % EVERY:
                self._spared.add(key)
        if key in self._spared:
            self._cut = False
            return
        self._sent[key] += 1
        if self._sent[key] == 1:
            self._kill()
            raise ConnectionResetError
        self._cut = self._sent[key] == 2

    def _served(self, method: str, path: str) -> bool:
        if self._cut:
            self._kill()
        return not self._cut


def lived(server: FineTuneServer, settings: Settings, job_id: str) -> None:
    """One job was made of two files, and the log tells of each step once."""
    assert server.done == Counter({"upload": 2, "create": 1} | _datasets(server))
    with EventLog(settings.log) as log:
        kinds = Counter(r.event.model_dump()["kind"] for r in log.read(stream=f"finetune:{job_id}"))
        known = jobs.state(log, job_id)
        assert log.verify().ok
        assert len(list(log.read(kinds=["model.registered"]))) == 1
    once = ("requested", "validated", "created", "succeeded")
    assert {name: kinds[f"finetune.{name}"] for name in once} == dict.fromkeys(once, 1)
    assert kinds["finetune.uploaded"] == 2
    said = [e["message"] for e in server.jobs[0].events if e["type"] != "metrics"]
    with EventLog(settings.log) as log:
        heard = [
            message
            for recorded in log.read(stream=f"finetune:{job_id}", kinds=["finetune.progressed"])
            for message in recorded.event.model_dump()["messages"]
        ]
    assert heard == said
    assert len(known.checkpoints) == len(server.jobs[0].checkpoints)


def _datasets(server: FineTuneServer) -> dict[str, int]:
    return {"dataset": 2} if "dataset" in server.done else {}


@pytest.mark.parametrize("provider", ["openai", "together", "fireworks"])
def test_killed_at_every_request_of_its_life(
    server: FineTuneServer, forker: Forker, tmp_path: Path, provider: str
):
    fresh(server)
    server.way = WAYS[provider]
    killing = Killing(server, forker, first=list(WAYS).index(provider))
    with asked(tmp_path, provider) as (settings, job_id):
        deaths = 0
        while forker.run(settings, job_id) == -signal.SIGKILL:
            deaths += 1
            assert deaths < 200
        lived(server, settings, job_id)
    posts = sum(method == "POST" for method, _ in server.seen)
    assert deaths == killing.kills > 20 // EVERY
    assert posts >= sum(server.done.values()) + (EVERY == 1)
