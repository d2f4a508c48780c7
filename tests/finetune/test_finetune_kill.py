"""kill -9 between the steps of a fine-tune: no step is done twice, and none is lost.

After or before every third step, and with TRACEMILL_TEST_FULL between every two.
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import FULL
from tests.finetune.killing import Death, advancing, kill, working
from tests.finetune.splits_made import kind, made, warehouse
from tracemill.events import FineTuneProgressed
from tracemill.finetune import jobs
from tracemill.finetune.job import JobState, state
from tracemill.finetune.recipe import Examples, FineTune
from tracemill.log import EventLog
from tracemill.settings import Settings

TRAINER = Path(__file__).parents[2] / "docs" / "trainer.py"
ONCE = Counter(
    {
        "finetune.requested": 1,
        "finetune.validated": 1,
        "finetune.uploaded": 2,
        "finetune.created": 1,
        "finetune.succeeded": 1,
        "model.registered": 1,
    }
)


def deaths(module: str, owner: str | None, step: str, calls: int = 1) -> Iterator[Death]:
    for call in range(1, calls + 1):
        for after in (False, True):
            yield Death(module, owner, step, call, after)


EVERY = 1 if FULL else 3
FOLDER = "tracemill.finetune.providers.folder"
WORKER = "tracemill.finetune.worker"
ADVANCING = [
    *(Death("tracemill.log.store", "EventLog", "append", call, True) for call in range(1, 6)),
    *deaths(FOLDER, "InFolder", "validate"),
    *deaths(FOLDER, "InFolder", "upload", 2),
    *deaths(FOLDER, "InFolder", "create"),
    *deaths(FOLDER, "InFolder", "_start"),
    *deaths(FOLDER, None, "_note_start"),
    *deaths("tracemill.finetune.jobs", None, "registered"),
]
WORKING = [
    *deaths(WORKER, None, "write_text_atomically", 3),
    *deaths(WORKER, "Teller", "_append"),
    *deaths("tracemill.llm.trained.artefact", None, "publish"),
    *deaths("os", None, "rename"),
    *deaths("os", None, "fsync"),
]


class Made(NamedTuple):
    """A fine-tune that was asked for and not begun."""

    settings: Settings
    job_id: str


def asked(folder: Path, recipe: FineTune) -> Made:
    settings = warehouse(folder)
    made(settings)
    with EventLog.open(settings) as log:
        return Made(settings, jobs.request(log, settings, "routing", recipe))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def finished(made: Made) -> JobState:
    with EventLog.open(made.settings) as log:
        return jobs.run(log, made.settings, made.job_id, timeout_s=60)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A job for a program of somebody else's, asked for."""
    recipe = FineTune(
        provider="subprocess",
        command=(sys.executable, str(TRAINER), "{folder}"),
        examples=Examples(target="label"),
        hyperparameters={"epochs": 3},
    )
    return asked(tmp_path_factory.mktemp("asked"), recipe)


@pytest.fixture(scope="module")
def unharmed(outside: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The artefact of a job that nobody killed."""
    copy = copied(outside, tmp_path_factory.mktemp("unharmed"))
    assert finished(copy).state == "succeeded"
    return files(copy.settings.models / "jobs" / copy.job_id / "artefact")


def copied(made: Made, folder: Path) -> Made:
    shutil.copytree(made.settings.warehouse, folder / "warehouse")
    return Made(Settings(warehouse=folder / "warehouse"), made.job_id)


@pytest.mark.parametrize("death", ADVANCING[::EVERY], ids=str)
def test_who_follows_a_job_may_die_anywhere(
    death: Death, outside: Made, unharmed: dict[str, bytes], tmp_path: Path
) -> None:
    job = copied(outside, tmp_path)
    assert kill(advancing, job.settings.warehouse, job.job_id, death=death)
    end = finished(job)
    assert end.state == "succeeded", end
    with EventLog.open(job.settings) as log:
        events = [each.event for each in log.read()]
    counts = Counter(kind(each) for each in events)
    assert {each: counts[each] for each in ONCE} == ONCE
    told = [each for each in events if isinstance(each, FineTuneProgressed) and each.step]
    # The epoch of a step may be known later only; then it is told under the same cursor.
    assert [step for _, step in dict.fromkeys((each.cursor, each.step) for each in told)] == [
        1,
        2,
        3,
    ]
    assert [each.name for each in (job.settings.models / "jobs").glob("0*")] == [job.job_id]
    assert files(job.settings.models / "jobs" / job.job_id / "artefact") == unharmed


@pytest.fixture(scope="module")
def created(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A job for our own trainer, with its folder, that nobody works at."""
    recipe = FineTune(examples=Examples(target="label"), hyperparameters={"epochs": 3})
    job = asked(tmp_path_factory.mktemp("created"), recipe)
    with EventLog.open(job.settings) as log:
        while state(log, job.job_id).remote_id is None:
            jobs.advance(log, job.settings, job.job_id)
    return job


@pytest.fixture(scope="module")
def trained(created: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder of models after a training that nobody killed."""
    copy = copied(created, tmp_path_factory.mktemp("trained"))
    assert not kill(working, copy.settings.models / "jobs" / copy.job_id, death=None)
    return copy.settings.models


@pytest.mark.parametrize("death", WORKING[::EVERY], ids=str)
def test_who_trains_may_die_anywhere(
    death: Death, created: Made, trained: Path, tmp_path: Path
) -> None:
    job = copied(created, tmp_path)
    folder = job.settings.models / "jobs" / job.job_id
    assert kill(working, folder, death=death)
    assert not kill(working, folder, death=None)
    end = finished(job)
    assert end.state == "succeeded", end
    whole = trained / "jobs" / job.job_id
    for name in ("state.json", "events.jsonl"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    told = (folder / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in told] == [1, 2, 3]
    assert files(job.settings.models / "routing") == files(trained / "routing")
    assert len([*(job.settings.models / "routing").glob("[!.]*")]) == 1
    assert not (folder / "starts.jsonl").exists()
