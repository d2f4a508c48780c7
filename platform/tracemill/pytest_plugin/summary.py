"""What is told at the end: a line for each marked test, and what became of snapshots."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_HEAD = ("test", "samples", "accuracy (95 %)", "outcome", "calls", "cost", "latency")
_SELECTING = ("keyword", "markexpr", "deselect", "lf", "stepwise", "collectonly", "maxfail")


class Summary:
    """Gathers what tests tell, those of xdist's workers too."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._results: list[dict[str, Any]] = []
        self._calls: list[tuple[int, float | None]] = []
        self._states: dict[str, str] = {}
        self._outcomes: dict[str, str] = {}
        self._unused: list[Path] = []
        self._pruned = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            self._outcomes.setdefault(report.nodeid, report.outcome)
            return
        self._outcomes[report.nodeid] = report.outcome
        told: dict[str, Any] = getattr(report, "tracemill", {})
        if "result" in told:
            self._results.append(told["result"])
        if told.get("calls"):
            self._calls.append((told["calls"], told["cost_usd"]))
        self._states.update(told.get("snapshots", {}))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus not in (0, 1):
            return
        self._unused = list(self._find_unused())
        if self._unused and self._config.getoption("--snapshot-prune"):
            from tracemill.quality.snapshots import prune

            prune(self._unused)
            self._pruned, self._unused = len(self._unused), []

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._results or self._calls:
            terminalreporter.section("models")
            for line in self._table():
                terminalreporter.write_line(line)
        for line in self._snapshot_lines():
            terminalreporter.write_line(line)

    def _table(self) -> Iterator[str]:
        rows = [_HEAD, *(_row(each) for each in self._results)]
        if len(rows) > 1:
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            for row in rows:
                cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
                yield "  ".join(cells).rstrip()
        costs = [cost for _, cost in self._calls]
        known = [cost for cost in costs if cost is not None]
        told = _usd(sum(known)) if len(known) == len(costs) else f"{_usd(sum(known))} and unknown"
        if self._calls:
            yield f"{sum(count for count, _ in self._calls):,} calls, {told}"

    def _snapshot_lines(self) -> Iterator[str]:
        counts = Counter(self._states.values())
        made = [f"{counts[state]} {state}" for state in ("written", "updated") if counts[state]]
        made += [f"{self._pruned} removed"] if self._pruned else []
        if made:
            yield f"snapshots: {', '.join(made)}"
        if self._unused:
            names = ", ".join(sorted(path.name for path in self._unused)[:5])
            more = ", ..." if len(self._unused) > 5 else ""
            yield (
                f"snapshots: {len(self._unused)} unused ({names}{more}): "
                "--snapshot-prune removes them"
            )

    def _find_unused(self) -> Iterator[Path]:
        """Snapshots of tests that passed without them, and, where all tests ran, of no test."""
        owners: dict[Path, dict[str, str]] = defaultdict(dict)
        if not any(file.is_dir() for file in self._folders()):
            return
        from tracemill.pytest_plugin.kept import folder_of, owner_of
        from tracemill.quality.snapshots import stored

        for test, state in self._outcomes.items():
            file = self._config.rootpath / test.split("::", 1)[0]
            owners[folder_of(file)][owner_of(test)] = state
        for folder in sorted(owners):
            yield from (
                path
                for path in stored(folder)
                if str(path) not in self._states and self._is_unused(path, owners[folder])
            )
        if self._all_ran():
            for folder in self._folders():
                gone = (
                    (one for one in folder.iterdir() if _is_orphan(one)) if folder.is_dir() else ()
                )
                for one in sorted(gone):
                    yield from stored(one)

    def _is_unused(self, path: Path, owners: dict[str, str]) -> bool:
        state = owners.get(path.stem.split("--", 1)[0])
        return state == "passed" or (state is None and self._all_ran())

    def _folders(self) -> set[Path]:
        root = self._config.rootpath
        return {(root / test.split("::", 1)[0]).parent / "__snapshots__" for test in self._outcomes}

    def _all_ran(self) -> bool:
        option = self._config.option
        selected = any(getattr(option, name, None) for name in _SELECTING)
        named = any("::" in argument for argument in self._config.args)
        return not (selected or named)


def _is_orphan(folder: Path) -> bool:
    return folder.is_dir() and not (folder.parents[1] / f"{folder.name}.py").exists()


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    more = (
        f" (+{result['more']:,})"
        if result["outcome"] == "not_enough_data" and result["more"]
        else ""
    )
    latency = result["latency_ms"]
    return (
        result["test"],
        str(result["samples"]),
        f"{result['accuracy']:.3f} [{result['low']:.3f}, {result['high']:.3f}]",
        result["outcome"].replace("_", " ") + more,
        str(result["calls"]),
        _usd(result["cost_usd"]),
        "-" if latency is None else f"{latency:,.1f} ms",
    )


def _usd(cost: float | None) -> str:
    if cost is None:
        return "unknown"
    return "$0" if not cost else f"${cost:.4f}" if cost >= 0.0001 else "<$0.0001"
