"""A fused score depends on its own candidate alone, and each side alone is one end of the share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tracemill.retrieval.fusion import fuse

unit = st.floats(0, 1, width=32)
candidates = st.lists(st.tuples(unit, st.floats(-1, 1, width=32)), min_size=1, max_size=20).map(
    lambda pairs: (np.array([one for one, _ in pairs]), np.array([other for _, other in pairs]))
)
spreads = st.tuples(st.floats(-0.5, 0.9), st.floats(0, 1))
Sides = tuple[NDArray[np.float64], NDArray[np.float64]]


def test_without_a_spread_cosines_count_as_they_are():
    fused = fuse(np.array([0.5, 0.0]), np.array([0.2, 0.8]), share=0.75)
    assert fused == pytest.approx([0.425, 0.2])


@given(candidates, spreads)
def test_the_ends_of_the_share_are_one_side_alone(sides: Sides, spread: tuple[float, float]):
    mean, deviation = spread
    lexical, dense = sides
    words = fuse(lexical, dense, share=1, mean=mean, deviation=deviation)
    near = fuse(lexical, dense, share=0, mean=mean, deviation=deviation)
    assert np.array_equal(words, lexical)
    assert (np.diff(near[np.argsort(dense)]) >= 0).all()


@given(candidates, unit, spreads)
def test_better_on_one_side_and_as_good_on_the_other_is_never_worse(
    sides: Sides, share: float, spread: tuple[float, float]
):
    mean, deviation = spread
    fused, words, near = (
        fuse(*pair, share=share, mean=mean, deviation=deviation)
        for pair in (sides, (sides[0] + 0.25, sides[1]), (sides[0], sides[1] + 0.25))
    )
    assert (words >= fused).all()
    assert (near >= fused).all()


@given(candidates, unit, st.randoms(use_true_random=False))
def test_the_order_and_number_of_candidates_change_no_score(sides: Sides, share: float, draw):
    fused = fuse(*sides, share=share, mean=0.1, deviation=0.2)
    some = np.array(draw.sample(range(len(fused)), draw.randint(0, len(fused))), dtype=np.int64)
    again = fuse(sides[0][some], sides[1][some], share=share, mean=0.1, deviation=0.2)
    assert np.array_equal(again, fused[some])


@given(candidates, unit, st.floats(0.1, 3), st.floats(-1, 1))
def test_a_model_that_spreads_its_cosines_otherwise_fuses_alike(
    sides: Sides, share: float, scale: float, shift: float
):
    lexical, dense = sides
    one = fuse(lexical, dense, share=share, mean=0.1, deviation=0.2)
    other = fuse(
        lexical, scale * dense + shift, share=share, mean=scale * 0.1 + shift, deviation=scale * 0.2
    )
    assert np.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.4])
def test_equal_scores_stay_equal_and_finite(value: float):
    same = np.full(3, value)
    fused = fuse(same, same, share=0.5, mean=value, deviation=0)
    assert np.isfinite(fused).all()
    assert len(set(fused.tolist())) == 1


def test_no_candidates_have_no_scores():
    assert fuse(np.empty(0), np.empty(0), share=0.5).shape == (0,)
