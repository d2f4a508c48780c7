"""What a build shows on screen: one line an asset as it finishes, and a bar of what is left."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg
from dagster import DagsterEventType as Type
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)


def bar(console: Console, unit: str) -> Progress:
    """A progress bar that leaves nothing behind; without a terminal it shows nothing."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@dataclass
class BuildProgress:
    """Follows the events of the runs of a build, and counts what was made, kept as it was, or failed."""

    console: Console
    total: int
    made: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unwanted: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)

    @contextmanager
    def shown(self) -> "Iterator[BuildProgress]":
        self._started: dict[str, float] = {}
        with bar(self.console, "assets") as self._bar:
            self._task = self._bar.add_task("starting", total=self.total)
            yield self

    def follow(self, entry: dg.EventLogEntry) -> None:
        """Show one event of the run; given to `DagsterInstance.add_event_listener`."""
        event = entry.dagster_event
        if event is None:
            return
        if event.event_type is Type.STEP_START:
            self._started[event.step_key or ""] = time.monotonic()
            self._bar.update(self._task, description=_name(event))
        elif event.event_type is Type.ASSET_MATERIALIZATION:
            # An asset with partitions says it once for each of them.
            if _name(event) not in {*self.made, *self.unchanged}:
                self._finished(event)
        elif event.event_type is Type.ASSET_CHECK_EVALUATION:
            self._checked(event.asset_check_evaluation_data)
        elif event.event_type is Type.STEP_FAILURE:
            self._broke(event)

    def tell_failed(self, why: str) -> None:
        """Show why a run could not begin."""
        self.failed.append(why)
        self.console.print(f"  [red]✗ {escape(why)}[/]", highlight=False, soft_wrap=True)

    def tell_unwanted(self, what: str, names: Iterable[str]) -> None:
        """Show that nobody asked for these: there is no folder or recipe that they would be of."""
        self.unwanted |= {*names}
        self._line("dim", "-", what, "none in raw/")

    def tell_skipped(self, names: Iterable[str]) -> None:
        """Show which of these assets the run did not come to: Dagster says it in no event."""
        seen = {*self.made, *self.unchanged, *self.failed, *self.unwanted}
        self.skipped = [name for name in names if name not in seen]
        for name in self.skipped:
            self._line("yellow", "-", name, "skipped: what it needs has failed")

    def _finished(self, event: dg.DagsterEvent) -> None:
        metadata = event.materialization.metadata
        count = metadata.get("dagster/row_count")
        rows = "" if count is None else f"{count.value:,}"
        seconds = time.monotonic() - self._started[event.step_key or ""]
        if metadata["unchanged"].value:
            self.unchanged.append(_name(event))
            self._line("dim", "=", _name(event), f"{rows:>9}  unchanged")
        else:
            self.made.append(_name(event))
            self._line("green", "✓", _name(event), f"{rows:>9}  {seconds:5.1f} s")
        self._bar.advance(self._task)

    def _checked(self, check: dg.AssetCheckEvaluation) -> None:
        key = f"{check.asset_key.path[-1]}: {check.check_name}"
        warns = check.severity is dg.AssetCheckSeverity.WARN
        said = escape(check.description or "")
        if check.passed:
            self.console.print(f"      [dim]✓ {key}  {said}[/]", highlight=False, soft_wrap=True)
        else:
            (self.warnings if warns else self.failed).append(key)
            style, word = ("yellow", "warns") if warns else ("red", "failed")
            self.console.print(
                f"      [{style}]✗ {key} {word}  {said}[/]", highlight=False, soft_wrap=True
            )

    def _broke(self, event: dg.DagsterEvent) -> None:
        error = event.step_failure_data.error
        # An error of ours was written for its reader; what caused it was not.
        while error is not None and error.cause is not None and not _is_ours(error.message):
            error = error.cause
        self.failed.append(_name(event))
        self._line("red", "✗", _name(event), _reason(error.message) if error else "failed")

    def _line(self, style: str, mark: str, name: str, rest: str) -> None:
        line = f"  [{style}]{mark} {name:<26} {escape(rest)}[/]"
        self.console.print(line, highlight=False, soft_wrap=True)


def _name(event: dg.DagsterEvent) -> str:
    if event.event_type is Type.ASSET_MATERIALIZATION:
        return event.materialization.asset_key.to_user_string()
    return (event.step_key or "").replace("__", "/", 1)


def _is_ours(message: str) -> bool:
    return message.startswith("tracemill.")


def _reason(message: str) -> str:
    """The first line of an error; our own and Dagster's class names say nothing to its reader."""
    cls, _, text = message.strip().splitlines()[0].partition(": ")
    return text if cls.startswith(("tracemill.", "dagster.")) else f"{cls.split('.')[-1]}: {text}"
