"""A marked test: run it so many times, and let the interval of its accuracy decide."""

import hashlib
import inspect
import json
import statistics
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tracemill.errors import CallFailed, UsageError
from tracemill.events import CasesScored, EvaluationFinished
from tracemill.events.evaluations import Outcome
from tracemill.intervals import Interval, wilson
from tracemill.pytest_plugin import desk
from tracemill.pytest_plugin.marks import Sampling, sampling_of
from tracemill.quality.ask import HOPELESS
from tracemill.quality.statistical import Decision, measured, outcome

if TYPE_CHECKING:
    from tracemill.pytest_plugin.asking import Llm

_SHOWN = 5


class Result(NamedTuple):
    """What came of a marked test."""

    test: str
    interval: Interval
    decision: Decision
    calls: int
    failed: int
    """Calls without an answer."""
    cost_usd: float | None
    latency_ms: float | None
    """Of a call, the median."""

    def row(self) -> dict[str, Any]:
        """As it travels on a report: JSON."""
        return {
            "test": self.test,
            "samples": self.interval.n,
            "accuracy": self.interval.value,
            "low": self.interval.low,
            "high": self.interval.high,
            "outcome": self.decision.outcome,
            "more": self.decision.more,
            "calls": self.calls,
            "cost_usd": self.cost_usd,
            "latency_ms": self.latency_ms,
        }


def run(item: pytest.Function) -> None:
    """Run all samples, record what came of them, and fail unless they reach what was asked.

    A sample that raises has failed. What no further sample can mend ends the test at once: a mark, a
    key or a recording that is missing, and skips.
    """
    __tracebackhide__ = True
    llm = item.stash[desk.LLM]
    sampling = sampling_of(item)
    failures = _failures(item, sampling.samples)
    passed = sampling.samples - len(failures)
    interval = wilson(passed / sampling.samples, sampling.samples)
    decision = _decision(interval, passed, sampling)
    result = _result(item, llm, interval, decision)
    item.stash[desk.RESULT] = result
    item.user_properties.append(("llm", json.dumps(result.row())))
    if not llm.replays:
        _record(item, llm, sampling, result)
    _end(item, sampling, decision, failures)


def _failures(item: pytest.Function, samples: int) -> list[BaseException]:
    found: list[BaseException] = []
    for _ in range(samples):
        if kept := item.stash.get(desk.SNAPSHOT, None):
            kept.begin_again()
        try:
            item.ihook.pytest_pyfunc_call(pyfuncitem=item)
        except UsageError:
            raise
        except (Exception, pytest.fail.Exception) as error:
            if isinstance(error, CallFailed) and error.error_type in HOPELESS:
                raise
            found.append(error)
    return found


def _decision(interval: Interval, passed: int, sampling: Sampling) -> Decision:
    if sampling.min_accuracy is not None:
        return outcome(interval, sampling.min_accuracy)
    state: Outcome = "pass" if passed == sampling.samples else "fail"
    return Decision(state, f"{passed} of {sampling.samples} samples passed, and all have to", 0)


def _result(item: pytest.Item, llm: "Llm", interval: Interval, decision: Decision) -> Result:
    latencies = [made.latency_ms for made in llm.calls if not made.failed]
    return Result(
        item.nodeid,
        interval,
        decision,
        len(llm.calls),
        sum(made.failed for made in llm.calls),
        llm.cost_usd,
        statistics.median(latencies) if latencies else None,
    )


def _end(
    item: pytest.Item, sampling: Sampling, decision: Decision, failures: Sequence[BaseException]
) -> None:
    __tracebackhide__ = True
    if decision.outcome == "pass":
        return
    if sampling.samples == 1 and sampling.min_accuracy is None:
        raise failures[0]
    told = "\n".join([decision.reason, *_told(item, failures)])
    if decision.outcome == "not_enough_data" and item.config.getoption("--llm-undecided") == "skip":
        pytest.skip(decision.reason)
    pytest.fail(told, pytrace=False)


def _told(item: pytest.Item, failures: Sequence[BaseException]) -> list[str]:
    """Why samples failed, the commonest reason first."""
    counts = Counter(_where(item, error) for error in failures)
    lines = [f"{count:>5} x {reason}" for reason, count in counts.most_common(_SHOWN)]
    more = len(counts) - _SHOWN
    return lines + ([f"... and {more} other reasons"] if more > 0 else [])


def _where(item: pytest.Item, error: BaseException) -> str:
    trace, line = error.__traceback__, None
    while trace:
        if Path(trace.tb_frame.f_code.co_filename) == item.path:
            line = trace.tb_lineno
        trace = trace.tb_next
    said = f"{type(error).__name__}: {error}".strip().replace("\n", "\n          ")
    return f"{item.path.name}:{line}: {said[:1000]}" if line else said[:1000]


def _record(item: pytest.Function, llm: "Llm", sampling: Sampling, result: Result) -> None:
    """The evaluation in the log: its one case is the test."""
    interval = measured(result.interval)
    least = sampling.min_accuracy
    case = item.nodeid
    about: dict[str, Any] = {"evaluation_id": llm.evaluation_id, "actor": "pytest"}
    first = next((made.call_id for made in llm.calls if made.call_id), None)
    shares: dict[str, tuple[float | None, ...]] = {"accuracy": (result.interval.value,)}
    models = sorted({made.model for made in llm.calls}) or [llm.model]
    llm.client.log.append(
        [
            CasesScored(case_ids=(case,), scores=shares, call_ids=(first,), **about),
            EvaluationFinished(
                name=_label(case),
                model=_label(", ".join(models)),
                prompt_name=llm.prompt.name if llm.prompt else None,
                prompt_version=llm.prompt.version if llm.prompt else None,
                dataset="pytest",
                dataset_digest=_digest(item),
                cases=1,
                samples=sampling.samples,
                failed=result.failed,
                metrics={"accuracy": interval} if interval else {},
                thresholds={} if least is None else {"accuracy": least},
                outcome=result.decision.outcome,
                reason=result.decision.reason,
                cost_usd=None if result.cost_usd is None else Decimal(str(result.cost_usd)),
                latency_ms=result.latency_ms,
                **about,
            ),
        ]
    )


def _label(text: str) -> str:
    """The end of a long name says which test it is."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown[-200:]


def _digest(item: pytest.Function) -> str:
    """Of the test's own text: where that changes, it asks something else."""
    try:
        source = inspect.getsource(item.obj)
    except (OSError, TypeError):
        source = ""
    return hashlib.sha256(f"{item.nodeid}\0{source}".encode(errors="replace")).hexdigest()
