"""Nothing but `log/journal.py` ever opens the journal: a second opener would drop its locks."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tracemill
from tests.log.made import call, many
from tracemill.errors import UsageError
from tracemill.log import EventLog

PACKAGE = Path(tracemill.__file__).parent

# Everything that the log can do, with every open that goes through Python noted.
SCENARIO = """
import sys
from pathlib import Path

opened = []
sys.addaudithook(lambda name, arguments: opened.append(arguments[0]) if name == "open" else None)

from tests.log.made import call, many
from tracemill.log import EventLog

with EventLog(Path(sys.argv[1])) as log:
    log.append([*call(), *many(5)], durability="power")
    list(log.read()), list(log.read(stream="source:source 0"))
    log.sql("FROM calls"), log.frame().collect()
    log.fold()
    log.append(many(5))
    log.fold(), log.compact(), log.gc(grace_s=0), log.pin("now")
    log.sql("FROM events"), log.frame().collect(), next(log.subscribe())
    assert log.verify().ok
import duckdb
with duckdb.connect(sys.argv[1] + ".duckdb", read_only=True) as catalogue:
    catalogue.sql("FROM events").fetchall()
for name in opened:
    print("open", name)
for line in Path("/proc/self/maps").read_text().splitlines() if Path("/proc/self/maps").exists() else []:
    print("map", line)
"""


def scenario(folder: Path, *before: str) -> "subprocess.CompletedProcess[str]":
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [*before, sys.executable, "-c", SCENARIO, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=root,
    )


def test_python_never_opens_the_journal(tmp_path: Path) -> None:
    done = scenario(tmp_path / "log")
    opened = [line for line in done.stdout.splitlines() if line.startswith("open ")]
    assert any("segments" in line for line in opened) or len(opened) > 10
    assert [line for line in opened if "journal.db" in line] == []
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_one_sqlite_library_is_loaded(tmp_path: Path) -> None:
    done = scenario(tmp_path / "log")
    mapped = {line.split()[-1] for line in done.stdout.splitlines() if line.startswith("map ")}
    assert [name for name in mapped if "apsw" in name]
    assert [name for name in mapped if re.search(r"sqlite|duckdb_extension", name)] == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_the_kernel_sees_only_sqlite_open_the_journal(tmp_path: Path) -> None:
    """SQLite always says O_NOFOLLOW; neither Python, nor DuckDB, nor Arrow, nor Polars does."""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=openat,open,openat2", "-o", str(trace)]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    scenario(tmp_path / "log", *command)
    opens = [line for line in trace.read_text().splitlines() if "journal.db" in line]
    assert len(opens) >= 3
    foreign = [line for line in opens if "O_NOFOLLOW" not in line and "ENOENT" not in line]
    assert foreign == []


def test_only_the_journal_module_names_the_file_and_opens_it() -> None:
    naming = {p.name for p in PACKAGE.rglob("*.py") if _code(p, r"journal\.db")}
    importing = {p.name for p in PACKAGE.rglob("*.py") if _code(p, r"^\s*(import|from) apsw")}
    opening = {p.name for p in PACKAGE.rglob("*.py") if _code(p, r"apsw\.Connection\(")}
    sqlite = {p.name for p in PACKAGE.rglob("*.py") if _code(p, r"sqlite3|sqlite_scan|INSTALL")}
    # Caches, of answers and of vectors, and the books of budgets are files of their own.
    # Forgetting and the doctor look into databases of others: caches, and Dagster's; so do imports.
    others = {"cleansing.py", "traces.py", "remains.py", "databases.py", "langfuse.py"}
    assert opening == {"journal.py", "database.py", *others}
    # The others use its types and exceptions, or say which version there is.
    caches = {"database.py", "file.py", "cache.py", "books.py", "budgets.py", "ledger.py"}
    ours = {"journal.py", "tables.py", "checkpoints.py", "translate.py"}
    assert importing <= {*ours, "machine.py", "llm_tool.py", *caches, *others}
    # The others say its name in a message, or ask whether it is there: neither opens it.
    assert naming <= {"journal.py", "tables.py", "reading.py", "segments.py"}
    # The queue of jobs is a file of its own, which huey opens by another library; the doctor looks in.
    assert sqlite == {"queued.py", "waiting.py"}


def _code(path: Path, pattern: str) -> bool:
    return re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE) is not None


@pytest.mark.parametrize("name", ["log", "events", "my journal [1]"])
def test_no_query_reaches_the_journal(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "warehouse" / name
    (folder.parent / "corpus").mkdir(parents=True)
    with EventLog(folder) as log:
        log.append([*call(), *many(3)])
        log.fold()
        for path in (
            folder / "journal.db",
            folder / "journal.db-wal",
            folder / "journal.lock",
            folder / "segments" / ".." / "journal.db",
            folder.parent / "corpus" / ".." / name / "journal.db",
            Path("/etc/hostname"),
        ):
            for query in (
                f"FROM read_blob('{path}')",
                f"FROM read_text('{path}')",
                f"FROM read_csv('{path}')",
                f"FROM '{path}'",
                f"ATTACH '{path}'",
                f"ATTACH '{path}' (TYPE sqlite)",
                f"FROM sqlite_scan('{path}', 'journal')",
                f"COPY (SELECT 1) TO '{path}'",
            ):
                with pytest.raises(UsageError, match=r"does not run|one question at a time"):
                    log.sql(query)
        assert log.append(many(1)) == [6]
        assert log.verify().ok


def test_no_query_loads_an_extension_or_takes_back_the_ban(tmp_path: Path) -> None:
    with EventLog(tmp_path / "log") as log:
        log.append(many(1))
        for query in (
            "INSTALL sqlite",
            "LOAD sqlite",
            "LOAD '/tmp/sqlite_scanner.duckdb_extension'",
            "SET enable_external_access = true",
            "SET autoinstall_known_extensions = true",
            "SET allowed_directories = ['/']",
            "RESET lock_configuration",
        ):
            with pytest.raises(UsageError, match=r"does not run|one question at a time"):
                log.sql(query)
        query = "SELECT count(*) FROM duckdb_functions() WHERE function_name LIKE 'sqlite%'"
        assert log.sql(query).item() == 0


def test_what_was_derived_may_be_read_in_a_query(tmp_path: Path) -> None:
    table = tmp_path / "corpus" / "table.csv"
    table.parent.mkdir()
    table.write_text("n\n7\n")
    with EventLog(tmp_path / "log") as log:
        assert log.sql(f"SELECT n FROM '{table}'").item() == 7  # noqa: S608


SYNCS = """
import os, sys
from tests.log.made import harvested
from tracemill.log import EventLog

with EventLog(sys.argv[1]) as log:
    log.append(harvested())
    for durability in ("kill", "power"):
        os.write(2, f"begin {durability}".encode())
        for _ in range(5):
            log.append(harvested(), durability=durability)
        os.write(2, f"end {durability}".encode())
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_power_waits_for_the_disk_with_every_append_and_kill_with_none(tmp_path: Path) -> None:
    trace, root = tmp_path / "trace", Path(__file__).parents[2]
    command = ["strace", "-f", "-e", "trace=fsync,fdatasync,write", "-o", str(trace)]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    subprocess.run(
        [*command, sys.executable, "-c", SYNCS, str(tmp_path / "log")],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(root)},
        cwd=root,
    )
    lines = trace.read_text()
    syncs = [
        len(re.findall(r"f(?:data)?sync\(", lines.split(f"begin {d}")[1].split(f"end {d}")[0]))
        for d in ("kill", "power")
    ]
    assert syncs[0] == 0
    assert syncs[1] >= 5


@pytest.mark.parametrize("write", ["COPY", "EXPLAIN ANALYZE COPY"])
def test_a_query_cannot_write_over_a_segment(tmp_path: Path, write: str) -> None:
    with EventLog(tmp_path / "log") as log:
        log.append(many(3))
        log.fold()
        (segment,) = log.segments()
        with pytest.raises(UsageError, match="one question at a time"):
            log.sql(f"{write} (SELECT 1) TO '{segment}' (FORMAT parquet)")
        assert log.verify().ok
