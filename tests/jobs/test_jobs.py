"""Jobs without processes: what is handed over, what comes of it, and what is refused."""

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic_core import from_json

from tests.jobs.working import AT_ONCE, Work, asked, echo, opened
from tracemill.errors import BudgetExceeded, KeyReused, UsageError
from tracemill.events import JobItemFinished, JobItemRetried
from tracemill.jobs import files, recovery
from tracemill.jobs.jobs import Counts, Item, Jobs, Result
from tracemill.jobs.queued import FILE
from tracemill.llm.client import Client
from tracemill.llm.options import Options
from tracemill.messages import Request, Response
from tracemill.operations.forget import forget


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    jobs = opened(tmp_path)
    yield jobs
    jobs.close()
    jobs.log.close()


def texts(results: Iterator[Result]) -> list[str]:
    """What each request brought, in a word or two."""
    return [
        each.response.text if each.response else each.error.error_type if each.error else each.state
        for each in results
    ]


def test_every_request_is_answered_in_its_order(jobs: Jobs) -> None:
    job = jobs.submit(asked(3), name="three", priority=2)
    assert (job.state, job.counts, job.ended_at) == ("queued", Counts(3), None)
    Work(jobs).until_done()
    done = jobs.get(job.id)
    assert (done.state, done.counts, done.name) == ("finished", Counts(3, 3), "three")
    assert done.ended_at is not None
    assert texts(jobs.results(job.id)) == ["echo of Say 0.", "echo of Say 1.", "echo of Say 2."]


def test_the_log_tells_of_each_request_once(jobs: Jobs) -> None:
    job = jobs.submit(asked(5))
    Work(jobs).until_done()
    kinds = Counter(str(getattr(each.event, "kind", "")) for each in jobs.log.read())
    assert kinds == {"job.submitted": 1, "job.item.finished": 5, "job.ended": 1}
    ended = [r.event for r in jobs.log.read() if isinstance(r.event, JobItemFinished)]
    assert sorted(each.index for each in ended) == [0, 1, 2, 3, 4]
    assert {each.job_id for each in ended} == {job.id}


def test_what_is_refused_for_good_fails_and_what_may_succeed_is_tried_again_then_parked(
    jobs: Jobs,
) -> None:
    requests = [Request.of(text) for text in ("FAIL", "WAIT", "Hello")]
    job = jobs.submit(requests)
    Work(jobs).until_done()
    assert texts(jobs.results(job.id)) == ["invalid_request", "overloaded", "echo of Hello"]
    states = [each.state for each in jobs.results(job.id)]
    assert states == ["failed", "parked", "done"]
    assert jobs.get(job.id).counts == Counts(3, done=1, failed=1, parked=1)
    tries = [r.event for r in jobs.log.read() if isinstance(r.event, JobItemRetried)]
    assert [(each.index, each.attempts, each.reason) for each in tries] == [
        (1, 1, "failed"),
        (1, 2, "failed"),
    ]


def test_a_job_without_any_answer_has_failed(jobs: Jobs) -> None:
    job = jobs.submit([Request.of("FAIL"), Request.of("WAIT")])
    Work(jobs).until_done()
    assert jobs.get(job.id).state == "failed"


def test_what_was_parked_is_begun_again(jobs: Jobs) -> None:
    job = jobs.submit([Request.of(text) for text in ("FAIL", "WAIT", "Hello")])
    Work(jobs).until_done()

    def well(request: Request, options: Options) -> Response:
        return echo(request.model_copy(update={"messages": request.messages[-1:]}), options)

    again = jobs.retry(job.id)
    assert (again.state, again.round, again.counts) == ("running", 2, Counts(3, 1, 1, 0))
    assert [each.state for each in jobs.results(job.id)] == ["failed", "open", "done"]
    Work(jobs, lambda _, options: well(Request.of("better now"), options)).until_done()
    assert texts(jobs.results(job.id)) == [
        "invalid_request",
        "echo of better now",
        "echo of Hello",
    ]
    assert jobs.get(job.id).counts == Counts(3, 2, 1, 0)
    jobs.retry(job.id, failed=True)
    Work(jobs, lambda _, options: well(Request.of("best"), options)).until_done()
    assert jobs.get(job.id).counts == Counts(3, 3)
    with pytest.raises(UsageError, match="nothing that is parked"):
        jobs.retry(job.id)


def test_higher_priority_goes_first_and_equals_in_their_order(jobs: Jobs) -> None:
    order: list[str] = []

    def noted(request: Request, options: Options) -> Response:
        order.append(request.messages[-1].text)
        return echo(request, options)

    for name, priority in (("low", -5), ("first", 0), ("second", 0), ("high", 9)):
        jobs.submit([Request.of(name)], priority=priority)
    work = Work(jobs, noted)
    work.taking = type(work.taking)(jobs, work.taking._doing, 1, lambda _: None)
    work.until_done()
    assert order == ["high", "first", "second", "low"]


def test_a_cancelled_job_begins_nothing_more_and_keeps_what_it_has(jobs: Jobs) -> None:
    job = jobs.submit(asked(4))

    def once(request: Request, options: Options) -> Response:
        jobs.cancel(job.id)
        return echo(request, options)

    Work(jobs, once).until_done()
    left = jobs.get(job.id)
    assert left.state == "cancelled"
    assert 1 <= left.counts.done <= 2  # two threads may be at it
    states = Counter(each.state for each in jobs.results(job.id))
    assert states == {"done": left.counts.done, "cancelled": 4 - left.counts.done}
    assert jobs.cancel(job.id).ended_at == left.ended_at
    with pytest.raises(UsageError, match="was cancelled"):
        jobs.retry(job.id)


def test_the_same_key_with_the_same_requests_is_the_same_job(jobs: Jobs) -> None:
    first = jobs.submit(asked(2), idempotency_key="a", key_id="k1")
    again = jobs.submit(asked(2), idempotency_key="a", key_id="k1")
    other = jobs.submit(asked(2), idempotency_key="a", key_id="k2")
    assert again.id == first.id != other.id
    for requests, priority in ((asked(3), 0), (asked(2), 1)):
        with pytest.raises(KeyReused, match="take a new key"):
            jobs.submit(requests, idempotency_key="a", key_id="k1", priority=priority)
    Work(jobs).until_done()
    assert jobs.submit(asked(2), idempotency_key="a", key_id="k1").state == "finished"
    assert len(list(jobs.log.read(kinds=["job.submitted"]))) == 2


def test_eight_at_once_with_one_key_make_one_job(jobs: Jobs) -> None:
    made: list[str] = []

    def submit() -> None:
        made.append(jobs.submit(asked(3), idempotency_key="same").id)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1
    Work(jobs).until_done()
    assert jobs.get(made[0]).counts == Counts(3, 3)


def test_jobs_are_listed_the_latest_first_and_by_state(jobs: Jobs) -> None:
    ids = [jobs.submit(asked(1)).id for _ in range(3)]
    jobs.cancel(ids[1])
    assert [job.id for job in jobs.list()] == ids[::-1]
    assert [job.id for job in jobs.list(limit=1)] == [ids[2]]
    assert [job.id for job in jobs.list(after=ids[2])] == [ids[1], ids[0]]
    assert [job.id for job in jobs.list(state="queued")] == [ids[2], ids[0]]
    Work(jobs).until_done()
    assert [job.id for job in jobs.list(state="finished")] == [ids[2], ids[0]]
    for known, row in zip(
        jobs.list(),
        jobs.log.sql("FROM queued_jobs ORDER BY position DESC").iter_rows(named=True),
        strict=True,
    ):
        counts = Counts(row["total"], row["done"], row["failed"], row["parked"])
        assert (row["job_id"], row["state"], counts) == (known.id, known.state, known.counts)


@pytest.mark.parametrize("which", ["deleted", "damaged", "replaced under an open one"])
def test_a_lost_queue_is_made_anew_from_the_log(tmp_path: Path, which: str) -> None:
    jobs = opened(tmp_path)
    jobs.submit(asked(30))
    path = jobs.settings.jobs / FILE
    if which == "damaged":
        jobs.queue.close()
        path.write_bytes(b"no database at all, but long enough to be read as one" * 50)
        jobs = opened(tmp_path)
    else:
        path.unlink()
        for side in ("-wal", "-shm"):
            path.with_name(FILE + side).unlink(missing_ok=True)
        if which == "deleted":
            jobs = opened(tmp_path)
    work = Work(jobs)
    assert recovery.mend(jobs, work.leases).missing == 30
    assert recovery.mend(jobs, work.leases).missing == 0
    work.until_done()
    assert jobs.list()[0].counts == Counts(30, 30)


def test_what_was_popped_by_the_dead_is_found_again(jobs: Jobs) -> None:
    job = jobs.submit(asked(3))
    while jobs.queue.pop():
        pass
    work = Work(jobs)
    assert recovery.mend(jobs, work.leases).missing == 3
    work.until_done()
    assert jobs.get(job.id).counts == Counts(3, 3)


def test_a_call_that_does_not_fit_a_budget_is_put_off(jobs: Jobs) -> None:
    told: list[str] = []
    released: list[bool] = []

    def admit(request: Request, call_id: str):
        told.append(call_id)
        if len(told) < 3:
            raise BudgetExceeded(
                "used up",
                budget="b",
                measure="usd",
                limit=Decimal(1),
                spent=Decimal(1),
                reserved=Decimal(0),
                reset_s=0.0,
            )
        return lambda response: released.append(response is not None)

    job = jobs.submit(asked(1))
    Work(jobs, admit=admit).until_done()
    assert jobs.get(job.id).counts == Counts(1, 1)
    assert (len(set(told)), released) == (3, [True])


def test_options_of_a_request_reach_its_call(jobs: Jobs) -> None:
    seen: list[Options] = []

    def noted(request: Request, options: Options) -> Response:
        seen.append(options)
        return echo(request, options)

    job = jobs.submit([Item(Request.of("Hi"), {"fallback": ["a/b"], "cache": "both"})])
    Work(jobs, noted).until_done()
    assert seen[0].get("fallback") == ["a/b"]
    assert (seen[0].get("cache"), seen[0].get("correlation_id")) == ("both", job.id)
    with pytest.raises(UsageError, match="request 0: a job has no option call_id"):
        jobs.submit([Item(Request.of("Hi"), {"call_id": "x"})])


def test_what_cannot_be_is_refused_and_leaves_nothing(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_REQUESTS", 1_000)
    for requests, wrong in (
        ([], "at least one request"),
        ((Request.of("x") for _ in range(1_001)), "at most 1,000"),
        (["no request"], "request 0 is no Request"),
    ):
        with pytest.raises(UsageError, match=wrong):
            jobs.submit(requests)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="priority is between"):
        jobs.submit(asked(1), priority=101)
    with pytest.raises(UsageError, match="a job's name"):
        jobs.submit(asked(1), name="x" * 201)
    with pytest.raises(UsageError, match="there is no job"):
        jobs.get("nothing")
    assert jobs.log.position() == 0
    assert not [path for path in jobs.settings.jobs.iterdir() if path.is_dir()]


def test_who_is_forgotten_is_overwritten_and_the_others_stay(jobs: Jobs) -> None:
    job = jobs.submit(asked(3, "Ann {} says"))
    folder = jobs.settings.jobs / job.id
    path = folder / files.REQUESTS
    size = path.stat().st_size
    assert files.blank(path, lambda lines: ["Ann 1" in line for line in lines]) == 1
    assert path.stat().st_size == size
    Work(jobs).until_done()
    assert texts(jobs.results(job.id)) == ["echo of Ann 0 says", "erased", "echo of Ann 2 says"]
    (answers,) = folder.glob("answers-*.jsonl")
    assert files.blank(answers, lambda lines: ["Ann 2" in line for line in lines]) == 1
    assert texts(jobs.results(job.id)) == ["echo of Ann 0 says", "erased", "erased"]
    assert b"Ann 2" not in answers.read_bytes()
    assert [from_json(line) for line in path.read_bytes().splitlines()][1] == {"erased": True}


def test_forgetting_a_person_reaches_the_files_of_jobs(jobs: Jobs) -> None:
    texts = (
        "Context: The diary of Oulu lies on the table.\n\nQuestion: Where does the diary lie?",
        "Context: The clock of Rome stands at noon.\n\nQuestion: Where does the clock stand?",
    )
    users = ("ann-of-oulu", "bob-of-rome")
    requests = [Request.of(t, user_id=u) for t, u in zip(texts, users, strict=True)]
    client = Client(jobs.log, jobs.settings)
    job = jobs.submit(requests)
    Work(jobs, lambda request, options: client.generate(request, **options)).until_done()
    done = forget(jobs.log, jobs.settings, "ann-of-oulu")
    assert (done.left, done.removed["jobs"]) == ({}, 2)
    folder = jobs.settings.jobs / job.id
    held = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"Oulu" not in held
    assert b"Rome" in held
    first, second = jobs.results(job.id)
    assert (first.error and first.error.error_type, second.response is None) == ("erased", False)


def test_old_files_go_and_what_happened_stays(jobs: Jobs) -> None:
    job = jobs.submit(asked(2))
    with pytest.raises(UsageError, match="cancel it first"):
        jobs.delete_files(job.id)
    Work(jobs).until_done()
    later = datetime.now(UTC) + timedelta(days=8)
    assert jobs.delete_old(30, now=later) == 0
    assert jobs.delete_old(7, now=later, dry_run=True) == 1
    assert jobs.delete_old(7, now=later) == 1
    assert jobs.delete_old(7, now=later) == 0
    assert not (jobs.settings.jobs / job.id).exists()
    assert jobs.get(job.id).counts == Counts(2, 2)
    with pytest.raises(UsageError, match="were deleted"):
        jobs.results(job.id)


def test_waits_grow_and_hear_who_tells() -> None:
    terms = AT_ONCE.__class__(first_wait_s=5, growth=4, longest_wait_s=600)
    assert [terms.wait_s(tries, None) for tries in (1, 2, 3, 4, 5)] == [5, 20, 80, 320, 600]
    assert terms.wait_s(1, 60.0) == 60
    assert terms.wait_s(1, 9_999.0) == 600
