"""A Dagster job whose steps run in processes of their own and all append to one log."""

import os

import dagster as dg

from tracemill.events import SourceHarvested
from tracemill.log import EventLog

STEPS = 4
EVENTS = 40


@dg.op
def append(context: dg.OpExecutionContext) -> None:
    """Append events one by one, and ask the log a question after each tenth."""
    with EventLog(os.environ["TRACEMILL_TEST_LOG"]) as log:
        for number in range(EVENTS):
            step = context.op_handle.name
            log.append(SourceHarvested(name=step, items=number, quarantined=0, digest="none"))
            if number % 10 == 9:
                log.sql("SELECT count(*) FROM events")


@dg.job(executor_def=dg.multiprocess_executor.configured({"max_concurrent": 4}))
def many_processes() -> None:
    for number in range(STEPS):
        append.alias(f"append_{number}")()
