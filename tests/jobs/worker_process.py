"""A worker of tests: `python worker_process.py WAREHOUSE PROCESSES [until-idle]`, in a hurry, and with
requests that are deadly."""

import os
import signal
import sys
from pathlib import Path

from tracemill.jobs.item import Admit, Release, Terms
from tracemill.jobs.worker import run
from tracemill.log import EventLog
from tracemill.messages import Request
from tracemill.settings import Settings


def deadly(log: EventLog) -> Admit:
    """Some requests kill their process."""

    def admit(request: Request, call_id: str) -> Release:
        if "DEADLY" in request.messages[-1].text:
            os.kill(os.getpid(), signal.SIGKILL)
        return lambda response: None

    return admit


if __name__ == "__main__":
    warehouse, processes, *more = sys.argv[1:]
    run(
        Settings(warehouse=Path(warehouse)),
        int(processes),
        threads=3,
        admission=deadly,
        terms=Terms(tries=3, first_wait_s=0.1, drain_s=20, mend_s=0.5),
        until_idle="until-idle" in more,
        elsewhere="elsewhere" in more,
    )
