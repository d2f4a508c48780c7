"""How often intervals for 95 % hold the truth: `python -m benchmarks.intervals` simulates it.

Shares are summed over all outcomes, exactly; differences and means are drawn from known
distributions. `--repeats` says how many samples of each; the seed is fixed, so that a run repeats.
"""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.report import Table, machine, quote, write
from tracemill.intervals import mean, tango, wilson
from tracemill.quality.statistical import outcome

PAGE = Path(__file__).parents[1] / "docs" / "quality.md"
SEED = 20260501
Array = NDArray[np.float64]


class Drawn(NamedTuple):
    """A distribution of values, one for each case."""

    name: str
    draw: Callable[[np.random.Generator, int], Array]
    mean: float
    unit: bool = False


def _halves(random: np.random.Generator, n: int) -> Array:
    return np.where(random.random(n) < 0.3, 5.0, 1.0) + random.normal(0, 0.2, n)


def _mostly_one(random: np.random.Generator, n: int) -> Array:
    return np.where(random.random(n) < 0.6, 1.0, random.beta(4, 2, n))


MEANS = (
    Drawn("normal", lambda random, n: random.normal(0, 1, n), 0.0),
    Drawn("two humps", _halves, 2.2),
    Drawn("exponential", lambda random, n: random.exponential(1, n), 1.0),
    Drawn("log-normal, 0.5", lambda random, n: random.lognormal(0, 0.5, n), float(np.exp(0.125))),
    Drawn("log-normal, 1", lambda random, n: random.lognormal(0, 1, n), float(np.exp(0.5))),
    Drawn("0 to 1, most of them 1", _mostly_one, 0.6 + 0.4 * 4 / 6, unit=True),
)
SPREADS = {
    "any": (1, 1, 1, 1),
    "alike: 1 in 5 changes": (6, 1, 1, 2),
    "near 1: 1 in 20 changes": (16, 0.5, 0.5, 1),
}
"""Dirichlet weights of a pair of answers: both right, lost, won, both wrong."""


def of_shares() -> Table:
    """Coverage of Wilson's interval, by all outcomes, over true shares."""
    rows: list[list[str]] = []
    for n in (5, 10, 30, 100, 300, 1000):
        ends = [wilson(hits / n, n) for hits in range(n + 1)]
        low, high = np.array([e.low for e in ends]), np.array([e.high for e in ends])
        row = [f"{n:,}"]
        for least, most in ((0.0, 1.0), (0.9, 1.0), (0.99, 1.0)):
            shares = np.linspace(least, most, 2002)[1:-1, None]
            chances = stats.binom.pmf(np.arange(n + 1), n, shares)
            covered = (chances * ((low <= shares) & (shares <= high))).sum(axis=1)
            row += [f"{covered.mean():.3f}"]
        rows.append(row)
    columns = ("cases", "any share", "0.9 to 1", "0.99 to 1")
    return Table("A share (Wilson): how often the interval holds it", columns, rows)


def of_differences(repeats: int) -> Table:
    """Coverage of Tango's interval, and how often McNemar's exact test errs where nothing differs."""
    random = np.random.default_rng(SEED)
    rows: list[list[str]] = []
    for n in (10, 30, 100, 300, 1000):
        row = [f"{n:,}"]
        for weights in SPREADS.values():
            row.append(f"{_of_tables(random, n, weights, repeats * 10):.3f}")
        rows.append([*row, f"{_false_alarms(random, n, repeats):.3f}"])
    columns = ("cases", *SPREADS, "p < 0.05 where nothing differs")
    note = "Where few cases change, counts are whole numbers, and the interval holds it more often."
    return Table("A difference of paired shares (Tango; McNemar)", columns, rows, note)


def _of_tables(
    random: np.random.Generator, n: int, weights: tuple[float, ...], repeats: int
) -> float:
    known: dict[tuple[int, int], tuple[float, float]] = {}
    held = 0
    for chances in random.dirichlet(weights, repeats):
        _, fell, rose, _ = (int(each) for each in random.multinomial(n, chances))
        if (fell, rose) not in known:
            known[fell, rose] = tango(fell, rose, n)
        low, high = known[fell, rose]
        held += low <= chances[2] - chances[1] <= high
    return held / repeats


def _false_alarms(random: np.random.Generator, n: int, repeats: int) -> float:
    before = (random.random((repeats, n)) < 0.8).astype(float)
    after = np.where(
        random.random((repeats, n)) < 0.8, before, 1.0 * (random.random((repeats, n)) < 0.8)
    )
    # McNemar's p needs the counts alone.
    rose, fell = (after > before).sum(axis=1), (after < before).sum(axis=1)
    return float((stats.binom.cdf(rose, rose + fell, 0.5) < 0.05).mean())


def of_means(repeats: int) -> Table:
    """Coverage of our interval of a mean, beside scipy's percentiles and BCa and Student's."""
    rows: list[list[str]] = []
    for drawn in MEANS:
        for n in (5, 10, 30, 100):
            random = np.random.default_rng([SEED, n])
            held: dict[str, int] = dict.fromkeys(("ours", "percentile", "BCa", "Student"), 0)
            for _ in range(repeats):
                for name, (low, high) in _intervals(drawn, drawn.draw(random, n)).items():
                    held[name] += low <= drawn.mean <= high
            rows.append([drawn.name, f"{n}", *(f"{each / repeats:.3f}" for each in held.values())])
    note = (
        "Ours: a bootstrap of Student's t; of fewer than 10 values Student's own, or where all lie "
        "from 0 to 1 Wilson's. Percentiles and BCa: scipy's, 999 resamples."
    )
    columns = ("values", "cases", "ours", "percentile", "BCa", "Student")
    return Table("A mean of values that are no shares", columns, rows, note)


def _intervals(drawn: Drawn, values: Array) -> dict[str, tuple[float, float]]:
    # scipy warns of samples that are nearly all the same.
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {"ours": mean(values, unit=drawn.unit)[1:3]}
    for name, method in (("percentile", "percentile"), ("BCa", "BCa")):
        made = stats.bootstrap(
            (values,), np.mean, n_resamples=999, method=method, rng=np.random.default_rng(SEED)
        )
        found[name] = tuple(made.confidence_interval)
    found["Student"] = tuple(stats.ttest_1samp(values, 0).confidence_interval())
    return found


def of_outcomes(threshold: float = 0.95) -> Table:
    """How often a model passes, fails, or is undecided, by its true accuracy; exactly."""
    rows: list[list[str]] = []
    for n in (30, 100, 400, 1000):
        decided = np.array([outcome(wilson(k / n, n), threshold).outcome for k in range(n + 1)])
        row = [f"{n:,}"]
        for true in (0.90, 0.93, 0.95, 0.97, 0.99):
            chances = stats.binom.pmf(np.arange(n + 1), n, true)
            passed, failed = (chances[decided == each].sum() for each in ("pass", "fail"))
            row.append(f"{passed:.0%} / {failed:.0%}")
        rows.append(row)
    columns = ("cases", *(f"truly {each}" for each in ("0.90", "0.93", "0.95", "0.97", "0.99")))
    return Table(f"A threshold of {threshold}: pass / fail, the rest undecided", columns, rows)


def main() -> None:
    """Simulate, show, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2_000, help="samples of each distribution")
    options = parser.parse_args()

    differences, means = of_differences(options.repeats), of_means(options.repeats)
    tables = [of_shares(), differences, means, of_outcomes()]
    for table in tables:
        table.show()
    write("intervals", f"# Intervals\n\n{machine()}, {options.repeats:,} samples each", tables)
    quote("intervals", "\n\n".join(table.markdown() for table in tables), PAGE)


if __name__ == "__main__":
    main()
