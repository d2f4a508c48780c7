"""Which records train, validate and test: decided by each record's duplicate group alone.

A salted hash of the group puts it at a fixed point between 0 and 1, so a record never changes its
split when others arrive, and the members of a group are never on two sides.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
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
    edges = [round(edge, 12) for edge in accumulate(ratios.values())]
    points = [_point(group, salt) for group in frame["group_id"]]
    names = pl.Series(list(ratios), dtype=pl.String)
    chosen = [min(bisect_right(edges, point), len(edges) - 1) for point in points]
    return frame.with_columns(split=names.gather(pl.Series(chosen, dtype=pl.UInt32)))


def _point(group: str, salt: str) -> float:
    """Where a group lies, uniform in [0, 1): the first 53 bits of a BLAKE2b digest."""
    digest = hashlib.blake2b(f"{salt}\n{group}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
