"""Kill processes that use the log, at marked and at random moments, and count what is missing after.

`python benchmarks/kill.py --kills 200`: four writers, one that folds, compacts, deletes and empties, a
reader that comes and goes, and one that holds the log open throughout. Half of the victims kill themselves
before or after the n-th call of a named step, the others are hit from outside at any moment. What a
writer was promised, it notes with one `os.write` into a file of its own.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from tracemill.errors import VersionConflict
from tracemill.events import IndexBuilt, SourceHarvested
from tracemill.log import EventLog

MARKS = [
    # (module, owner within it, name): the steps between which a death must not matter
    ("tracemill.log.tables", None, "insert"),
    ("tracemill.log.tables", None, "add_segment"),
    ("tracemill.log.tables", None, "trim"),
    ("tracemill.log.turn", "Turn", "set_mark"),
    ("tracemill.log.journal", "Journal", "_open_writer"),
    ("tracemill.log.tables", None, "forget"),
    ("tracemill.log.journal", "Journal", "close"),
    ("tracemill.log.segments", None, "_write_parquet"),
    ("tracemill.log.segments", None, "sha256_of"),
    ("tracemill.log.views", None, "write_catalogue"),
    ("tracemill.log.tables", None, "begin_erasing"),
    ("tracemill.log.tables", None, "empty"),
    ("tracemill.log.tables", None, "replace_segments"),
    ("tracemill.log.tables", None, "end_erasing"),
    ("tracemill.log.journal", "Journal", "scrub"),
    ("tracemill.log.restore", None, "copy_file"),
    ("tracemill.log.restore", None, "_exchange"),
    ("pathlib", "Path", "rename"),
    ("pathlib", "Path", "unlink"),
    ("os", None, "fsync"),
]
_BY_FOLDER = ["add_segment", "trim", "forget", "_write_parquet", "sha256_of", "rename", "unlink"]
_BY_FOLDER += ["write_catalogue", "fsync", "set_mark", "close", "replace_segments"]
_BY_FOLDER += ["begin_erasing", "empty", "scrub", "end_erasing"]
_BY_WRITER = ["insert", "set_mark", "_open_writer", "close"]


class Death(NamedTuple):
    """Where a process kills itself."""

    mark: str
    """The name in `MARKS`."""
    call: int
    """At which call of it."""
    after: bool
    """After the step, or before it."""


@dataclass
class Outcome:
    """What the kills did to the log."""

    kills: int = 0
    acknowledged: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    gaps: int = 0
    broken_streams: int = 0
    forked: int = 0
    """Events of forked children."""
    spawned: int = 0
    """Processes that were spawned; the others were forked from one that holds the log open."""
    reads: int = 0
    reader_errors: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])
    problems: tuple[str, ...] = ()
    died_at: Counter[str] = field(default_factory=Counter[str])

    @property
    def ok(self) -> bool:
        return not (
            self.lost
            or self.doubled
            or self.gaps
            or self.broken_streams
            or self.problems
            or self.reader_errors
            or self.errors
        )


# In the processes


def die_at(death: Death) -> None:
    """Replace the step by one that kills this process at the call in question."""
    import importlib

    module, owner, name = next(m for m in MARKS if m[2] == death.mark)
    home: Any = importlib.import_module(module)
    if owner:
        home = getattr(home, owner)
    original: Callable[..., Any] = getattr(home, name)
    calls = 0

    def step(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == death.call and not death.after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if calls == death.call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(home, name, step)


def write(folder: Path, number: int, death: Death | None, fork: bool) -> None:
    """Append for ever, singly and in batches, to own and shared streams; with a forked child or not."""
    if death:
        die_at(death)
    log, who = EventLog(folder, fold_after_events=10**9), "writer"
    if fork:
        log.append(_event("parent", 0))
        who = "forked" if os.fork() == 0 else "parent"
        # Both go on with the same object.
    notes = os.open(
        folder.parent / f"acknowledged-{os.getpid()}", os.O_CREAT | os.O_APPEND | os.O_WRONLY
    )
    parent = os.getppid()
    mine = random.Random(f"{number} {os.getpid()}")
    for count in range(1_000_000):
        if os.getppid() != parent:
            return
        time.sleep(0.002)  # or nobody else would get to anything on two cores
        events = [_event(f"{who} {number}", count) for _ in range(mine.choice([1, 1, 1, 4, 30]))]
        durability = "power" if mine.random() < 0.2 else "kill"
        _note(notes, [e.event_id for e in events], log.append(events, durability=durability))
        if mine.random() < 0.1:
            # A retry, as after a crash of somebody else's.
            again = log.append(events)
            _note(notes, [e.event_id for e in events], again)
        if mine.random() < 0.2:
            _count_up(log, notes)
        if mine.random() < 0.02:
            log.close()


def _event(name: str, count: int) -> SourceHarvested:
    return SourceHarvested(name=name, items=count, quarantined=0, digest="x" * 190)


def _count_up(log: EventLog, notes: int) -> None:
    """Read a kept stream, and append only if nobody else has meanwhile."""
    version = sum(1 for _ in log.read(stream="index:shared"))
    event = IndexBuilt(
        name="shared", digest="d", chunks=version + 1, dimensions=1, embedding_model="m"
    )
    with suppress(VersionConflict):
        _note(notes, [event.event_id], log.append(event, expected={"index:shared": version}))


def _note(descriptor: int, ids: list[str], positions: list[int]) -> None:
    """One write of whole lines: it is in the kernel's hands before the process can die."""
    lines = "".join(f"{i} {p}\n" for i, p in zip(ids, positions, strict=True))
    os.write(descriptor, lines.encode())


def housekeep(folder: Path, number: int, death: Death | None, fork: bool) -> None:
    """Fold, compact, delete, and empty some events, for ever."""
    if death:
        die_at(death)
    log, parent = EventLog(folder, fold_after_events=10**9), os.getppid()
    mine = random.Random(number)
    while os.getppid() == parent:
        log.fold()
        log.compact()
        some = mine.sample(range(1, log.position() + 1), min(9, log.position()))
        log.erase(some, reason="forgotten", figures=mine.random() < 0.5)
        log.gc(grace_s=5)
        time.sleep(0.02)


def read(folder: Path, number: int, death: Death | None, fork: bool) -> None:
    """Ask and read for ever; whatever is wrong goes to a file."""
    log, parent = EventLog(folder, fold_after_events=10**9), os.getppid()
    while os.getppid() == parent:
        watch(log, folder.parent / f"reader-{os.getpid()}")


def watch(log: EventLog, notes: Path) -> int:
    """One round of questions, whose answers must agree; returns the position it saw."""
    try:
        table = log.arrow(
            "SELECT count(*) n, max(position) m, count(DISTINCT event_id) d FROM events"
        )
        n, m, d = (table[c][0].as_py() or 0 for c in "nmd")
        if not n == m == d:
            notes.open("a").write(f"{n} events, last position {m}, {d} ids\n")
        last = max(0, m - 300)
        for record in log.read(last):
            if record.position != last + 1:
                notes.open("a").write(f"position {record.position} after {last}\n")
            last = record.position
        if last < m:
            notes.open("a").write(f"read until {last}, asked until {m}\n")
    except Exception as error:  # noqa: BLE001 (any error at all is a finding)
        notes.open("a").write(f"{type(error).__name__}: {error}\n")
        return 0
    return m


# Over them

Role = Callable[..., None]
ROLES: list[Role] = [*[write] * 4, housekeep, read]


@dataclass
class _Running:
    process: BaseProcess
    role: Role
    death: Death | None


def torment(
    folder: Path,
    kills: int,
    *,
    seed: int = 0,
    tick: Callable[[], object] = lambda: None,
    pause_s: float = 0.15,
) -> Outcome:
    """Keep all roles running on the log in `folder` until `kills` of them have been killed.

    Raises nothing: the outcome says what was found.
    """
    choice, outcome, seen = random.Random(seed), Outcome(), 0
    holder = EventLog(folder, fold_after_events=10**9)
    # This process holds the log open and has read it before the first of the others starts.
    watch(holder, folder.parent / "reader-holder")
    running: list[_Running] = []
    try:
        running += [_start(folder, role, outcome, choice) for role in ROLES]
        while outcome.kills < kills:
            position = watch(holder, folder.parent / "reader-holder")
            outcome.reads += 1
            if position < seen:
                outcome.reader_errors.append(f"the holder saw {seen}, then {position}")
            seen = max(position, seen)
            time.sleep(choice.uniform(0, pause_s))
            _hit(choice.choice(running), choice)
            for dead in [one for one in running if not one.process.is_alive()]:
                _bury(dead, outcome)
                tick()
                running[running.index(dead)] = _start(folder, dead.role, outcome, choice)
    finally:
        for one in running:
            _kill(one.process)
            one.process.join()
    _settle(holder, folder, outcome)
    return outcome


def _hit(one: _Running, choice: random.Random) -> None:
    """Kill from outside; a process that will kill itself is mostly left to do so."""
    if one.process.is_alive() and (one.death is None or choice.random() < 0.1):
        _kill(one.process)
        one.process.join()
        one.death = None


def _bury(dead: _Running, outcome: Outcome) -> None:
    _kill(dead.process)
    dead.process.join()
    outcome.kills += 1
    if dead.process.exitcode != -signal.SIGKILL:
        outcome.errors.append(f"{dead.role.__name__} ended with {dead.process.exitcode}")
    elif dead.death is None:
        outcome.died_at["at random"] += 1
    else:
        outcome.died_at[f"{'after' if dead.death.after else 'before'} {dead.death.mark}"] += 1


def _start(folder: Path, role: Role, outcome: Outcome, choice: random.Random) -> _Running:
    marks = {write: _BY_WRITER, housekeep: _BY_FOLDER}.get(role)
    death = None
    if marks and choice.random() < 0.6:
        most = 40 if role is write else 4
        death = Death(choice.choice(marks), choice.randint(1, most), choice.random() < 0.5)
    fork = role is write and choice.random() < 0.3
    method = "spawn" if choice.random() < 0.2 else "fork"
    outcome.spawned += method == "spawn"
    context: Any = multiprocessing.get_context(method)
    arguments = (role, folder, choice.randrange(10**6), death, fork)
    process: BaseProcess = context.Process(target=_alone, args=arguments)
    process.start()
    return _Running(process, role, death)


def _alone(role: Role, *arguments: Any) -> None:
    # A group of its own, so that forked children die with it.
    os.setpgid(0, 0)
    role(*arguments)


def _kill(process: BaseProcess) -> None:
    """Kill a process and its children, also before it has made a group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.kill()


def _settle(log: EventLog, folder: Path, outcome: Outcome) -> None:
    """Compare what was promised with what is there."""
    promised = _promised(folder.parent)
    there: dict[str, int] = {}
    streams: dict[str, int] = {}
    for record in log.read():
        outcome.gaps += record.position != outcome.stored + 1
        outcome.doubled += record.event.event_id in there
        outcome.broken_streams += record.version != streams.get(record.stream, 0) + 1
        there[record.event.event_id] = record.position
        streams[record.stream] = record.version
        outcome.stored += 1
    outcome.acknowledged = len(promised)
    outcome.lost = sum(there.get(i) != position for i, position in promised.items())
    outcome.forked = sum(n for name, n in streams.items() if name.startswith("source:forked"))
    outcome.problems = log.verify().problems
    log.fold()
    log.compact()
    log.gc(grace_s=0)
    outcome.problems += log.verify().problems
    for path in folder.parent.glob("reader-*"):
        outcome.reader_errors += path.read_text().splitlines()
    log.close()


def _promised(folder: Path) -> dict[str, int]:
    promised: dict[str, int] = {}
    for path in folder.glob("acknowledged-*"):
        for line in path.read_text().splitlines():
            event_id, position = line.split()
            promised[event_id] = int(position)
    return promised


def main() -> int:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="how many processes to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the choices, not of the scheduling")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Progress(disable=options.json) as progress:
        task = progress.add_task("Killing", total=options.kills)
        outcome = torment(
            Path(folder) / "warehouse" / "log",
            options.kills,
            seed=options.seed,
            tick=lambda: progress.advance(task),
        )
    seconds = time.monotonic() - started
    if options.json:
        print(json.dumps(vars(outcome) | {"seconds": round(seconds, 1)}, default=list))
        return 0 if outcome.ok else 1
    table = Table("What", "Count", title=f"{outcome.kills} kills in {seconds:.0f} s")
    for name in (
        "acknowledged",
        "stored",
        "lost",
        "doubled",
        "gaps",
        "broken_streams",
        "forked",
        "spawned",
        "reads",
    ):
        table.add_row(name.replace("_", " "), f"{getattr(outcome, name):,}")
    for where, count in sorted(outcome.died_at.items()):
        table.add_row(f"died {where}", f"{count:,}")
    for problem in (*outcome.problems, *outcome.reader_errors, *outcome.errors):
        table.add_row("[red]problem", problem)
    Console().print(table)
    return 0 if outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main())
