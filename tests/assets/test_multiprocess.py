"""Dagster's multiprocess executor appends to a log that this process holds open all the while."""

import os
from pathlib import Path

import dagster as dg
import pytest

from tests.assets.many_processes import EVENTS, STEPS, many_processes
from tracemill.events import SourceHarvested
from tracemill.log import EventLog

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
# Steps are forked from one process that has imported what they need: 2 s of a core each.
FORKED = {"forkserver": {"preload_modules": ["tests.assets.many_processes", "duckdb", "pyarrow"]}}


def test_steps_in_many_processes_and_an_open_reader_never_meet_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEMILL_TEST_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
    with EventLog(tmp_path / "log") as log, dg.instance_for_test() as instance:
        log.append(SourceHarvested(name="first", items=0, quarantined=0, digest="none"))
        assert log.sql("FROM events").height == 1
        job = dg.reconstructable(many_processes)
        config = {**QUIET, "execution": {"config": {"start_method": FORKED}}}
        with dg.execute_job(job, instance=instance, run_config=config) as result:
            assert result.success
        counted = log.sql("SELECT stream, count(*) AS n FROM events GROUP BY ALL ORDER BY stream")
        steps = {f"source:append_{number}": EVENTS for number in range(STEPS)}
        assert dict(counted.iter_rows()) == {**steps, "source:first": 1}
        assert log.verify().ok
