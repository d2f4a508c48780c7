"""OpenAI's fine-tuning at a server that others wrote; it has neither checkpoints nor pauses."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.finetune.hosted_jobs import job_of, write_demo
from tests.llm import aimock_server
from tests.llm.aimock_server import Aimock
from tracemill import EventLog, Settings
from tracemill.errors import CallFailed
from tracemill.finetune import jobs
from tracemill.finetune.providers.table import trainer
from tracemill.finetune.recipe import FineTune
from tracemill.llm.client import Client

JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture(scope="module")
def running() -> Iterator[Aimock]:
    try:
        with aimock_server.running() as aimock:
            yield aimock
    except aimock_server.Missing as missing:
        pytest.skip(f"no aimock: {missing}")


@pytest.fixture
def aimock(running: Aimock, monkeypatch: pytest.MonkeyPatch) -> Aimock:
    running.reset()
    monkeypatch.setenv("OPENAI_BASE_URL", f"{running.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", aimock_server.KEY)
    return running


@pytest.fixture
def client(tmp_path: Path, aimock: Aimock) -> Iterator[Client]:
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    with EventLog(settings.log) as log:
        client = Client(log, settings)
        yield client
        client.close()


def sent(aimock: Aimock, method: str, path: str) -> int:
    return sum(
        (each["method"], each["path"].partition("?")[0]) == (method, path)
        for each in aimock.journal()
    )


def asked(client: Client) -> tuple[Settings, str]:
    settings = client.settings
    assert settings
    write_demo(settings)
    given = {"provider": "openai", "base_model": "gpt-4o-mini-2024-07-18"}
    recipe = FineTune.model_validate(given | {"hyperparameters": {"n_epochs": 2}})
    return settings, jobs.request(client.log, settings, "routing", recipe)


def test_from_a_split_to_a_model(client: Client, aimock: Aimock):
    settings, job_id = asked(client)
    known = jobs.run(client.log, settings, job_id, client=client, pause=lambda _: None)
    assert known.state == "succeeded"
    assert str(known.model).startswith("openai/ft:gpt-4o-mini-2024-07-18:aimock:routing:")
    assert known.messages[-1].startswith("Training complete, model ft:gpt-4o-mini")
    assert sent(aimock, "POST", JOBS) == 1
    assert known.trained_tokens is not None
    assert known.cost_usd == 3 * Decimal(known.trained_tokens) / 1_000_000


def test_a_job_is_found_again_and_cancelled(client: Client, aimock: Aimock, tmp_path: Path):
    assert client.settings
    provider = trainer("openai", client=client, settings=client.settings)
    job = job_of(tmp_path, "openai", validation=False)
    assert provider.find_upload(job, "training") is None
    file_id = provider.upload(job, "training").remote_file_id
    file = provider.find_upload(job, "training")
    assert file is not None
    assert file.remote_file_id == file_id
    assert provider.find(job, {"training": file_id}) is None
    remote = provider.create(job, {"training": file_id})
    again = provider.find(job, {"training": file_id})
    assert again is not None
    assert again.remote_id == remote.remote_id
    assert provider.checkpoints(remote.remote_id) == []
    with pytest.raises(CallFailed):
        provider.pause(remote.remote_id)
    assert provider.cancel(remote.remote_id).state == "cancelled"
    assert provider.cancel(remote.remote_id).state == "cancelled"


def test_what_cannot_be_read_is_asked_for_again(client: Client, aimock: Aimock):
    settings, job_id = asked(client)
    jobs.advance(client.log, settings, job_id, client=client)
    aimock.chaos(malformedRate=1.0)
    known = jobs.advance(client.log, settings, job_id, client=client)
    assert (known.state, known.files) == ("validated", {})
    assert "not JSON" in str(known.trouble)
    aimock.calm()
    known = jobs.run(client.log, settings, job_id, client=client, pause=lambda _: None)
    assert known.state == "succeeded"
    assert sent(aimock, "POST", JOBS) == 1
