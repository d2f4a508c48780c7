"""The command line within this process, and a warehouse for it."""

from pathlib import Path

import pytest

from tests.cli.running import Ran, Run, failed, finished
from tracemill import EventLog, Settings
from tracemill.cli import main
from tracemill.events import DatasetBuilt, IndexBuilt


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_main(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        out, err = capsys.readouterr()
        return Ran(int(stopped.value.code or 0), out, err)

    return run_main


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two finished calls, one failed, one dataset, one index: nine events."""
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(settings.warehouse))
    monkeypatch.setenv("COLUMNS", "200")
    with EventLog.open(settings) as log:
        for question in ("first?", "second?"):
            log.append(finished(question))
        log.append(failed("third?"))
        log.append(
            [
                DatasetBuilt(
                    name="qa", digest="d" * 16, rows={"train": 8}, salt="1", log_position=6
                ),
                IndexBuilt(
                    name="installed",
                    digest="e" * 16,
                    chunks=1234,
                    dimensions=256,
                    embedding_model="m",
                ),
            ]
        )
    return settings.warehouse
