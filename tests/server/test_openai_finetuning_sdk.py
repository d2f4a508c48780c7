"""Fine-tuning jobs as OpenAI's own SDK drives them, with a real model that is trained here."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.server.conftest import World
from tests.server.openai_played import checked
from tests.server.running import running
from tracemill.log import EventLog
from tracemill.settings import Settings

SAID = {"bug": "the app crashes with an error on page", "billing": "please refund my order number"}


@pytest.fixture
def sdk(world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def rows(count: int) -> bytes:
    """Chat rows: what was said, and its label."""
    turns = [
        [{"role": "user", "content": f"{said} {n}"}, {"role": "assistant", "content": label}]
        for n in range(count)
        for label, said in SAID.items()
    ]
    return "\n".join(json.dumps({"messages": each}) for each in turns).encode()


def uploaded(sdk: openai.OpenAI, data: bytes, purpose: Any = "fine-tune") -> str:
    return sdk.files.create(file=("rows.jsonl", data), purpose=purpose).id


def until(sdk: openai.OpenAI, job: str, *states: str) -> FineTuningJob:
    """The job once it is in one of these states, by our words."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        known = sdk.fine_tuning.jobs.retrieve(job)
        if known.to_dict()["tracemill_state"] in states:
            return checked(known)
        time.sleep(0.02)
    raise AssertionError(f"job {job} is {known.to_dict()}")


def test_a_model_is_trained_and_asked_at_once(sdk: openai.OpenAI) -> None:
    learned, watched = uploaded(sdk, rows(30)), uploaded(sdk, rows(4))
    job = checked(
        sdk.fine_tuning.jobs.create(
            model="local/auto",
            training_file=learned,
            validation_file=watched,
            suffix="My Triage",
            seed=7,
            metadata={"team": "support"},
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
        )
    )
    assert (job.training_file, job.validation_file, job.seed) == (learned, watched, 7)
    assert (job.status, job.hyperparameters.n_epochs) == ("validating_files", 3)
    done = until(sdk, job.id, "succeeded", "failed")
    assert (done.status, done.error, done.model) == ("succeeded", None, "local/classify")
    assert done.finished_at is not None
    assert done.trained_tokens

    assert (done.fine_tuned_model or "").startswith("ft:local:My-Triage:")
    answer = sdk.chat.completions.create(
        model=done.fine_tuned_model or "",
        messages=[{"role": "user", "content": "refund my order please"}],
        logprobs=True,
    )
    assert answer.choices[0].message.content == "billing"
    assert answer.choices[0].logprobs is not None

    events = [checked(event) for event in sdk.fine_tuning.jobs.list_events(job.id, limit=3)]
    assert "completed" in events[0].message
    assert events[-1].message == f"Created fine-tuning job: {job.id}"
    assert {"valid_loss", "train_loss"} <= {n for e in events for n in dict(e.data or {})}  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert len({event.id for event in events}) == len(events) > 3
    kept = [checked(each) for each in sdk.fine_tuning.jobs.checkpoints.list(job.id, limit=1)]
    assert [each.step_number for each in kept] == sorted((each.step_number for each in kept), reverse=True)  # fmt: skip
    found = sdk.fine_tuning.jobs.list(metadata={"team": "support"})
    assert [each.id for each in found] == [job.id]
    assert list(sdk.fine_tuning.jobs.list(metadata={"team": "other"})) == []
    with pytest.raises(openai.BadRequestError, match="succeeded already"):
        sdk.fine_tuning.jobs.cancel(job.id)

    model = done.fine_tuned_model or ""
    assert checked(sdk.models.retrieve(model)).owned_by == "local"
    assert checked(sdk.models.delete(model)).deleted
    for call in (sdk.models.retrieve, sdk.models.delete):
        with pytest.raises(openai.NotFoundError):
            call(model)
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}])


def test_a_job_stands_still_goes_on_and_is_cancelled(sdk: openai.OpenAI) -> None:
    job = sdk.fine_tuning.jobs.create(model="local/lm", training_file=uploaded(sdk, rows(60)))
    checked(sdk.fine_tuning.jobs.pause(job.id))
    assert until(sdk, job.id, "paused", "succeeded").status == "queued"
    assert checked(sdk.fine_tuning.jobs.resume(job.id)).status in {"running", "queued"}
    assert checked(sdk.fine_tuning.jobs.cancel(job.id)).status in {"running", "cancelled"}
    assert until(sdk, job.id, "cancelled").fine_tuned_model is None


def test_a_file_of_which_nothing_can_be_learned_fails_the_job(sdk: openai.OpenAI) -> None:
    broken = rows(2) + b'\n{"messages": [{"role": "user", "content": "no answer"}]}\n{'
    job = sdk.fine_tuning.jobs.create(model="local/auto", training_file=uploaded(sdk, broken))
    failed = until(sdk, job.id, "failed", "succeeded")
    assert failed.error is not None
    assert (failed.error.code, failed.error.param) == ("invalid_training_file", "training_file")
    assert "line" in failed.error.message


def test_what_an_sdk_sends_once_more_is_the_same_job(sdk: openai.OpenAI) -> None:
    broken = uploaded(sdk, b"{}")
    first = sdk.fine_tuning.jobs.create(model="local/lm", training_file=broken)
    again = sdk.fine_tuning.jobs.create(
        model="local/lm", training_file=broken, extra_headers={"x-stainless-retry-count": "1"}
    )
    anew = sdk.fine_tuning.jobs.create(model="local/lm", training_file=broken)
    assert first.id == again.id != anew.id


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"training_file": "file-nothing"}, "training_file"),
        ({"model": "local/gpt"}, None),
        ({"model": "mistral/small"}, None),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"model": "local/lm", "hyperparameters": {"batch_size": 4}}, "hyperparameters.batch_size"),
        ({"method": {"type": "dpo"}}, "method.type"),
        ({"method": {"type": "reinforcement"}}, "method.type"),
        ({"seed": -1}, "seed"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "a"}}]}, "integrations"),
        ({"model": "together/llama"}, "model"),
    ],
)
def test_what_cannot_be_trained_is_named(
    sdk: openai.OpenAI, asked: Any, param: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOGETHER_API_KEY", raising=False)
    given = {"model": "local/classify", **asked}
    given.setdefault("training_file", uploaded(sdk, rows(2)))
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.fine_tuning.jobs.create(**given)
    assert refused.value.param == param
    with pytest.raises(openai.NotFoundError):
        sdk.fine_tuning.jobs.retrieve("ftjob-nothing")


def test_a_server_that_starts_goes_on_with_what_has_no_end(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    with (
        running(warehouse) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as sdk,
    ):
        broken = uploaded(sdk, b"{}")
        # The server is gone before anything was done.
        server.gateway.following.follow = lambda job_id: None  # type: ignore[method-assign]
        job = sdk.fine_tuning.jobs.create(model="local/lm", training_file=broken)
    with running(warehouse):
        settings = Settings(warehouse=warehouse)
        with EventLog.open(settings) as log:
            stream = f"finetune:{job.id.removeprefix('ftjob-')}"
            end = time.monotonic() + 20
            while log.version(stream) < 2 and time.monotonic() < end:
                time.sleep(0.02)
            assert [each.event.kind for each in log.read(stream=stream)] == [  # type: ignore[attr-defined]
                "finetune.requested",
                "finetune.failed",
            ]
