"""The statistics of replays: a planted worse version is found, and equal ones are left in peace."""

import numpy as np
import polars as pl
import pytest

from tracemill.analysis.differences import Figure, differences, verdict

ACCURACY = Figure("accuracy", lower=False, share=True)
COST = Figure("cost_usd", lower=True, share=False)
LATENCY = Figure("latency_ms", lower=True, share=False)
HISTORIES = 60


def pairs(
    draw: np.random.Generator, calls: int, *, broken: float = 0.0, dearer: float = 1.0
) -> pl.DataFrame:
    """Calls before and after: some are hard both times, `broken` of the right ones turn wrong."""
    right = draw.random(calls) < 0.85
    noise = draw.random(calls) < 0.06
    after = (right ^ noise) & (draw.random(calls) >= broken)
    cost = draw.lognormal(-7, 0.8, calls)
    latency = draw.lognormal(6.5, 0.6, calls)
    return pl.DataFrame(
        {
            "accuracy_before": right.astype(float),
            "accuracy_after": after.astype(float),
            "cost_usd_before": cost,
            "cost_usd_after": cost * draw.lognormal(0, 0.25, calls) * dearer,
            "latency_ms_before": latency,
            "latency_ms_after": latency * draw.lognormal(-0.03125, 0.25, calls),
        }
    )


def words(frame: pl.DataFrame) -> dict[str, str]:
    return {d.figure: d.verdict for d in differences(frame, [ACCURACY, COST, LATENCY])}


def test_a_planted_worse_version_is_found():
    found = [
        words(pairs(np.random.default_rng(seed), 80, broken=0.25, dearer=1.4))
        for seed in range(HISTORIES)
    ]
    assert sum(each["accuracy"] == "worse" for each in found) >= 0.85 * HISTORIES
    assert sum(each["cost_usd"] == "worse" for each in found) >= 0.95 * HISTORIES
    assert not any("better" in (each["accuracy"], each["cost_usd"]) for each in found)


def test_of_equal_versions_hardly_any_is_called_better_or_worse():
    """At most 1 in 20 over all three figures together; of 60 histories, 7 are within chance."""
    cried = 0
    for seed in range(HISTORIES):
        frame = pairs(np.random.default_rng(1000 + seed), 80)
        # Before and after change places at random: then nothing at all is different.
        swap = np.random.default_rng(seed).random(len(frame)) < 0.5
        for name in ("accuracy", "cost_usd", "latency_ms"):
            was, now = frame[f"{name}_before"].to_numpy(), frame[f"{name}_after"].to_numpy()
            frame = frame.with_columns(
                pl.Series(f"{name}_before", np.where(swap, now, was)),
                pl.Series(f"{name}_after", np.where(swap, was, now)),
            )
        cried += any(word in ("better", "worse") for word in words(frame).values())
    assert cried <= 7


@pytest.mark.parametrize(
    ("before", "after", "word", "why"),
    [
        ([1.0] * 40, [1.0] * 40, "same", "none of 40 calls changed"),
        ([1.0] * 3, [0.0] * 3, "not enough data", "on 3 calls does not tell it from no change"),
        ([1.0] * 40, [0.0] * 20 + [1.0] * 20, "worse", "lower by 0.5 [-0.648, -0.352] on 40 calls"),
        ([0.0] * 40, [1.0] * 40, "better", "higher by 1"),
        ([None, 1.0], [1.0, 1.0], "same", "none of 1 call changed"),
    ],
)
def test_a_verdict_says_why(
    before: list[float | None], after: list[float | None], word: str, why: str
):
    frame = pl.DataFrame({"accuracy_before": before, "accuracy_after": after})
    [found] = differences(frame, [ACCURACY])
    assert found.verdict == word
    assert found.why.startswith(why) or why in found.why


def test_a_change_too_small_to_matter_is_none_however_sure_it_is():
    cost = np.random.default_rng(0).lognormal(0, 0.1, 2000)
    frame = pl.DataFrame({"cost_usd_before": cost, "cost_usd_after": cost * 1.01})
    [found] = differences(frame, [COST])
    assert (found.verdict, found.p_adjusted < 0.001) == ("same", True)


def test_what_is_known_of_no_call_twice_is_left_out():
    frame = pl.DataFrame(
        {"cost_usd_before": [None, 1.0], "cost_usd_after": [1.0, None]},
        schema={"cost_usd_before": pl.Float64, "cost_usd_after": pl.Float64},
    )
    assert differences(frame, [COST]) == []
    assert verdict([]) == "nothing was measured on both sides"
