"""The program that trains here: `python -P -m tracemill.finetune.worker <folder of a job>`.

It may be killed anywhere and started again: it goes on from its last checkpoint, tells every epoch
once, and gives the same artefact as if nothing had happened. Its folder is described in
`providers/folder.py`.
"""

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, cast

from tracemill.errors import TracemillError
from tracemill.files import write_text_atomically
from tracemill.finetune.local import Epoch, Train, Trained
from tracemill.finetune.providers.told import CHECKPOINTS, EVENTS, STATE

METHODS = {
    "classify": "tracemill.finetune.local.classify",
    "lm": "tracemill.finetune.local.lm",
}
"""Method -> the module with `train`."""
MODEL = "model"
"""Where a trainer leaves its artefact."""


class Stopped(Exception):
    """Somebody asked the training to stop; the argument is the state that it is in then."""


def work(folder: Path) -> None:
    """Train what `job.json` asks for and tell how it went; goes on where it was stopped."""
    job: dict[str, Any] = json.loads((folder / "job.json").read_bytes())
    teller = Teller(folder)
    teller.tell(state="running")
    try:
        trained = _train(folder, job, teller)
        teller.tell(state="succeeded", **_published(folder, job, trained))
    except Stopped as stop:
        teller.tell(state=str(stop))
    except TracemillError as error:
        teller.tell(state="failed", error_message=str(error), error_code="invalid_data")
    except Exception as error:  # noqa: BLE001 (whatever it was, it would be the same again)
        traceback.print_exc()
        why = f"{type(error).__name__}: {error}; more is in {folder / 'output.log'}"
        teller.tell(state="failed", error_message=why, error_code="internal_error")


class Teller:
    """Writes the state, and every epoch once, for whoever follows the job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._events = folder / EVENTS
        self._state: dict[str, Any] = {}
        self._step = self._heal()

    def tell(self, **fields: Any) -> None:
        """Write the state with these fields changed."""
        self._state |= fields
        write_text_atomically(self._folder / STATE, json.dumps(self._state, sort_keys=True) + "\n")

    def report(self, epoch: Epoch) -> None:
        """Tell of an epoch whose checkpoint is on the disk. Raises `Stopped` where that is asked."""
        self._list(epoch)
        if epoch.step > self._step:
            self._append(epoch)
        self.tell(
            state="running",
            step=epoch.step,
            total_steps=epoch.total_steps,
            epoch=float(epoch.step),
            loss=epoch.loss,
            metrics=dict(epoch.metrics),
        )
        for mark, state in (("cancel", "cancelled"), ("pause", "paused")):
            if (self._folder / mark).exists():
                raise Stopped(state)

    def _list(self, epoch: Epoch) -> None:
        path = self._folder / CHECKPOINTS / f"{epoch.checkpoint}.json"
        about = {"step": epoch.step, "metrics": dict(epoch.metrics)}
        write_text_atomically(path, json.dumps(about, sort_keys=True) + "\n")

    def _append(self, epoch: Epoch) -> None:
        told = {"step": epoch.step, "loss": epoch.loss, "metrics": dict(epoch.metrics)}
        with self._events.open("ab") as file:
            file.write(json.dumps(told, sort_keys=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._step = epoch.step

    def _heal(self) -> int:
        """Cut off a line that was not finished; the last step that was told."""
        if not self._events.exists():
            return 0
        with self._events.open("r+b") as file:
            data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            file.truncate(len(whole))
        return max((json.loads(line).get("step") or 0 for line in whole.splitlines()), default=0)


def _train(folder: Path, job: dict[str, Any], teller: Teller) -> Trained:
    train = cast(Train, importlib.import_module(METHODS[job["method"]]).train)
    validation = folder / "validation.jsonl"
    return train(
        folder / "training.jsonl",
        validation if job["validation"] else None,
        folder,
        hyperparameters=job["hyperparameters"],
        seed=job["seed"],
        report=teller.report,
        resume=True,
    )


def _published(folder: Path, job: dict[str, Any], trained: Trained) -> dict[str, Any]:
    """The artefact, where it is served from."""
    from tracemill.llm.trained.artefact import publish, size_bytes

    # models/jobs/<job>
    digest = publish(folder / MODEL, folder.parent.parent, job["name"])
    return {
        "model": f"ft:local:{job['name']}:{digest}",
        "model_digest": digest,
        "size_bytes": size_bytes(folder / MODEL),
        "metrics": dict(trained.metrics),
        "trained_tokens": trained.trained_tokens,
    }


if __name__ == "__main__":
    # Before numpy is imported: on matrices as small as these, threads that find the other core busy
    # spend twenty times as long on waiting for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    work(Path(sys.argv[1]))
