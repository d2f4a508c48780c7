from collections.abc import Mapping, Sequence
from itertools import combinations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.corpus.records import content_id
from tracemill.corpus.split import RATIOS, TORN, groups, split, warnings
from tracemill.errors import UsageError

KEYS = ("conversation_id", "user_id")
KEY = st.one_of(st.none(), st.sampled_from("abcdefgh"))
ROWS = st.lists(st.tuples(KEY, KEY, KEY), min_size=1, max_size=40)
ARRIVALS = st.tuples(ROWS, st.lists(st.integers(0, 4), min_size=40, max_size=40))


def records(rows: list[tuple[str | None, str | None, str | None]]) -> pl.DataFrame:
    """Records with two keys and a cluster; their ids are hashed so that order says nothing."""
    ids = [content_id([str(n)]) for n in range(len(rows))]
    schema = ["conversation_id", "user_id", "cluster"]
    frame = pl.DataFrame(
        rows, schema=schema, schema_overrides=dict.fromkeys(schema, pl.String), orient="row"
    )
    return frame.with_columns(record_id=pl.Series(ids, dtype=pl.String), label="user_id")


def sides(frame: pl.DataFrame) -> dict[str, str]:
    return dict(frame.select("record_id", "split").rows())


def judged(frame: pl.DataFrame, settled: Mapping[str, str] | None, **more: str):
    ratios, by = {"train": 0.5, "test": 0.5}, ("duplicates", *KEYS)
    clusters = frame["cluster"]
    return split(frame, ratios, "0", by=by, clusters=clusters, settled=settled, **more)


def named(count: int, **columns: Sequence[str | None]) -> pl.DataFrame:
    return pl.DataFrame({"record_id": [str(n) for n in range(count)], **columns})


@pytest.mark.parametrize("more", [{}, {"stratify": "label"}])
@settings(max_examples=50, deadline=None)
@given(arrivals=ARRIVALS)
def test_no_record_moves_and_no_group_is_torn_however_records_arrive(
    more: dict[str, str],
    arrivals: tuple[list[tuple[str | None, str | None, str | None]], list[int]],
):
    rows, days = arrivals
    frame = records(rows).with_columns(day=pl.Series(days[: len(rows)], dtype=pl.Int64))
    settled: dict[str, str] = {}
    for day in range(5):
        here = frame.filter(pl.col("day") <= day).sample(fraction=1, shuffle=True, seed=day)
        kept, dropped = judged(here, settled, **more)
        after = sides(kept)
        assert {one: after[one] for one in settled} == settled
        assert sorted([*kept["record_id"], *dropped["record_id"]]) == sorted(here["record_id"])
        assert set(dropped["reason"]) <= {TORN}
        for key in ("group_id", "conversation_id", "user_id", "cluster"):
            known = kept.filter(pl.col(key).is_not_null())
            assert known.group_by(key).agg(pl.col("split").n_unique())["split"].le(1).all()
        settled = after


@settings(max_examples=50, deadline=None)
@given(ROWS, ROWS)
def test_without_memory_a_record_stays_while_its_group_is_the_same(
    first: list[tuple[str | None, str | None, str | None]],
    second: list[tuple[str | None, str | None, str | None]],
):
    whole = records(first + second)
    before, after = judged(whole.head(len(first)), None).kept, judged(whole, None).kept
    same = before.join(after, on=["record_id", "group_id"])
    assert same["split"].to_list() == same["split_right"].to_list()


def components(frame: pl.DataFrame, keys: tuple[str, ...]) -> dict[str, str]:
    """The oracle: merge sets until no two share a value."""
    sets = [({row["record_id"]}, {(key, row[key]) for key in keys if row[key]}) for row in
            frame.to_dicts()]  # fmt: skip
    merged = True
    while merged:
        merged = False
        for one, two in combinations(sets, 2):
            if one[1] & two[1]:
                sets.remove(two)
                one[0].update(two[0])
                one[1].update(two[1])
                merged = True
                break
    return {record: min(members) for members, _ in sets for record in members}


@settings(max_examples=50, deadline=None)
@given(ROWS, st.randoms())
def test_groups_are_the_connected_components_in_any_order(rows, random):
    frame = records(rows)
    order = list(range(frame.height))
    random.shuffle(order)
    mixed = frame[order]
    found = groups(mixed, ("duplicates", *KEYS), mixed["cluster"])
    expected = components(frame, ("cluster", *KEYS))
    assert dict(zip(mixed["record_id"], found, strict=True)) == expected


def test_a_source_counts_within_its_origin():
    frame = named(4, origin=["a", "a", "b", "b"], source=["x", "x", "x", None])
    assert groups(frame, ["source"]).to_list() == ["0", "0", "2", "3"]


def test_a_group_follows_its_settled_member():
    frame = named(3, user_id=["u", "u", None])
    for side in ("train", "test"):
        kept = split(frame, RATIOS, by=["user_id"], settled={"1": side}).kept
        assert kept["split"].to_list()[:2] == [side, side]


def test_newcomers_who_would_join_two_sides_are_left_out():
    """0 is in train and 3 in test; 1 hangs on 0, 4 on 3, and they share a conversation with 2."""
    users, conversations = ["u", "u", None, "v", "v"], [None, "c", "c", None, "c"]
    frame = named(5, user_id=users, conversation_id=conversations)
    by, settled = ["user_id", "conversation_id"], {"0": "train", "3": "test"}
    kept, dropped = split(frame, RATIOS, by=by, settled=settled)
    assert dropped.select("record_id", "reason").rows() == [("1", TORN), ("4", TORN)]
    assert sides(kept) == {**settled, "2": sides(split(named(5)).kept)["2"]}


def test_one_bridge_does_not_keep_all_others_out():
    """A newcomer who shares with both sides goes; another who shares with one of them stays."""
    frame = named(4, user_id=["u", "v", "u", "v"], conversation_id=["c", "d", "d", None])
    kept, dropped = split(
        frame, RATIOS, by=["user_id", "conversation_id"], settled={"0": "train", "1": "test"}
    )
    assert dropped["record_id"].to_list() == ["2"]
    assert sides(kept) == {"0": "train", "1": "test", "3": "test"}


def test_a_split_that_has_no_share_any_more_is_placed_anew():
    kept = split(named(2), {"train": 1.0, "test": 0.0}, settled={"0": "test", "1": "dev"}).kept
    assert kept["split"].to_list() == ["train", "train"]


@pytest.mark.parametrize("salt", [str(n) for n in range(8)])
def test_the_shares_are_met_within_one_percent(salt: str):
    shares = split(named(10_000), RATIOS, salt).kept["split"].value_counts(normalize=True)
    assert dict(shares.rows()) == pytest.approx(RATIOS, abs=0.01)


def test_a_salt_makes_another_split():
    first, second = (sides(split(named(1_000), salt=salt).kept) for salt in ("0", "1"))
    assert first != second


@pytest.mark.parametrize("size", [3, 40, 500])
def test_strata_get_their_shares_within_a_few_groups(size: int):
    """Also over days, and the small strata together meet the shares as well."""
    count = 6_000
    labels = [f"label {n % (count // size)}" for n in range(count)]
    frame = named(count, label=labels)
    settled: dict[str, str] = {}
    for upto in (count // 3, count // 2, count):
        kept = split(frame.head(upto), RATIOS, stratify="label", settled=settled).kept
        settled = sides(kept)
    shares = dict(kept["split"].value_counts(normalize=True).rows())
    assert shares == pytest.approx(RATIOS, abs=0.01)
    found = kept.group_by("label").agg(
        (pl.col("split") == side).sum().alias(side) for side in RATIOS
    )
    for side, share in RATIOS.items():
        assert ((found[side] - share * size).abs() < 2.5).all()


def test_stratifying_without_a_memory_is_refused():
    with pytest.raises(UsageError, match="give it"):
        split(named(3, label=["a"] * 3), stratify="label")


def test_a_share_of_nothing_gets_nothing():
    ratios = {"none": 0.0, **{f"tenth-{n}": 0.1 for n in range(10)}, "nothing": 0.0}
    assert set(split(named(1_000), ratios).kept["split"]) == {f"tenth-{n}" for n in range(10)}
    frame = named(1_000, label=["a", "b"] * 500)
    kept = split(frame, ratios, stratify="label", settled={}).kept
    assert set(kept["split"]) == {f"tenth-{n}" for n in range(10)}


@pytest.mark.parametrize("ratios", [{}, {"train": 0.5}, {"train": 1.5, "test": -0.5}])
def test_shares_that_do_not_sum_to_one_are_refused(ratios: dict[str, float]):
    with pytest.raises(UsageError, match="sum to 1"):
        split(named(1), ratios)


def test_duplicates_need_clusters():
    with pytest.raises(UsageError, match="clusters"):
        groups(named(1), ["duplicates"])


def test_an_empty_frame_is_split_too():
    assert split(named(0)).kept.columns == ["record_id", "group_id", "split"]


def test_empty_splits_come_with_a_mend():
    kept = split(named(12)).kept.with_columns(split=pl.lit("train"))
    why = " is empty: 12 groups are too few for 5% of them; add records, or give it 22% or more"
    assert warnings(kept) == (
        f"validation{why}",
        f"test{why}",
    )
    assert warnings(split(named(2_000)).kept) == ()


def test_a_group_of_nearly_all_is_told():
    frame = named(2_000, user_id=["bot"] * 900 + [None] * 1_100)
    assert [text[:36] for text in warnings(split(frame, by=["user_id"]).kept)] == [
        "one group holds 45% of the records: "
    ]
