"""Which records train, validate and test: decided once, and never two sides for what belongs together.

A salted hash puts each group of records at a fixed point between 0 and 1, whatever else there is.
What an earlier version placed stays where it is; a newcomer between two sides is left out.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from math import isclose
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from tracemill.corpus.records import Judged
from tracemill.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.int64]
    Settled: TypeAlias = "Mapping[str, str] | pl.DataFrame"

RATIOS = {"train": 0.9, "validation": 0.05, "test": 0.05}
GOLDEN = (5**0.5 - 1) / 2
TORN = "near records of two splits"
MOST_SPLITS = 62
"""A set of splits is a word of bits."""


class _Links(NamedTuple):
    """Which values of the keys the records have, where two or more share one."""

    rows: "Ints"
    values: "Ints"
    """Equal numbers for equal values of the same key."""


def split(
    frame: "pl.DataFrame",
    ratios: Mapping[str, float] = RATIOS,
    salt: str = "0",
    *,
    by: Sequence[str] = (),
    clusters: "pl.Series | None" = None,
    stratify: str | None = None,
    settled: "Settled | None" = None,
) -> Judged:
    """The frame with `group_id` and `split`; dropped are newcomers that would join two splits.

    Args:
        frame: all records, at least `record_id` and the columns that `by` and `stratify` name.
        ratios: split -> its share of the groups; they sum to 1.
        salt: another salt is another, independent split.
        by: as in `groups`.
        clusters: as in `groups`.
        stratify: a column whose values each get these shares, to a few groups. A hash alone meets
            shares by chance, and what does better looks at what is there; so this needs `settled`
            (at first empty), without which records would move when others arrive.
        settled: record_id -> split (or a frame of both) of all that was ever placed; it stays.
            Records that are no longer in the frame may be in it, splits without a share do not
            count.

    Raises UsageError when a share is negative, the shares do not sum to 1, or `settled` is missing.
    """
    import numpy as np
    import polars as pl

    edges = _edges(ratios)
    if stratify and settled is None:
        raise UsageError("a stratified split keeps records in place only with `settled`: give it")
    links = _links(frame, by, clusters)
    sides, torn = _follow(links, _settled_sides(frame, ratios, settled))
    group = _components(links, sides, frame["record_id"])
    whole = frame.with_columns(group_id=group, split=pl.Series(sides)).filter(~pl.Series(torn))
    grouped = whole.group_by("group_id").agg(pl.col("split").first(), *_stratum(stratify))
    points = pl.Series([_point(name, salt) for name in grouped["group_id"]], dtype=pl.Float64)
    grouped = grouped.with_columns(point=points)
    spread = _spread(grouped, salt) if stratify else points.to_numpy()
    placed, edge = grouped["split"].to_numpy(), np.searchsorted(edges, spread, side="right")
    placed = np.where(placed < 0, np.minimum(edge, len(edges) - 1), placed)
    names = pl.Series(list(ratios), dtype=pl.String).gather(pl.Series(placed, dtype=pl.UInt32))
    sided = grouped.select("group_id", split=names)
    kept = whole.drop("split").join(sided, on="group_id", how="left", maintain_order="left")
    return Judged(kept, frame.filter(pl.Series(torn)).with_columns(reason=pl.lit(TORN)))


def groups(
    frame: "pl.DataFrame", by: Sequence[str], clusters: "pl.Series | None" = None
) -> "pl.Series":
    """The group of each record: the smallest record_id of all that it hangs together with.

    Args:
        frame: records, at least `record_id` and the columns that `by` names.
        by: two records that share a value of one of these columns hang together, and so do those
            that a chain of such pairs connects. A null joins nothing. `source` counts within its
            `origin`, where there is one; `duplicates` stands for `clusters`.
        clusters: for each record a cluster of near-duplicates, or null.
    """
    import numpy as np

    links = _links(frame, by, clusters)
    return _components(links, np.zeros(frame.height, np.int64), frame["record_id"])


def warnings(frame: "pl.DataFrame", ratios: Mapping[str, float] = RATIOS) -> tuple[str, ...]:
    """What is wrong with a finished split: one sentence each, with a mend.

    Args:
        frame: kept records with `group_id` and `split`.
        ratios: what they were split by.
    """
    sizes = frame["group_id"].value_counts(sort=True)["count"]
    found: list[str] = []
    for name in [name for name, share in ratios.items() if share > 0]:
        if not (frame["split"] == name).any():
            count = f"{len(sizes):,} groups are" if len(sizes) != 1 else "1 group is"
            # With this share, at least one group falls on that side in 95 of 100 cases.
            enough = (
                f", or give it {1 - 0.05 ** (1 / len(sizes)):.0%} or more" if len(sizes) else ""
            )
            share = f"{100 * ratios[name]:.3g}%"
            found.append(
                f"{name} is empty: {count} too few for {share} of them; add records{enough}"
            )
    if len(sizes) > 1 and sizes[0] > max(0.25 * frame.height, 10):
        found.append(
            f"one group holds {sizes[0] / frame.height:.0%} of the records: they share a "
            "conversation, user or source, or are chained by near-duplicates; split by fewer keys"
        )
    return tuple(found)


def _edges(ratios: Mapping[str, float]) -> list[float]:
    if min(ratios.values(), default=0) < 0 or not isclose(sum(ratios.values()), 1):
        raise UsageError(f"the shares of a split are at least 0 and sum to 1, not {dict(ratios)}")
    if len(ratios) > MOST_SPLITS:
        raise UsageError(f"{len(ratios)} splits are too many: {MOST_SPLITS} at most")
    return [round(edge, 12) for edge in accumulate(ratios.values())]


def _links(frame: "pl.DataFrame", by: Sequence[str], clusters: "pl.Series | None") -> _Links:
    """Rows and the values they share; a value is named by the first row that has it."""
    import numpy as np
    import polars as pl

    rows, values = list[Any](), list[Any]()
    for number, key in enumerate(("record_id", *by)):
        shared = _key(frame, key, clusters).to_frame("key").with_row_index("row")
        shared = shared.filter(pl.col("key").is_not_null() & (pl.len().over("key") > 1))
        rows.append(shared["row"].to_numpy().astype(np.int64))
        first = shared.select(pl.col("row").first().over("key")).to_series().to_numpy()
        values.append(first.astype(np.int64) + number * frame.height)
    return _Links(np.concatenate(rows), np.concatenate(values))


def _key(frame: "pl.DataFrame", key: str, clusters: "pl.Series | None") -> "pl.Series":
    import polars as pl

    if key == "duplicates":
        if clusters is None:
            raise UsageError("to split by duplicates, give the clusters of near-duplicates")
        return clusters
    if key == "source" and "origin" in frame.columns:
        both = pl.struct("origin", "source")
        return frame.select(pl.when(pl.col("source").is_not_null()).then(both)).to_series()
    return frame[key]


def _settled_sides(
    frame: "pl.DataFrame", ratios: Mapping[str, float], settled: "Settled | None"
) -> "Ints":
    """The place in `ratios` where each record stands, -1 for a newcomer."""
    import numpy as np
    import polars as pl

    if settled is None:
        return np.full(frame.height, -1, np.int64)
    if not isinstance(settled, pl.DataFrame):
        columns = {"record_id": list(settled), "split": list(settled.values())}
        settled = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    numbers = {name: at for at, (name, share) in enumerate(ratios.items()) if share > 0}
    number = pl.col("split").replace_strict(numbers, default=-1, return_dtype=pl.Int64)
    known = settled.select("record_id", side=number).unique("record_id", keep="first")
    sides = frame.select("record_id").join(known, "record_id", "left", maintain_order="left")
    return sides["side"].fill_null(-1).to_numpy().copy()


def _follow(links: _Links, sides: "Ints") -> "tuple[Ints, NDArray[np.bool_]]":
    """Let newcomers follow what is settled, step by step; and which of them touch two sides.

    In each round a newcomer that shares a value with placed records goes to their side. When
    those are on two sides, or two that go to different sides share a value, they are left out;
    with them go all ways on which a later round could join the two sides.
    """
    import numpy as np

    bits = np.where(sides < 0, 0, 1 << np.maximum(sides, 0))
    torn = np.zeros(len(sides), np.bool_)
    if not bits.any() or not links.rows.size:
        return sides, torn
    over_values, over_rows = _reducer(links.values), _reducer(links.rows)
    while True:
        at_values = over_values(bits[links.rows])
        reached = _scatter(links.rows, over_rows(at_values), len(sides))
        new = (bits == 0) & ~torn & (reached != 0)
        if not new.any():
            return np.where(bits == 0, -1, np.int64(np.log2(np.maximum(bits, 1)))), torn
        between = new & _several(reached)
        joining = np.where(new & ~between, reached, 0)
        clash = _several(over_values((bits | joining)[links.rows])) & ~_several(at_values)
        meets = _scatter(links.rows, over_rows(np.where(clash, 1, 0)), len(sides)) != 0
        torn |= between | ((joining != 0) & meets)
        bits = np.where(meets, bits, bits | joining)


def _reducer(keys: "Ints") -> "Callable[[NDArray[Any]], NDArray[Any]]":
    """A function: bits of the links -> for each link, the union of those with the same key."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    fresh = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    starts, inverse = np.flatnonzero(fresh), np.empty(len(keys), np.int64)
    inverse[order] = np.cumsum(fresh) - 1

    def united(bits: "NDArray[Any]") -> "NDArray[Any]":
        return np.bitwise_or.reduceat(bits[order], starts)[inverse]

    return united


def _scatter(rows: "Ints", numbers: "NDArray[Any]", height: int) -> "Ints":
    import numpy as np

    whole = np.zeros(height, np.int64)
    whole[rows] = numbers
    return whole


def _several(bits: "NDArray[Any]") -> "NDArray[np.bool_]":
    return (bits & (bits - 1)) != 0


def _components(links: _Links, sides: "Ints", record_ids: "pl.Series") -> "pl.Series":
    """Group ids: connected through shared values, but never across two sides."""
    import numpy as np
    import polars as pl
    import scipy.sparse  # pyright: ignore[reportMissingTypeStubs]
    from scipy.sparse import csgraph  # pyright: ignore[reportMissingTypeStubs]

    height, side = len(sides), sides[links.rows] + 1
    at = np.unique(links.values * (MOST_SPLITS + 2) + side, return_inverse=True)[1]
    size = height + (int(at.max()) + 1 if at.size else 0)
    edges = (np.ones(at.size, np.bool_), (links.rows, height + at))
    graph = cast(Any, scipy.sparse).coo_array(edges, (size, size))
    labels = cast(Any, csgraph).connected_components(graph, directed=False)[1]
    both = pl.DataFrame({"label": labels[:height], "record_id": record_ids})
    return both.select(pl.col("record_id").min().over("label")).to_series().alias("group_id")


def _stratum(stratify: str | None) -> "list[pl.Expr]":
    """The value that most records of a group have, the least of them when several do."""
    import polars as pl

    return [pl.col(stratify).mode().min().alias("stratum")] if stratify else []


def _spread(grouped: "pl.DataFrame", salt: str) -> "NDArray[np.float64]":
    """Points of groups that meet the shares in each stratum, where a hash would by chance only.

    The k-th group of a stratum lies k golden ratios behind a start that the hash of the stratum
    gives, modulo 1: any run of such points is spread evenly (Knuth, TAOCP 3, section 6.4), and
    over many strata of a few groups the starts are. What is settled comes first, then newcomers in
    the order of their hashes.
    """
    import numpy as np
    import polars as pl

    strata = grouped["stratum"].unique()
    starts = [_point(f"stratum {name}", salt) for name in strata]
    start = pl.col("stratum").replace_strict(strata, starts, return_dtype=pl.Float64)
    turn = pl.struct(pl.col("split") < 0, "point").rank("ordinal").over("stratum")
    both = grouped.with_columns(start=start, turn=turn)
    return np.mod(both["start"].to_numpy() + both["turn"].to_numpy() * GOLDEN, 1)


def _point(group: str, salt: str) -> float:
    """Where a group lies, uniform in [0, 1): the first 53 bits of a BLAKE2b digest."""
    digest = hashlib.blake2b(f"{salt}\n{group}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
