"""Which records train, validate and test: decided by each record's duplicate group alone.

A salted hash of the group puts it at a fixed point between 0 and 1, so a record never changes its
split when others arrive, and the members of a group are never on two sides.
"""

import hashlib
from collections.abc import Mapping
from itertools import accumulate, pairwise
from math import isclose
from typing import TYPE_CHECKING

from tracemill.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

RATIOS = {"train": 0.9, "validation": 0.05, "test": 0.05}


def split(
    frame: "pl.DataFrame", ratios: Mapping[str, float] = RATIOS, salt: str = "0"
) -> "pl.DataFrame":
    """The frame with a column `split`.

    Args:
        frame: records with `group_id`.
        ratios: split -> its share; they sum to 1. The shares are met in expectation.
        salt: another salt is another, independent split.

    Raises UsageError when a share is negative or the shares do not sum to 1.
    """
    import polars as pl

    if min(ratios.values(), default=0) < 0 or not isclose(sum(ratios.values()), 1):
        raise UsageError(f"the shares of a split are at least 0 and sum to 1, not {dict(ratios)}")
    point = pl.Series("point", [_point(group, salt) for group in frame["group_id"]], pl.Float64)
    edges = list(accumulate(ratios.values(), initial=0.0))
    name = pl.lit(next(each for each in reversed(ratios) if ratios[each]))
    for share, (_, upper) in reversed(list(zip(ratios, pairwise(edges), strict=True))):
        name = pl.when(pl.col("point") < upper).then(pl.lit(share)).otherwise(name)
    return frame.with_columns(point).with_columns(split=name).drop("point")


def _point(group: str, salt: str) -> float:
    """Where a group lies, uniform in [0, 1): the first 53 bits of a BLAKE2b digest."""
    digest = hashlib.blake2b(group.encode(), digest_size=8, key=salt.encode()).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
