"""Our appends: single ones from many processes while somebody reads, batches, threads, and a kill.

Events are made beforehand unless it says otherwise; turning them into rows and digests is included.
"""

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from benchmarks.report import Table, microseconds, number, quantile
from benchmarks.workload import Calls
from tracemill.log import EventLog
from tracemill.log.journal import Durability

COST_PER_MODEL = """
    SELECT provider, request_model, count(*) AS calls, sum(cost_usd) AS cost_usd
    FROM events WHERE kind = 'llm.call.finished' GROUP BY ALL
"""
DURABILITIES: tuple[Durability, ...] = ("kill", "power")
_spawn = multiprocessing.get_context("spawn")


class Times(NamedTuple):
    """When a run began and ended, and how long each call took, in seconds."""

    began: float
    ended: float
    took: list[float]

    def cells(self, events: int) -> tuple[str, ...]:
        """Rate, p50, p99, longest."""
        took = sorted(self.took)
        rate = number(events / (self.ended - self.began))
        return rate, *(
            microseconds(t) for t in (quantile(took, 0.5), quantile(took, 0.99), took[-1])
        )


def timed(log: EventLog, groups: Sequence[Any], durability: Durability) -> Times:
    """Append each group (an event, or a list of them) and time every call."""
    return each(groups, lambda group: log.append(group, durability=durability))


def each(items: Sequence[Any], append: Callable[[Any], object]) -> Times:
    """Time one call after the other."""
    took: list[float] = []
    gc.freeze()  # what was prepared for the measurement must not be looked through during it
    began = time.monotonic()
    for item in items:
        before = time.perf_counter()
        append(item)
        took.append(time.perf_counter() - before)
    ended = time.monotonic()
    gc.unfreeze()
    return Times(began, ended, took)


def together(runs: Sequence[Times]) -> Times:
    """Several runs at the same time, as one."""
    return Times(
        min(r.began for r in runs), max(r.ended for r in runs), [t for r in runs for t in r.took]
    )


# Processes


def _append_single(
    folder: Path, text: Path, seed: int, events: int, durability: Durability, start: Barrier
) -> Times:
    made = Calls(text, seed).events(events)
    with EventLog(folder) as log:
        log.position()
        start.wait()
        return timed(log, made, durability)


def _worker(results: Any, function: Any, arguments: tuple[Any, ...]) -> None:
    results.put(function(*arguments))


def _read_every_second(folder: Path, stop: Event, start: Barrier) -> list[float]:
    took: list[float] = []
    with EventLog(folder) as log:
        log.sql(COST_PER_MODEL)
        start.wait()
        while not stop.wait(1):
            before = time.perf_counter()
            log.sql(COST_PER_MODEL)
            took.append(time.perf_counter() - before)
    return took


def processes(
    folder: Path, text: Path, writers: int, events: int, durability: Durability
) -> tuple[Times, list[float]]:
    """`writers` processes append `events` in all, one by one, while one more asks every second."""
    start, stop = _spawn.Barrier(writers + 1), _spawn.Event()
    results, answers = _spawn.SimpleQueue(), _spawn.SimpleQueue()
    arguments = [(folder, text, w, events // writers, durability, start) for w in range(writers)]
    started = [_spawn.Process(target=_worker, args=(results, _append_single, a)) for a in arguments]
    reader = _spawn.Process(
        target=_worker, args=(answers, _read_every_second, (folder, stop, start))
    )
    for process in (*started, reader):
        process.start()
    runs = [results.get() for _ in started]
    stop.set()
    took = answers.get()
    for process in (*started, reader):
        process.join()
    return together(runs), took


def single_appends(scratch: Path, text: Path, events: int) -> Table:
    """One event per append, from 1, 4 and 16 processes."""
    rows: list[tuple[str, ...]] = []
    for durability in DURABILITIES:
        wanted = events if durability == "kill" else events // 3
        for writers in (1, 4, 16):
            with folder_for(scratch) as folder:
                run, answers = processes(folder, text, writers, wanted, durability)
            took = sorted(answers) or [float("nan")]
            reader = f"{microseconds(quantile(took, 0.5))} / {microseconds(took[-1])}"
            rows.append(
                (
                    f"{durability}-safe, {writers} {'process' if writers == 1 else 'processes'}",
                    *run.cells(len(run.took)),
                    reader,
                )
            )
    with folder_for(scratch) as folder:
        rows.append(
            (
                "kill-safe, 1 process, making the events included",
                *_making(folder, text, events // 3),
                "",
            )
        )
    return Table(
        "Single appends while another process asks for the cost per model every second",
        ("", "events/s", "p50", "p99", "longest", "the question, p50 / longest"),
        rows,
        "Folds run meanwhile, in processes that the appends start. Events are made beforehand, "
        "except in the last row; validation is part of making, rows and digests are part of appending.",
    )


def _making(folder: Path, text: Path, events: int) -> tuple[str, ...]:
    calls, took = Calls(text), list[float]()
    with EventLog(folder) as log:
        began = time.monotonic()
        for _ in range(events // 2):
            before = time.perf_counter()
            started, finished = calls.events(2)
            log.append(started)
            log.append(finished)
            took.append((time.perf_counter() - before) / 2)
        return Times(began, time.monotonic(), took).cells(events)


# One process


def batched_appends(scratch: Path, text: Path, events: int) -> Table:
    """Several events per append, from one process."""
    rows: list[tuple[str, ...]] = []
    for durability in DURABILITIES:
        for size in (10, 100, 1_000):
            batches = list(Calls(text).batches(events, size))
            with folder_for(scratch) as folder, EventLog(folder) as log:
                run = timed(log, batches, durability)
            rows.append((f"{durability}-safe, {size} at a time", *run.cells(events)[:3]))
    return Table("Batches, one process", ("", "events/s", "p50 of a batch", "p99"), rows)


def threaded_appends(scratch: Path, text: Path, events: int) -> Table:
    """One power-safe event per append, from threads that share one commit."""
    rows: list[tuple[str, ...]] = []
    for threads in (8, 64):
        made = Calls(text).events(events)
        with folder_for(scratch) as folder, EventLog(folder) as log:
            log.position()
            run = _threads(log, [made[i::threads] for i in range(threads)])
        rows.append((f"power-safe, {threads} threads", *run.cells(len(run.took))))
    return Table(
        "Threads of one process, whose appends share commits",
        ("", "events/s", "p50", "p99", "longest"),
        rows,
    )


def _threads(log: EventLog, shares: Sequence[Sequence[Any]]) -> Times:
    results: SimpleQueue[Times] = SimpleQueue()

    def work(share: Sequence[Any]) -> None:
        results.put(timed(log, share, "power"))

    threads = [threading.Thread(target=work, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return together([results.get() for _ in threads])


# Killed


def _append_and_die(folder: Path, text: Path, events: int) -> None:
    made = Calls(text).events(events)
    log = EventLog(folder)
    for event in made:
        log.append(event)
    os.kill(os.getpid(), signal.SIGKILL)


def killed(scratch: Path, text: Path, events: int) -> int:
    """How many of `events` are there after their writer was killed when the last append returned."""
    with folder_for(scratch) as folder:
        die(_append_and_die, folder, text, events)
        with EventLog(folder) as log:
            return sum(1 for _ in log.read())


def die(function: Any, *arguments: Any) -> None:
    """Run in a process of its own, which must end by SIGKILL."""
    process = _spawn.Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        raise RuntimeError(f"{function.__name__} ended with {process.exitcode}, not by SIGKILL")


@contextmanager
def folder_for(scratch: Path) -> Iterator[Path]:
    """A folder for one run, deleted afterwards: what one run left to write must not slow the next."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(dir=scratch))
    try:
        yield folder / "log"
    finally:
        _wait_for_folds(folder)
        shutil.rmtree(folder)
        os.sync()


def _wait_for_folds(folder: Path) -> None:
    """Appends start folds in processes of their own; those must not run into the next measurement."""
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        if str(folder / "log") in (process.info["cmdline"] or ()):
            process.wait()
