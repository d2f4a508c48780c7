"""`tracemill import` and `tracemill export otlp`, as a person meets them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.telemetry.test_export_otlp import collector
from tests.telemetry.test_importers import OBSERVATION, SCORE, SPEND
from tracemill.cli import main
from tracemill.log import EventLog

__all__ = ["collector"]


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "warehouse"
    folder.mkdir()
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(folder))
    return folder


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def _write(path: Path, *rows: Any) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def test_a_folder_of_exports_is_imported_and_told(
    warehouse: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path / "exported" / "a.jsonl", SCORE)
    _write(
        tmp_path / "exported" / "b.jsonl",
        OBSERVATION,
        {**OBSERVATION, "id": "x", "start_time": None},
    )
    code, out, _ = _run(capsys, "import", "langfuse", str(tmp_path / "exported"))
    assert code == 0
    told = [" ".join(line.split()) for line in out.splitlines()]
    assert told[:4] == ["calls 1 new", "judgements 1 new", "refused 1", "1 x start_time is missing"]
    assert "quarantine/imports/langfuse.jsonl" in "".join(told)
    code, out, _ = _run(capsys, "import", "langfuse", str(tmp_path / "exported"), "--json")
    again = json.loads(out)
    assert (again["calls"], again["known"], again["refused"]) == (0, 2, 1)
    assert Path(again["quarantine"]).is_file()


def test_mistakes_are_told_in_a_line(
    warehouse: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = _run(capsys, "import", "llm", str(tmp_path / "nothing.db"))
    assert (code, err.count("\n")) == (1, 1)
    assert "llm logs path" in err
    code, _, err = _run(capsys, "export", "otlp")
    assert (code, err) == (2, "error: say where to: --endpoint http://localhost:4318\n")
    code, _, err = _run(capsys, "export", "otlp", "--endpoint", "http://x", "--header", "nonsense")
    assert (code, err) == (2, "error: a header is written as name=value\n")


def test_imported_calls_are_exported_under_the_ids_that_they_had(
    warehouse: Path,
    tmp_path: Path,
    collector: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _run(capsys, "import", "langfuse", _write(tmp_path / "a.jsonl", OBSERVATION))
    _run(capsys, "import", "litellm", _write(tmp_path / "b.jsonl", SPEND))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{collector.address}/base/")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-a=1%202,x-b=3")
    code, out, _ = _run(capsys, "export", "otlp", "--content", "--header", "x-b=4")
    assert (code, out) == (0, "2 spans sent, up to position 4\n")
    [(headers, sent)] = collector.requests
    assert (headers[":path"], headers["x-a"], headers["x-b"]) == ("/base/v1/traces", "1 2", "4")
    assert (sent[0].trace_id, sent[0].span_id) == (OBSERVATION["trace_id"], OBSERVATION["id"])
    assert "2+2?" in sent[0].attributes["gen_ai.input.messages"]
    assert sent[0].attributes["tracemill.cost.usd"] == 0.00125
    with EventLog(warehouse / "log") as log:
        assert log.position() == 4
    assert _run(capsys, "export", "otlp")[1] == "0 spans sent, up to position 4\n"
