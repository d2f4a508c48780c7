"""Ask every view of a log of a million and of ten million calls, while another process appends.

    python -m benchmarks.views [--quick]

Times and tokens are those of 28,185 real requests (`views_log.py`). Prints tables and writes
`results/views.md`. Nothing here passes or fails.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import report, views_log
from benchmarks.report import Table, console
from tracemill.events import LlmCallFinished, LlmCallStarted, new_id
from tracemill.log import EventLog
from tracemill.messages import Message, Usage

DAY = "ended_at >= '2026-10-12' AND ended_at < '2026-10-13'"
WHOLE = [
    "costs_by_day",
    "costs_by_key",
    "costs_by_user",
    "costs_by_tag",
    "costs_by_prompt",
    "costs_by_provider",
    "cache_savings",
    "latency",
    "error_rates",
    "token_mix",
    "completeness",
    "prompts",
    "prompt_scoreboard",
    "retries",
    "failure_clusters",
    "feedback",
    "jobs",
    "dataset_lineage",
    "alerts",
    "finetunes",
    "evaluations",
]
QUESTIONS = {
    **{name: f"FROM {name}" for name in WHOLE},
    "calls, one by its id": "FROM calls WHERE call_id = '{call}'",
    "calls, the newest 100 of a day": f"FROM calls WHERE {DAY} ORDER BY ended_at DESC LIMIT 100",
    "calls, one user's of a day": f"FROM calls WHERE {DAY} AND user_id = 'u7'",
    "calls, the newest 100, figures alone": (
        "SELECT call_id, ended_at, status, provider, request_model, cost_usd, latency_ms, user_id, "
        "error_type FROM calls ORDER BY ended_at DESC LIMIT 100"
    ),
    "call_costs, of a day": f"FROM call_costs WHERE {DAY}",
    "failures, of a day": f"FROM failures WHERE {DAY}",
    "conversations, the newest 100 of a day": (
        "SELECT conversation_id, sum(cost_usd), max(ended_at) AS last FROM calls "  # noqa: S608
        f"WHERE {DAY} GROUP BY ALL ORDER BY last DESC LIMIT 100"
    ),
    "conversations, all": "SELECT count(*), avg(calls), max(calls) FROM conversations",
    "reprice (another model, in a batch, half cached)": (
        "FROM reprice(model => 'openai/gpt-6-sol', batch => true, caching => 0.5)"
    ),
    "by day and model, from JSON (plain DuckDB) *": (
        "SELECT CAST(occurred_at AS DATE) AS day, payload ->> '$.request_model' AS model, "
        "sum(CAST(payload ->> '$.cost_usd' AS DECIMAL(18, 9))), "
        "sum(CAST(payload ->> '$.usage.input_tokens' AS BIGINT)) "
        "FROM events WHERE kind = 'llm.call.finished' GROUP BY ALL"
    ),
}


class Measured(NamedTuple):
    """One question at one size."""

    best_s: float
    cpu_s: float
    """Of all threads, the least."""
    rows: int
    peak_mb: int


def main() -> None:
    """Fill, ask, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.views", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 calls alone")
    options = parser.parse_args()
    if not views_log.TRACES.is_dir():
        sys.exit(f"{views_log.TRACES} is not there: the trace of real requests is read from it")
    began = time.monotonic()
    sizes = (100_000,) if options.quick else (1_000_000, 10_000_000)
    scratch = Path(tempfile.mkdtemp(prefix="tracemill-views-"))
    try:
        found = {calls: _asked(scratch / str(calls) / "log", calls) for calls in sizes}
    finally:
        shutil.rmtree(scratch)
    table = _table(found)
    table.show()
    flags = "".join(f" {argument}" for argument in sys.argv[1:])
    heading = (
        f"`python -m benchmarks.views{flags}` on {report.machine()}; "
        f"{time.monotonic() - began:,.0f} s; load {os.getloadavg()[1]:.1f} on average."
    )
    if not options.quick:
        report.write("views", heading, [table])
    console.print(heading)


def _asked(folder: Path, calls: int) -> dict[str, Measured]:
    folder.parent.mkdir(parents=True)
    with console.status(f"filling {calls:,} calls"):
        views_log.write(folder, calls).close()
    try:
        return ask(folder)
    finally:
        shutil.rmtree(folder.parent)


def ask(folder: Path) -> dict[str, Measured]:
    """Every question, each in a process of its own, while another one appends."""
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    writer = spawn.Process(target=_append, args=(folder, stop))
    writer.start()
    try:
        with spawn.Pool(1, maxtasksperchild=1) as pool:
            found: dict[str, Measured] = {}
            for name, query in QUESTIONS.items():
                found[name] = pool.apply(_measure, (folder, query))
                console.print(name, found[name])
            return found
    finally:
        stop.set()
        writer.join()


def _measure(folder: Path, query: str) -> Measured:
    took, worked = list[float](), list[float]()
    with EventLog(folder, fold_after_events=10**9) as log:
        middle = log.position() // 2
        stream = log.arrow(
            "SELECT stream FROM events WHERE kind = 'llm.call.finished' AND position > ? LIMIT 1",
            [middle],
        )["stream"][0]
        query = query.replace("{call}", str(stream)[5:])
        rows = 0
        while len(took) < 2 or (len(took) < 7 and sum(took) < 3):
            began, cpu = time.perf_counter(), time.process_time()
            rows = len(log.arrow(query))
            took.append(time.perf_counter() - began)
            worked.append(time.process_time() - cpu)
    # Not getrusage: its peak is that of the parent where the parent was larger.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
    return Measured(min(took), min(worked), rows, peak)


def _append(folder: Path, stop: Any) -> None:
    """A hundred events a second, as a service does."""
    same: dict[str, Any] = {"provider": "openai", "request_model": "gpt-5.4", "user_id": "u1"}
    with EventLog(folder, fold_after_events=10**9) as log:
        while not stop.wait(0.02):
            ids = {"call_id": new_id(), **same}
            usage = Usage(input_tokens=900, output_tokens=80)
            log.append(
                [
                    LlmCallStarted(messages=(Message(role="user", content="Where is it?"),), **ids),
                    LlmCallFinished(
                        response_model="gpt-5.4",
                        content="On its way.",
                        finish_reasons=("stop",),
                        usage=usage,
                        latency_ms=900,
                        **ids,
                    ),
                ]
            )


def _table(found: dict[int, dict[str, Measured]]) -> Table:
    goals_s = {100_000: 0.3, 1_000_000: 0.3, 10_000_000: 2.0}
    rows: list[tuple[str, ...]] = []
    for name in QUESTIONS:
        cells = [name]
        for calls, asked in found.items():
            one = asked[name]
            missed = " (!)" if one.best_s > goals_s[calls] else ""
            cells += [
                f"{one.best_s * 1e3:,.0f} ms{missed}",
                f"{one.cpu_s * 1e3:,.0f} ms",
                f"{one.peak_mb:,} MB",
            ]
        rows.append(tuple(cells))
    heads = [f"{calls:,} calls" for calls in found]
    columns = ("", *(cell for head in heads for cell in (head, "CPU", "peak")))
    return Table(
        f"Each view, while another process appends ({', '.join(heads)})",
        columns,
        rows,
        note=(
            "The fastest of 2 to 7 askings in a process of its own; CPU: what all its threads worked "
            "for it, so on two idle cores an asking takes about half of that; peak: of that process. "
            "Goals: "
            "300 ms at 1,000,000 calls and 2 s at 10,000,000; (!) marks what misses it. Views "
            "without a question beside them are asked as FROM VIEW, every row and column. "
            "* The same sums read from the JSON payloads, in the same files."
        ),
    )


if __name__ == "__main__":
    main()
