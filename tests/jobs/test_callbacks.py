"""Callbacks: one truth, signed, again until it is taken, and to no place that it must not reach."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.working import SECRET, Work, asked, opened
from tests.llm.serving import Seen, Server, say, serving
from tracemill.errors import UsageError
from tracemill.events import JobCallbackTold
from tracemill.jobs import callbacks
from tracemill.jobs.callbacks import FIRST_WAIT_S, MOST_ATTEMPTS, Callbacks
from tracemill.jobs.jobs import Jobs
from tracemill.messages import Request
from tracemill.webhooks import signature


@pytest.fixture
def receiver() -> Iterator[Server]:
    with serving(lambda seen: say({})) as server:
        yield server


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    jobs = opened(tmp_path, callback_secret=SECRET, callback_private=True)
    yield jobs
    jobs.close()
    jobs.log.close()


def telling(jobs: Jobs) -> Callbacks:
    return Callbacks(jobs.log, jobs.settings, jobs.known)


def told(jobs: Jobs) -> list[tuple[int, str, bool, int]]:
    events = [recorded.event for recorded in jobs.log.read(kinds=["job.callback_told"])]
    return [
        (e.round, e.about, e.delivered, e.attempt) for e in events if isinstance(e, JobCallbackTold)
    ]


def test_the_end_is_told_once_signed_and_only_when_it_is_there(
    jobs: Jobs, receiver: Server
) -> None:
    job = jobs.submit([*asked(2), Request.of("FAIL")], callback_url=receiver.url, name="three")
    tell = telling(jobs)
    assert tell.tell() is None
    assert receiver.seen == []
    Work(jobs).until_done()
    tell.tell()
    tell.tell()
    telling(jobs).tell()  # another process
    (seen,) = receiver.seen
    assert signature.verify(seen.body, seen.headers, SECRET) == f"{job.id}:1"
    ended = jobs.get(job.id).ended_at
    assert ended is not None
    assert json.loads(seen.body) == {
        "type": "job.finished",
        "timestamp": ended.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": {
            "job_id": job.id,
            "name": "three",
            "state": "finished",
            "round": 1,
            "total": 3,
            "done": 2,
            "failed": 1,
            "parked": 0,
        },
    }
    assert told(jobs) == [(1, "finished", True, 1)]


def test_what_is_not_taken_is_told_again_under_the_same_id_and_given_up_at_last(
    jobs: Jobs, receiver: Server
) -> None:
    receiver.answer = lambda seen: say({}, 503)
    job = jobs.submit([Request.of("FAIL")], callback_url=receiver.url)
    Work(jobs).until_done()
    now = time.time()
    tell = telling(jobs)
    assert tell.tell(now=now) == FIRST_WAIT_S
    assert tell.tell(now=now) == pytest.approx(FIRST_WAIT_S, abs=1)
    assert len(receiver.seen) == 1
    for _ in range(MOST_ATTEMPTS + 3):
        tell.tell(now=now + 7 * 86_400)
    assert len(receiver.seen) == MOST_ATTEMPTS
    ids = {signature.verify(seen.body, seen.headers, SECRET) for seen in receiver.seen}
    assert ids == {f"{job.id}:1"}
    assert told(jobs) == [(1, "failed", False, n + 1) for n in range(MOST_ATTEMPTS)]
    row = jobs.log.sql("FROM queued_jobs").row(0, named=True)
    assert (row["callback_delivered"], row["callback_attempts"]) == (False, MOST_ATTEMPTS)


def test_a_receiver_that_hangs_is_left_in_time_and_tried_again(
    jobs: Jobs, receiver: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def hang(seen: Seen):
        over.wait(60)
        return say({})

    receiver.answer = hang
    monkeypatch.setattr(callbacks.Allowed, "__new__", _short(callbacks.Allowed.__new__))
    jobs.submit(asked(1), callback_url=receiver.url)
    Work(jobs).until_done()
    telling(jobs).tell()
    over.set()
    assert told(jobs) == [(1, "finished", False, 1)]


def _short(new):
    return lambda cls, insecure, private: new(cls, insecure, private, 0.2)


def test_a_second_round_is_told_under_an_id_of_its_own(jobs: Jobs, receiver: Server) -> None:
    job = jobs.submit([Request.of("WAIT")], callback_url=receiver.url)
    Work(jobs).until_done()
    tell = telling(jobs)
    tell.tell()
    jobs.retry(job.id)
    tell.tell()
    assert len(receiver.seen) == 1
    jobs.cancel(job.id)
    tell.tell()
    assert told(jobs) == [(1, "failed", True, 1), (2, "cancelled", True, 1)]
    ids = [seen.headers["webhook-id"] for seen in receiver.seen]
    assert ids == [f"{job.id}:1", f"{job.id}:2"]


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("http://example.org/hook", "http://"),
        ("https://127.0.0.1/hook", "private network"),
        ("https://10.1.2.3/hook", "private network"),
        ("https://169.254.169.254/latest/meta-data", "private network"),
        ("https://[::1]/hook", "private network"),
        ("https://[::ffff:10.0.0.1]/hook", "private network"),
        ("https://[fd00::1]/hook", "private network"),
        ("https://localhost/hook", "this machine's own"),
        ("https://user:pass@example.org/", "name and password"),
        ("https://example.org/a b", "characters"),
        ("file:///etc/passwd", "https://host/path"),
        ("https:///nowhere", "https://host/path"),
        ("https://[broken/", "cannot be read"),
    ],
)
def test_addresses_that_must_not_be_reached_are_refused_at_once(
    tmp_path: Path, url: str, wrong: str
) -> None:
    jobs = opened(tmp_path, callback_secret=SECRET)
    with pytest.raises(UsageError, match=wrong):
        jobs.submit(asked(1), callback_url=url)
    assert jobs.log.position() == 0


def test_a_name_that_leads_inside_is_refused_when_it_is_told(
    tmp_path: Path, receiver: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = opened(tmp_path, callback_secret=SECRET)
    port = receiver.url.rpartition(":")[2]
    found = [(2, 1, 6, "", ("127.0.0.1", int(port)))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    jobs.submit(asked(1), callback_url=f"https://inside.example.org:{port}/hook")
    Work(jobs).until_done()
    telling(jobs).tell()
    (event,) = [recorded.event for recorded in jobs.log.read(kinds=["job.callback_told"])]
    assert isinstance(event, JobCallbackTold)
    assert (event.delivered, receiver.seen) == (False, [])
    assert "private network" in (event.error_message or "")


def test_without_a_secret_nothing_is_promised(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="TRACEMILL_CALLBACK_SECRET"):
        opened(tmp_path).submit(asked(1), callback_url="https://example.org/")
    with pytest.raises(UsageError, match="less than 16 bytes"):
        opened(tmp_path, callback_secret="short").submit(
            asked(1), callback_url="https://example.org/"
        )
