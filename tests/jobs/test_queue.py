"""The queue, in a file and in a real Redis: the same contract."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.working import Work, asked, opened
from tracemill.errors import QueueUnreachable, UsageError
from tracemill.jobs import recovery
from tracemill.jobs.jobs import Counts
from tracemill.jobs.queued import Queue, Ticket
from tracemill.settings import Settings

SERVER = shutil.which("redis-server")
needs_server = pytest.mark.skipif(
    SERVER is None, reason="no redis-server here: apt-get install redis-server"
)


@pytest.fixture(scope="module")
def redis_address() -> Iterator[str]:
    # Not pytest's folder: the path of a socket may have 100 letters or so.
    folder = Path(tempfile.mkdtemp(prefix="redis"))
    path = folder / "s"
    server = subprocess.Popen(
        [SERVER or "", "--port", "0", "--unixsocket", path, "--dir", folder, "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 30
        while not path.exists():
            assert server.poll() is None
            assert time.monotonic() < end
        yield f"unix://{path}"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


@pytest.fixture(params=["file", pytest.param("redis", marks=needs_server)])
def address(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("redis_address") if request.param == "redis" else None


@pytest.fixture
def queue(tmp_path: Path, address: str | None) -> Iterator[Queue]:
    queue = Queue(Settings(warehouse=tmp_path, queue=address))
    yield queue
    queue.close()


def ticket(first: int, size: int = 1) -> Ticket:
    return Ticket("0" * 36, 1, first, size)


def test_the_highest_priority_comes_first_and_equals_in_their_order(queue: Queue) -> None:
    queue.put([ticket(1), ticket(2)], -3)
    queue.put([ticket(3), ticket(4)], 100)
    queue.put([ticket(5)], 0)
    queue.put([ticket(6)], 0)
    assert queue.waiting()
    assert {each.first for each in queue.tickets()} == {1, 2, 3, 4, 5, 6}
    popped = [queue.pop() for _ in range(7)]
    assert [each.first if each else None for each in popped] == [3, 4, 5, 6, 1, 2, None]
    assert not queue.waiting()


def test_what_is_put_off_comes_when_it_is_due(queue: Queue) -> None:
    queue.later(ticket(1), 0.0)
    queue.later(ticket(2), 3_600.0)
    assert not queue.waiting()
    assert {each.first for each in queue.tickets()} == {1, 2}
    assert queue.due() == [ticket(1)]
    assert queue.due() == []
    assert queue.tickets() == [ticket(2)]


def test_warehouses_do_not_take_from_each_other(tmp_path: Path, address: str | None) -> None:
    one, other = (Queue(Settings(warehouse=tmp_path / n, queue=address)) for n in ("a", "b"))
    one.put([ticket(1)], 0)
    assert other.pop() is None
    assert Queue(Settings(warehouse=tmp_path / "a", queue=address)).pop() == ticket(1)


def test_jobs_end_whatever_keeps_the_queue(tmp_path: Path, address: str | None) -> None:
    jobs = opened(tmp_path, queue=address)
    job = jobs.submit(asked(30), priority=7)
    Work(jobs).until_done()
    assert jobs.get(job.id).counts == Counts(30, 30)


@needs_server
def test_a_redis_that_forgot_everything_is_filled_again(tmp_path: Path, redis_address: str) -> None:
    import redis

    jobs = opened(tmp_path, queue=redis_address)
    job = jobs.submit(asked(30))
    with redis.Redis.from_url(redis_address) as client:
        client.flushall()
    work = Work(jobs)
    assert recovery.mend(jobs, work.leases).missing == 30
    work.until_done()
    assert jobs.get(job.id).counts == Counts(30, 30)


def test_a_redis_that_is_away_loses_nothing(tmp_path: Path) -> None:
    away = opened(tmp_path, queue="redis://127.0.0.1:1/0")
    job = away.submit(asked(3))
    assert away.get(job.id).counts == Counts(3)
    with pytest.raises(QueueUnreachable, match="TRACEMILL_QUEUE"):
        away.queue.pop()
    here = opened(tmp_path)
    work = Work(here)
    recovery.mend(here, work.leases)
    work.until_done()
    assert away.get(job.id).counts == Counts(3, 3)


def test_an_address_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="TRACEMILL_QUEUE is redis://"):
        opened(tmp_path, queue="postgres://localhost")


def test_a_ticket_is_read_as_it_was_written() -> None:
    every = Ticket("01a20671-b97f-72af-aace-98c3d214e3cc", 2, 40, 20, alone=True)
    assert Ticket.read(str(every)) == every
    assert list(every.indices) == list(range(40, 60))
    with pytest.raises(ValueError, match="unpack"):
        Ticket.read("something else")
