"""Processes that take fine-tunes further and kill themselves on the way, at marked steps."""

import importlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

PRELOADED = ["tracemill.finetune.jobs", "tracemill.finetune.worker", "tracemill.log", "numpy"]


class Death(NamedTuple):
    """Where a victim kills itself."""

    module: str
    owner: str | None
    """A class in it."""
    step: str
    call: int
    """At which call of it."""
    after: bool
    """After the step, or before it."""

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.step} {self.call}"


def kill(victim: Callable[..., None], *arguments: Any, death: Death | None) -> bool:
    """Run a victim in a process of its own; whether it killed itself. Other ends are errors."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_live, args=(victim, arguments, death))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL), (death, process.exitcode)
    return process.exitcode != 0


def advancing(warehouse: Path, job_id: str) -> None:
    """Take a job to its end."""
    from tracemill.finetune import jobs
    from tracemill.log import EventLog
    from tracemill.settings import Settings

    settings = Settings(warehouse=warehouse)
    with EventLog.open(settings) as log:
        jobs.run(log, settings, job_id, timeout_s=30)


def working(folder: Path) -> None:
    """Train."""
    from tracemill.finetune.worker import work

    work(folder)


def _live(victim: Callable[..., None], arguments: tuple[Any, ...], death: Death | None) -> None:
    if death:
        _die_at(death)
    victim(*arguments)


def _die_at(death: Death) -> None:
    """Replace the step by one that kills this process at the call in question."""
    home: Any = importlib.import_module(death.module)
    home = getattr(home, death.owner) if death.owner else home
    original: Callable[..., Any] = getattr(home, death.step)
    calls = 0

    def step(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == death.call and not death.after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if calls == death.call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(home, death.step, step)
