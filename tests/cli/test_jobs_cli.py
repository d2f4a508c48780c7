"""`tracemill jobs` and `tracemill worker`, as a shell sees them."""

import json
from pathlib import Path

import pytest

from tests.jobs.working import Work
from tracemill.cli import main
from tracemill.jobs.jobs import Jobs
from tracemill.log import EventLog
from tracemill.settings import Settings


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    printed = capsys.readouterr()
    assert ended.value.code in (0, None), printed.err
    return printed.out


def test_a_file_is_handed_in_worked_off_and_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(settings.warehouse))
    lines = ['"one"', "", '{"messages": [{"role": "user", "content": "FAIL"}]}', '"WAIT"']
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    job_id = run(capsys, "jobs", "submit", str(tmp_path / "in.jsonl"), "--name", "n").strip()
    assert "queued" in run(capsys, "jobs", "ls")
    with EventLog.open(settings) as log:
        jobs = Jobs(log, settings)
        Work(jobs).until_done()
        jobs.close()
    shown = json.loads(run(capsys, "jobs", "show", job_id[-12:], "--json"))
    counts = {"total": 3, "done": 1, "failed": 1, "parked": 1}
    assert {"job_id": job_id, "state": "finished", "name": "n", **counts}.items() <= shown.items()
    results = [json.loads(line) for line in run(capsys, "jobs", "result", job_id).splitlines()]
    assert [each["state"] for each in results] == ["done", "failed", "parked"]
    assert results[0]["response"]["content"] == "echo of one"
    assert results[1]["error"] == {
        "error_type": "invalid_request",
        "message": "not that",
        "attempts": 1,
    }
    again = json.loads(run(capsys, "jobs", "retry", job_id, "--failed", "--json"))
    assert (again["state"], again["round"]) == ("running", 2)
    assert "cancelled" in run(capsys, "jobs", "cancel", job_id)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("[1]", "line 1: a request is a JSON object"),
        ("{broken", "line 1: Expecting"),
        ('{"messages": []}', "line 1: this is no Request"),
    ],
)
def test_a_line_that_is_no_request_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    wrong: str,
) -> None:
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(settings.warehouse))
    (tmp_path / "in.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["jobs", "submit", str(tmp_path / "in.jsonl")])
    assert ended.value.code == 1
    assert wrong in capsys.readouterr().err
