"""Calls made by other machines through a real Redis: recorded here, once, whoever dies there."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.test_jobs_killed import MODEL, until
from tests.jobs.test_queue import needs_server, redis_address
from tests.jobs.working import Work, asked, opened
from tests.llm.serving import Say, Seen, Server, say, serving
from tests.llm.test_client_http import answered
from tracemill.errors import UsageError
from tracemill.jobs import elsewhere
from tracemill.jobs.elsewhere import Lender
from tracemill.jobs.jobs import Counts, Jobs
from tracemill.messages import Request

__all__ = ["redis_address"]
pytestmark = needs_server


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(lambda seen: say(answered())) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdefghij")
        yield server


@pytest.fixture
def jobs(tmp_path: Path, redis_address: str) -> Iterator[Jobs]:
    elsewhere.connected(redis_address).flushall()
    jobs = opened(tmp_path, queue=redis_address)
    yield jobs
    jobs.close()
    jobs.log.close()


def helper(address: str | None) -> subprocess.Popen[bytes]:
    """Another machine, which has no warehouse."""
    command = [sys.executable, "-m", "tracemill", "worker", "--for-others", "--threads", "3"]
    environment = {**os.environ, "TRACEMILL_QUEUE": address or ""}
    environment.pop("TRACEMILL_WAREHOUSE", None)
    return subprocess.Popen(command, env=environment, cwd="/", stdout=subprocess.DEVNULL)


def kinds(jobs: Jobs) -> Counter[str]:
    return Counter(str(getattr(each.event, "kind", "")) for each in jobs.log.read())


def test_a_helper_that_dies_is_replaced_and_each_request_has_one_result(
    jobs: Jobs, provider: Server
) -> None:
    enough = threading.Event()

    def held(seen: Seen) -> Say:
        enough.wait(60)
        return say(answered())

    provider.answer = held
    job = jobs.submit([*asked(5, model=MODEL), Request.of("Hi", model="nobody/knows")])
    lender = Lender(jobs.log, jobs.queue.address, jobs.queue.name)
    working = threading.Thread(target=Work(jobs, lender.generate).until_done, args=(3_000,))
    working.start()
    first = helper(jobs.queue.address)
    try:
        until(lambda: len(provider.seen) >= 2)
    finally:
        first.kill()
        first.wait()
    enough.set()
    redis = elsewhere.connected(jobs.queue.address)
    for key in redis.scan_iter("tracemill.elsewhere.held:*"):
        redis.delete(key)  # as it would be in some seconds, since nobody renews it
    second = helper(jobs.queue.address)
    try:
        working.join(120)
    finally:
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 0
    assert jobs.get(job.id).counts == Counts(6, done=5, failed=1)
    lender.collect()
    assert lender.collect() == 0
    told = kinds(jobs)
    assert (told["llm.call.finished"], told["job.item.finished"]) == (5, 5)
    assert told["job.item.retried"] >= 2
    calls = jobs.log.sql("SELECT DISTINCT correlation_id FROM events WHERE kind LIKE 'llm.call.%'")
    assert calls["correlation_id"].to_list() == [job.id]
    errors = [each.error.error_type for each in jobs.results(job.id) if each.error]
    assert errors == ["unknown_provider"]


def test_without_redis_there_is_nobody_elsewhere(tmp_path: Path) -> None:
    jobs = opened(tmp_path)
    with pytest.raises(UsageError, match="TRACEMILL_QUEUE"):
        Lender(jobs.log, jobs.queue.address, jobs.queue.name)
