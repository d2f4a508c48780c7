import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.corpus.split import RATIOS, split
from tracemill.errors import UsageError

GROUPS = st.lists(st.text(st.characters(exclude_categories=["Cs"])))


def splits(groups: list[str], salt: str = "0") -> dict[str, str]:
    frame = pl.DataFrame({"group_id": groups}, schema={"group_id": pl.String})
    return dict(split(frame, RATIOS, salt).select("group_id", "split").rows())


@given(GROUPS, GROUPS)
def test_a_record_never_moves_when_others_arrive(first: list[str], second: list[str]):
    before, after = splits(first), splits(second + first)
    assert {group: after[group] for group in before} == before


def test_a_group_is_on_one_side_only():
    frame = pl.DataFrame({"group_id": [str(n % 500) for n in range(2_000)]})
    sides = split(frame).group_by("group_id").agg(pl.col("split").n_unique())
    assert sides["split"].to_list() == [1] * 500


def test_the_shares_are_met_and_a_salt_makes_another_split():
    groups = [str(n) for n in range(20_000)]
    first, second = splits(groups), splits(groups, "other")
    for chosen in (first, second):
        shares = pl.Series(list(chosen.values())).value_counts(normalize=True).rows()
        assert dict(shares) == pytest.approx(RATIOS, abs=0.01)
    assert first != second


def test_a_share_of_nothing_gets_nothing():
    frame = pl.DataFrame({"group_id": [str(n) for n in range(1_000)]})
    ratios = {"none": 0.0, **{f"tenth-{n}": 0.1 for n in range(10)}, "nothing": 0.0}
    assert set(split(frame, ratios)["split"]) == {f"tenth-{n}" for n in range(10)}


@pytest.mark.parametrize("ratios", [{}, {"train": 0.5}, {"train": 1.5, "test": -0.5}])
def test_shares_that_do_not_sum_to_one_are_refused(ratios: dict[str, float]):
    with pytest.raises(UsageError, match="sum to 1"):
        split(pl.DataFrame({"group_id": ["a"]}), ratios)
