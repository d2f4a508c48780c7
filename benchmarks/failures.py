"""Measure the search for similar failures: `python -m benchmarks.failures [--quick]`.

A log of half a million calls, a fifth of them failed, is asked for the failures nearest to some of
them, and every answer is compared with the one that looks at each failure in turn. Then failures with
known causes are clustered.
"""

import argparse
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import planted, report
from benchmarks.report import Table, console, number, quantile
from benchmarks.workload import write_text
from tracemill.analysis import failures as analysis
from tracemill.analysis.period import Period
from tracemill.events import Happened, LlmCallFailed, LlmCallFinished, LlmCallStarted, new_id
from tracemill.log import EventLog, similar
from tracemill.messages import Message, Usage

if TYPE_CHECKING:
    from tracemill.analysis.clusters import Clusters

TEMPLATES = 30
"""Instructions that many prompts begin with; every second prompt has none."""
FAMILY = 5
"""Prompts that differ in a few words."""
ERRORS = (
    ("rate_limited", "Rate limit reached for {model}: limit {n}, used {n}. Try again in {n}.{n}s."),
    ("overloaded", "Overloaded (request req_{id})"),
    ("timeout", "no answer within {n} s"),
    ("context_length_exceeded", "prompt is too long: {n} tokens > {n} maximum"),
    ("invalid_request", "messages.{n}.content.{n}: text content blocks must be non-empty"),
    ("server_error", "The server had an error processing your request (request id {id})"),
    ("malformed_response", "the answer is not JSON: Expecting value: line {n} column {n}"),
)
_BATCH = 2_000


class Failures:
    """Calls of which every fifth fails, with prompts in families and templates; the same each time."""

    def __init__(self, text: Path, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._words = text.read_text(encoding="ascii")[:4_000_000].split(" ")
        self._templates = [self._cut(60) for _ in range(TEMPLATES)]
        self._family: list[str] = []
        self._left = 0

    def batches(self, calls: int) -> Iterator[list[Happened]]:
        """The events of so many calls, in batches."""
        batch: list[Happened] = []
        for i in range(calls):
            batch += self.call(fails=i % 5 == 0)
            if len(batch) >= _BATCH or i == calls - 1:
                yield batch
                batch = []

    def call(self, *, fails: bool) -> list[Happened]:
        """A call: its start and its end."""
        draw = self._random
        same: dict[str, Any] = {
            "call_id": new_id(),
            "provider": draw.choice(("openai", "anthropic")),
            "request_model": draw.choice(("large", "small", "tiny")),
            "conversation_id": f"c{draw.randrange(100_000)}",
        }
        prompt = " ".join(self._prompt() if fails else self._cut(80))
        started = LlmCallStarted(messages=(Message(role="user", content=prompt),), **same)
        if not fails:
            usage = Usage(input_tokens=len(prompt) // 4, output_tokens=20)
            answer = " ".join(self._cut(20))
            return [
                started,
                LlmCallFinished(
                    response_model=same["request_model"],
                    content=answer,
                    finish_reasons=("stop",),
                    usage=usage,
                    latency_ms=900,
                    **same,
                ),
            ]
        error_type, message = draw.choice(ERRORS)
        message = re.sub(r"\{n\}", lambda _: str(draw.randrange(1, 90_000)), message)
        message = message.replace("{id}", new_id()).replace("{model}", same["request_model"])
        return [
            started,
            LlmCallFailed(error_type=error_type, error_message=message, latency_ms=90, **same),
        ]

    def _prompt(self) -> list[str]:
        """A member of a family: some of its words are others."""
        draw = self._random
        if not self._left:
            template = draw.choice(self._templates) if draw.random() < 0.5 else []
            self._family, self._left = [*template, *self._cut(draw.randrange(20, 200))], FAMILY
        self._left -= 1
        rate = draw.random() * 0.2
        return [draw.choice(self._words) if draw.random() < rate else w for w in self._family]

    def _cut(self, words: int) -> list[str]:
        start = self._random.randrange(len(self._words) - words)
        return self._words[start : start + words]


def fill(log: EventLog, text: Path, calls: int) -> None:
    """Append them and seal them."""
    for batch in Failures(text).batches(calls):
        log.append(batch)
    log.fold()
    log.compact()


def main() -> None:
    """Fill a log, ask it, compare, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failures", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the log")
    calls = 25_000 if parser.parse_args().quick else 500_000
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix=".benchmark-", dir=report.ROOT / "warehouse"))
    try:
        with EventLog(scratch / "log", fold_after_events=100_000) as log:
            text = write_text(scratch / "text.txt")
            fill(log, text, calls)
            table = measured(log, text, calls)
        clusters = clustered(scratch, 1_000 if calls < 500_000 else 10_000)
    finally:
        shutil.rmtree(scratch)
    flags = "".join(f" {argument}" for argument in sys.argv[1:])
    heading = f"`python -m benchmarks.failures{flags}` on {report.machine()}; {time.monotonic() - began:,.0f} s."
    console.print(heading)
    for each in (table, clusters):
        each.show()
    report.write("failures", heading, [table, clusters])


def measured(log: EventLog, text: Path, calls: int) -> Table:
    """The first question, later ones, and whether the answers are right."""
    before = _memory()
    first, _ = _timed(log, "no answer within 30 s")
    memory = _memory() - before
    failed = log.sql("SELECT call_id, prompt FROM failures USING SAMPLE 300 (reservoir, 1)")
    ids: list[str] = failed["call_id"].to_list()
    rows = [
        ("first question, which reads the log", f"{first:,.1f} s", "", "", ""),
        _row("a call that failed", log, ids),
        _row("a prompt", log, [" ".join(p.split()[5:]) for p in failed["prompt"].to_list()]),
        _row("an error message", log, [f"no answer within {i} s" for i in range(300)]),
        _row("a text like nothing there", log, [f"zyx{i} wvu{i} tsr{i}" for i in range(300)]),
        _row(
            "a call that failed, another call before each", log, ids[:100], Failures(text, seed=1)
        ),
    ]
    rows.append(("recall@10 against brute force, 40 questions", _recall(log, ids[:40]), "", "", ""))
    return Table(
        f"Failures like this one: the ten nearest of {calls // 5:,}, in a log of {calls * 2:,} events",
        ("", "median", "p95", "p99", "p95, CPU"),
        rows,
        f"The index took {memory:,.0f} MB more than the process had at its greatest before. Brute force "
        "compares the asked call with every failure as the definition says, in plain Python sets. CPU is "
        "that of all threads: what is waited for beyond it is other work on the machine.",
    )


def clustered(scratch: Path, count: int) -> Table:
    """Failures with planted causes: how long it takes, what is found, and by what else."""
    with EventLog(scratch / "planted") as log:
        events = list(planted.failures(count))
        truth = [name for name, _ in events]
        for start in range(0, count, _BATCH):
            log.append([event for _, pair in events[start : start + _BATCH] for event in pair])
        log.fold()
        asked = analysis.Failures(log)
        took, found = zip(*(_clustered(asked) for _ in range(3)), strict=True)
        same = all(each.frame.equals(found[0].frame) for each in found)
        frame = asked.frame(Period(None, None))
    ours = [str(number) for number in found[0].calls["cluster"]]
    peers = [
        ("`Failures.cluster`", ours),
        ("the class of error alone", frame["error_type"].to_list()),
        ("the signature, as `tracemill failures`", frame["signature"].to_list()),
    ]
    rows = [
        (name, f"{len(set(labels)):,}", f"{planted.adjusted_rand(truth, labels):.3f}")
        for name, labels in peers
    ]
    return Table(
        f"Clusters of {count:,} failures with {len(planted.CAUSES)} planted causes, a twentieth noise",
        ("", "clusters", "adjusted Rand index"),
        rows,
        f"`Failures.cluster` took {', '.join(f'{s:.1f}' for s in took)} s, the log read and all, and gave "
        f"{'the same' if same else 'DIFFERENT'} answers. Noise is one cluster of the truth.",
    )


def _clustered(asked: analysis.Failures) -> "tuple[float, Clusters]":
    began = time.perf_counter()
    found = asked.cluster()
    return time.perf_counter() - began, found


def _row(
    name: str, log: EventLog, questions: list[str], more: Failures | None = None
) -> tuple[str, ...]:
    took: list[float] = []
    cpu: list[float] = []
    for place, question in enumerate(questions):
        if more:
            log.append(more.call(fails=place % 5 == 0))
        busy = time.process_time()
        took.append(_timed(log, question)[0])
        cpu.append(time.process_time() - busy)
    waited = [quantile(sorted(took), q) for q in (0.5, 0.95, 0.99)]
    return name, *(f"{number(1000 * t)} ms" for t in (*waited, quantile(sorted(cpu), 0.95)))


def _timed(log: EventLog, question: str) -> tuple[float, list[str]]:
    began = time.perf_counter()
    found = log.find_similar_failures(question)
    return time.perf_counter() - began, found["call_id"].to_list()


def _recall(log: EventLog, ids: list[str]) -> str:
    """Share of the true ten that are found; among equals the latest are the true ones."""
    half = similar.MOST_CHARACTERS // 2
    failures = log.sql(
        "SELECT call_id, signature, error_type, words_of(CASE WHEN length(prompt) > ? "
        "THEN left(prompt, ?) || ' ' || right(prompt, ?) ELSE prompt END) AS words "
        "FROM failures ORDER BY position",
        [2 * half, half, half],
    ).rows()
    pairs = {row[0]: set(pairwise(["", *row[3].split(" ")])) for row in failures}
    about = {row[0]: row[1:3] for row in failures}
    found = 0
    for asked in ids:
        mine, (signature, error_type) = pairs[asked], about[asked]
        ranked = sorted(
            (
                signature != row[1],
                error_type != row[2],
                -len(mine & pairs[row[0]]) / max(1, len(mine | pairs[row[0]])),
                -place,
            )
            for place, row in enumerate(failures)
            if row[0] != asked
        )
        true = {failures[-each[-1]][0] for each in ranked[:10]}
        found += len(true & set(_timed(log, asked)[1]))
    return f"{found / (10 * len(ids)):.3f}"


def _memory() -> float:
    """The most that this process has taken, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
