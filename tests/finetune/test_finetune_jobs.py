"""Fine-tunes from the request to the model, on this machine and at a trainer that has its moods."""

import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.finetune.splits_made import kind, made, record, warehouse
from tracemill.errors import CallFailed, InputError, UsageError
from tracemill.events import FineTuneProgressed
from tracemill.finetune import jobs
from tracemill.finetune.job import JobState, state, states
from tracemill.finetune.providers import (
    Capabilities,
    Checkpoint,
    Estimate,
    Events,
    JobSpec,
    Part,
    Remote,
    RemoteFile,
    Validation,
    folder,
)
from tracemill.finetune.recipe import Examples, FineTune
from tracemill.log import EventLog
from tracemill.settings import Settings

TRAINER = Path(__file__).parents[2] / "docs" / "trainer.py"
LABELS = Examples(target="label")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return warehouse(tmp_path)


@pytest.fixture
def log(settings: Settings) -> Iterator[EventLog]:
    with EventLog.open(settings) as opened:
        yield opened


def program(*command: str, **more: Any) -> FineTune:
    return FineTune(provider="subprocess", command=command, examples=LABELS, **more)


def script(text: str, **more: Any) -> FineTune:
    return program(sys.executable, "-c", text, "{folder}", **more)


OWN = program(sys.executable, str(TRAINER), "{folder}")
TELL = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
def tell(**state):
    aside = folder / "aside"
    aside.write_text(json.dumps(state))
    aside.replace(folder / "state.json")
"""


def kinds(log: EventLog) -> Counter[str]:
    return Counter(kind(each.event) for each in log.read())


# What is asked for


def test_the_same_request_is_the_same_job(log: EventLog, settings: Settings) -> None:
    made(settings)
    first = jobs.request(log, settings, "routing", OWN)
    assert jobs.request(log, settings, "routing", OWN, actor="another") == first
    assert jobs.run(log, settings, first).state == "succeeded"
    assert jobs.request(log, settings, "routing", OWN) == first
    changed = [
        jobs.request(log, settings, "another", OWN),
        jobs.request(log, settings, "routing", OWN.model_copy(update={"seed": 1})),
        jobs.request(log, settings, "routing", OWN, again=True),
    ]
    made(settings, train=61)
    changed.append(jobs.request(log, settings, "routing", OWN))
    assert len({first, *changed}) == 5
    assert [each.job_id for each in states(log)] == [first, *changed]


def test_many_who_ask_at_once_get_one_job(log: EventLog, settings: Settings) -> None:
    made(settings)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(jobs.request, log, settings, "routing", OWN) for _ in range(8)]
        assert len({each.result() for each in asked}) == 1


def test_a_model_of_ours_that_is_gone_is_trained_again(log: EventLog, settings: Settings) -> None:
    import shutil

    made(settings)
    recipe = FineTune(examples=LABELS, hyperparameters={"epochs": 1})
    first = jobs.run(log, settings, jobs.request(log, settings, "routing", recipe))
    assert first.model
    assert first.model_digest
    where = settings.models / "routing" / first.model_digest
    bytes_then = {path.name: path.read_bytes() for path in where.iterdir()}
    shutil.rmtree(where)
    again = jobs.run(log, settings, jobs.request(log, settings, "routing", recipe))
    assert (again.job_id != first.job_id, again.model) == (True, first.model)
    assert {path.name: path.read_bytes() for path in where.iterdir()} == bytes_then
    assert kinds(log)["model.registered"] == 1


@pytest.mark.parametrize(
    ("name", "recipe", "said"),
    [
        ("jobs", {}, "cannot be called 'jobs'"),
        ("a/b", {}, "a model's name has letters"),
        ("m", {"hyperparameters": {"model": "other"}}, "'model' is no hyperparameter"),
        ("m", {"hyperparameters": {"training_file": "f"}}, "'training_file' is no hyperparameter"),
        ("m", {"method": "supervised"}, "`local` trains `classify` and `lm`"),
        ("m", {"provider": "openai", "method": "lm"}, "is trained by `local` alone"),
        ("m", {"provider": "openai", "method": "dpo"}, "splits hold answers and no preferences"),
        ("m", {"provider": "openai"}, "name one as `base_model`"),
    ],
)
def test_what_cannot_be_asked_for_says_why(
    log: EventLog, settings: Settings, name: str, recipe: dict[str, Any], said: str
) -> None:
    made(settings, train=12)
    with pytest.raises(UsageError, match=said):
        jobs.request(log, settings, name, FineTune(**recipe))
    assert log.position() == 0


def test_nothing_to_learn_from_is_told_at_once(log: EventLog, settings: Settings) -> None:
    made(settings, rows=[record(at, "train", label=None) for at in range(12)])
    with pytest.raises(InputError, match="no record of the split 'train' has a label"):
        jobs.request(log, settings, "routing", FineTune(examples=LABELS))


@pytest.mark.parametrize(("examples", "method"), [(LABELS, "classify"), (Examples(), "classify")])
def test_few_answers_make_a_classifier(
    log: EventLog, settings: Settings, examples: Examples, method: str
) -> None:
    made(settings)
    job_id = jobs.request(log, settings, "routing", FineTune(examples=examples))
    assert state(log, job_id).method == method


def test_many_answers_make_a_language_model(log: EventLog, settings: Settings) -> None:
    texts = [record(at, "train", label=f"label {at}") for at in range(30)]
    for at, row in enumerate(texts):
        row["messages"][-1]["content"] = f"the answer is {at}"
    made(settings, rows=texts)
    assert state(log, jobs.request(log, settings, "help", FineTune())).method == "lm"


# Programs on this machine


def test_a_program_of_your_own_gives_a_version(log: EventLog, settings: Settings) -> None:
    made(settings)
    end = jobs.run(log, settings, jobs.request(log, settings, "routing", OWN, actor="ann"))
    assert end.state == "succeeded"
    assert end.model == f"ft:subprocess:routing:{str(end.model_digest)[:16]}"
    (version,) = [each.event for each in log.read(kinds=["model.registered"])]
    assert version.model_dump(include={"name", "digest", "job_id", "actor", "rows"}) == {
        "name": "routing",
        "digest": end.model_digest,
        "job_id": end.job_id,
        "actor": "ann",
        "rows": 60,
    }
    steps = [each.event for each in log.read(kinds=["finetune.progressed"])]
    told = [each.step for each in steps if isinstance(each, FineTuneProgressed) and each.step]
    assert told == [1, 2, 3]


def test_a_job_is_described_whole(log: EventLog, settings: Settings) -> None:
    made(settings)
    recipe = OWN.model_copy(update={"hyperparameters": {"epochs": 1}, "seed": 7})
    end = jobs.run(log, settings, jobs.request(log, settings, "routing", recipe))
    path = settings.models / "jobs" / end.job_id
    told = json.loads((path / "job.json").read_text())
    assert told == {
        "job_id": end.job_id,
        "name": "routing",
        "base_model": "unnamed",
        "method": "supervised",
        "hyperparameters": {"epochs": 1},
        "seed": 7,
        "suffix": "routing",
        "dataset": "made",
        "dataset_digest": end.dataset_digest,
        "training": {"file": "training.jsonl", **end.training.model_dump()},
        "validation": {"file": "validation.jsonl", **end.validation.model_dump()},  # type: ignore[union-attr]
    }
    assert len((path / "training.jsonl").read_text().splitlines()) == 60


def test_a_program_that_always_dies_fails_with_its_last_words(
    log: EventLog, settings: Settings
) -> None:
    made(settings)
    recipe = script("raise SystemExit('no GPU here')")
    end = jobs.run(log, settings, jobs.request(log, settings, "routing", recipe))
    assert (end.state, end.error_type) == ("failed", "training_failed")
    assert end.error_message
    assert end.error_message.endswith("no GPU here")
    starts = settings.models / "jobs" / end.job_id / "starts.jsonl"
    assert len(starts.read_text().splitlines()) == folder.MOST_STARTS


def test_a_program_that_is_not_there_fails(log: EventLog, settings: Settings) -> None:
    made(settings)
    recipe = program("no-such-trainer", "{folder}")
    end = jobs.run(log, settings, jobs.request(log, settings, "routing", recipe))
    assert (end.state, end.error_type) == ("failed", "not_found")
    assert "no-such-trainer could not be started" in str(end.error_message)


def test_a_state_nobody_knows_is_not_waited_for(log: EventLog, settings: Settings) -> None:
    made(settings)
    recipe = script(TELL + "tell(state='thinking')")
    end = jobs.run(log, settings, jobs.request(log, settings, "routing", recipe))
    assert (end.state, end.raw_state) == ("unknown", "thinking")
    before = log.position()
    assert jobs.run(log, settings, end.job_id) == end
    assert log.position() == before


def test_a_loss_that_ran_away_is_recorded_as_none(log: EventLog, settings: Settings) -> None:
    made(settings)
    recipe = script(TELL + "tell(state='succeeded', step=1, loss=float('nan'), model='vllm/m')")
    end = jobs.run(log, settings, jobs.request(log, settings, "routing", recipe))
    assert (end.state, end.step, end.loss, end.model) == ("succeeded", 1, None, "vllm/m")


def test_one_program_at_a_time_works_at_a_job(log: EventLog, settings: Settings) -> None:
    made(settings)
    recipe = script(TELL + "tell(state='running', step=1)\ntime.sleep(60)")
    job_id = jobs.request(log, settings, "routing", recipe)
    while state(log, job_id).step is None:
        jobs.advance(log, settings, job_id)
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(jobs.advance, log, settings, job_id) for _ in range(12)]:
            assert each.result().state == "running"
    path = settings.models / "jobs" / job_id
    assert len((path / "starts.jsonl").read_text().splitlines()) == 1
    assert jobs.cancel(log, settings, job_id, reason="enough").reason == "enough"
    assert state(log, job_id).state == "cancelled"
    assert jobs.cancel(log, settings, job_id).reason == "enough"


def test_a_job_that_never_began_is_cancelled_here(log: EventLog, settings: Settings) -> None:
    made(settings)
    job_id = jobs.request(log, settings, "routing", OWN)
    assert jobs.cancel(log, settings, job_id, reason="a mistake").state == "cancelled"
    assert jobs.run(log, settings, job_id).reason == "a mistake"
    assert not (settings.models / "jobs" / job_id / "job.json").exists()


def test_training_stands_still_and_goes_on(log: EventLog, settings: Settings) -> None:
    made(settings)
    recipe = OWN.model_copy(update={"hyperparameters": {"epochs": 4}})
    job_id = jobs.request(log, settings, "routing", recipe)
    with pytest.raises(UsageError, match="not with its trainer yet: there is nothing to pause"):
        jobs.pause(log, settings, job_id)
    while state(log, job_id).remote_id is None:
        jobs.advance(log, settings, job_id)
    (settings.models / "jobs" / job_id / "pause").touch()
    assert jobs.run(log, settings, job_id).state == "paused"
    jobs.resume(log, settings, job_id)
    assert jobs.run(log, settings, job_id).step == 4
    counts = kinds(log)
    assert (counts["finetune.paused"], counts["finetune.resumed"]) == (1, 1)


def test_a_folder_that_was_deleted_ends_the_job(log: EventLog, settings: Settings) -> None:
    import shutil

    made(settings)
    job_id = jobs.request(log, settings, "routing", OWN)
    while state(log, job_id).remote_id is None:
        jobs.advance(log, settings, job_id)
    shutil.rmtree(settings.models / "jobs" / job_id)
    end = jobs.run(log, settings, job_id)
    assert (end.state, end.error_type) == ("failed", "not_found")


def test_a_job_is_given_up_at_its_deadline(log: EventLog, settings: Settings) -> None:
    made(settings)
    recipe = script(TELL + "tell(state='running', step=1)\ntime.sleep(60)", deadline_s=1.5)
    end = jobs.run(log, settings, jobs.request(log, settings, "routing", recipe))
    assert (end.state, end.error_type) == ("failed", "deadline")
    assert (settings.models / "jobs" / end.job_id / "cancel").exists()
    assert not folder.lives(settings.models / "jobs" / end.job_id)


def test_bad_rows_are_named_by_line_and_nothing_is_begun(log: EventLog, settings: Settings) -> None:
    rows = [record(at, "train") for at in range(20)]
    rows[4]["messages"][1]["content"] = "  "
    made(settings, rows=rows)
    end = jobs.run(log, settings, jobs.request(log, settings, "routing", FineTune(examples=LABELS)))
    assert (end.state, end.error_type) == ("failed", "invalid_data")
    assert "train: line 5 at messages[1].content: a text of blanks only" in str(end.error_message)
    assert set(kinds(log)) == {"finetune.requested", "finetune.failed"}


def test_one_label_is_no_choice(log: EventLog, settings: Settings) -> None:
    made(settings, rows=[record(at, "train", label="music") for at in range(20)])
    end = jobs.run(log, settings, jobs.request(log, settings, "routing", FineTune(examples=LABELS)))
    assert "has the label 'music': a classifier needs two at least" in str(end.error_message)


# A trainer elsewhere


@dataclass
class Elsewhere:
    """A trainer that answers as it is told; it counts what it is asked."""

    remote: Callable[[], Remote] = lambda: Remote("far", "running", "running")
    asked: Counter[str] = field(default_factory=Counter[str])

    def capabilities(self) -> Capabilities:
        return Capabilities((), True, 1, None, False, False)

    def validate(self, job: JobSpec) -> Validation:
        return Validation((), {"duplicate": 2})

    def estimate(self, job: JobSpec) -> Estimate:
        return Estimate(1000, Decimal("0.003"))

    def find_upload(self, job: JobSpec, part: Part) -> RemoteFile | None:
        return None

    def upload(self, job: JobSpec, part: Part) -> RemoteFile:
        self.asked["upload"] += 1
        return RemoteFile(f"file-{part}", "x", 1, 1)

    def find(self, job: JobSpec, files: Mapping[Part, str]) -> Remote | None:
        return None

    def create(self, job: JobSpec, files: Mapping[Part, str]) -> Remote:
        self.asked["create"] += 1
        return Remote("far", "queued", "queued")

    def get(self, remote_id: str) -> Remote:
        self.asked["get"] += 1
        return self.remote()

    def events(self, remote_id: str, after: str | None) -> Events:
        return Events((), cursor=after)

    def checkpoints(self, remote_id: str) -> Sequence[Checkpoint]:
        return ()

    def cancel(self, remote_id: str) -> Remote:
        self.asked["cancel"] += 1
        return Remote("far", "cancelling", "cancelling")

    def pause(self, remote_id: str) -> Remote:
        raise CallFailed("unsupported", "jobs cannot be paused here")

    def resume(self, remote_id: str) -> Remote:
        raise NotImplementedError

    def delete_model(self, model: str) -> None:
        raise NotImplementedError


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    trainer = Elsewhere()
    monkeypatch.setattr(jobs, "trainer", lambda *_, **__: trainer)
    return trainer


def far(log: EventLog, settings: Settings, **more: Any) -> str:
    made(settings)
    recipe = FineTune(provider="openai", base_model="gpt-4.1-mini", **more)
    return jobs.request(log, settings, "routing", recipe)


def test_waits_grow_and_begin_anew_when_something_happened(
    log: EventLog, settings: Settings, elsewhere: Elsewhere
) -> None:
    job_id = far(log, settings)
    answers = iter(
        [
            *[Remote("far", "running", "running")] * 9,
            *[Remote("far", "running", "running", step=1)] * 2,
            Remote("far", "succeeded", "succeeded", model="ft:x"),
        ]
    )
    elsewhere.remote = lambda: next(answers)
    waits: list[float] = []
    end = jobs.run(log, settings, job_id, pause=waits.append)
    assert end.state == "succeeded"
    grown = [5, 7.5, 11.25, 16.875, 25.3125, 37.96875, 56.953125, 60, 60]
    assert waits == [5.0, *grown, 5, 7.5]
    assert elsewhere.asked == {"upload": 2, "create": 1, "get": 12}
    assert (end.estimated_cost_usd, end.warnings) == (Decimal("0.003"), {"duplicate": 2})


def test_what_may_pass_leaves_the_job_as_it_is(
    log: EventLog, settings: Settings, elsewhere: Elsewhere
) -> None:
    job_id = far(log, settings)
    answers: Iterator[Any] = iter(
        [
            CallFailed("overloaded", "too busy", status=503, retry=True, retry_after_s=30),
            CallFailed("malformed_response", "no JSON"),
            Remote("far", "succeeded", "succeeded", model="ft:x"),
        ]
    )

    def answer() -> Remote:
        one = next(answers)
        if isinstance(one, CallFailed):
            raise one
        return one

    elsewhere.remote = answer
    waits: list[float] = []
    heard: list[JobState] = []
    end = jobs.run(log, settings, job_id, pause=waits.append, progress=heard.append)
    assert end.state == "succeeded"
    assert [each.trouble for each in heard if each.trouble] == ["too busy", "no JSON"]
    assert waits[1] == 30


@pytest.mark.parametrize(
    ("status", "error_type"),
    [(404, "not_found"), (400, "invalid_request"), (401, "authentication")],
)
def test_what_is_refused_for_good_ends_the_job(
    log: EventLog, settings: Settings, elsewhere: Elsewhere, status: int, error_type: str
) -> None:
    job_id = far(log, settings)

    def refuse() -> Remote:
        message = "no job of ann.example@mail.test"
        raise CallFailed(error_type, message, status=status, code="gone")

    elsewhere.remote = refuse
    end = jobs.run(log, settings, job_id, pause=lambda _: None)
    assert (end.state, end.error_type, end.error_code) == ("failed", error_type, "gone")
    assert end.error_message
    assert end.error_message.startswith("no job of ")
    assert "ann.example" not in end.error_message
    assert elsewhere.asked["get"] == 1


def test_a_key_that_is_missing_is_for_the_caller_to_mend(
    log: EventLog, settings: Settings, elsewhere: Elsewhere
) -> None:
    job_id = far(log, settings)

    def keyless() -> Remote:
        raise CallFailed("missing_key", "set OPENAI_API_KEY")

    elsewhere.remote = keyless
    with pytest.raises(CallFailed, match="set OPENAI_API_KEY"):
        jobs.run(log, settings, job_id, pause=lambda _: None)
    assert not state(log, job_id).ended


def test_the_deadline_ends_a_job_whose_trainer_is_out_of_reach(
    log: EventLog, settings: Settings, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = far(log, settings, deadline_s=60)
    jobs.run(log, settings, job_id, timeout_s=0)
    while state(log, job_id).remote_id is None:
        jobs.advance(log, settings, job_id)
    assert jobs.run(log, settings, job_id, timeout_s=0).state == "running"

    def silent() -> Remote:
        raise CallFailed("connection", "no route", retry=True)

    elsewhere.remote = silent

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Later":
            return cls(2100, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(jobs, "datetime", Later)
    end = jobs.run(log, settings, job_id)
    assert (end.state, end.error_type) == ("failed", "deadline")
    assert "could not be told to stop: no route" in str(end.error_message)


def test_a_trainer_that_cannot_pause_says_so(
    log: EventLog, settings: Settings, elsewhere: Elsewhere
) -> None:
    job_id = far(log, settings)
    jobs.run(log, settings, job_id, timeout_s=0)
    while state(log, job_id).remote_id is None:
        jobs.advance(log, settings, job_id)
    with pytest.raises(CallFailed, match="cannot be paused here"):
        jobs.pause(log, settings, job_id)
    assert not state(log, job_id).ended


def test_two_who_follow_a_job_take_each_step_once(
    log: EventLog, settings: Settings, elsewhere: Elsewhere
) -> None:
    job_id = far(log, settings)
    elsewhere.remote = lambda: Remote("far", "succeeded", "succeeded", model="ft:x")
    start = threading.Barrier(4)

    def follow() -> str:
        start.wait()
        return jobs.run(log, settings, job_id, pause=lambda _: None).state

    with ThreadPoolExecutor(4) as pool:
        assert {each.result() for each in [pool.submit(follow) for _ in range(4)]} == {"succeeded"}
    assert elsewhere.asked == {"upload": 2, "create": 1, "get": 1}
    assert kinds(log)["model.registered"] == 1
