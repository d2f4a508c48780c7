"""Tests of what models answer, in pytest: samples, thresholds, snapshots, replay.

pytest loads this module in every project where tracemill is installed: it imports nothing else until
a test asks for `llm`, for `snapshot`, or is marked with `llm`. `docs/testing.md` has the reference.
"""

import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tracemill.pytest_plugin.asking import Llm
    from tracemill.pytest_plugin.kept import Snapshot
    from tracemill.settings import Settings

_RUNNING = pytest.StashKey[bool]()
_MARK = (
    "llm(samples=1, min_accuracy=None, model=None, prompt=None): run the test so many times and "
    "pass where the share of samples that pass is surely at least min_accuracy."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    llm = parser.getgroup("llm", "models (tracemill)")
    llm.addoption("--llm-model", metavar="NAME", help="Model of tests that name none.")
    llm.addoption(
        "--llm-warehouse", metavar="FOLDER", help="Whose log is used; else the nearest one."
    )
    llm.addoption(
        "--llm-record", action="store_true", help="Ask, and keep the answers for --llm-replay."
    )
    llm.addoption(
        "--llm-replay", action="store_true", help="Take answers from the log; nothing is sent."
    )
    llm.addoption(
        "--llm-undecided",
        choices=("fail", "skip"),
        default="fail",
        help="What becomes of a test whose samples are too few to tell (fail).",
    )
    snapshots = parser.getgroup("snapshots", "snapshots (tracemill)")
    snapshots.addoption(
        "--snapshot-update", action="store_true", help="Write snapshots that lack or differ."
    )
    snapshots.addoption(
        "--snapshot-prune", action="store_true", help="Remove snapshots that no test uses."
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--llm-record") and config.getoption("--llm-replay"):
        raise pytest.UsageError("--llm-record asks models and --llm-replay asks none: choose one")
    config.addinivalue_line("markers", _MARK)
    if not hasattr(config, "workerinput"):
        from tracemill.pytest_plugin.summary import Summary

        config.pluginmanager.register(Summary(config), "tracemill-summary")


def pytest_unconfigure(config: pytest.Config) -> None:
    if desk := _used():
        desk.close(config)


def pytest_itemcollected(item: pytest.Item) -> None:
    if isinstance(item, pytest.Function) and item.get_closest_marker("llm"):
        # What counts the calls of its samples; the test need not ask for it.
        item.fixturenames.extend(name for name in ["llm"] if name not in item.fixturenames)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    if not pyfuncitem.get_closest_marker("llm") or pyfuncitem.stash.get(_RUNNING, False):
        return None
    from tracemill.pytest_plugin import samples

    pyfuncitem.stash[_RUNNING] = True
    try:
        samples.run(pyfuncitem)
    finally:
        pyfuncitem.stash[_RUNNING] = False
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call" and (desk := _used()):
        desk.tell(item, report)
    return report


def _used() -> Any:
    """What tests share; None while none has asked for it, so that nothing need be imported."""
    return sys.modules.get("tracemill.pytest_plugin.desk")


@pytest.fixture(scope="session")
def llm_warehouse(pytestconfig: pytest.Config) -> "Settings":
    """The warehouse whose log has the calls: of --llm-warehouse, else the nearest one.

    Override it where tests have a warehouse of their own.
    """
    from tracemill.pytest_plugin import desk

    return desk.warehouse(pytestconfig)


@pytest.fixture
def llm(request: pytest.FixtureRequest, llm_warehouse: "Settings") -> "Llm":
    """Ask models: `llm.generate(...)`. Every call is in the warehouse's log."""
    from tracemill.pytest_plugin import desk

    return desk.llm(request.node, llm_warehouse)


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> "Snapshot":
    """Hold a value against the one that was kept: `snapshot(value)`."""
    from tracemill.pytest_plugin import desk

    return desk.snapshot(request.node, Path(request.node.path))
