"""Fine-tunes that were asked for here are taken further while the server runs, each by a task.

One process at a time takes steps of a job, so several servers, or `tracemill finetune watch`, do no
harm. After a restart it goes on with those that have no end.
"""

import asyncio
import logging

from tracemill.finetune import jobs
from tracemill.finetune.job import JobState, state
from tracemill.finetune.providers.table import HERE
from tracemill.finetune.uploads import DATASET
from tracemill.llm.client import Client
from tracemill.log import EventLog
from tracemill.settings import Settings

_log = logging.getLogger("tracemill.server")
_STREAM = "finetune:"
_TROUBLE_S = 60.0


class Following:
    """The jobs that a server is with."""

    def __init__(self, log: EventLog, settings: Settings, client: Client) -> None:
        self._log, self._settings, self._client = log, settings, client
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._steps: set[asyncio.Task[JobState]] = set()

    def follow(self, job_id: str) -> None:
        """Stay with a job until it has ended or stands still."""
        if job_id not in self._tasks:
            task = asyncio.create_task(self._follow(job_id))
            self._tasks[job_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(job_id, None))

    def resume(self) -> None:
        """Stay with all that were asked for by a server and have no end."""
        task = asyncio.create_task(self._resume())
        self._tasks[""] = task
        task.add_done_callback(lambda _: self._tasks.pop("", None))

    async def close(self) -> None:
        """Leave the jobs, after the steps that run; what trains goes on training."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A thread cannot be cancelled, and needs the connections and the log.
        await asyncio.gather(*self._steps, return_exceptions=True)

    async def _resume(self) -> None:
        for known in await asyncio.to_thread(self._unfinished):
            self.follow(known.job_id)

    def _unfinished(self) -> list[JobState]:
        # Not by a query: a server that trains nothing needs no DuckDB.
        streams = self._log.versions(_STREAM)
        known = (state(self._log, stream.removeprefix(_STREAM)) for stream in streams)
        return [
            each
            for each in known
            if each.dataset == DATASET and not each.ended and each.state != "paused"
        ]

    async def _follow(self, job_id: str) -> None:
        version = wait_s = 0.0
        while True:
            try:
                step = asyncio.create_task(asyncio.to_thread(self._step, job_id))
                self._steps.add(step)
                step.add_done_callback(self._steps.discard)
                known = await asyncio.shield(step)
            except Exception:  # noqa: BLE001 (whatever it was, the next try may do)
                # A key that is missing may be there in a minute.
                _log.exception("fine-tune", extra={"job_id": job_id})
                await asyncio.sleep(_TROUBLE_S)
                continue
            if known.ended or known.state in ("unknown", "paused"):
                return
            first_s, longest_s = jobs.WAITS_S[known.provider in HERE]
            moved, version = known.version != version, known.version
            wait_s = first_s if moved else min(wait_s * 1.5, longest_s)
            await asyncio.sleep(wait_s)

    def _step(self, job_id: str) -> JobState:
        return jobs.run(self._log, self._settings, job_id, client=self._client, timeout_s=0)
