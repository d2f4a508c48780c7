"""A worker beside the server, as long as there are jobs: nobody has to start one for a batch to end.

It is the same `tracemill worker` as anywhere else, a process of its own that ends when all is done; a
server that only answers has none.
"""

import asyncio
import logging
import os
import subprocess
import sys
import time
from contextlib import suppress

from tracemill.errors import TracemillError
from tracemill.jobs.callbacks import Callbacks
from tracemill.jobs.jobs import Jobs
from tracemill.settings import Settings

_LOOK_S = 1.0
_CALLBACKS_S = 10.0
_log = logging.getLogger("tracemill.server")


async def working(jobs: Jobs, settings: Settings, processes: int) -> None:
    """Have a worker run whenever a job is open, until this is cancelled; then it is asked to stop.

    Args:
        processes: of the worker.
    """
    worker: subprocess.Popen[bytes] | None = None
    callbacks = Callbacks(jobs.log, settings, jobs.known)
    tell_at = 0.0
    try:
        while True:
            try:
                # A worker that is done does not wait for a callback that has to be tried again.
                if time.monotonic() >= tell_at:
                    wait_s = await asyncio.to_thread(callbacks.tell)
                    tell_at = time.monotonic() + min(wait_s or _CALLBACKS_S, _CALLBACKS_S)
                if worker is None or worker.poll() is not None:
                    is_open = await asyncio.to_thread(jobs.known.open)
                    worker = _started(settings, processes) if is_open else None
            except (TracemillError, OSError):
                # The log tells whoever asks; here it is tried again.
                _log.exception("jobs")
            await asyncio.sleep(_LOOK_S)
    finally:
        if worker is not None and worker.poll() is None:
            worker.terminate()
            with suppress(subprocess.TimeoutExpired):
                worker.wait(5)


def _started(settings: Settings, processes: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tracemill", "worker", "-n", str(processes), "--until-done"]
    return subprocess.Popen(
        command,
        env=os.environ | {"TRACEMILL_WAREHOUSE": str(settings.warehouse)},
        stdout=subprocess.DEVNULL,
    )
