"""Whatever happens in whatever order, each request of a job ends once, and none is forgotten."""

import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.conftest import FULL
from tests.jobs.working import AT_ONCE, Work, asked, echo, opened
from tracemill.errors import UsageError
from tracemill.events import JobEnded
from tracemill.jobs import recovery
from tracemill.jobs.item import Doing
from tracemill.jobs.job import Known
from tracemill.jobs.leases import Lease, Leases
from tracemill.jobs.queued import FILE
from tracemill.jobs.taking import Taking
from tracemill.log import EventLog
from tracemill.messages import Request

ENDS = ("job.item.finished", "job.item.failed", "job.item.parked")
TEXTS = st.lists(st.sampled_from(["Hello", "FAIL", "WAIT"]), min_size=1, max_size=6)


class Dying:
    """A worker that takes a ticket and begins some of it, and is gone before it could say more."""

    def __init__(self, log: EventLog, taking: Taking) -> None:
        self.taking = taking
        self.log = log

    def die(self, begun: int) -> int:
        """Returns how many requests it took with it."""
        taking = self.taking
        leases: Leases = taking._leases
        leases.announce()
        taking._take()
        backlog: list[tuple[Lease, int]] = list(taking._backlog)
        for lease, index in backlog[:begun]:
            lease.begin(index)
        for lease, _ in backlog:
            lease._file.close()
        os.close(leases._descriptor)
        return len(backlog)


class Jobs(RuleBasedStateMachine):
    """Submitters, workers, deaths, lost queues, people who change their minds."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.jobs = opened(Path(self.folder.name))
        self.texts: dict[str, list[str]] = {}
        self.ended: dict[str, Counter[str]] = {}

    def teardown(self) -> None:
        """Everything can be brought to an end."""
        recovery.mend(self.jobs, Leases(self.jobs.settings.jobs / "leases"))
        listed = {job.id: job for job in self.jobs.list(limit=1_000)}
        assert listed == {job_id: self.jobs.get(job_id) for job_id in self.texts}
        if self.jobs.known.open():
            Work(self.jobs).until_done()
        for job_id, texts in self.texts.items():
            job = self.jobs.get(job_id)
            results = list(self.jobs.results(job_id))
            assert [each.index for each in results] == list(range(len(texts)))
            for text, result in zip(texts, results, strict=True):
                if job.state != "cancelled":
                    assert result.state in _possible(text)
                elif result.response:
                    assert result.response.text == f"echo of {text}"
        self.jobs.close()
        self.jobs.log.close()
        self.folder.cleanup()

    @rule(texts=TEXTS, priority=st.integers(-2, 2))
    def submit(self, texts: list[str], priority: int) -> None:
        requests = [Request.of(text, model="made/up") for text in texts]
        self.texts[self.jobs.submit(requests, priority=priority).id] = texts

    @rule(turns=st.integers(1, 4))
    def work(self, turns: int) -> None:
        taking = self._taking()
        with taking:
            for _ in range(turns):
                recovery.promote(self.jobs)
                taking.turn()
        for job in self.jobs.known.open():
            self.jobs.close_if_done(job.id)

    @rule(begun=st.integers(0, 3))
    def die(self, begun: int) -> None:
        Dying(self.jobs.log, self._taking()).die(begun)

    @rule()
    def lose_the_queue(self) -> None:
        for side in ("", "-wal", "-shm"):
            (self.jobs.settings.jobs / (FILE + side)).unlink(missing_ok=True)

    @rule()
    def lose_a_ticket(self) -> None:
        self.jobs.queue.pop()

    @rule()
    def mend(self) -> None:
        recovery.mend(self.jobs, Leases(self.jobs.settings.jobs / "leases"))

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.jobs.cancel(data.draw(st.sampled_from(sorted(self.texts))))

    @precondition(lambda self: self.texts)
    @rule(data=st.data(), failed=st.booleans())
    def retry(self, data: st.DataObject, failed: bool) -> None:
        try:
            self.jobs.retry(data.draw(st.sampled_from(sorted(self.texts))), failed=failed)
        except UsageError:
            return

    @invariant()
    def who_read_on_knows_what_who_begins_anew_reads(self) -> None:
        every = list(Known(self.jobs.log).all())
        assert {job.id for job in every} == self.texts.keys()
        assert {*self.jobs.known.open()} == {job for job in every if not job.ended}
        parked = {job for job in every if job.may_retry and job.counts.parked}
        assert {*self.jobs.known.parked()} == parked

    @invariant()
    def no_request_has_two_results_in_a_round(self) -> None:
        by_item = Counter(recorded.stream for recorded in self.jobs.log.read(kinds=ENDS))
        assert not by_item or max(by_item.values()) == 1

    @invariant()
    def no_round_ends_twice_and_its_counts_add_up(self) -> None:
        seen: set[tuple[str, int]] = set()
        for recorded in self.jobs.log.read(kinds=["job.ended"]):
            event = recorded.event
            assert isinstance(event, JobEnded)
            assert (event.job_id, event.round) not in seen
            seen.add((event.job_id, event.round))
            total = len(self.texts[event.job_id])
            assert event.done + event.failed + event.parked == total
            assert (event.outcome == "failed") == (event.done == 0)

    def _taking(self) -> Taking:
        return Taking(self.jobs, Doing(self.jobs.log, echo, None, AT_ONCE), 2, lambda _: None)


def _possible(text: str) -> set[str]:
    """What may become of a request; any may have cost two workers."""
    return {{"Hello": "done", "FAIL": "failed", "WAIT": "parked"}[text], "parked"}


TestJobs = Jobs.TestCase
TestJobs.settings = settings(max_examples=60 if FULL else 8, stateful_step_count=12, deadline=None)


def test_a_death_is_counted_once_however_often_it_is_found(tmp_path: Path) -> None:
    jobs = opened(tmp_path)
    job = jobs.submit(asked(1))
    doing = Doing(jobs.log, echo, None, AT_ONCE)
    Dying(jobs.log, Taking(jobs, doing, 1, lambda _: None)).die(1)
    leases = Leases(jobs.settings.jobs / "leases")
    kept = {path: path.read_bytes() for path in leases.folder.rglob("*") if path.is_file()}
    for _ in range(3):  # as if whoever found it died each time before it could tidy up
        assert recovery.bury(jobs, leases).parked == 0
        for path, content in kept.items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    assert len(list(jobs.log.read(kinds=["job.item.retried"]))) == 1
    recovery.bury(jobs, leases)
    assert Dying(jobs.log, Taking(jobs, doing, 1, lambda _: None)).die(1) == 1
    assert recovery.bury(jobs, leases).parked == 1
    jobs.close_if_done(job.id)
    assert jobs.get(job.id).state == "failed"


@pytest.mark.parametrize("begun", [0, 1])
def test_only_what_was_begun_is_suspected(tmp_path: Path, begun: int) -> None:
    jobs = opened(tmp_path)
    jobs.submit(asked(1))
    taking = Taking(jobs, Doing(jobs.log, echo, None, AT_ONCE), 1, lambda _: None)
    Dying(jobs.log, taking).die(begun)
    recovery.bury(jobs, Leases(jobs.settings.jobs / "leases"))
    ticket = jobs.queue.pop()
    assert ticket is not None
    assert ticket.alone == bool(begun)
