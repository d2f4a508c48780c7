"""How sure a figure is: Wilson's interval of a share, and how many cases a claim takes."""

import math
from typing import NamedTuple

TWO_SIDED_95 = 1.959963984540054
"""How many standard deviations hold 95 % of a normal distribution."""


class Interval(NamedTuple):
    """A figure, and where the true one lies in 95 of 100 cases."""

    value: float
    low: float
    high: float
    n: int
    """Over how many cases."""


def wilson(share: float, n: int) -> Interval:
    """The interval of a share of n cases by Wilson (1927), for 95 %.

    Means of other values from 0 to 1 spread less than a share does: for them it is on the safe side.
    Of no case at all everything is possible.
    """
    if not n:
        return Interval(math.nan, 0.0, 1.0, 0)
    z2 = TWO_SIDED_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    spread = share * (1 - share) / n + z2 / (4 * n**2)
    half = TWO_SIDED_95 * math.sqrt(max(spread, 0)) / (1 + z2 / n)
    # The share itself is inside, which rounding would deny at 0 and at 1.
    low, high = min(share, middle - half), max(share, middle + half)
    return Interval(share, max(0.0, low), min(1.0, high), n)
