"""The command line as its user meets it: what it prints, what it exits with, what it never does."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from inspect import signature
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from tracemill import EventLog, Message, Settings, Usage
from tracemill.cli import main
from tracemill.events import (
    DatasetBuilt,
    IndexBuilt,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallStarted,
    new_id,
)

TRACEMILL = Path(sys.executable).with_name("tracemill")


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_main(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        out, err = capsys.readouterr()
        return Ran(int(stopped.value.code or 0), out, err)

    return run_main


def spawned(*command: str, cwd: Path | None = None, stdin: str = "", **environment: str) -> Ran:
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        input=stdin,
        env={**os.environ, **environment},
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two finished calls, one failed, one dataset, one index: nine events."""
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(settings.warehouse))
    monkeypatch.setenv("COLUMNS", "200")
    with EventLog.open(settings) as log:
        for question in ("first?", "second?"):
            log.append(_finished(question))
        log.append(_failed("third?"))
        log.append(
            [
                DatasetBuilt(name="qa", digest="d" * 16, rows={"train": 8}, seed=1, log_position=6),
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


def _started(question: str, call_id: str) -> LlmCallStarted:
    message = Message(role="user", content=question)
    return LlmCallStarted(
        call_id=call_id, provider="local", request_model="echo", messages=(message,)
    )


def _finished(question: str) -> Sequence[LlmCallStarted | LlmCallFinished]:
    call_id = new_id()
    finished = LlmCallFinished(
        call_id=call_id,
        provider="local",
        request_model="echo",
        response_model="echo",
        text=f"{question}\nindeed",
        finish_reasons=("stop",),
        usage=Usage(input_tokens=10, output_tokens=2),
        latency_ms=1.5,
        cost_usd=Decimal("0.000000001"),
    )
    return [_started(question, call_id), finished]


def _failed(question: str) -> Sequence[LlmCallStarted | LlmCallFailed]:
    call_id = new_id()
    failed = LlmCallFailed(
        call_id=call_id,
        provider="local",
        request_model="echo",
        error_type="timeout",
        error_message="no answer in 30 s",
        latency_ms=30_000,
    )
    return [_started(question, call_id), failed]


# The warehouse


def test_init_makes_a_warehouse_and_leaves_an_existing_one_alone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRACEMILL_WAREHOUSE", raising=False)
    assert run("init", str(tmp_path)).code == 0
    (tmp_path / "warehouse" / "README.md").write_text("mine")
    assert run("init", str(tmp_path)).code == 0
    assert (tmp_path / "warehouse" / "README.md").read_text() == "mine"
    monkeypatch.chdir(tmp_path)
    assert "warehouse" in run("status").out


def test_init_follows_the_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)
    run("init")
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_status_sums_up_what_the_log_says(run: Run, warehouse: Path) -> None:
    (status,) = run("status", "--json").lines
    status.pop("last_recorded_at")
    assert status == {
        "warehouse": str(warehouse),
        "events": 8,
        "kinds": {
            "dataset.built": 1,
            "index.built": 1,
            "llm.call.failed": 1,
            "llm.call.finished": 2,
            "llm.call.started": 3,
        },
        "calls": {"finished": 2, "failed": 1, "running": 0, "cost_usd": "0.000000002"},
        "datasets": {"qa": {"digest": "d" * 16, "rows": {"train": 8}}},
        "indexes": {"installed": {"digest": "e" * 16, "chunks": 1234}},
        "pins": {},
    }
    assert "2 finished, 1 failed, 0 running; 0.000000002 USD" in run("status").out


def test_warehouse_option_outranks_the_environment(
    run: Run, warehouse: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    assert run("init", "--warehouse", str(other)).code == 0
    (status,) = run("status", "--json", "--warehouse", str(other)).lines
    assert (status["warehouse"], status["events"]) == (str(other), 0)


def test_doctor_finds_this_machine_well(run: Run, warehouse: Path) -> None:
    ran = run("doctor", "--json")
    findings = {line["what"]: line for line in ran.lines}
    assert {what for what, finding in findings.items() if not finding["ok"]} == set()
    assert ran.code == 0
    assert findings["log"]["detail"].startswith("8 events")
    assert findings.keys() >= {"python", "sqlite", "file system", "locks", "index", "dagster"}


def test_doctor_says_what_is_wrong_and_fails(run: Run, tmp_path: Path) -> None:
    ran = run("doctor", "--warehouse", str(tmp_path / "nowhere"))
    assert ran.code == 1
    assert "FAIL  warehouse " in ran.out
    assert "does not exist: run `tracemill init`\n" in ran.out
    assert ran.err == "error: not all is well: warehouse; the lines above say the mend\n"


# The log


def test_tail_prints_the_last_events_in_order(run: Run, warehouse: Path) -> None:
    lines = run("log", "tail", "-n", "2", "--json").lines
    assert [line["position"] for line in lines] == [7, 8]
    assert lines[0]["event"]["rows"] == {"train": 8}
    assert run("log", "tail", "-n", "0").out == ""
    assert len(run("log", "tail").out.splitlines()) == 8


def test_tail_chooses_by_kind_and_by_stream(run: Run, warehouse: Path) -> None:
    lines = run("log", "tail", "-n", "1", "--kind", "llm.call.finished", "--json").lines
    assert [line["position"] for line in lines] == [4]
    lines = run("log", "tail", "--stream", "dataset:qa", "--json").lines
    assert [line["position"] for line in lines] == [7]
    assert run("log", "tail", "--stream", "no:such").out == ""


def test_tail_follows_until_it_is_interrupted(warehouse: Path) -> None:
    command = [TRACEMILL, "log", "tail", "-n", "1", "-f", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as tail:
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["position"] == 8
        with EventLog(warehouse / "log") as log:
            log.append(_failed("fourth?"))
        assert [json.loads(tail.stdout.readline())["position"] for _ in range(2)] == [9, 10]
        tail.send_signal(signal.SIGINT)
        out, err = tail.communicate(timeout=20)
    assert (tail.returncode, out, err) == (130, "", "")


def test_sql_prints_a_table_json_and_csv(run: Run, warehouse: Path) -> None:
    query = "select prompt, answer, cost_usd from calls where status = 'finished' order by prompt"
    assert run("log", "sql", query).out.splitlines()[1].split() == [
        "first?",
        "first?",
        "indeed",
        "0.000000001",
    ]
    assert run("log", "sql", query, "--json").lines[0] == {
        "prompt": "first?",
        "answer": "first?\nindeed",
        "cost_usd": "0.000000001",
    }
    frame = pl.read_csv(run("log", "sql", query, "--csv").out.encode())
    assert frame["answer"].to_list() == ["first?\nindeed", "second?\nindeed"]


def test_sql_of_many_rows_shows_some_and_says_so(run: Run, warehouse: Path) -> None:
    ran = run("log", "sql", "select * from range(100) t(n)")
    assert len(ran.out.splitlines()) == 41
    assert ran.err == "40 of 100 rows; --json or --csv gives them all\n"
    assert len(run("log", "sql", "select * from range(100) t(n)", "--json").lines) == 100


def test_sql_reads_the_query_from_stdin(warehouse: Path) -> None:
    asked = "select count(*) as n from failures"
    ran = spawned(str(TRACEMILL), "log", "sql", "--json", stdin=asked)
    assert ran == Ran(0, '{"n":1}\n', "")


def test_a_pin_shows_the_log_as_it_was(run: Run, warehouse: Path) -> None:
    assert run("log", "pin", "early", "2", "--json").lines == [{"early": 2}]
    assert run("log", "pin", "--json").lines == [{"early": 2}]
    count = "select count(*) as n from events"
    assert run("log", "sql", count, "--until", "early", "--json").lines == [{"n": 2}]
    assert run("log", "sql", count, "--until", "5", "--json").lines == [{"n": 5}]


def test_fold_compact_gc_and_verify_keep_every_event(run: Run, warehouse: Path) -> None:
    assert run("log", "fold", "--json").lines == [{"sealed": 8}]
    assert run("log", "fold").out == "0 events sealed\n"
    assert run("log", "compact", "--json").lines == [{"replaced": 0}]
    assert run("log", "gc", "--json").lines == [{"deleted": 0}]
    sound = {"events": 8, "segments": 1, "problems": [], "ok": True}
    assert run("log", "verify", "--json").lines == [sound]


def test_verify_lists_the_problems_and_fails(run: Run, warehouse: Path) -> None:
    run("log", "fold")
    (segment,) = (warehouse / "log" / "segments").glob("*.parquet")
    rotten = bytearray(segment.read_bytes())
    rotten[len(rotten) // 2] ^= 1
    segment.write_bytes(rotten)
    ran = run("log", "verify")
    assert ran.code == 1
    assert segment.name in ran.out
    assert re.fullmatch(r"error: 1 problems? in .*\n", ran.err)
    assert run("log", "verify", "--json").lines[0]["ok"] is False


def test_export_writes_what_was_asked_for(run: Run, warehouse: Path, tmp_path: Path) -> None:
    lines, table = tmp_path / "all.jsonl", tmp_path / "failed.parquet"
    assert run("log", "export", str(lines), "--json").lines == [
        {"file": str(lines), "events": 8, "until": 8}
    ]
    with EventLog(warehouse / "log") as log:
        expected = [recorded.event.model_dump(mode="json") for recorded in log.read()]
    assert [json.loads(line)["event"] for line in lines.read_text().splitlines()] == expected
    ran = run("log", "export", str(table), "--kind", "llm.call.failed")
    assert ran.out == f"1 events written to {table}\n"
    assert pl.read_parquet(table)["error_type"].to_list() == ["timeout"]
    run("log", "export", str(lines), "--until", "3")
    assert len(lines.read_text().splitlines()) == 3


# Refusals


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("log", "sql", "selec 1"), 2, "syntax error"),
        (("log", "sql", "from calls", "--json", "--csv"), 2, "exclude each other"),
        (("log", "sql", "from calls", "--until", "nope"), 2, "no pin is called nope"),
        (("log", "tail", "--kind", "nope"), 2, "llm.call.failed"),
        (("log", "export", "events.txt"), 2, ".jsonl or .parquet"),
        (("log", "export", "/dev/null/x.jsonl"), 1, "/dev/null"),
        (("log", "pin", "late", "99"), 2, "the log ends at 8"),
        (("ask", "What is it?", "--index", "none"), 1, "tracemill build"),
        (("ask", "  "), 2, "at least one"),
        (("status", "--warehouse", "/no/such/place"), 2, "tracemill init"),
        (("build", "no_such_asset"), 2, "checkout"),
        (("demo",), 2, "checkout"),
        (("ui",), 2, "checkout"),
    ],
)
def test_a_refusal_is_one_line_and_an_exit_code(
    run: Run,
    warehouse: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(warehouse)
    ran = run(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert re.fullmatch(r"error: .*\n", ran.err), ran.err
    assert says in ran.err


def test_a_wrong_option_is_a_usage_error(run: Run) -> None:
    assert run("status", "--no-such-option").code == 2
    assert run("no-such-command").code == 2


def test_a_wrong_setting_is_named(
    run: Run, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEMILL_FOLD_AFTER_EVENTS", "many")
    ran = run("status")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith("error: TRACEMILL_FOLD_AFTER_EVENTS: ")


def test_a_reader_that_goes_away_ends_it_quietly(warehouse: Path) -> None:
    many = '"$0" log sql --csv "select * from range(200000) t(n)" | head -n 2'
    assert spawned("bash", "-c", many, str(TRACEMILL)) == Ran(0, "n\n0\n", "")


# The host


def test_demo_build_and_ui_reach_the_checkout_around_them(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "inner").mkdir()
    (tmp_path / "assets" / "definitions.py").touch()
    (tmp_path / "assets" / "run.py").write_text(
        "def demo(settings): print('demo', settings.warehouse.is_dir()); return 0\n"
        "def build(settings, selection=None): print('build', selection); return 1\n"
        "def ui(settings, port): raise RuntimeError(f'no port\\n{port}')\n"
    )

    def ran(*arguments: str, **environment: str) -> Ran:
        environment["TRACEMILL_WAREHOUSE"] = str(tmp_path / "warehouse")
        return spawned(str(TRACEMILL), *arguments, cwd=tmp_path / "inner", **environment)

    assert ran("demo") == Ran(0, "demo True\n", "")
    assert ran("build") == Ran(1, "build None\n", "")
    assert ran("build", "corpus") == Ran(1, "build corpus\n", "")
    surprise = "error: unexpected RuntimeError: no port 3111; TRACEMILL_TRACEBACK=1 shows where\n"
    assert ran("ui", "--port", "3111") == Ran(1, "", surprise)
    assert "Traceback" in ran("ui", TRACEMILL_TRACEBACK="1").err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_host_that_is_told_to_end_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "definitions.py").touch()
    (tmp_path / "assets" / "run.py").write_text(
        "import signal\n"
        "def ui(settings, port):\n"
        "    try:\n"
        "        print('running', flush=True)\n"
        "        signal.pause()\n"
        "    finally:\n"
        "        print('stopped')\n"
    )
    command = [TRACEMILL, "ui", "--warehouse", str(tmp_path / "warehouse")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "running\n"
        host.send_signal(number)
        assert host.communicate(timeout=20) == ("stopped\n", None)
    assert host.returncode == 128 + number


def test_the_host_takes_what_the_command_line_gives() -> None:
    from assets import run as host

    signature(host.demo).bind("settings")
    signature(host.build).bind("settings", None)
    signature(host.ui).bind("settings", 3000)


# Help


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, tracemill.cli\n"
        "try: tracemill.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = 'duckdb polars pyarrow numpy dagster pydantic apsw marimo'.split()\n"
        "print('heavy:', sorted(set(heavy) & sys.modules.keys()))\n"
    )
    ran = spawned(sys.executable, "-c", program)
    assert ran.out.endswith("heavy: []\n"), ran


@pytest.mark.parametrize("command", ["build", "ask", "init", "log tail", "log sql", "log export"])
def test_help_teaches_by_example(run: Run, command: str) -> None:
    ran = run(*command.split(), "--help")
    assert ran.code == 0
    assert re.search(rf"^ +tracemill {command} ", ran.out, re.MULTILINE)


def test_version_is_the_packages(run: Run) -> None:
    ran = run("--version")
    assert re.fullmatch(r"tracemill \d+\.\d+\.\d+\n", ran.out)
    assert spawned(sys.executable, "-m", "tracemill", "--version") == ran
