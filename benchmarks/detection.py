"""Measure false alarms and power of what finds anomalies: `python -m benchmarks.detection [--quick]`.

2,000 histories in which nothing happens, and the same with something planted, beside the ways that
people use without further thought.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact, ks_2samp, norm, ttest_ind

from benchmarks import histories, report
from benchmarks.report import Table, console
from tracemill.detection import daily_anomalies, drifted, forecast, rate_changed

ALPHA = 0.001
DAYS = 150
JUDGED = 60
"""Days before these are history for all, of ours and of the peers."""
WEEK_TIMES = (1.2, 1.4, 2.0)
TIMES = (1.2, 1.5, 2.0, 3.0)
Way = Callable[[histories.Array], NDArray[np.bool_]]
_LIMIT = float(norm.isf(ALPHA / 2))
_STL_SERIES, _POWER_SERIES = 50, 400


def main() -> None:
    """Draw, judge, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the histories")
    count = 200 if parser.parse_args().quick else 2_000
    began = time.monotonic()
    warnings.simplefilter("ignore", RuntimeWarning)
    tables = [days(count), weeks(count), rates(count), drift(count // 4), forecasts(count // 4)]
    flags = "".join(f" {argument}" for argument in sys.argv[1:])
    heading = (
        f"`python -m benchmarks.detection{flags}` on {report.machine()}; "
        f"{time.monotonic() - began:,.0f} s. alpha is {ALPHA} throughout."
    )
    console.print(heading)
    for table in tables:
        table.show()
    report.write("detection", heading, tables)
    text = "\n\n".join([heading, *(table.markdown() for table in tables)])
    report.quote("detection", text, report.ROOT / "docs" / "detection.md")


def days(count: int) -> Table:
    """Single days."""
    ways = (("ours", _ours), ("z of the last 28 days", _z), ("STL of the log + z", _stl))
    rows = []
    for noise in histories.NOISES:
        for spread in (0.1, 0.2):
            values = histories.spending(count, DAYS, noise, spread=spread)
            for name, way in ways:
                series = values[:_STL_SERIES] if way is _stl else values
                quiet = way(series)
                found = [_planted(way, series[:_POWER_SERIES], times) for times in TIMES]
                rows.append(
                    (
                        f"{noise}, {spread:.0%} noise: {name}",
                        _rate(quiet.mean()),
                        *map(_share, found),
                    )
                )
    values = np.zeros((count, DAYS))
    seldom = np.random.default_rng(5).random(values.shape) < 0.05
    values[seldom] = np.random.default_rng(6).lognormal(0, 1, int(seldom.sum()))
    rows.append(("zero on 19 days of 20: ours", _rate(_ours(values).mean()), *[""] * len(TIMES)))
    return Table(
        f"Days of {count:,} histories that are called anomalies, though nothing happened; and how often "
        "one is found that cost more",
        ("noise of a day", "false alarms of 1,000 days", *(f"x {times:g}" for times in TIMES)),
        rows,
        f"Spending with a pattern of the week, growth or decline by up to 2 % a day, noise correlated "
        f"by 0.3. Days {JUDGED} to {DAYS} are judged; the last one is planted, in 400 of them. 1.0 of 1,000 is stated. "
        f"STL is statsmodels' (robust), refitted each day over all days so far, on {_STL_SERIES} "
        "histories and every tenth day, for it is slow.",
    )


def weeks(count: int) -> Table:
    """Whole weeks, of which each day may pass."""
    rows = []
    for noise in histories.NOISES:
        for spread in (0.05, 0.1):
            values = histories.spending(count, DAYS, noise, spread=spread, seed=1)
            row = [_rate(_ours(values, span=7).mean())]
            for times in WEEK_TIMES:
                dear = values[:_POWER_SERIES].copy()
                dear[:, -7:] *= times
                by_day = _ours(dear)[:, -7:].any(axis=1).mean()
                row.append(f"{_share(_ours(dear, span=7)[:, -1].mean())} / {_share(by_day)}")
            rows.append((f"{noise}, {spread:.0%}", *row))
    return Table(
        "Weeks (`span=7`): false alarms, and a dear week found as a week / by any of its days alone",
        ("noise of a day", "false alarms of 1,000", *(f"x {t:g}" for t in WEEK_TIMES)),
        rows,
    )


def rates(count: int) -> Table:
    """Error rates of a day, after 28 others."""
    rows = []
    for calls in (200, 2_000, 50_000):
        for scatter in (0.0, 0.2, 0.5):
            failed, n = histories.errors(count, 29, rate=0.02, calls=calls, scatter=scatter)
            past = (failed[:, :-1], n[:, :-1])
            before = (past[0].sum(1), past[1].sum(1))
            peer = [
                _p(fisher_exact([[x1, m1 - x1], [x0, m0 - x0]])) <= ALPHA
                for x0, m0, x1, m1 in zip(*before, failed[:, -1], n[:, -1], strict=True)
            ]
            row = [
                _rate(rate_changed(*before, failed[:, -1], n[:, -1], history=past).changed.mean())
            ]
            row += [_rate(float(np.mean(peer)))]
            draw = np.random.default_rng(1)
            for times in (2, 4, 8):
                more = draw.binomial(n[:, -1], np.minimum(times * failed[:, -1] / n[:, -1], 0.95))
                found = rate_changed(*before, more, n[:, -1], history=past)
                row.append(_share(found.changed.mean()))
            rows.append((f"{calls:,} calls a day, scatter {scatter:g}", *row))
    return Table(
        "Error rates: false alarms of 1,000 periods, and how often a day with more errors is found",
        ("2 % fail", "ours", "Fisher's test", "x 2", "x 4", "x 8"),
        rows,
        "Scatter is the standard deviation of the logarithm of a day's true rate; 0 is a pure binomial.",
    )


def drift(count: int) -> Table:
    """Periods of 400 rows."""
    draw = np.random.default_rng(0)
    rows = []
    for name, sizes in (("400 rows", 400), ("40,000 rows", 40_000)):
        for times in (1.0, 1.05, 1.2, 1.5):
            ours, ks = [], []
            for _ in range(count if sizes == 400 else count // 5):
                old, new = draw.lognormal(6, 1, sizes), times * draw.lognormal(6, 1, sizes)
                ours.append(drifted(old, new, ALPHA).drifted)
                ks.append(_p(ks_2samp(old, new, method="asymp")) <= ALPHA)
            rows.append(
                (f"lengths, {name}, x {times:g}", _share(np.mean(ours)), _share(np.mean(ks)))
            )
    for new in (0.0, 0.05, 0.1, 0.2):
        ours, peer = [], []
        for _ in range(count // 5):
            old, now = histories.topics(300, draw), histories.topics(300, draw, new=new)
            ours.append(drifted(old, now, ALPHA).drifted)
            p = np.min(_p(ttest_ind(old, now))) * old.shape[1]
            peer.append(p <= ALPHA)
        rows.append(
            (
                f"vectors, 300 rows, {new:.0%} of a new topic",
                _share(np.mean(ours)),
                _share(np.mean(peer)),
            )
        )
    return Table(
        "Periods that are called drifted",
        ("", "ours", "p alone"),
        rows,
        "p alone: of lengths Kolmogorov and Smirnov's test; of vectors Student's t of each dimension with "
        "Bonferroni's correction. x 1 and 0 % are quiet periods.",
    )


def forecasts(count: int) -> Table:
    """The next 30 days."""
    rows = []
    for history in (60, 90, 180):
        for noise in histories.NOISES:
            values = histories.spending(count, history + 30, noise, seed=history)
            truth = values[:, history:]
            found = [forecast(histories.days(history), known, 30) for known in values[:, :history]]
            total = np.array([f.total for f in found])
            within = ((truth >= [f.low for f in found]) & (truth <= [f.high for f in found])).mean()
            sums = truth.sum(axis=1)
            held = ((total[:, 1] <= sums) & (sums <= total[:, 2])).mean()
            naive = values[:, history - 7 + np.arange(30) % 7].sum(axis=1)
            errors = [100 * np.abs(made / sums - 1).mean() for made in (total[:, 0], naive)]
            rows.append(
                (
                    f"{history} days, {noise}",
                    _share(within),
                    _share(held),
                    *(f"{e:.1f} %" for e in errors),
                )
            )
    return Table(
        "Forecasts of 30 days: how often 90 % intervals hold what came, and how far totals were out",
        ("history", "days held", "totals held", "ours out by", "last week again"),
        rows,
    )


def _ours(values: histories.Array, span: int = 1) -> NDArray[np.bool_]:
    found = daily_anomalies(histories.days(values.shape[1]), values, alpha=ALPHA, span=span)
    return found.is_anomaly[:, JUDGED:]


def _z(values: histories.Array) -> NDArray[np.bool_]:
    """Away from the mean of the last 28 days by more than 3.29 standard deviations."""
    past = np.lib.stride_tricks.sliding_window_view(values, 28, axis=1)[:, JUDGED - 28 : -1]
    return np.abs(values[:, JUDGED:] - past.mean(axis=2)) > _LIMIT * past.std(axis=2, ddof=1)


def _stl(values: histories.Array) -> NDArray[np.bool_]:
    """Residual of the last day by statsmodels' STL over all days so far, against those before."""
    from statsmodels.tsa.seasonal import STL

    judged = [*range(JUDGED, values.shape[1], 10)]
    judged[-1] = values.shape[1] - 1
    found = np.zeros((len(values), len(judged)), np.bool_)
    for i, series in enumerate(np.log(values)):
        for j, day in enumerate(judged):
            rest = STL(series[: day + 1], period=7, robust=True).fit().resid
            found[i, j] = abs(rest[-1]) > _LIMIT * rest[:-1].std(ddof=1)
    return found


def _planted(way: Way, values: histories.Array, times: float) -> float:
    dear = values.copy()
    dear[:, -1] *= times
    return float(way(dear)[:, -1].mean())


def _p(found: Any) -> Any:
    return found.pvalue


def _rate(share: float | np.floating[Any]) -> str:
    return f"{1_000 * share:.2f}"


def _share(share: float | np.floating[Any]) -> str:
    return f"{share:.0%}"


if __name__ == "__main__":
    main()
