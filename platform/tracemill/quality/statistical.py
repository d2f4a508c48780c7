"""What figures prove: a threshold is reached, is missed, or there are too few cases to tell.

The ends of the interval decide, never the figure alone, so that luck passes no test and fails none.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from tracemill.errors import UsageError
from tracemill.events.evaluations import Measured, Outcome
from tracemill.intervals import FEW, Interval, cases_needed, cases_until, mean, wilson

Direction = Literal["higher", "lower"]


class Decision(NamedTuple):
    """Whether a threshold is reached."""

    outcome: Outcome
    reason: str
    """The same in a sentence, with the interval."""
    more: int | None = None
    """How many more cases it takes to tell, if the figure stays; None where no number is enough."""


class Majority(NamedTuple):
    """What it is worth to give always the same answer: a model has to be better than that."""

    label: str
    """The answer that is right most often; of several the first by name."""
    share: Interval
    """Of the cases, how many it is right for."""
    right: list[float]
    """1 for each case that it is right for, else 0: for `intervals.paired` with a model's."""


def outcome(
    interval: Interval,
    threshold: float,
    *,
    name: str = "accuracy",
    direction: Direction = "higher",
) -> Decision:
    """Whether the true figure reaches a threshold, by the end of its interval.

    `pass` where the whole interval is on the good side or touches the threshold, `fail` where it is
    on the other, else `not_enough_data` with the number of cases that are lacking. A perfect run
    needs 73 cases to pass 0.95 and 381 to pass 0.99. As the interval has two ends, a model that is
    exactly at the threshold passes in 2.5 of 100 evaluations, and fails in as many.

    Args:
        interval: of `intervals.wilson` or `intervals.mean`.
        threshold: in the unit of the figure.
        name: of the figure, for the sentence.
        direction: which way is better.

    Raises `UsageError` where the threshold is no finite number.
    """
    if not math.isfinite(threshold):
        raise UsageError(f"the threshold of {name} is {threshold}: give a number")
    if not interval.n:
        return Decision("not_enough_data", *_nothing(name, threshold))
    lower = direction == "lower"
    side, other = ("at most", "above") if lower else ("at least", "below")
    if interval.high <= threshold if lower else interval.low >= threshold:
        return Decision("pass", f"{told(name, interval)} is {side} {threshold:g}", 0)
    if interval.low > threshold if lower else interval.high < threshold:
        return Decision("fail", f"{told(name, interval)} is {other} {threshold:g}", 0)
    more = _more(interval, threshold)
    lack = _lack(interval, threshold, more, good=(interval.value < threshold) == lower)
    text = f"{told(name, interval)} does not tell whether it is {side} {threshold:g}: {lack}"
    return Decision("not_enough_data", text, more)


def decide(
    figures: Mapping[str, Interval],
    thresholds: Mapping[str, float],
    directions: Mapping[str, Direction] | None = None,
) -> Decision:
    """Whether all thresholds are reached: `fail` where one is missed, `pass` where all are reached.

    Passing needs every one, which no luck with one of them can bring about, so that the intervals
    need no correction for their number. `directions` names the figures of which less is better.
    """
    found = [
        outcome(
            figures.get(name, Interval(math.nan, -math.inf, math.inf, 0)),
            threshold,
            name=name,
            direction=(directions or {}).get(name, "higher"),
        )
        for name, threshold in thresholds.items()
    ]
    if not found:
        return Decision("pass", "nothing was asked of it: no figure has a threshold", 0)
    for worst in ("fail", "not_enough_data"):
        if decided := [each for each in found if each.outcome == worst]:
            mores = [each.more for each in decided]
            more = None if None in mores else max(each for each in mores if each is not None)
            return Decision(worst, "; ".join(each.reason for each in decided), more)
    return Decision("pass", "; ".join(each.reason for each in found), 0)


def measured(interval: Interval) -> Measured | None:
    """An interval as events have it; None where it says nothing: of no case, or of one whose figure
    has no bounds."""
    if not all(map(math.isfinite, interval[:3])):
        return None
    return Measured(value=interval.value, low=interval.low, high=interval.high, n=interval.n)


def majority(expected: Sequence[str | Sequence[str]]) -> Majority:
    """The answer that is right most often, and how often.

    Args:
        expected: for each case the label that is right, or several of which any is.

    Raises `UsageError` where no case has a label.
    """
    labels = [{each} if isinstance(each, str) else set(each) for each in expected]
    counts = Counter(label for some in labels for label in some)
    if not counts:
        raise UsageError("there is no label among the cases: a majority takes cases with answers")
    label = min(counts, key=lambda each: (-counts[each], each))
    right = [float(label in some) for some in labels]
    return Majority(label, mean(right, unit=True), right)


def told(name: str, interval: Interval) -> str:
    """A figure in words: `accuracy 0.967 [0.833, 0.994] of 30 cases`."""
    value, low, high, n = interval
    cases = "1 case" if n == 1 else f"{n:,} cases"
    if not math.isfinite(low):
        return f"{name} {number(value)} of {cases}"
    return f"{name} {number(value)} [{number(low)}, {number(high)}] of {cases}"


def number(value: float) -> str:
    """With three decimals, or three digits where they say more."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.01 or not value else f"{value:.3g}"


def _more(interval: Interval, threshold: float) -> int | None:
    value, low, high, n = interval
    # Wilson's interval follows from share and number alone: what equals it is one.
    if interval == wilson(value, n):
        total = cases_needed(threshold, value)
    else:
        total = cases_until(threshold, value, high if value < threshold else low, n)
    return None if total is None else max(1, total - n)


def _lack(interval: Interval, threshold: float, more: int | None, *, good: bool) -> str:
    if more is not None:
        cases = "1 more case" if more == 1 else f"{more:,} more cases"
        return f"{cases} would show that it is{'' if good else ' not'}, if the figure stays"
    if not math.isfinite(interval.low):
        return f"one case does not tell how much others differ; take {FEW} at least"
    if interval == wilson(interval.value, interval.n) and threshold in (0, 1):
        return f"no number of cases can show {threshold:g}, give another threshold"
    return "it is the threshold itself, and no number of cases tells while it stays there"


def _nothing(name: str, threshold: float) -> tuple[str, int | None]:
    more = cases_needed(threshold) if 0 < threshold < 1 else None
    need = f": a perfect run takes {more:,} to show {threshold:g}" if more else ""
    return f"no case has the figure {name}{need}", more
