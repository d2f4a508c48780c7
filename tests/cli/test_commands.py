"""The command line as its user meets it: what it prints, what it exits with, what it never does."""

import json
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from tests.cli.running import TRACEMILL, Ran, Run, failed, spawned
from tracemill import EventLog

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
    assert findings.keys() >= {"python", "sqlite", "file system", "locks", "collections", "dagster"}


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
            log.append(failed("fourth?"))
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
        (("ask", "What is it?", "-c", "none"), 1, "tracemill build"),
        (("ask", "  "), 2, "at least one"),
        (("build", "\x1b]0;hello\x07"), 2, "checkout"),
        (("collections", "show", "\x1b[2Jx"), 2, "\\x1b[2Jx"),
        (("explain", "\x1b[2J.jsonl:1"), 1, "sorted out"),
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
