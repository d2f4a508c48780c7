"""What tests of jobs share: a warehouse, a model in this process, and a worker without processes."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from tracemill.errors import CallFailed
from tracemill.events import new_id
from tracemill.jobs import recovery
from tracemill.jobs.item import Admit, Doing, Terms
from tracemill.jobs.jobs import Jobs
from tracemill.jobs.leases import Leases
from tracemill.jobs.taking import Taking
from tracemill.llm.options import Options
from tracemill.log import EventLog
from tracemill.messages import Request, Response, Usage
from tracemill.settings import Settings

AT_ONCE = Terms(tries=3, first_wait_s=0.0, drain_s=5.0, mend_s=0.2)
SECRET = "a secret of sixteen bytes or more"


def opened(folder: Path, **more: object) -> Jobs:
    """The jobs of a new warehouse."""
    settings = Settings.model_validate({"warehouse": folder / "warehouse", **more})
    return Jobs(EventLog.open(settings), settings)


def asked(count: int, what: str = "Say {}.", model: str = "made/up") -> list[Request]:
    """So many requests, each with its number in it."""
    return [Request.of(what.format(i), model=model) for i in range(count)]


def echo(request: Request, options: Options) -> Response:
    """A model that repeats; what begins with FAIL or WAIT is refused, for good or for now."""
    text = request.messages[-1].text
    if text.startswith("FAIL"):
        raise CallFailed("invalid_request", "not that")
    if text.startswith("WAIT"):
        raise CallFailed("overloaded", "not now", retry=True)
    return Response(
        call_id=options.get("call_id") or new_id(),
        content=f"echo of {text}",
        finish_reasons=("stop",),
        response_model=request.model,
        usage=Usage(input_tokens=1, output_tokens=1),
        latency_ms=0.0,
        cost_usd=Decimal(0),
    )


class Work:
    """A worker in this process: one thread of calls, and what its watch would do."""

    def __init__(
        self,
        jobs: Jobs,
        generate: Callable[[Request, Options], Response] = echo,
        admit: Admit | None = None,
        terms: Terms = AT_ONCE,
    ) -> None:
        self.jobs = jobs
        self.leases = Leases(jobs.settings.jobs / "leases")
        self.taking = Taking(jobs, Doing(jobs.log, generate, admit, terms), 2, lambda _: None)

    def until_done(self, turns: int = 100) -> None:
        """Until no job is open."""
        with self.taking:
            for _ in range(turns):
                recovery.promote(self.jobs)
                if not self.jobs.queue.waiting():
                    recovery.mend(self.jobs, self.leases)
                self.taking.turn()
                for job in self.jobs.known.open():
                    self.jobs.close_if_done(job.id)
                if not self.jobs.known.open():
                    return
        raise AssertionError("the jobs do not end")
