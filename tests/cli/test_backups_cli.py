"""`tracemill log backup`, `backups` and `restore`, as they are typed."""

import json
from pathlib import Path

from tests.cli.running import Run
from tests.log.made import harvested
from tracemill.log import EventLog


def test_a_log_is_copied_listed_checked_and_put_back(run: Run, warehouse: Path) -> None:
    made = run("log", "backup", "--json")
    assert made.code == 0, made.err
    one = json.loads(made.out)
    assert (one["position"], one["checked"], one["files"]) == (9 - 1, "events", 1)
    folder = Path(one["folder"])
    assert folder.parent == warehouse / "backups"
    assert one["backup"] in run("log", "backups", "--check").out

    with EventLog(warehouse / "log") as log:
        log.append(harvested())
    refused = run("log", "restore", folder.name)
    assert (refused.code, "--replace" in refused.err) == (2, True)
    done = run("log", "restore", folder.name, "--replace")
    assert done.code == 0, done.err
    assert "has 8 events" in done.out
    assert "log.before-" in done.out

    (folder / "journal.db").write_bytes(b"")
    broken = run("log", "backups", "--check")
    assert (broken.code, "journal.db: has 0 bytes" in broken.out) == (1, True)
    assert run("log", "backup", str(warehouse / "backups" / "two"), "--keep", "1").code == 0
    assert [each["backup"] for each in json.loads(run("log", "backups", "--json").out)] == ["two"]
