"""The doctor names each defect that is planted, with its mend; and is content without one."""

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from tests.cli.conftest import run  # noqa: F401
from tests.cli.running import Run
from tests.finetune.versions_made import registered
from tests.jobs.working import Work, asked, echo
from tests.log.made import call, many
from tests.retrieval.passages import directions, numbered
from tracemill import EventLog, Settings
from tracemill.jobs.jobs import Jobs
from tracemill.llm.options import Options
from tracemill.llm.trained import artefact
from tracemill.log import tables
from tracemill.messages import Request, Response
from tracemill.operations import machine, waiting
from tracemill.operations.examine import CHECKS, Finding, examine
from tracemill.operations.verification import verify
from tracemill.retrieval.collection import create, versions


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven events, five of them sealed."""
    settings = Settings(warehouse=tmp_path_factory.mktemp("made") / "warehouse").create()
    with EventLog.open(settings) as log:
        log.append(many(5))
        log.fold()
        log.append(call())
    return settings.warehouse


@pytest.fixture
def settings(made: Path, tmp_path: Path) -> Settings:
    return Settings(warehouse=shutil.copytree(made, tmp_path / "warehouse"))


def look(settings: Settings, what: str) -> Finding:
    (finding,) = examine(settings, [what])
    return finding


def age(path: Path, days: float = 2) -> Path:
    moment = time.time() - days * 86_400
    os.utime(path, (moment, moment))
    return path


def test_a_sound_warehouse_is_found_sound(settings: Settings):
    found = examine(settings)
    assert [finding.what for finding in found] == list(CHECKS)
    assert [finding for finding in found if finding.state != "ok"] == []
    assert all(finding.detail and not finding.mend for finding in found)


def test_versions_that_we_do_not_run_on_are_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.50.0")
    monkeypatch.setattr(machine, "LEAST", {"duckdb": (99, 1), "polars": (99,)})
    monkeypatch.setattr(machine, "LEAST_PYTHON", (99, 0))
    for what, mend in (
        ("sqlite", "pip install --upgrade 'apsw>=3.51.3'"),
        ("duckdb", "pip install --upgrade 'duckdb>=99.1'"),
        ("polars", "pip install --upgrade 'polars>=99'"),
        ("python", "take Python 3.11 or newer"),
    ):
        finding = look(settings, what)
        assert (finding.state, finding.mend) == ("failed", mend)


def test_a_full_disk_is_told_with_what_takes_the_room(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    (settings.warehouse / "indexes").mkdir()
    (settings.warehouse / "indexes" / "big").write_bytes(b"x" * 300_000)
    for free, state in ((10**9, "failed"), (10**10, "warning"), (10**12, "ok")):
        usage = (10**12, 0, free)
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _, usage=usage: usage)
        finding = look(settings, "disk")
        assert finding.state == state
        assert "; MB: " in finding.detail
        assert ", indexes 0.3, log " in finding.detail
        assert bool(finding.mend) == (state != "ok")


def test_a_shared_file_system_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    import psutil

    class Mount:
        mountpoint, fstype = str(settings.warehouse), "nfs4"

    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [Mount])
    finding = look(settings, "file system")
    assert (finding.state, "set TRACEMILL_WAREHOUSE" in finding.detail) == ("failed", True)


def test_an_event_from_the_future_tells_of_a_clock_that_was_set(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    ahead = time.time_ns() + 3_600 * 10**9
    with EventLog.open(settings) as log, monkeypatch.context() as patch:
        patch.setattr(tables.time, "time_ns", lambda: ahead)
        log.append(many(1))
    finding = look(settings, "clock")
    assert finding.state == "failed"
    assert "the clock was set back, or was wrong then" in finding.detail
    assert finding.mend.startswith("set the clock")


def test_files_that_others_may_change_or_read_are_named(settings: Settings):
    page = settings.warehouse / "README.md"
    page.chmod(0o666)
    finding = look(settings, "permissions")
    assert (finding.state, finding.detail) == ("warning", "others may change README.md")
    assert finding.mend.startswith(f"chmod -R go-w {settings.warehouse}")
    key = settings.warehouse / "raw" / ".pseudonyms"
    key.write_text("k")
    key.chmod(0o644)
    finding = look(settings, "permissions")
    assert (finding.state, finding.detail) == ("failed", "others can read raw/.pseudonyms")
    assert finding.mend == f"chmod 600 {key}"
    key.chmod(0o600)
    page.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert look(settings, "permissions").state == "ok"


def test_a_lock_is_told_with_its_holder(settings: Settings):
    with (settings.log / "fold.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        finding = look(settings, "locks")
    assert finding.state == "ok"
    assert f"in use at this moment: log/fold.lock by process {os.getpid()} (" in finding.detail
    assert look(settings, "locks").detail.endswith("none held")


def test_what_killed_processes_left_is_named(settings: Settings):
    folder = settings.warehouse / "corpus" / ".abc.tmp"
    folder.mkdir(parents=True)
    (folder / ".inner.tmp").write_text("x")
    assert look(settings, "leftovers").state == "ok"
    age(folder / ".inner.tmp")
    age(folder)
    finding = look(settings, "leftovers")
    assert finding.state == "warning"
    assert finding.detail == "left by processes that were killed: corpus/.abc.tmp"
    assert subprocess.run(finding.mend, shell=True, check=True).returncode == 0
    assert not folder.exists()


def test_segments_that_the_log_does_not_name_are_told(settings: Settings):
    (segment,) = (settings.log / "segments").glob("*.parquet")
    other = segment.with_name("000000000001-000000000005-ffffff.parquet")
    other.write_bytes(segment.read_bytes())
    assert look(settings, "segments").state == "ok"
    age(other)
    finding = look(settings, "segments")
    assert (finding.state, finding.mend) == ("warning", "`tracemill log gc`")
    with EventLog.open(settings) as log:
        assert log.gc() == 1
    assert look(settings, "segments").state == "ok"


def test_cache_files_that_nothing_reads_are_told(settings: Settings):
    settings.cache.mkdir()
    for name in ("responses.db", "responses.lock", "responses.damaged.db", "vectors-1.db"):
        (settings.cache / name).touch(0o600)
    finding = look(settings, "caches")
    assert finding.state == "warning"
    assert finding.detail.endswith(": responses.damaged.db, vectors-1.db")
    assert finding.mend.startswith(f"rm {settings.cache / 'responses.damaged.db'} ")


def test_a_run_whose_process_is_gone_is_told(settings: Settings):
    history = settings.dagster_home / "history"
    (history / "runs").mkdir(parents=True)
    runs = apsw.Connection(str(history / "runs.db"))
    runs.execute("CREATE TABLE runs(id INTEGER PRIMARY KEY, run_id TEXT, status TEXT)")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for run_id, status, pid in (
        ("alive-run", "STARTED", os.getpid()),
        ("dead-run", "STARTED", gone.pid),
        ("done-run", "SUCCESS", gone.pid),
    ):
        runs.execute("INSERT INTO runs(run_id, status) VALUES (?, ?)", (run_id, status))
        events = apsw.Connection(str(history / "runs" / f"{run_id}.db"))
        events.execute("CREATE TABLE event_logs(id INTEGER PRIMARY KEY, event TEXT)")
        event = {"timestamp": time.time(), "dagster_event": {"pid": pid}}
        events.execute("INSERT INTO event_logs(event) VALUES (?)", (json.dumps(event),))
        events.close()
    runs.close()
    finding = look(settings, "runs")
    assert (finding.state, finding.detail) == (
        "warning",
        "said to be running, but their process is gone: dead-run",
    )
    assert "Terminate" in finding.mend


def test_a_damaged_or_missing_segment_fails(settings: Settings):
    (segment,) = (settings.log / "segments").glob("*.parquet")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    finding = look(settings, "log")
    assert (finding.state, finding.mend) == ("failed", "restore the folder log/ from a copy")
    assert "its bytes have changed since it was sealed" in finding.detail
    segment.unlink()
    assert look(settings, "log").detail == f"sealed files are missing: {segment.name}"


def test_data_sets_are_held_against_their_manifests(settings: Settings):
    version = settings.splits / "0123456789abcdef"
    version.mkdir(parents=True)
    (version / "train.jsonl").write_text("{}")
    (settings.splits / "current").write_text("0123456789abcdef\n")
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    manifest = {"name": "r", "digest": "0123456789abcdef", "rows": {"train": 1}}
    manifest["files"] = {"train.jsonl": digest}
    (version / "manifest.json").write_text(json.dumps(manifest))
    assert look(settings, "data sets").state == "ok"
    assert verify(settings)[0] == ("data sets", 1, ())
    (version / "train.jsonl").write_text("[]")
    assert look(settings, "data sets").state == "ok"
    told = f"{version / 'train.jsonl'}: is not what was written"
    assert verify(settings)[0] == ("data sets", 1, (told,))
    (version / "train.jsonl").unlink()
    (settings.splits / "current").write_text("fedcba9876543210\n")
    finding = look(settings, "data sets")
    assert finding.detail == (
        "0123456789abcdef/train.jsonl is missing, `current` names fedcba9876543210, which is not there"
    )
    assert finding.mend == "delete the version's folder, then `tracemill build`"


def test_collections_are_held_against_their_manifests(settings: Settings):
    home = create(settings.indexes, "docs").replace(numbered(3), directions(3)).folder / "docs"
    assert look(settings, "collections").state == "ok"
    (home / versions.served(home)[0] / "vectors.npy").write_bytes(b"")
    assert look(settings, "collections").mend == "`tracemill build` writes it anew"
    (problem,) = verify(settings)[1].problems
    assert problem.endswith("vectors.npy is not what was written")


def test_models_are_there_whole_and_registered(settings: Settings):
    import numpy as np

    made = settings.models / "aside"
    artefact.save(made, {"kind": "test"}, {"w": np.ones(3, dtype=np.float32)})
    digest = artefact.publish(made, settings.models, "router")
    folder = settings.models / "router" / digest
    with EventLog.open(settings) as log:
        size = artefact.size_bytes(folder)
        event = registered(1, size_bytes=size).model_copy(update={"digest": digest})
        log.append(event)
    assert look(settings, "models").state == "ok"
    assert verify(settings)[2] == ("models", 2, ())
    stray = settings.models / "router" / ("a" * 16)
    stray.mkdir()
    age(stray)
    finding = look(settings, "models")
    assert (finding.detail, finding.mend) == (
        f"not registered: router/{'a' * 16}",
        f"rm -r {stray}",
    )
    weights = folder / artefact.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"x")
    assert look(settings, "models").state == "warning"
    assert "it was altered" in verify(settings)[2].problems[0]
    weights.write_bytes(whole + b"x")
    assert f"has {size + 1:,} bytes, not {size:,}" in look(settings, "models").detail
    weights.unlink()
    finding = look(settings, "models")
    assert (finding.state, "is candidate, and not in" in finding.detail) == ("failed", True)
    assert finding.mend == "restore the folder from a copy, or train it again"


def test_files_of_rules_and_terms_are_read(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    settings.raw_alerts.write_text("sinks: {team: {kind: slack, url_env: NO_SUCH_ADDRESS}}")
    finding = look(settings, "alerts")
    assert (finding.state, finding.mend) == ("warning", "set NO_SUCH_ADDRESS")
    monkeypatch.setenv("NO_SUCH_ADDRESS", "https://hooks.example")
    assert look(settings, "alerts").state == "ok"
    settings.raw_alerts.write_text("rules: [{name: a}]")
    settings.raw_retention.write_text("policies: 1")
    for what in ("alerts", "retention"):
        finding = look(settings, what)
        assert (finding.state, "line 1: " in finding.detail) == ("failed", True)


def test_the_queue_of_jobs_is_looked_at(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    whats = ("queue", "workers", "parked")
    assert {look(settings, what).detail for what in whats} == {"no job yet"}
    with EventLog.open(settings) as log, closing(Jobs(log, settings)) as jobs:
        ids = [jobs.submit(asked(4, f"{what} {{}}")).id for what in ("WAIT", "Say")]
        assert look(settings, "queue").detail == "2 jobs wait, with 8 requests"
        young = look(settings, "workers")
        assert (young.state, young.detail.startswith("nobody works, and 2 jobs")) == ("ok", True)
        monkeypatch.setattr(waiting, "PATIENCE_S", -1.0)
        left = look(settings, "workers")
        assert (left.state, left.mend) == (
            "warning",
            "`tracemill worker`, or `tracemill serve`, does them",
        )
        during: list[str] = []

        def seen(request: Request, options: Options) -> Response:
            during.append("" if during else look(settings, "workers").detail)
            return echo(request, options)

        Work(jobs, seen).until_done()
        assert during[0] == "working"
    assert look(settings, "workers").detail == "nobody works, and nothing waits"
    assert look(settings, "queue").detail == "0 jobs wait, with 0 requests"
    given_up = look(settings, "parked")
    assert (given_up.state, given_up.detail) == (
        "warning",
        f"4 requests were given up, of {ids[0]}",
    )
    assert given_up.mend == f"`tracemill jobs retry {ids[0]}` begins them again"
    path = settings.jobs / "queue.db"
    path.write_bytes(b"no database, whatever its name says" * 9)
    broken = look(settings, "queue")
    assert (broken.state, broken.mend) == (
        "failed",
        f"rm {path}*: the next worker makes it anew from the log",
    )
    assert path.read_bytes().startswith(b"no database")


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b""), Path.unlink])
def test_the_commands_fail_when_something_is_wrong(
    settings: Settings,
    run: Run,  # noqa: F811
    spoil: Callable[[Path], object],
):
    where = ("--warehouse", str(settings.warehouse))
    assert run("doctor", *where).code == 0
    ran = run("verify", "--json", *where)
    assert (ran.code, ran.lines[0]["ok"], ran.lines[0]["log"]["events"]) == (0, True, 7)
    (segment,) = (settings.log / "segments").glob("*.parquet")
    spoil(segment)
    ran = run("doctor", "--json", *where)
    assert ran.code == 1
    assert {row["what"] for row in ran.lines if not row["ok"]} >= {"log"}
    assert run("verify", *where).code == 1


def test_now_is_in_utc_whatever_the_zone(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        finding = look(settings, "clock")
    finally:
        monkeypatch.undo()
        time.tzset()
    told = datetime.strptime(finding.detail[:23], "%Y-%m-%d %H:%M:%S %Z").replace(tzinfo=UTC)
    assert finding.state == "ok"
    assert abs(datetime.now(UTC) - told) < timedelta(minutes=5)
