"""Trainers on this machine: a program of its own, and a folder in which it is told and tells.

`local` runs our worker, `subprocess` any program, such as one made with torch, peft or axolotl. The
folder of a job (`{folder}` in the command, `TRACEMILL_JOB` in the environment) holds:

| file | who writes it | what |
|---|---|---|
| `job.json` | we, before it starts | job_id, name, base_model, method, hyperparameters (object), seed, suffix, dataset, dataset_digest, training and validation (`{file, split, sha256, rows, size_bytes}`, validation may be null) |
| `training.jsonl`, `validation.jsonl` | we | examples, `{"messages": [...]}` a line; not to be changed |
| `state.json` | the trainer | how far it is, one object; write another file and rename it to this |
| `events.jsonl` | the trainer, optional | `{"step", "loss", "metrics": {name: number}, "message"}` a line, each field optional, appended; what is recorded of the way |
| `checkpoints/` | the trainer, optional | `checkpoints/<name>` is a checkpoint (file or folder), listed once `checkpoints/<name>.json` with `{"step", "metrics"}` is there |
| `artefact/` | the trainer, optional | files of the model; their digest is the version |
| `pause`, `cancel` | we | empty files: please save and stop, with `state` `paused` or `cancelled` |
| `output.log` | the program | what it prints |
| `starts.jsonl`, `lock`, `advance.lock` | we | when it was started; who is at work |

Fields of `state.json`, each optional but `state`: `state` (running, paused, succeeded, failed,
cancelled), `step`, `total_steps`, `epoch`, `loss`, `metrics`, and at the end `model` (a name for
`Request.model`, such as `vllm/routing`), `model_digest`, `trained_tokens`, `size_bytes`, or
`error_message` and `error_code`.

The program stays in the foreground, since its life is how we know that somebody is at work: its
standard input is a lock that its children share. One that is gone without an end in `state.json` is
started again, and should go on from its last checkpoint; after `MOST_STARTS` starts without a step
more the job has failed, with the end of `output.log` as the reason. `cancel` also sends SIGTERM to
the program and its children. It is run in the folder that holds the warehouse.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.errors import CallFailed
from tracemill.files import sha256_of, sync, write_text_atomically
from tracemill.finetune.providers import (
    BaseModel,
    Capabilities,
    Checkpoint,
    Estimate,
    Events,
    JobSpec,
    Part,
    Remote,
    RemoteFile,
    RemoteState,
    TrainingFile,
    Validation,
    here,
    told,
)
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.corpus.validation import Report

LOCAL = (sys.executable, "-P", "-m", "tracemill.finetune.worker", "{folder}")
"""Our own trainer."""
MOST_STARTS = 3
"""Without a step more in between."""
JOB, LOCK, STARTS, PAUSE, CANCEL = "job.json", "lock", "starts.jsonl", "pause", "cancel"
GRACE_S = 10.0
"""What a program that is told to stop may take to save."""


class InFolder:
    """A trainer on this machine; `remote_id` is our id of the job."""

    def __init__(self, settings: Settings, command: Sequence[str] = ()) -> None:
        """`command` is the program of `subprocess`; empty for our own trainer."""
        self._settings = settings
        self._local = not command
        self._command = tuple(command) or LOCAL
        self._reports: dict[str, Report] = {}

    def capabilities(self) -> Capabilities:
        """As the protocol says."""
        ours = tuple(BaseModel(name, (name,), None, Decimal(0)) for name in ("classify", "lm"))
        return Capabilities(
            models=ours if self._local else (),
            other_models=not self._local,
            min_rows=1,
            max_file_bytes=None,
            pausable=True,
            checkpoints=True,
        )

    def validate(self, job: JobSpec) -> Validation:
        """As the protocol says."""
        return here.validation(job, self._report(job))

    def estimate(self, job: JobSpec) -> Estimate:
        """As the protocol says."""
        return here.estimate(job, self._report(job))

    def find_upload(self, job: JobSpec, part: Part) -> RemoteFile | None:
        """As the protocol says."""
        file, path = _given(job, part), self._folder(job.job_id) / f"{part}.jsonl"
        if not path.is_file() or sha256_of(path) != file.sha256:
            return None
        return RemoteFile(path.name, file.sha256, file.rows, file.size_bytes)

    def upload(self, job: JobSpec, part: Part) -> RemoteFile:
        """Put a file into the folder, as a second name of the same bytes where that can be."""
        file, path = _given(job, part), self._folder(job.job_id) / f"{part}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.tmp")
        aside.unlink(missing_ok=True)
        try:
            os.link(file.path, aside)
        except OSError:
            shutil.copyfile(file.path, aside)
        aside.replace(path)
        sync(path.parent)
        return RemoteFile(path.name, file.sha256, file.rows, file.size_bytes)

    def find(self, job: JobSpec, files: Mapping[Part, str]) -> Remote | None:
        """As the protocol says."""
        folder = self._folder(job.job_id)
        return told.read_state(folder, job.job_id) if (folder / JOB).is_file() else None

    def create(self, job: JobSpec, files: Mapping[Part, str]) -> Remote:
        """Write what is to be done; `get` sees to it that somebody does."""
        folder = self._folder(job.job_id)
        whole = json.dumps(described(job), indent=2, ensure_ascii=False) + "\n"
        write_text_atomically(folder / JOB, whole)
        return told.read_state(folder, job.job_id)

    def get(self, remote_id: str) -> Remote:
        """How far it is. A program that is gone before its end is started again."""
        folder = self._there(remote_id)
        seen = told.read_state(folder, remote_id)
        if seen.state in told.ENDED:
            return _completed(folder, seen)
        with _lock(folder) as lock:
            if lock is None:
                return _at_work(folder, seen)
            return self._alone(folder, remote_id, lock)

    def events(self, remote_id: str, after: str | None) -> Events:
        """As the protocol says; a step at a time."""
        return told.read_events(self._there(remote_id), after)

    def checkpoints(self, remote_id: str) -> Sequence[Checkpoint]:
        """As the protocol says."""
        return told.read_checkpoints(self._there(remote_id))

    def cancel(self, remote_id: str) -> Remote:
        """Stop the program; it may save what it has before it ends."""
        folder = self._there(remote_id)
        (folder / CANCEL).touch()
        _signal(folder, signal.SIGTERM)
        until = time.monotonic() + GRACE_S
        while lives(folder) and time.monotonic() < until:
            time.sleep(0.02)
        _signal(folder, signal.SIGKILL)
        return self.get(remote_id)

    def pause(self, remote_id: str) -> Remote:
        """Ask the program to save and end; it is paused once it has."""
        folder = self._there(remote_id)
        (folder / PAUSE).touch()
        return self.get(remote_id)

    def resume(self, remote_id: str) -> Remote:
        """As the protocol says."""
        folder = self._there(remote_id)
        (folder / PAUSE).unlink(missing_ok=True)
        return self.get(remote_id)

    def delete_model(self, model: str) -> None:
        """Delete the files of a version that was trained by `local`."""
        from tracemill.llm.trained.artefact import folder_of

        name, _, digest = model.removeprefix("ft:local:").rpartition(":")
        if not model.startswith("ft:local:") or not name:
            raise CallFailed(
                "unsupported", f"{model} is not kept here: delete it where it is served"
            )
        shutil.rmtree(folder_of(self._settings.models, name, digest), ignore_errors=True)

    def _report(self, job: JobSpec) -> "Report":
        if job.training.sha256 not in self._reports:
            self._reports[job.training.sha256] = here.report(job)
        return self._reports[job.training.sha256]

    def _folder(self, job_id: str) -> Path:
        return self._settings.models / "jobs" / job_id

    def _there(self, remote_id: str) -> Path:
        folder = self._folder(remote_id)
        if not (folder / JOB).is_file():
            raise CallFailed(
                "not_found", f"there is no {folder / JOB}: the job's folder was deleted"
            )
        return folder

    def _alone(self, folder: Path, remote_id: str, lock: int) -> Remote:
        """What becomes of a job that nobody works at, by who holds its lock."""
        # Read again: the program may have ended between the last look and the lock.
        seen = told.read_state(folder, remote_id)
        if seen.state in told.ENDED:
            return _completed(folder, seen)
        if (folder / CANCEL).exists():
            return _ended(folder, seen, "cancelled")
        if (folder / PAUSE).exists():
            return seen._replace(state="paused", raw_state="paused")
        if seen.state == "unknown":
            return seen
        if _starts_at(folder, seen.step) >= MOST_STARTS:
            said = told.last_words(folder) or "and printed nothing"
            why = f"the trainer ended {MOST_STARTS} times without a step more: {said}"
            return _ended(folder, seen, "failed", why)
        self._start(folder, seen.step, lock)
        return seen._replace(state="running", raw_state="running")

    def _start(self, folder: Path, step: int | None, lock: int) -> None:
        """Run the program with the lock as its standard input: it is held until all are gone."""
        command = [each.replace("{folder}", str(folder)) for each in self._command]
        with (folder / told.OUTPUT).open("ab") as output:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=lock,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    cwd=self._settings.warehouse.parent,
                    env={**os.environ, "TRACEMILL_JOB": str(folder)},
                )
            except OSError as error:
                raise CallFailed(
                    "not_found", f"{command[0]} could not be started: {error.strerror}"
                ) from error
        _children.append(process)
        _note_start(folder, step, process.pid)


_children: list[subprocess.Popen[bytes]] = []
"""Programs of this process, to be buried when they have ended."""
_one_at_a_time = threading.Lock()


def described(job: JobSpec) -> dict[str, Any]:
    """What `job.json` says."""

    def file(part: Part) -> dict[str, Any] | None:
        given = job.training if part == "training" else job.validation
        if given is None:
            return None
        return {
            "file": f"{part}.jsonl",
            "split": given.split,
            "sha256": given.sha256,
            "rows": given.rows,
            "size_bytes": given.size_bytes,
        }

    return {
        "job_id": job.job_id,
        "name": job.name,
        "base_model": job.base_model,
        "method": job.method,
        "hyperparameters": dict(job.hyperparameters),
        "seed": job.seed,
        "suffix": job.suffix,
        "dataset": job.dataset,
        "dataset_digest": job.dataset_digest,
        "training": file("training"),
        "validation": file("validation"),
    }


def _given(job: JobSpec, part: Part) -> TrainingFile:
    file = job.training if part == "training" else job.validation
    assert file is not None, "a part that the job has not"
    return file


def _at_work(folder: Path, seen: Remote) -> Remote:
    """The state of a program that lives: it may not have told yet that it goes on."""
    if (folder / CANCEL).exists():
        return seen._replace(state="cancelling", raw_state="cancelling")
    if seen.state == "queued" or (seen.state == "paused" and not (folder / PAUSE).exists()):
        return seen._replace(state="running", raw_state="running")
    return seen


def _completed(folder: Path, seen: Remote) -> Remote:
    """What a program need not tell: how its model is called, and which version it is."""
    if seen.state != "succeeded" or (seen.model and seen.model_digest and seen.size_bytes):
        return seen
    digest, size = told.artefact(folder) or (sha256_of(folder / JOB), None)
    digest = seen.model_digest or digest
    job: Any = json.loads((folder / JOB).read_bytes())
    return seen._replace(
        model=seen.model or f"ft:subprocess:{job['name']}:{digest[:16]}",
        model_digest=digest,
        size_bytes=seen.size_bytes or size,
    )


def _ended(folder: Path, seen: Remote, state: RemoteState, why: str | None = None) -> Remote:
    """Write the end that the program did not write."""
    end: dict[str, Any] = {"state": state, "step": seen.step, "total_steps": seen.total_steps}
    if why:
        end["error_message"] = why
    write_text_atomically(folder / told.STATE, json.dumps(end) + "\n")
    return seen._replace(state=state, raw_state=state, error_message=why)


def _note_start(folder: Path, step: int | None, pid: int) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"started_at": now, "step": step, "pid": pid})
    with (folder / STARTS).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def _starts(folder: Path) -> list[dict[str, Any]]:
    try:
        lines = (folder / STARTS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in lines:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def _starts_at(folder: Path, step: int | None) -> int:
    """How often it was started where it stands now."""
    return sum(1 for each in _starts(folder) if each.get("step") == step)


def lives(folder: Path) -> bool:
    """Whether a program works in the folder."""
    with _lock(folder) as lock:
        return lock is None


def _signal(folder: Path, which: signal.Signals) -> None:
    """To the program and its children. While the lock is held, its number is still its own."""
    starts = _starts(folder)
    if starts and lives(folder):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(starts[-1]["pid"], which)


@contextmanager
def _lock(folder: Path) -> Generator[int | None]:
    """The lock of the folder; None while a program of it lives. One that is started meanwhile
    keeps it."""
    # A server is with several jobs at once: whether this one began a program shows in the list.
    with _one_at_a_time:
        _children[:] = [each for each in _children if each.poll() is None]
        begun = len(_children)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            held = _taken(lock)
            yield lock if held else None
            if held and len(_children) == begun:
                # Explicitly: a child that was forked meanwhile shares the descriptor.
                fcntl.flock(lock, fcntl.LOCK_UN)
        finally:
            os.close(lock)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
