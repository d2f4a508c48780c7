"""`tracemill worker`: processes that do the requests of jobs."""

import logging
import os
import signal
import sys
import threading
from typing import Annotated

import typer

from tracemill.cli.options import Warehouse, settings_for


def worker(
    processes: Annotated[
        int, typer.Option("--processes", "-n", min=1, max=256, help="Processes that make calls.")
    ] = 4,
    threads: Annotated[
        int, typer.Option(min=1, max=1024, help="Calls of one process at a time.")
    ] = 4,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="Stop once no job is open.")
    ] = False,
    to_others: Annotated[
        bool, typer.Option("--to-others", help="Have the calls made by other machines.")
    ] = False,
    for_others: Annotated[
        bool, typer.Option("--for-others", help="Make calls for another machine's worker.")
    ] = False,
    warehouse: Warehouse = None,
) -> None:
    """Do the requests of jobs, until SIGTERM or Ctrl-C.

    What runs then is finished first; a second signal stops at once. Nothing is lost either way, nor
    by kill -9: the next worker goes on. Several may run beside each other.

    Examples:

      tracemill worker
      tracemill worker -n 8 --threads 16
      tracemill worker --until-done

    Several machines, with TRACEMILL_QUEUE=redis://... on each; the second needs no warehouse:

      tracemill worker --to-others -n 1 --threads 64
      tracemill worker --for-others --threads 64
    """
    from tracemill.jobs.worker import run
    from tracemill.server.admission import admission
    from tracemill.telemetry.json_log import Lines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logger = logging.getLogger("tracemill.jobs")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    if for_others:
        _help_out(threads)
        return
    settings = settings_for(warehouse)
    print(f"working with {processes} processes, {threads} calls each; Ctrl-C stops", flush=True)
    run(
        settings,
        processes,
        threads=threads,
        admission=admission,
        until_idle=until_done,
        elsewhere=to_others,
    )


def _help_out(threads: int) -> None:
    """Until a signal: what runs is finished."""
    from tracemill.jobs.elsewhere import help_out

    stopping = threading.Event()

    def stop(*_: object) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    print(f"making up to {threads} calls at a time for others; Ctrl-C stops", flush=True)
    help_out(os.environ.get("TRACEMILL_QUEUE"), threads, stopping.is_set)
