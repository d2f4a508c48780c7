"""What a test run shares: logs and clients by warehouse, and what each test has to tell of itself.

Results travel on reports, so that those of xdist's workers reach the summary.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tracemill.errors import TracemillError, UsageError
from tracemill.events import new_id
from tracemill.pytest_plugin.asking import Llm
from tracemill.pytest_plugin.kept import Snapshot
from tracemill.pytest_plugin.marks import sampling_of
from tracemill.pytest_plugin.recorded import Recordings
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.llm.client import Client
    from tracemill.pytest_plugin.samples import Result

LLM = pytest.StashKey[Llm]()
SNAPSHOT = pytest.StashKey[Snapshot]()
RESULT: "pytest.StashKey[Result]" = pytest.StashKey[Any]()
_CLIENTS = pytest.StashKey[dict[Path, "tuple[Client, Recordings]"]]()
_RECORDING = pytest.StashKey[str]()


def warehouse(config: pytest.Config) -> Settings:
    """The warehouse of --llm-warehouse, else the nearest one. Raises `UsageError` for none."""
    named: str | None = config.getoption("--llm-warehouse")
    if named is None:
        return Settings.find(config.rootpath)
    folder = (config.invocation_params.dir / Path(named).expanduser()).absolute()
    if config.getoption("--llm-replay") and not (folder / "log").is_dir():
        raise UsageError(f"--llm-warehouse {folder} has no log to replay: record with --llm-record")
    return Settings(warehouse=folder).create()


def llm(item: pytest.Item, settings: Settings) -> Llm:
    """What a test asks models with."""
    config = item.config
    try:
        client, recordings = _opened(config, settings)
        sampling = sampling_of(item)
    except TracemillError as error:
        pytest.fail(str(error), pytrace=False)
    made = Llm(
        client,
        test=item.nodeid,
        model=sampling.model or config.getoption("--llm-model") or "local/extract",
        prompt=sampling.prompt,
        recording=_recording(config) if config.getoption("--llm-record") else None,
        recordings=recordings if config.getoption("--llm-replay") else None,
    )
    item.stash[LLM] = made
    return made


def snapshot(item: pytest.Item, file: Path) -> Snapshot:
    """What a test holds values against."""
    made = Snapshot(file, item.nodeid, update=bool(item.config.getoption("--snapshot-update")))
    item.stash[SNAPSHOT] = made
    return made


def tell(item: pytest.Item, report: pytest.TestReport) -> None:
    """What the summary needs of a test, on its report."""
    told: dict[str, Any] = {}
    if asked := item.stash.get(LLM, None):
        told |= {"calls": len(asked.calls), "cost_usd": asked.cost_usd}
    if result := item.stash.get(RESULT, None):
        told["result"] = result.row()
    if kept := item.stash.get(SNAPSHOT, None):
        told["snapshots"] = kept.states
    if told:
        report.tracemill = told  # pyright: ignore[reportAttributeAccessIssue] (reports take any)


def close(config: pytest.Config) -> None:
    """Let go of connections and files."""
    if _CLIENTS in config.stash:
        for client, _ in config.stash[_CLIENTS].values():
            client.close()
            client.log.close()


def _opened(config: pytest.Config, settings: Settings) -> "tuple[Client, Recordings]":
    from tracemill.llm.client import Client

    clients: dict[Path, tuple[Client, Recordings]] = config.stash.setdefault(_CLIENTS, {})
    if settings.warehouse not in clients:
        client = Client.open(settings)
        clients[settings.warehouse] = client, Recordings(client.log)
    return clients[settings.warehouse]


def _recording(config: pytest.Config) -> str:
    """The name of this run's recording: one for all of xdist's workers."""
    shared: dict[str, str] = getattr(config, "workerinput", {})
    return config.stash.setdefault(_RECORDING, shared.get("testrunuid") or new_id())
