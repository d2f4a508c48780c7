"""Real processes killed with kill -9: nothing acknowledged is lost, no result stands twice, and nobody
is told of work that was not done."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.jobs.working import SECRET, Work, asked
from tests.llm.serving import Say, Seen, Server, say, serving
from tests.llm.test_client_http import answered
from tracemill.events import JobCallbackTold
from tracemill.jobs import recovery
from tracemill.jobs.jobs import Counts, Jobs
from tracemill.log import EventLog
from tracemill.messages import Request
from tracemill.settings import Settings
from tracemill.webhooks import signature

FULL = bool(os.environ.get("TRACEMILL_TEST_FULL"))
KILLS = 100 if FULL else 1
SIZE = 40 if FULL else 20
MODEL = "openai/gpt-5.4-mini"
WORKER = Path(__file__).with_name("worker_process.py")
ENDS = ("job.item.finished", "job.item.failed", "job.item.parked")
SUBMITTER = """
import sys
from pathlib import Path
from tracemill.jobs.jobs import Jobs
from tracemill.log import EventLog
from tracemill.messages import Request
from tracemill.settings import Settings
settings = Settings(warehouse=Path(sys.argv[1]))
jobs = Jobs(EventLog.open(settings), settings)
for i in range(10_000):
    key = f"{sys.argv[2]}-{i}"
    made = [Request.of(f"{key} {n}", model="made/up") for n in range(5)]
    print(jobs.submit(made, idempotency_key=key).id, flush=True)
"""


def until(met: Callable[[], object], limit_s: float = 120) -> None:
    """Wait for other processes."""
    end = time.monotonic() + limit_s
    while not met():
        assert time.monotonic() < end, "it does not come to pass"
        time.sleep(0.01)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(lambda seen: say(answered())) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdefghij")
        monkeypatch.setenv("TRACEMILL_CALLBACK_SECRET", SECRET)
        monkeypatch.setenv("TRACEMILL_CALLBACK_PRIVATE", "1")
        yield server


@pytest.fixture
def jobs(tmp_path: Path, provider: Server) -> Iterator[Jobs]:
    settings = Settings(warehouse=tmp_path / "warehouse")
    with EventLog.open(settings) as log:
        jobs = Jobs(log, settings)
        yield jobs
        jobs.close()


class Workers:
    """Worker processes of a test; none outlives it."""

    def __init__(self, jobs: Jobs) -> None:
        self._warehouse = jobs.settings.warehouse
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self, processes: int, *more: str) -> psutil.Process:
        command = [sys.executable, str(WORKER), str(self._warehouse), str(processes), *more]
        path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
        self.all.append(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}))
        return psutil.Process(self.all[-1].pid)

    def wait(self) -> int:
        return self.all[-1].wait(60)

    def end(self) -> None:
        for worker in self.all:
            if worker.poll() is None:
                for child in children(psutil.Process(worker.pid)):
                    child.kill()
                worker.kill()
                worker.wait()


def children(watch: psutil.Process) -> list[psutil.Process]:
    """Those that make calls."""
    try:
        found = watch.children()
        return [each for each in found if "spawn_main" in " ".join(each.cmdline())]
    except psutil.NoSuchProcess:
        return []


def heard(watch: psutil.Process) -> bool:
    """Whether it has taken note of every signal: two of one kind may become one before."""
    pending = [
        line.split()[1]
        for line in Path(f"/proc/{watch.pid}/status").read_text().splitlines()
        if line.startswith(("SigPnd", "ShdPnd"))
    ]
    return all(int(each, 16) == 0 for each in pending)


@pytest.fixture
def workers(jobs: Jobs) -> Iterator[Workers]:
    workers = Workers(jobs)
    yield workers
    workers.end()


def ends_by_item(jobs: Jobs) -> Counter[str]:
    """How many results each request has."""
    return Counter(recorded.stream for recorded in jobs.log.read(kinds=ENDS))


class Told:
    """A receiver of callbacks, which looks into the log whether what it is told is so."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.messages: list[tuple[str, str, str]] = []
        self.wrong: list[str] = []

    def __call__(self, seen: Seen) -> Say:
        message = json.loads(seen.body)
        about, data = message["type"], message["data"]
        told = signature.verify(seen.body, seen.headers, SECRET)
        job = self.jobs.get(data["job_id"])
        if (
            f"job.{job.state}" != about
            or job.counts.open
            or list(job.counts) != [data[name] for name in Counts._fields]
        ):
            self.wrong.append(f"{message} but {job}")
        self.messages.append((told, data["job_id"], about))
        return say({})


@pytest.mark.timeout(1_800 if FULL else 240)
def test_workers_and_their_watch_are_killed_at_any_moment(
    jobs: Jobs, workers: Workers, provider: Server
) -> None:
    chance = random.Random(8)
    told = Told(jobs)
    with serving(told) as receiver:

        def submit(name: str) -> str:
            requests = asked(SIZE, f"{name} {{}}", MODEL)
            return jobs.submit(requests, callback_url=receiver.url).id

        made = [submit("a"), submit("b")]
        # It kills its process together with what else that is at, and once more when it is alone.
        deadly = jobs.submit([Request.of("DEADLY", model=MODEL)], priority=1).id
        for kill in range(KILLS):
            if not any(worker.poll() is None for worker in workers.all):
                watch = workers.start(2)
            if not jobs.known.open():
                made.append(submit("c"))
            seen = len(provider.seen) + chance.randrange(1, 25)
            until(lambda seen=seen: len(provider.seen) >= seen or not jobs.known.open())
            for victim in children(watch)[:1] if kill % 2 else [watch]:
                victim.kill()
                if victim is watch:
                    workers.wait()
        workers.start(1, "until-idle")
        assert workers.wait() == 0
    assert told.wrong == []
    _check_results(jobs, made)
    (parked,) = jobs.results(deadly)
    assert parked.error is not None
    assert parked.error.message == "2 workers died while they were at it"
    # Once, or again under the same id where the teller died before it could say so.
    assert set(told.messages) == {
        (f"{each}:1", each, f"job.{jobs.get(each).state}") for each in made
    }
    events = [r.event for r in jobs.log.read(kinds=["job.callback_told"])]
    delivered = {e.job_id for e in events if isinstance(e, JobCallbackTold) and e.delivered}
    assert delivered == set(made)
    assert not jobs.log.verify().problems


def _check_results(jobs: Jobs, made: list[str]) -> None:
    """Each request has one result: its answer, or that it cost two workers at random."""
    by_item = ends_by_item(jobs)
    assert set(by_item.values()) == {1}
    assert len(by_item) == SIZE * len(made) + 1
    for job_id in made:
        now = jobs.get(job_id)
        assert (now.state, now.counts.open) == ("finished", 0)
        results = list(jobs.results(job_id))
        assert [each.index for each in results] == list(range(SIZE))
        assert {each.error.error_type for each in results if each.error} <= {"lost"}
        assert FULL or now.counts == Counts(SIZE, SIZE)


@pytest.mark.timeout(1_800 if FULL else 240)
def test_what_was_acknowledged_survives_its_submitter(jobs: Jobs) -> None:
    chance = random.Random(9)
    acknowledged: list[str] = []
    for kill in range(50 if FULL else 2):
        warehouse = str(jobs.settings.warehouse)
        command = [sys.executable, "-c", SUBMITTER, warehouse, str(kill)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as submitter:
            assert submitter.stdout is not None
            for _ in range(chance.randrange(3, 20)):
                acknowledged.append(submitter.stdout.readline().strip())
            submitter.kill()
            acknowledged += [line.strip() for line in submitter.stdout if line.endswith("\n")]
    known = {job.id: job for job in jobs.known.all()}
    assert known.keys() >= set(acknowledged)
    work = Work(jobs)
    recovery.mend(jobs, work.leases)
    work.until_done(turns=100_000)
    assert {jobs.get(job_id).counts for job_id in known} == {Counts(5, 5)}
    assert set(ends_by_item(jobs).values()) == {1}


def test_a_worker_that_is_asked_to_stop_finishes_what_runs_and_asked_twice_leaves_it(
    jobs: Jobs, workers: Workers, provider: Server
) -> None:
    enough = threading.Event()

    def held(seen: Seen) -> Say:
        enough.wait(60)
        return say(answered())

    provider.answer = held
    job = jobs.submit(asked(20, model=MODEL))
    watch = workers.start(1)
    until(lambda: len(provider.seen) == 3)
    watch.send_signal(signal.SIGTERM)
    enough.set()
    assert workers.wait() == 0
    assert jobs.get(job.id).counts == Counts(20, done=3)

    enough.clear()
    watch = workers.start(1)
    until(lambda: len(provider.seen) == 6)
    watch.send_signal(signal.SIGTERM)
    until(lambda: heard(watch))
    watch.send_signal(signal.SIGTERM)
    assert workers.wait() == 0
    assert jobs.get(job.id).counts == Counts(20, done=3)
    assert list(jobs.log.read(kinds=["job.item.retried"])) == []  # nobody died
    enough.set()
    work = Work(jobs)
    recovery.mend(jobs, work.leases)
    work.until_done()
    assert jobs.get(job.id).counts == Counts(20, 20)
    assert set(ends_by_item(jobs).values()) == {1}
