"""Intervals and tests are those of statsmodels and scipy, and cover the truth as often as they say."""

import gc
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from tracemill.errors import UsageError
from tracemill.intervals import (
    MANY,
    TWO_SIDED_95,
    Interval,
    cases_needed,
    cases_until,
    chance_of_fall,
    holm,
    mean,
    paired,
    tango,
    wilson,
)

CASES = 1_000


def spans(low: float, high: float, true: float) -> bool:
    return low <= true <= high


# Shares


def test_wilsons_interval_is_that_of_statsmodels_and_scipy() -> None:
    draw = np.random.default_rng(1)
    for _ in range(CASES):
        n = int(draw.integers(1, 3000))
        hits = int(draw.integers(0, n + 1))
        ours = wilson(hits / n, n)
        theirs = proportion_confint(hits, n, method="wilson")
        scipys = stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert (ours.low, ours.high) == pytest.approx(theirs, abs=1e-12)
        assert (ours.low, ours.high) == pytest.approx((scipys.low, scipys.high), abs=1e-12)
        assert (ours.value, ours.n) == (hits / n, n)


def test_a_perfect_run_needs_73_cases_for_95_percent_and_381_for_99() -> None:
    assert (cases_needed(0.95), cases_needed(0.99)) == (73, 381)
    assert wilson(1.0, 72).low < 0.95 <= wilson(1.0, 73).low
    assert wilson(1.0, 380).low < 0.99 <= wilson(1.0, 381).low


def test_thirty_of_thirty_may_still_be_886_of_1000() -> None:
    assert round(wilson(1.0, 30).low, 3) == 0.886


@given(st.floats(0.01, 0.99), st.floats(0, 1))
def test_the_cases_that_are_needed_are_the_fewest_that_decide(
    threshold: float, share: float
) -> None:
    need = cases_needed(threshold, share)
    if need is None or need > 10**9:
        assert abs(share - threshold) < 1e-4
        return

    def open_at(n: int) -> bool:
        _, low, high, _ = wilson(share, n)
        return low + 1e-12 < threshold < high - 1e-12

    assert not open_at(need + 1)
    assert need <= 2 or open_at(need - 1)


@pytest.mark.parametrize(
    ("threshold", "share"), [(1.0, 1.0), (0.0, 0.0), (1.0, 0.5), (0.3, 0.3), (1.5, 1.0)]
)
def test_what_no_number_of_cases_shows(threshold: float, share: float) -> None:
    assert cases_needed(threshold, share) is None


def test_of_no_case_everything_is_possible() -> None:
    value, low, high, n = wilson(0.0, 0)
    assert math.isnan(value)
    assert (low, high, n) == (0.0, 1.0, 0)


@pytest.mark.parametrize("n", [5, 10, 30, 100, 400])
def test_wilsons_interval_covers_95_of_100(n: int) -> None:
    """Exactly, by all outcomes; on average over true shares."""
    ends = [wilson(hits / n, n) for hits in range(n + 1)]
    low, high = np.array([e.low for e in ends]), np.array([e.high for e in ends])
    shares = np.linspace(0.0005, 0.9995, 1000)[:, None]
    chances = stats.binom.pmf(np.arange(n + 1), n, shares)
    covered = (chances * ((low <= shares) & (shares <= high))).sum(axis=1)
    assert 0.94 < covered.mean() < 0.97
    assert covered.min() > 0.82


# Means


def test_shares_of_a_unit_get_wilsons_interval() -> None:
    assert mean([1, 0, 1, None, 1], unit=True) == wilson(0.75, 4)
    # Eight of the values differ: too few to say how much they may matter.
    assert mean([1.0] * 40 + [0.5] * 8, unit=True) == wilson(44 / 48, 48)
    assert mean([1.0] * 40 + [0.5] * 9, unit=True) != wilson(44.5 / 49, 49)


def test_few_values_and_many_get_students_interval() -> None:
    draw = np.random.default_rng(2)
    for n in (2, 3, 9, MANY + 1):
        values = draw.normal(3, 1, n)
        theirs = stats.ttest_1samp(values, 0).confidence_interval()
        assert mean(values)[1:3] == pytest.approx(tuple(theirs), rel=1e-9)


def test_a_bootstrap_gives_the_same_ends_each_time_and_others_by_another_seed() -> None:
    values = np.random.default_rng(3).lognormal(size=60)
    assert mean(values) == mean(list(values))
    assert mean(values) != mean(values, seed=1)
    assert mean(values).low == pytest.approx(mean(values, seed=1).low, rel=0.05)


def test_a_bootstrap_is_that_of_students_t_done_slowly() -> None:
    values = np.random.default_rng(4).gamma(1.5, size=25)
    middle, error = values.mean(), stats.sem(values)
    draw = np.random.default_rng(5)
    resamples = [draw.choice(values, 25) for _ in range(4000)]
    ts = [(each.mean() - middle) / stats.sem(each) for each in resamples]
    low, high = np.quantile(ts, [0.025, 0.975])
    found = mean(values)
    assert found.low == pytest.approx(middle - high * error, abs=0.15 * error)
    assert found.high == pytest.approx(middle - low * error, abs=0.25 * error)


def test_what_few_values_say_of_a_mean() -> None:
    assert math.isnan(mean([]).value)
    assert mean([])[1:] == (-math.inf, math.inf, 0)
    assert mean([None, 4.0]) == Interval(4.0, -math.inf, math.inf, 1)
    assert mean([4.0] * 30) == Interval(4.0, 4.0, 4.0, 30)
    assert mean([0.5], unit=True) == wilson(0.5, 1)


@pytest.mark.parametrize(
    ("values", "unit"), [([math.nan], False), ([math.inf, 1.0], False), ([1.5], True), ([-1], True)]
)
def test_what_is_no_number_is_refused(values: list[float], unit: bool) -> None:
    with pytest.raises(UsageError, match="give None where a case has no value"):
        mean(values, unit=unit)
    with pytest.raises(UsageError, match="give None"):
        paired(values, values, unit=unit)


@given(st.lists(st.floats(0, 1), max_size=30), st.booleans())
def test_the_mean_is_inside_its_interval(values: list[float], unit: bool) -> None:
    found = mean(values, unit=unit)
    if values:
        assert found.low <= found.value <= found.high
    if unit:
        assert 0 <= found.low <= found.high <= 1


# Pairs


def pairs_of(fell: int, rose: int, n: int) -> tuple[list[float], list[float]]:
    same = n - fell - rose
    return [1.0] * fell + [0.0] * rose + [1.0] * same, [0.0] * fell + [1.0] * rose + [1.0] * same


def test_mcnemars_p_is_that_of_statsmodels_and_scipy() -> None:
    draw = np.random.default_rng(6)
    for _ in range(CASES):
        both, fell, rose, neither = (int(x) for x in draw.integers(0, 60, 4))
        if not fell + rose:
            continue
        before = [1.0] * (both + fell) + [0.0] * (rose + neither)
        after = [1.0] * both + [0.0] * fell + [1.0] * rose + [0.0] * neither
        down, up = paired(before, after, unit=True), paired(before, after, unit=True, lower=True)
        test = stats.binomtest(rose, fell + rose, alternative="less")
        table: Any = mcnemar([[both, fell], [rose, neither]], exact=True)
        assert down.p == pytest.approx(test.pvalue, rel=1e-9)
        assert min(1.0, 2 * min(down.p, up.p)) == pytest.approx(table.pvalue, rel=1e-9)
        assert (down.n, down.changed, down.test) == (len(before), fell + rose, "mcnemar")


def score(fell: int, rose: int, n: int, true: float) -> float:
    """Tango's statistic with the likelihood made largest by search, not by his formula."""

    def unlikely(falls: float) -> float:
        rises = falls + true
        same = 1 - falls - rises
        chances = ((fell, falls), (rose, rises), (n - fell - rose, same))
        return -sum(count * math.log(max(chance, 1e-300)) for count, chance in chances if count)

    least, most = max(0.0, -true), (1 - true) / 2
    falls = optimize.minimize_scalar(
        unlikely, bounds=(least, most), method="bounded", options={"xatol": 1e-12}
    ).x
    return (rose - fell - n * true) / math.sqrt(n * (2 * falls + true - true**2))


def test_the_interval_of_a_difference_is_where_tangos_statistic_is_at_the_border() -> None:
    draw = np.random.default_rng(7)
    for _ in range(CASES // 10):
        n = int(draw.integers(5, 200))
        fell, rose = (int(x) for x in draw.integers(0, n // 2 + 1, 2))
        low, high = tango(fell, rose, n)
        assert low <= (rose - fell) / n <= high
        if fell + rose and low > -1 and high < 1:
            assert score(fell, rose, n, low) == pytest.approx(TWO_SIDED_95, rel=1e-3)
            assert score(fell, rose, n, high) == pytest.approx(-TWO_SIDED_95, rel=1e-3)


@pytest.mark.parametrize("n", [1, 30, 188, 189, 5000])
def test_where_nothing_changed_the_difference_may_still_be_so_large(n: int) -> None:
    z2 = TWO_SIDED_95**2
    assert tango(0, 0, n) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), rel=1e-6)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_difference_turned_round_has_its_ends_turned_round(changed: tuple[int, int]) -> None:
    fell, n = changed
    for rose in (0, (n - fell) // 2, n - fell):
        low, high = tango(fell, rose, n)
        assert -1 <= low <= (rose - fell) / n <= high <= 1
        assert tango(rose, fell, n) == pytest.approx((-high, -low), abs=1e-7)


@pytest.mark.parametrize("n", [10, 30, 100])
@pytest.mark.parametrize("spread", [(1, 1, 1, 1), (6, 1, 1, 2)])
def test_the_interval_of_a_difference_covers_95_of_100(n: int, spread: tuple[int, ...]) -> None:
    """Drawn over tables of any chances; where few change, whole numbers make it cover more."""
    draw = np.random.default_rng(n)
    known: dict[tuple[int, int], tuple[float, float]] = {}
    covered = 0
    for both, falls, rises, neither in draw.dirichlet(spread, 4000):
        counts = draw.multinomial(n, [both, falls, rises, neither])
        table = (int(counts[1]), int(counts[2]))
        if table not in known:
            known[table] = tango(*table, n)
        covered += spans(*known[table], rises - falls)
    assert 0.94 < covered / 4000 < (0.97 if n > 10 else 0.993) + (0.01 if spread[0] > 1 else 0)


@pytest.mark.parametrize("n", [2, 5, 9])
def test_flipped_signs_are_scipys_permutations(n: int) -> None:
    changed = np.random.default_rng(n).normal(-0.3, 1, n)
    theirs = stats.permutation_test(
        (changed,), np.sum, permutation_type="samples", alternative="less", n_resamples=2**n
    )
    sums = [sum(s * x for s, x in zip(signs, changed, strict=True)) for signs in _signs(n)]
    assert theirs.pvalue == np.mean(np.array(sums) <= changed.sum() + 1e-12)
    assert chance_of_fall(changed) == pytest.approx(theirs.pvalue, abs=0.015)


def test_the_p_of_many_changes_goes_on_from_that_of_fewer() -> None:
    changed = np.random.default_rng(11).exponential(1, MANY) - 1.02
    most = chance_of_fall(np.append(changed, changed.mean()))
    assert 0.01 < most < 0.5
    assert most == pytest.approx(chance_of_fall(changed), abs=0.015)


def _signs(n: int) -> list[tuple[int, ...]]:
    return list(product((-1, 1), repeat=n))


def test_differences_of_other_values_have_the_interval_of_their_mean() -> None:
    draw = np.random.default_rng(8)
    before = draw.lognormal(5, 0.5, 50)
    after = before * draw.lognormal(0.1, 0.1, 50)
    found = paired(before, after, lower=True)
    assert (found.low, found.high) == mean(after - before)[1:3]
    assert found.p < 0.001 < paired(before, after).p
    assert found.test == "bootstrap"


def test_smaller_changes_of_a_unit_count_as_so_much_of_a_change() -> None:
    before, after = [0.5] * 20, [0.5] * 17 + [0.25, 0.0, 1.0]
    found = paired(before, after, unit=True)
    assert (found.low, found.high) == tango(0.75, 0.5, 20)
    assert (found.changed, found.test) == (3, "bootstrap")


def test_a_case_without_one_of_its_values_is_left_out() -> None:
    found = paired([1, None, 0, 1], [1, 1, None, 0], unit=True)
    assert (found.before, found.after, found.difference, found.n) == (1.0, 0.5, -0.5, 2)
    none = paired([None, 1.0], [1.0, None])
    assert (none.n, none.p, none.test, none.low, none.high) == (0, 1.0, "none", -math.inf, math.inf)
    with pytest.raises(UsageError, match="1 values before and 2 after"):
        paired([1.0], [1.0, 0.0])


def test_equal_values_have_no_change_to_judge() -> None:
    found = paired([3.5] * 20, [3.5] * 20)
    assert (found.difference, found.low, found.high, found.p, found.changed) == (0, 0, 0, 1, 0)
    one = paired([3.5], [4.0])
    assert (one.low, one.high) == (-math.inf, math.inf)


# Many tests


def test_holms_correction_is_that_of_statsmodels(monkeypatch: pytest.MonkeyPatch) -> None:
    # It looks for garbage at each call, which takes 0.2 s where a whole suite is in memory.
    monkeypatch.setattr(gc, "collect", lambda: 0)
    draw = np.random.default_rng(9)
    for _ in range(CASES):
        ps = draw.random(draw.integers(1, 12)) ** 3
        ps[draw.random(len(ps)) < 0.2] = 0.04
        assert holm(list(ps)) == pytest.approx(multipletests(ps, method="holm")[1], abs=1e-15)
    assert holm([]) == []


def test_an_interval_shrinks_with_the_root_of_the_number_of_cases() -> None:
    # From 20 +- 4 of 50 cases, +- 2 takes 200.
    assert cases_until(18.0, 20.0, 16.0, 50) == 200
    assert cases_until(20.0, 20.0, 16.0, 50) is None
    assert cases_until(18.0, 20.0, -math.inf, 1) is None
    assert cases_until(18.0, 20.0, 18.0, 50) == 51
