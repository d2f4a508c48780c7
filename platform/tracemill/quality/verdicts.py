"""What became of each figure between two evaluations: is it worse, and how sure is that.

Each has a direction and a tolerance, and a paired test; Holm's correction keeps many figures from
failing by luck. Nothing here reads or writes.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from tracemill.events import Expected, Tested
from tracemill.events.evaluations import Measured, Outcome
from tracemill.intervals import TWO_SIDED_95, Paired, cases_until, holm, paired
from tracemill.quality import scorers
from tracemill.quality.statistical import Direction, number

if TYPE_CHECKING:
    import polars as pl

TOLERANCE = 0.02
"""How far a figure from 0 to 1 may fall behind where nothing is said."""
RELATIVE_TOLERANCE = 0.05
"""How far any other may, as a share of what it was."""
LEVEL = 0.05
"""A fall beyond the tolerance fails where chance alone makes one as large more seldom than this."""
COSTS = frozenset({"cost_usd", "input_tokens", "latency_ms", "output_tokens", "total_tokens"})
"""Figures that no scorer gives and no share is; less is better."""


class Verdict(NamedTuple):
    """One figure, judged."""

    tested: Tested
    reason: str
    """The verdict in a sentence, with the interval."""


class _Pair(NamedTuple):
    figure: str
    pair: Paired
    tolerance: float
    """In the figure's own unit."""
    lower: bool
    """Whether less is better."""


def judge(
    scores: "pl.DataFrame", expected: Mapping[str, Expected] | None = None, *, proof: bool = False
) -> dict[str, Verdict]:
    """Each figure that both evaluations have, tested on the cases of both.

    It passes where the interval of the difference excludes a fall beyond the tolerance, and fails
    where it fell by more than that with Holm-adjusted p < 0.05: an interval on its own would fail
    one of many figures by luck. Else there is not enough data.

    Args:
        scores: one row for each figure and case: figure, before, after (null where there is none).
        expected: figure -> direction and tolerance; only these are tested. By default all are, with
            a tolerance of 0.02, and of 5 % for what is no share. Its `value` is what a relative
            tolerance is a share of.
        proof: whether cases that are all the same are too little where they are few.
    """
    import polars as pl

    pairs = [
        _pair(figure, scores.filter(pl.col("figure") == figure), (expected or {}).get(figure))
        for figure in scores["figure"].unique(maintain_order=True)
        if expected is None or figure in expected
    ]
    adjusted = holm([each.pair.p for each in pairs])
    return {each.figure: _judged(each, p, proof) for each, p in zip(pairs, adjusted, strict=True)}


def one_sided(figure: str, seen: Measured | None, *, new: bool) -> Verdict:
    """A figure that one evaluation has: `new` the candidate, else the reference."""
    value = seen.value if seen else None
    tested = Tested(
        before=None if new else value,
        after=value if new else None,
        difference=None,
        low=None,
        high=None,
        p=None,
        p_adjusted=None,
        n=0,
        test="none",
        tolerance=0.0,
        verdict="new" if new else "missing",
    )
    only = "the reference has no such figure" if new else "the candidate does not have it"
    return Verdict(tested, f"{figure} is {tested.verdict}: {only}")


def overall(verdicts: Mapping[str, Verdict]) -> tuple[Outcome, str]:
    """`fail` where one figure fails, `pass` where all pass; one that is missing cannot pass."""
    said: dict[str, list[str]] = {}
    for tested, reason in verdicts.values():
        said.setdefault(tested.verdict, []).append(reason)
    lacking = said.get("not_enough_data", []) + said.get("missing", [])
    outcome: Outcome = "fail" if "fail" in said else "not_enough_data" if lacking else "pass"
    decisive = said.get("fail") or lacking or said.get("pass", [])
    return outcome, "; ".join(decisive)


def direction(figure: str) -> Direction:
    """Which way a figure is better: as its scorer says; costs and times are better when less."""
    return "lower" if figure in COSTS else scorers.direction(figure)


def unit(figure: str) -> bool | None:
    """Whether a figure lies between 0 and 1, as its scorer says; None where nobody does."""
    if figure in COSTS:
        return False
    return scorers.scorer(figure).unit if figure in scorers.SCORERS else None


def _pair(figure: str, scores: "pl.DataFrame", asked: Expected | None) -> _Pair:
    import polars as pl

    share = unit(figure)
    if share is None:
        share = bool(
            scores.select(pl.col("before", "after").is_between(0, 1).all()).to_numpy().all()
        )
    lower = (asked.direction if asked else direction(figure)) == "lower"
    pair = paired(scores["before"].to_list(), scores["after"].to_list(), unit=share, lower=lower)
    if asked is None:
        tolerance = TOLERANCE if share else RELATIVE_TOLERANCE * abs(pair.before)
    else:
        tolerance = asked.tolerance * (abs(asked.value) if asked.relative else 1.0)
    return _Pair(figure, pair, tolerance, lower)


def _judged(each: _Pair, p: float, proof: bool) -> Verdict:
    pair, tolerance = each.pair, each.tolerance
    if not pair.n:
        return Verdict(
            _tested(each, None, "not_enough_data"), f"{each.figure} is known for no case of both"
        )
    worst = -pair.high if each.lower else pair.low
    seen = -pair.difference if each.lower else pair.difference
    verdict: Outcome = "not_enough_data"
    if worst >= -tolerance or not (pair.changed or proof):
        verdict = "pass"
    elif seen < -tolerance and p < LEVEL:
        verdict = "fail"
    return Verdict(_tested(each, p, verdict), _sentence(each, p, verdict))


def _tested(each: _Pair, p: float | None, verdict: Outcome) -> Tested:
    pair, known = each.pair, each.pair.n > 0
    return Tested(
        before=pair.before if known else None,
        after=pair.after if known else None,
        difference=pair.difference if known else None,
        low=pair.low if math.isfinite(pair.low) else None,
        high=pair.high if math.isfinite(pair.high) else None,
        p=pair.p if known else None,
        p_adjusted=p,
        n=pair.n,
        test=pair.test,
        tolerance=each.tolerance if math.isfinite(each.tolerance) else 0.0,
        verdict=verdict,
    )


def _sentence(each: _Pair, p: float, verdict: Outcome) -> str:
    pair, allowed = each.pair, f"worse by more than {each.tolerance:.3g}"
    cases = f"{pair.n:,} case{'s' if pair.n > 1 else ''}"
    change = f"{each.figure} {number(pair.before)} -> {number(pair.after)} on {cases}"
    if not math.isfinite(pair.low):
        return f"{change}, which does not tell how much others differ"
    if not pair.changed and verdict == "pass":
        return f"{change}: none changed"
    change += f", {pair.difference:+.3g} [{pair.low:+.3g}, {pair.high:+.3g}]"
    if verdict == "pass":
        return f"{change}: not {allowed}"
    if verdict == "fail":
        return f"{change}: {allowed} (p = {p:.2g})"
    more = _more(each)
    lack = (
        f"; about {more:,} more case{'s' if more > 1 else ''} would, if that stays" if more else ""
    )
    return f"{change}: does not tell whether it is {allowed}{lack}"


def _more(each: _Pair) -> int | None:
    """How many more cases tell whether the fall is beyond the tolerance, if the difference stays."""
    pair, border = each.pair, each.tolerance if each.lower else -each.tolerance
    if not pair.changed and each.tolerance:
        # Tango's ends lie at z^2 / (n + z^2) where nothing changed.
        total = math.ceil(TWO_SIDED_95**2 * (1 - each.tolerance) / each.tolerance)
    else:
        end = pair.low if pair.difference > border else pair.high
        total = cases_until(border, pair.difference, end, pair.n)
    return None if total is None else max(1, total - pair.n)
