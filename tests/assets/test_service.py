"""The Dagster UI for real: it comes up, runs what its API asks for, stays alone, and stops whole."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from assets import service
from tests.conftest import FULL
from tracemill.errors import UsageError
from tracemill.retrieval.collection import collections
from tracemill.settings import Settings

ROOT = service.ROOT
WITHIN_S = 120
UI = """
import sys
from pathlib import Path
from assets.run import ui
from tracemill.settings import Settings
sys.exit(ui(Settings(warehouse=Path(sys.argv[1]), harvest_installed=False), 0))
"""

LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } } }
}"""
RUN = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
ASSET = """
query ($key: AssetKeyInput!) {
  assetOrError(assetKey: $key) { ... on Asset { assetMaterializations(limit: 1) {
    metadataEntries { label ... on IntMetadataEntry { intValue } } } } }
}"""
PARTITIONS = """
query ($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) { ... on AssetNode { partitionKeys } } }"""
INSTIGATORS = """{ repositoryOrError(repositorySelector: {
    repositoryName: "__repository__", repositoryLocationName: "tracemill"}) { ... on Repository {
  schedules { name scheduleState { status } } sensors { name sensorState { status } } } } }"""
HEALTH = "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } } }"


class Opened(NamedTuple):
    """A warehouse and the address of its UI."""

    settings: Settings
    url: str


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """What `tracemill ui` opens, ended by ctrl-C: then no process of it is left, and no warning
    stands on the screen.
    """
    folder = tmp_path_factory.mktemp("ui")
    settings = Settings(warehouse=folder / "warehouse", harvest_installed=False).create()
    line = {"question": "Where is the key?", "answer": "Under the third flower pot."}
    (settings.raw_records / "one.jsonl").write_text(json.dumps(line), encoding="utf-8")
    screen = folder / "screen"
    with screen.open("w") as shown:
        process = subprocess.Popen(
            [sys.executable, "-c", UI, str(settings.warehouse)],
            cwd=ROOT,
            stdout=shown,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "(ctrl-C" in screen.read_text() or process.poll() is not None)
        assert process.poll() is None, screen.read_text()
        family = psutil.Process(process.pid).children(recursive=True)
        yield Opened(settings, screen.read_text().split()[5])
        process.send_signal(signal.SIGINT)
        assert process.wait(WITHIN_S) == 0
    finally:
        process.kill()
    assert len(family) >= 4
    assert not [each for each in family if each.is_running() and each.status() != "zombie"]
    lines = screen.read_text().splitlines()
    assert [line.split(" at ")[0] for line in lines] == ["The Dagster UI is", "Stopping"]


def ask(url: str, query: str, **variables: object) -> Any:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        said = json.load(answer)
    assert "errors" not in said, said
    return said["data"]


def until(ready: Any) -> Any:
    """What `ready` returns once that is true; a failure after the deadline."""
    deadline, pause = time.monotonic() + WITHIN_S, threading.Event()
    while not (found := ready()):
        assert time.monotonic() < deadline, "it took too long"
        pause.wait(0.2)
    return found


def ran(url: str, job: str, tags: dict[str, str] | None = None, **selector: object) -> str:
    """How a run ended that was launched as the UI does it."""
    where = {"repositoryLocationName": "tracemill", "repositoryName": "__repository__"}
    named = [{"key": key, "value": value} for key, value in (tags or {}).items()]
    params = {
        "selector": {**where, "pipelineName": job, **selector},
        "mode": "default",
        "executionMetadata": {"tags": named},
    }
    launched = ask(url, LAUNCH, params=params)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    done = {"SUCCESS", "FAILURE", "CANCELED"}

    def ended() -> str | None:
        status = ask(url, RUN, id=launched["run"]["runId"])["runOrError"]["status"]
        return status if status in done else None

    return until(ended)


def test_a_run_from_the_api_materialises_and_is_shown(opened: Opened):
    settings, url = opened
    keys = [["sources", "installed_records"], ["sources", "raw_records"], ["log", "log_fold"]]
    assert ran(url, "__ASSET_JOB", assetSelection=[{"path": key} for key in keys]) == "SUCCESS"
    asset = ask(url, ASSET, key={"path": ["sources", "raw_records"]})["assetOrError"]
    entries = asset["assetMaterializations"][0]["metadataEntries"]
    rows = next(each["intValue"] for each in entries if each["label"] == "dagster/row_count")
    assert rows == 1
    assert (settings.kept("raw_records") / "one.parquet").is_file()


@pytest.mark.skipif(not FULL, reason="takes 35 s: TRACEMILL_TEST_FULL=1 runs it")
def test_a_partition_of_the_collections_can_be_launched_alone(opened: Opened):
    settings, url = opened
    for name in ("house", "garden"):
        folder = settings.raw_documents / name
        folder.mkdir()
        (folder / "page.md").write_text(f"# The {name}\n\nIt is ours.\n", encoding="utf-8")

    def known() -> bool:
        asset = ask(url, PARTITIONS, key={"path": ["retrieval", "documents"]})
        return "house" in asset["assetNodeOrError"]["partitionKeys"]

    until(known)  # The sensor adds them.
    assert ran(url, "refresh_collections", {"dagster/partition": "house"}) == "SUCCESS"
    assert "house" in collections(settings.indexes)


def test_the_daemon_runs_with_the_schedule_and_the_sensor_on(
    opened: Opened,
):
    found = ask(opened.url, INSTIGATORS)["repositoryOrError"]
    schedules = {each["name"]: each["scheduleState"]["status"] for each in found["schedules"]}
    sensors = {each["name"]: each["sensorState"]["status"] for each in found["sensors"]}
    daily = ("daily", "daily_collections", "daily_reports", "daily_look_after")
    assert schedules == dict.fromkeys((*daily, "weekly_keep_safe"), "RUNNING")
    watching = ("document_files", "fine_tunes", "raw_files", "log_growth", "batches", "alerts")
    assert sensors == dict.fromkeys((*watching, "follow_the_log"), "RUNNING")

    def healthy() -> bool:
        statuses = ask(opened.url, HEALTH)["instance"]["daemonHealth"]["allDaemonStatuses"]
        return all(each["healthy"] for each in statuses if each["required"])

    assert until(healthy)


def test_a_notebook_in_the_warehouse_is_shown(opened: Opened):
    settings, url = opened
    page = settings.reports / "page.ipynb"
    page.parent.mkdir(exist_ok=True)
    committed = ROOT / "notebooks" / "rendered" / "01_first_look.ipynb"
    page.write_bytes(committed.read_bytes())
    query = urllib.parse.urlencode({"path": str(page), "repoLocName": "tracemill"})
    with urllib.request.urlopen(f"{url}/notebook?{query}", timeout=60) as answer:
        shown = answer.read().decode()
    assert "A first look at the calls" in shown
    assert "data:image/png;base64," in shown


def test_a_second_one_on_the_same_warehouse_is_refused(opened: Opened):
    settings, url = opened
    with pytest.raises(UsageError, match=f"runs already at {url}"):
        service.running(settings, 0).__enter__()


def test_a_taken_port_is_told_before_anything_starts(settings: Settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is taken"):
            service.running(settings, port).__enter__()


def test_telemetry_is_off_and_a_changed_configuration_is_kept(settings: Settings):
    file = service.home(settings) / "dagster.yaml"
    assert "telemetry:\n  enabled: false" in file.read_text(encoding="utf-8")
    file.write_text("telemetry:\n  enabled: false\n# ours\n", encoding="utf-8")
    service.home(settings)
    assert "# ours" in file.read_text(encoding="utf-8")


def test_a_browser_shows_the_graph_and_the_page_of_an_asset(opened: Opened, tmp_path: Path):
    if not (chromium := shutil.which("chromium")):
        assert "CI" not in os.environ, "CI must have chromium: see .ci/run"
        pytest.skip("no chromium here: the UI was tested through its API only")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-quic"]

    def page(path: str) -> str:
        shown = subprocess.run(
            [
                chromium,
                *options,
                f"--user-data-dir={tmp_path}",
                "--virtual-time-budget=20000",
                "--dump-dom",
                f"{opened.url}/{path}",
            ],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=True,
        )
        return shown.stdout

    graph = page("asset-groups")
    assert all(group in graph for group in ("sources", "corpus", "retrieval", "log", "reports"))
    asset = page("assets/corpus/unique_records")
    assert "each removal names the one that stayed" in asset
    index = page("assets/retrieval/chunk_index")
    assert "a version serves once it has passed its recall check" in index
    assert "refresh_collections" in index
