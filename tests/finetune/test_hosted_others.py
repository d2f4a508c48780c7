"""Together and Fireworks as trainers: what is sent, what is read, what is found again."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.finetune.finetune_server import FineTuneServer, Refused, serving
from tests.finetune.hosted_jobs import BASES, job_of, write_demo
from tracemill import EventLog, Settings
from tracemill.errors import CallFailed
from tracemill.finetune import jobs
from tracemill.finetune.providers import (
    Checkpoint,
    Events,
    FineTuneProvider,
    JobSpec,
    Part,
    Remote,
    fireworks,
    together,
)
from tracemill.finetune.providers.table import trainer
from tracemill.finetune.recipe import FineTune
from tracemill.llm.client import Client
from tracemill.messages import Request

FILES: dict[Part, str] = {"training": "file-1", "validation": "file-2"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FineTuneServer]:
    monkeypatch.delenv("FIREWORKS_ACCOUNT_ID", raising=False)
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


@pytest.fixture(params=["together", "fireworks"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def trainer_of(client: Client, name: str) -> FineTuneProvider:
    assert client.settings
    return trainer(name, client=client, settings=client.settings)


def begun(provider: FineTuneProvider, job: JobSpec) -> Remote:
    """A job that the trainer has taken."""
    parts: tuple[Part, ...] = ("training", "validation") if job.validation else ("training",)
    return provider.create(job, {part: provider.upload(job, part).remote_file_id for part in parts})


def run(client: Client, name: str) -> jobs.JobState:
    """A model that was asked for, by recipe."""
    assert client.settings
    write_demo(client.settings)
    recipe = FineTune.model_validate({"provider": name, "base_model": BASES[name]})
    job_id = jobs.request(client.log, client.settings, "routing", recipe)
    return jobs.run(
        client.log, client.settings, job_id, client=client, pause=lambda _: None, timeout_s=30
    )


# Both


def test_what_is_lost_on_the_way_back_is_there(
    client: Client, server: FineTuneServer, tmp_path: Path, name: str
):
    provider, job = trainer_of(client, name), job_of(tmp_path, name, validation=False)
    assert provider.find_upload(job, "training") is None
    server.answering = lambda method, path: method != "POST"
    for _ in range(3):
        if (file := provider.find_upload(job, "training")) is not None:
            break
        with pytest.raises(CallFailed, match="connection"):
            provider.upload(job, "training")
        # The first request of Fireworks' two is lost; the second attempt finds what it made.
        server.answering = lambda method, path: method != "POST" or path.endswith("datasets")
    assert file is not None
    server.answering = lambda method, path: method != "POST"
    files: dict[Part, str] = {"training": file.remote_file_id}
    assert provider.find(job, files) is None
    with pytest.raises(CallFailed, match="connection"):
        provider.create(job, files)
    known = provider.find(job, files)
    assert known is not None
    assert known.remote_id == server.jobs[0].id
    assert (server.done["upload"], server.done["create"]) == (1, 1)


def test_a_file_is_read_for_a_while(
    client: Client, server: FineTuneServer, tmp_path: Path, name: str
):
    provider, job = trainer_of(client, name), job_of(tmp_path, name, validation=False)
    server.file_status = "later"
    with pytest.raises(CallFailed, match="still being read") as failure:
        begun(provider, job)
    assert (failure.value.retry, server.done["create"]) == (True, 0)


def test_jobs_cannot_be_paused(client: Client, server: FineTuneServer, tmp_path: Path, name: str):
    provider = trainer_of(client, name)
    remote = begun(provider, job_of(tmp_path, name))
    assert not provider.capabilities().pausable
    with pytest.raises(CallFailed, match="cannot be paused") as failure:
        provider.pause(remote.remote_id)
    assert failure.value.error_type == "unsupported"


def test_cancelled(client: Client, server: FineTuneServer, tmp_path: Path, name: str):
    provider = trainer_of(client, name)
    remote = begun(provider, job_of(tmp_path, name))
    # Fireworks is asked anew after the order, and has moved on by then.
    assert provider.cancel(remote.remote_id).state in ("cancelling", "cancelled")
    assert provider.get(remote.remote_id).state == "cancelled"


def test_models_are_deleted_once(client: Client, server: FineTuneServer, name: str):
    known = run(client, name)
    assert known.state == "succeeded"
    assert server.models == {str(known.model).removeprefix(f"{name}/")}
    provider = trainer_of(client, name)
    provider.delete_model(str(known.model))
    provider.delete_model(str(known.model))
    assert (server.models, server.done["delete"]) == (set(), 1)


def test_tokens_are_estimated_and_prices_are_not_made_up(
    client: Client, server: FineTuneServer, tmp_path: Path, name: str
):
    provider = trainer_of(client, name)
    epochs = {"together": "n_epochs", "fireworks": "epochs"}[name]
    one, two = (
        provider.estimate(job_of(tmp_path, name, hyperparameters={epochs: n})) for n in (1, 2)
    )
    assert one.trained_tokens
    assert two == (2 * one.trained_tokens, None, None)
    few = job_of(tmp_path, name, rows=[], hyperparameters={"seed": 1})
    wrong = provider.validate(few).errors
    assert "no 'seed' for `supervised`" in wrong[0]
    assert any("there are no rows" in each for each in wrong)
    assert server.seen == []


def test_methods_of_local_models_are_not_trained_there(client: Client, tmp_path: Path, name: str):
    (wrong,) = trainer_of(client, name).validate(job_of(tmp_path, name, method="lm")).errors
    assert "trains no `lm`: method is one of supervised, dpo" in wrong


# Together


@pytest.mark.parametrize(
    ("word", "state"),
    [
        *[("pending", "validating"), ("queued", "queued"), ("running", "running")],
        *[("compressing", "running"), ("uploading", "running"), ("completed", "succeeded")],
        *[("cancel_requested", "cancelling"), ("cancelled", "cancelled"), ("error", "failed")],
        *[("user_error", "failed"), ("frozen", "unknown")],
    ],
)
def test_words_of_together(word: str, state: str):
    remote = together.read({"id": "ft-1", "status": word})
    assert (remote.state, remote.raw_state) == (state, word)


@pytest.mark.parametrize(
    ("more", "changed"),
    [
        ({}, {}),
        (
            {"hyperparameters": {"n_epochs": 3, "learning_rate": 1e-4, "training_file": "x"}},
            {"n_epochs": 3, "n_evals": 3, "learning_rate": 1e-4},
        ),
        (
            {"hyperparameters": {"lora_r": 16, "lora_dropout": 0.1}},
            {
                "training_type": {
                    "type": "Lora",
                    "lora_r": 16,
                    "lora_alpha": 32,
                    "lora_dropout": 0.1,
                }
            },
        ),
        ({"hyperparameters": {"lora": False}}, {"training_type": {"type": "Full"}}),
        (
            {"method": "dpo", "hyperparameters": {"dpo_beta": 0.2}},
            {"training_method": {"method": "dpo", "dpo_beta": 0.2}},
        ),
    ],
)
def test_a_job_for_together(tmp_path: Path, more: dict[str, Any], changed: dict[str, Any]):
    job = job_of(tmp_path, "together", job_id="01a204c3-705a-70dd-ac32-f1cc998908f3", **more)
    assert together.body_of(job, FILES) == {
        "model": BASES["together"],
        "training_file": "file-1",
        "validation_file": "file-2",
        "suffix": "routing-f1cc998908f3",
        "random_seed": 7,
        "n_epochs": 1,
        "n_evals": 1,
        "training_method": {"method": "sft", "train_on_inputs": "auto"},
        **changed,
    }
    assert len(together.suffix_of(job._replace(suffix="x" * 64))) == 40


def test_a_life_at_together(client: Client, server: FineTuneServer, tmp_path: Path):
    provider, job = trainer_of(client, "together"), job_of(tmp_path, "together")
    remote = begun(provider, job)
    states = [provider.get(remote.remote_id).raw_state for _ in range(3)]
    assert states == ["queued", "running", "compressing"]
    said = provider.events(remote.remote_id, None)
    metrics = {"train_loss": 2.0, "validation_loss": 1.5}
    told = tuple(f"The job is {word}" for word in states)
    assert said == Events(told, step=1, loss=2.0, metrics=metrics, cursor="3")
    assert provider.events(remote.remote_id, "3") == Events((), cursor="3")
    assert provider.checkpoints(remote.remote_id) == [Checkpoint("ft-0:1", 1, {})]
    provider.get(remote.remote_id)
    end = provider.get(remote.remote_id)
    named = f"acme/Meta-Llama-3.1-8B-Instruct-Reference-{together.suffix_of(job)}"
    assert (end.state, end.model) == ("succeeded", f"together/{named}")
    assert (end.trained_tokens, end.cost_usd) == (40_000, Decimal("0.0192"))


def test_why_a_job_failed_stands_in_its_events(client: Client, server: FineTuneServer):
    server.way, server.error = ("pending", "error"), {"message": "CUDA ran out of memory"}
    known = run(client, "together")
    assert (known.state, known.error_message) == ("failed", "CUDA ran out of memory")


def test_a_file_that_together_refuses(client: Client, server: FineTuneServer, tmp_path: Path):
    server.file_status = "error"
    with pytest.raises(CallFailed, match="line 3 has no messages") as failure:
        begun(trainer_of(client, "together"), job_of(tmp_path, "together"))
    assert not failure.value.retry


def test_equal_files_of_two_jobs_are_two_jobs(
    client: Client, server: FineTuneServer, tmp_path: Path
):
    """Together may give equal files one id; the suffix still tells the jobs apart."""
    provider = trainer_of(client, "together")
    first, second = (job_of(tmp_path, "together", validation=False) for _ in range(2))
    begun(provider, first)
    assert provider.find(first, {"training": "file-0000"}) is not None
    assert provider.find(second, {"training": "file-0000"}) is None


def test_a_server_of_together_without_metrics(
    client: Client, server: FineTuneServer, tmp_path: Path
):
    provider = trainer_of(client, "together")
    remote = begun(provider, job_of(tmp_path, "together"))
    provider.get(remote.remote_id)

    def before(method: str, path: str) -> None:
        if path.endswith("metrics"):
            raise Refused(404, {"error": {"message": "no such route"}})

    server.before = before
    assert provider.events(remote.remote_id, None) == Events(("The job is queued",), cursor="1")


# Fireworks


@pytest.mark.parametrize(
    ("word", "state"),
    [
        *[("CREATING", "validating"), ("VALIDATING", "validating"), ("PENDING", "queued")],
        *[("RE_QUEUEING", "queued"), ("RUNNING", "running"), ("WRITING_RESULTS", "running")],
        *[("PAUSED", "paused"), ("IDLE", "paused"), ("CANCELLING", "cancelling")],
        *[("COMPLETED", "succeeded"), ("EARLY_STOPPED", "succeeded"), ("FAILED", "failed")],
        *[("EXPIRED", "failed"), ("CANCELLED", "cancelled"), ("UNSPECIFIED", "unknown")],
        ("DELETING", "unknown"),
    ],
)
def test_words_of_fireworks(word: str, state: str):
    body = {"name": "accounts/a/supervisedFineTuningJobs/x", "state": f"JOB_STATE_{word}"}
    remote = fireworks.read(body)
    assert (remote.state, remote.raw_state) == (state, f"JOB_STATE_{word}")


def test_a_job_for_fireworks(tmp_path: Path):
    named = {"epochs": 2, "loraRank": 16, "dataset": "x"}
    job = job_of(tmp_path, "fireworks", suffix="Routing it_", hyperparameters=named)
    job = job._replace(job_id="01a204c3-705a-70dd-ac32-f1cc998908f3")
    training = {
        "epochs": 2,
        "loraRank": 16,
        "baseModel": "accounts/fireworks/models/llama-v3p1-8b-instruct",
        "outputModel": "accounts/acme/models/routing-it-f1cc998908f3",
    }
    same = {"displayName": "routing", "dataset": "file-1"}
    supervised = fireworks.body_of(job, FILES, "accounts/acme")
    assert supervised == same | training | {"evaluationDataset": "file-2"}
    dpo = fireworks.body_of(job._replace(method="dpo"), FILES, "accounts/acme")
    assert dpo == same | {"trainingConfig": training}


def test_a_life_at_fireworks(client: Client, server: FineTuneServer):
    known = run(client, "fireworks")
    end = known.job_id.rpartition("-")[2]
    assert known.model == f"fireworks/accounts/acme/models/routing-{end}"
    assert (known.state, known.cost_usd, known.epoch) == ("succeeded", Decimal("1.25"), 1)
    assert known.remote_id == f"accounts/acme/supervisedFineTuningJobs/tracemill-{known.job_id}"
    assert set(server.files) == {
        f"accounts/acme/datasets/tracemill-{known.job_id}-{part}"
        for part in ("training", "validation")
    }
    assert server.done == {"dataset": 2, "upload": 2, "create": 1}


def test_a_job_that_failed_at_fireworks(client: Client, server: FineTuneServer):
    server.way = ("CREATING", "FAILED")
    server.error = {"code": "INVALID_ARGUMENT", "message": "base model is not tunable"}
    known = run(client, "fireworks")
    assert (known.error_message, known.error_code) == (
        "base model is not tunable",
        "INVALID_ARGUMENT",
    )


@pytest.mark.parametrize("accounts", [[], ["accounts/a", "accounts/b"]])
def test_which_account_is_meant(
    client: Client,
    server: FineTuneServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    accounts: list[str],
):
    server.accounts = accounts
    provider, job = trainer_of(client, "fireworks"), job_of(tmp_path, "fireworks")
    with pytest.raises(CallFailed, match=f"has {len(accounts)} accounts: set FIREWORKS_ACCOUNT_ID"):
        provider.find_upload(job, "training")
    monkeypatch.setenv("FIREWORKS_ACCOUNT_ID", "acme")
    assert provider.find_upload(job, "training") is None
    assert server.seen[-1][1].startswith("/fireworks/v1/accounts/acme/datasets/tracemill-")


def test_models_of_fireworks_are_called_beside_its_training(client: Client, server: FineTuneServer):
    request = Request.of("Which package?", model="fireworks/accounts/acme/models/routing-1")
    with pytest.raises(CallFailed):
        client.generate(request)
    assert server.seen == [("POST", "/fireworks/inference/v1/chat/completions")]
