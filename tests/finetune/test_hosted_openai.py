"""OpenAI and Azure as trainers: what is sent, what is read, what is found again."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.finetune.finetune_server import KEY, FineTuneServer, Refused, serving
from tests.finetune.hosted_jobs import BASES, job_of, row, write_demo
from tests.llm.recorded import needs_recordings, needs_specs, recordings
from tests.llm.specs import request_errors
from tracemill import EventLog, Settings
from tracemill.errors import CallFailed, UsageError
from tracemill.events import new_id
from tracemill.finetune import jobs
from tracemill.finetune.providers import (
    Checkpoint,
    Events,
    FineTuneProvider,
    JobSpec,
    Part,
    Remote,
    examined,
    openai,
)
from tracemill.finetune.providers.table import trainer
from tracemill.finetune.recipe import FineTune
from tracemill.llm.client import Client

FILES: dict[Part, str] = {"training": "file-1", "validation": "file-2"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FineTuneServer]:
    with serving() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def client(tmp_path: Path, server: FineTuneServer) -> Iterator[Client]:
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    with EventLog(settings.log) as log:
        client = Client(log, settings)
        yield client
        client.close()


def trainer_of(client: Client, name: str = "openai") -> FineTuneProvider:
    assert client.settings
    return trainer(name, client=client, settings=client.settings)


def begun(provider: FineTuneProvider, job: JobSpec) -> Remote:
    """A job that the trainer has taken."""
    parts: tuple[Part, ...] = ("training", "validation") if job.validation else ("training",)
    return provider.create(job, {part: provider.upload(job, part).remote_file_id for part in parts})


def taken(provider: FineTuneProvider, remote_id: str) -> Remote:
    """A job at its end."""
    while (remote := provider.get(remote_id)).state not in ("succeeded", "failed", "cancelled"):
        pass
    return remote


def asked(client: Client, provider: str = "openai", **more: Any) -> str:
    """A model that was asked for, by recipe."""
    assert client.settings
    write_demo(client.settings)
    given = {"provider": provider, "base_model": BASES[provider], **more}
    return jobs.request(client.log, client.settings, "routing", FineTune.model_validate(given))


def run(client: Client, job_id: str) -> jobs.JobState:
    assert client.settings
    return jobs.run(
        client.log, client.settings, job_id, client=client, pause=lambda _: None, timeout_s=30
    )


# What is sent


@needs_specs
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"validation": False, "suffix": ""},
        {"hyperparameters": {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}},
        {"method": "dpo", "hyperparameters": {"beta": 0.1, "n_epochs": 1}},
        {"seed": 0, "suffix": "x" * 90},
    ],
)
def test_a_job_keeps_to_the_published_schema(tmp_path: Path, more: dict[str, Any]):
    job = job_of(tmp_path, "openai", **more)
    files: dict[Part, str] = FILES if job.validation else {"training": "file-1"}
    assert request_errors("openai", "CreateFineTuningJobRequest", openai.body_of(job, files)) == []


def test_hyperparameters_change_nothing_else(tmp_path: Path):
    named = {"n_epochs": 2, "model": "another", "training_file": "file-9"}
    body = openai.body_of(job_of(tmp_path, "openai", hyperparameters=named), FILES)
    assert (body["model"], body["training_file"]) == (BASES["openai"], "file-1")
    assert body["method"]["supervised"]["hyperparameters"] == named


def test_a_file_goes_up_as_it_is(client: Client, server: FineTuneServer, tmp_path: Path):
    job = job_of(tmp_path, "openai")
    sent = trainer_of(client).upload(job, "training")
    file = server.files[sent.remote_file_id]
    assert file.content == job.training.path.read_bytes()
    assert file.name == f"tracemill-{job.job_id}-training.jsonl"
    assert sent == (file.id, job.training.sha256, 12, len(file.content))


def test_a_file_that_changed_since_is_not_sent(
    client: Client, server: FineTuneServer, tmp_path: Path
):
    job = job_of(tmp_path, "openai")
    job.training.path.write_text(json.dumps(row(99)) + "\n")
    with pytest.raises(CallFailed, match="not what it was when"):
        trainer_of(client).upload(job, "training")
    assert server.seen == []


# What is read


@needs_recordings
def test_a_recorded_job_is_read():
    (recorded,) = recordings("openai", "v1.fine_tuning.jobs")
    made = datetime(2024, 10, 15, 6, 54, 40, tzinfo=UTC)
    assert openai.read(json.loads(recorded.body)) == Remote(
        "ftjob-FO6z0rNnNUmHe4xiVOHC7TEk", "validating", "validating_files", created_at=made
    )


@needs_recordings
def test_recorded_lists_of_files_are_read(tmp_path: Path):
    job = job_of(tmp_path, "openai")
    lists = [r for r in recordings("openai", "v1.files") if r.request["method"] == "GET"]
    assert lists
    for recorded in lists:
        body = json.loads(recorded.body)
        assert found(openai.find_upload(job, "training"), body) is None
        ours = {"id": "file-1", "filename": f"tracemill-{job.job_id}-training.jsonl", "bytes": None}
        body["data"].insert(len(body["data"]) // 2, ours)
        assert found(openai.find_upload(job, "training"), body) == "file-1"


def found(steps: Any, body: Any) -> Any:
    """What comes of it where every request gets this answer."""
    try:
        next(steps)
        while True:
            steps.send(body)
    except StopIteration as end:
        return end.value


@pytest.mark.parametrize(
    ("word", "state"),
    [
        *[("validating_files", "validating"), ("queued", "queued"), ("running", "running")],
        *[("paused", "paused"), ("succeeded", "succeeded"), ("failed", "failed")],
        *[("cancelled", "cancelled"), ("pending", "queued"), ("pausing", "running")],
        *[("Succeeded", "unknown"), ("quarantined", "unknown")],
    ],
)
def test_words_for_states(word: str, state: str):
    remote = openai.read({"id": "ftjob-1", "status": word})
    assert (remote.state, remote.raw_state) == (state, word)


@pytest.mark.parametrize("body", [None, [], {}, {"id": "x"}, {"id": 1, "status": "queued"}, "no"])
def test_what_is_no_job_is_malformed(body: Any):
    with pytest.raises(CallFailed, match="not a fine-tune"):
        openai.read(body)


def test_odd_fields_are_left_out():
    odd = {"error": "no", "trained_tokens": "many", "fine_tuned_model": 3, "created_at": "soon"}
    remote = openai.read({"id": "ftjob-1", "status": "running"} | odd)
    assert remote == Remote("ftjob-1", "running", "running")


def test_a_whole_life(client: Client, server: FineTuneServer, tmp_path: Path):
    provider, job = trainer_of(client), job_of(tmp_path, "openai")
    remote = begun(provider, job)
    assert remote.state == "validating"
    states = [provider.get(remote.remote_id).state for _ in range(3)]
    assert states == ["queued", "running", "running"]
    assert provider.events(remote.remote_id, None) == Events(
        (
            *("Created fine-tuning job: ftjob-0000", "The job is queued", "The job is running"),
            "The job is running",
        ),
        step=2,
        loss=1.0,
        metrics={"validation_loss": 1.5, "train_loss": 1.0},
        cursor="ftevent-ftjob-0000-005",
        total_steps=2,
    )
    name = f"openai/ft:{BASES['openai']}:acme:routing:0000"
    assert provider.checkpoints(remote.remote_id) == [
        Checkpoint("ftckpt-ftjob-0000-1", 1, {"train_loss": 2.0}, f"{name}:ckpt-step-1"),
        Checkpoint("ftckpt-ftjob-0000-2", 2, {"train_loss": 1.0}, f"{name}:ckpt-step-2"),
    ]
    end = provider.get(remote.remote_id)
    assert (end.state, end.model, end.trained_tokens) == ("succeeded", name, 40_000)
    assert end.cost_usd == Decimal("0.2")
    assert server.jobs[0].given["metadata"]["tracemill_job_id"] == job.job_id
    provider.delete_model(name)
    provider.delete_model(name)
    assert (server.models, server.done["delete"]) == (set(), 1)


def test_events_are_heard_once(client: Client, server: FineTuneServer, tmp_path: Path):
    provider = trainer_of(client)
    server.page_size = 2
    remote = begun(provider, job_of(tmp_path, "openai"))
    heard: list[str] = []
    cursor = None
    for _ in range(6):
        said = provider.events(remote.remote_id, cursor)
        heard += said.messages
        cursor = said.cursor
        provider.get(remote.remote_id)
    said = provider.events(remote.remote_id, cursor)
    assert said == Events((), cursor=cursor)
    assert heard == [e["message"] for e in server.jobs[0].events if e["type"] == "message"]


def test_a_server_whose_oldest_event_comes_first():
    said = [{"id": f"e{n}", "created_at": n, "message": f"m{n}"} for n in range(4)]
    page = {"data": said, "has_more": False}
    assert found(openai.events("ftjob-1", "e1"), page) == Events(("m2", "m3"), cursor="e3")


# Found again


def test_what_is_lost_on_the_way_back_is_there(
    client: Client, server: FineTuneServer, tmp_path: Path
):
    provider, job = trainer_of(client), job_of(tmp_path, "openai", validation=False)
    server.answering = lambda method, path: method != "POST"
    with pytest.raises(CallFailed) as lost:
        provider.upload(job, "training")
    assert (lost.value.error_type, lost.value.retry) == ("connection", True)
    file = provider.find_upload(job, "training")
    assert file is not None
    files: dict[Part, str] = {"training": file.remote_file_id}
    assert provider.find(job, files) is None
    with pytest.raises(CallFailed):
        provider.create(job, files)
    known = provider.find(job, files)
    assert known is not None
    assert known.remote_id == "ftjob-0000"
    assert server.done == {"upload": 1, "create": 1}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_once_for_what_must_not_be_twice(
    client: Client, server: FineTuneServer, tmp_path: Path, status: int
):
    def before(method: str, path: str) -> None:
        raise Refused(status, {"error": {"message": "busy"}})

    server.before = before
    with pytest.raises(CallFailed, match="busy") as failure:
        trainer_of(client).upload(job_of(tmp_path, "openai"), "training")
    assert failure.value.retry
    assert len(server.seen) == 1


def test_found_on_a_later_page(client: Client, server: FineTuneServer, tmp_path: Path):
    provider, job = trainer_of(client), job_of(tmp_path, "openai", validation=False)
    remote = begun(provider, job)
    for number in range(5):
        begun(provider, job_of(tmp_path, "openai", validation=False, seed=number))
    server.page_size = 2
    server.seen.clear()
    file = provider.find_upload(job, "training")
    assert file is not None
    again = provider.find(job, {"training": file.remote_file_id})
    assert again is not None
    assert again.remote_id == remote.remote_id
    assert len(server.seen) == 6
    assert provider.find_upload(job_of(tmp_path, "openai"), "training") is None


def test_a_list_is_read_back_to_when_the_job_was_asked_for(
    client: Client, server: FineTuneServer, tmp_path: Path
):
    provider = trainer_of(client)
    server._made = 1_600_000_000  # pyright: ignore[reportPrivateUsage]
    for number in range(6):
        begun(provider, job_of(tmp_path, "openai", validation=False, seed=number))
    server.page_size = 2
    server.seen.clear()
    assert provider.find_upload(job_of(tmp_path, "openai"), "training") is None
    assert provider.find(job_of(tmp_path, "openai"), {"training": "file-new"}) is None
    assert len(server.seen) == 2


def test_another_jobs_file_is_not_ours(client: Client, server: FineTuneServer, tmp_path: Path):
    provider, job = trainer_of(client), job_of(tmp_path, "openai")
    provider.upload(job, "training")
    server.files["file-0000"].status = "error"
    assert provider.find_upload(job, "training") is None
    assert provider.find_upload(job, "validation") is None
    assert provider.find_upload(job._replace(job_id=new_id()), "training") is None


# Before anything is sent


def test_bad_rows_are_told_by_line_and_nothing_is_sent(
    client: Client, server: FineTuneServer, tmp_path: Path
):
    rows: list[Any] = [row(n) for n in range(12)]
    rows[2] = {"messages": []}
    rows[6] = "{"
    job = job_of(tmp_path, "openai", rows=rows, hyperparameters={"epochs": 3})
    found = trainer_of(client).validate(job)
    assert [error.split(":")[:2] for error in found.errors[1:]] == [
        ["training", " line 3 at messages"],
        ["training", " line 7"],
    ]
    assert "OpenAI has no 'epochs' for `supervised`; it has batch_size" in found.errors[0]
    assert server.seen == []


def test_a_job_with_bad_rows_ends_before_it_began(client: Client, server: FineTuneServer):
    job_id = asked(client, train="validation", validation=None)
    known = run(client, job_id)
    assert (known.state, known.error_type) == ("failed", "invalid_data")
    assert "fewer rows than training takes" in str(known.error_message)
    assert server.seen == []


@pytest.mark.parametrize(
    ("provider", "base", "named", "tokens", "usd"),
    [
        ("openai", "gpt-4.1-mini-2025-04-14", {}, 3, "5"),
        ("openai", "gpt-4.1-mini-2025-04-14", {"n_epochs": 2}, 2, "5"),
        ("openai", "gpt-4o-mini-2024-07-18", {"n_epochs": "auto"}, 3, "3"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::x", {}, 3, "3"),
        ("openai", "gpt-9", {}, 3, None),
        ("azure", "gpt-4o-mini-2024-07-18", {}, 3, None),
        ("azure", "gpt-35-turbo", {}, 3, None),
    ],
)
def test_estimates(
    client: Client, tmp_path: Path, provider: str, base: str, named: Any, tokens: int, usd: Any
):
    trainer_ = trainer_of(client, provider)
    job = job_of(tmp_path, provider, base_model=base, hyperparameters=named)
    once = job._replace(hyperparameters={"n_epochs": 1})
    one = trainer_.estimate(once).trained_tokens
    estimate = trainer_of(client, provider).estimate(job)
    assert one
    assert one > 12 * 8
    assert estimate.trained_tokens == tokens * one
    expected = None if usd is None else Decimal(usd) * tokens * one / 1_000_000
    assert estimate.cost_usd == expected
    assert trainer_.validate(job).errors == ()


def test_what_closes_is_told(client: Client, tmp_path: Path):
    can = trainer_of(client).capabilities()
    assert "6 January 2027" in str(can.warning)
    dates = {model.name: model.shutdown_date for model in can.models}
    assert dates["gpt-4o"] == dates["gpt-4.1-mini"] == date(2027, 1, 14)
    assert dates["gpt-4.1-nano"] == dates["gpt-3.5-turbo"] == date(2026, 10, 23)
    assert (can.pausable, can.checkpoints, can.min_rows) == (True, True, 10)
    job = job_of(tmp_path, "openai")
    told = [
        set(examined.validation(openai.FACTS["openai"], job, {}, day).warnings)
        for day in (date(2026, 12, 1), date(2027, 1, 7), date(2027, 1, 14))
    ]
    assert told == [set(), {"closing"}, {"closing", "shutdown"}]
    azure = examined.validation(openai.FACTS["azure"], job, {}, date(2027, 2, 1))
    assert dict(azure.warnings) == {}


def test_a_file_that_is_too_large(tmp_path: Path):
    job = job_of(tmp_path, "openai")
    job = job._replace(training=job.training._replace(size_bytes=600_000_000))
    found = examined.validation(openai.FACTS["openai"], job, {}, date(2026, 12, 1))
    assert found.errors[0].startswith("train.jsonl has 600 MB, and OpenAI takes files of up to 512")


# What goes wrong


def test_the_providers_words_are_kept_and_keys_are_not(
    client: Client, server: FineTuneServer, tmp_path: Path
):
    server.way = ("validating_files", "failed")
    server.error = {
        "code": "invalid_training_file",
        "message": f"The job failed for {KEY}, ask ann@example.com",
        "param": "training_file",
    }
    known = run(client, asked(client))
    assert known.state == "failed"
    assert known.error_message == "training_file: The job failed for [key], ask [email]"
    assert known.error_code == "invalid_training_file"
    assert server.done == {"upload": 2, "create": 1}
    client.log.close()
    written = [p for p in (tmp_path / "warehouse").rglob("*") if p.is_file()]
    assert written
    assert not [p for p in written if KEY.encode() in p.read_bytes()]


def test_a_key_in_what_was_said_is_not_heard(
    client: Client, server: FineTuneServer, tmp_path: Path
):
    provider = trainer_of(client)
    remote = begun(provider, job_of(tmp_path, "openai"))
    server.jobs[0].events[0]["message"] = f"with {KEY}"
    assert provider.events(remote.remote_id, None).messages == ("with [key]",)
    server.jobs[0].given["suffix"] = KEY
    assert KEY not in str(taken(provider, remote.remote_id))
    assert KEY not in str(provider.checkpoints(remote.remote_id))


@pytest.mark.parametrize(
    ("status", "error_type"), [(400, "invalid_request"), (403, "permission_denied")]
)
def test_a_refused_job_ends_with_the_providers_words(
    client: Client, server: FineTuneServer, status: int, error_type: str
):
    def before(method: str, path: str) -> None:
        if method == "POST" and path.endswith("/jobs"):
            why = "Fine-tuning is closed to new organisations"
            raise Refused(status, {"error": {"message": why, "code": "closed"}})

    server.before = before
    known = run(client, asked(client))
    assert (known.state, known.error_type, known.error_code) == ("failed", error_type, "closed")
    assert "Fine-tuning is closed to new organisations" in str(known.error_message)
    assert len([path for _, path in server.seen if path.endswith("/jobs")]) == 1


def test_a_job_that_is_gone_is_asked_for_once(client: Client, server: FineTuneServer):
    server.way = ("running", "running", "running")
    job_id = asked(client)
    assert client.settings
    while jobs.advance(client.log, client.settings, job_id, client=client).remote_id is None:
        pass
    server.jobs.clear()
    server.seen.clear()
    known = run(client, job_id)
    assert (known.state, known.error_type) == ("failed", "not_found")
    assert len(server.seen) == 1


def test_a_state_that_nobody_knows_does_not_loop(client: Client, server: FineTuneServer):
    server.way = ("quarantined",)
    known = run(client, asked(client))
    assert (known.state, known.raw_state) == ("unknown", "quarantined")
    assert len(server.seen) < 15
    server.jobs[0].way = ["running", "succeeded"]
    assert run(client, known.job_id).state == "succeeded"
    assert server.done["create"] == 1


def test_broken_answers_are_told(client: Client, server: FineTuneServer, tmp_path: Path):
    provider = trainer_of(client)
    remote = begun(provider, job_of(tmp_path, "openai"))
    server.serve = lambda *_: f"<html>{KEY}".encode()  # type: ignore[method-assign]
    with pytest.raises(CallFailed, match=r"not JSON: '<html>\[key\]'") as failure:
        provider.get(remote.remote_id)
    assert failure.value.error_type == "malformed_response"


# Orders


def test_paused_and_resumed(client: Client, server: FineTuneServer, tmp_path: Path):
    provider = trainer_of(client)
    remote = begun(provider, job_of(tmp_path, "openai"))
    assert provider.pause(remote.remote_id).state == "paused"
    assert provider.get(remote.remote_id).state == "paused"
    assert provider.resume(remote.remote_id).state == "validating"
    assert taken(provider, remote.remote_id).state == "succeeded"


def test_cancelled_in_time_and_too_late(client: Client, server: FineTuneServer, tmp_path: Path):
    provider = trainer_of(client)
    first = begun(provider, job_of(tmp_path, "openai"))
    assert provider.cancel(first.remote_id).state == "cancelled"
    second = begun(provider, job_of(tmp_path, "openai"))
    taken(provider, second.remote_id)
    assert provider.cancel(second.remote_id).state == "succeeded"
    with pytest.raises(CallFailed) as gone:
        provider.cancel("ftjob-9999")
    assert gone.value.error_type == "not_found"


def test_azure_reads_a_file_for_a_while(client: Client, server: FineTuneServer, tmp_path: Path):
    server.file_status = "later"
    known = run_until_trouble(client, asked(client, "azure"))
    assert known.state == "validated"
    assert "still being read by the provider (pending)" in str(known.trouble)
    for file in server.files.values():
        file.status = "processed"
    known = run(client, known.job_id)
    assert (known.state, known.step, known.total_steps) == ("succeeded", 2, 2)
    assert str(known.model).startswith("azure/ft:")
    assert (known.cost_usd, server.done) == (None, {"upload": 2, "create": 1})


def run_until_trouble(client: Client, job_id: str) -> jobs.JobState:
    assert client.settings
    while True:
        known = jobs.advance(client.log, client.settings, job_id, client=client)
        if known.trouble or known.ended:
            return known


def test_a_refused_file_ends_the_job(client: Client, server: FineTuneServer):
    job_id = asked(client)
    server.file_status = "error"
    provider = trainer_of(client)
    assert client.settings
    for _ in range(3):
        jobs.advance(client.log, client.settings, job_id, client=client)
    known = run(client, job_id)
    assert (known.state, known.error_type) == ("failed", "invalid_request")
    assert "line 3 has no messages" in str(known.error_message)
    assert provider.capabilities().max_file_bytes == 512_000_000


def test_a_server_without_metadata(client: Client, server: FineTuneServer, tmp_path: Path):
    server.metadata = False
    provider, job = trainer_of(client, "azure"), job_of(tmp_path, "azure", validation=False)
    remote = begun(provider, job)
    other = job_of(tmp_path, "azure", validation=False)
    begun(provider, other)
    again = provider.find(job, {"training": "file-0000"})
    assert again is not None
    assert again.remote_id == remote.remote_id
    assert provider.find(other, {"training": "file-0009"}) is None


def test_a_server_without_checkpoints(client: Client, server: FineTuneServer, tmp_path: Path):
    provider = trainer_of(client)
    remote = begun(provider, job_of(tmp_path, "openai"))

    def before(method: str, path: str) -> None:
        if "checkpoints" in path:
            raise Refused(404, {"error": {"message": "no such route"}})

    server.before = before
    assert provider.checkpoints(remote.remote_id) == []


# Names


def test_trainers_by_name(client: Client):
    assert client.settings
    with pytest.raises(UsageError, match="no trainer 'cohere': the trainers are local, subprocess"):
        trainer("cohere", client=client, settings=client.settings)
    with pytest.raises(UsageError, match="open a client"):
        trainer("openai", client=None, settings=client.settings)


def test_without_a_key_nothing_is_lost(client: Client, monkeypatch: pytest.MonkeyPatch):
    job_id = asked(client)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(CallFailed, match="set OPENAI_API_KEY"):
        run(client, job_id)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert run(client, job_id).state == "succeeded"
