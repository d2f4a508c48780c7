"""Which signatures meet: equal in all rows of a band. How many bands and rows, and what is missed.

A pair of similarity s meets in one of b bands of r rows with probability 1 - (1 - s^r)^b
(Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4.2).
"""

import math
from typing import Literal, NamedTuple, TypeAlias

from tracemill.corpus.sketch import PERMUTATIONS

RECALL = 0.998
"""The least share of pairs just at the threshold that must meet; of all pairs above it, more."""
STRICT = 0.9999
"""For a check of what was found by `RECALL`: other bands, so that it does not miss the same."""
DEVIATIONS = 4
"""A pair is verified unless its signatures promise less than the threshold by so many standard
deviations of a binomial estimate: 1 pair in 30,000 at the threshold is lost."""
WINDOW = 256
"""With how many texts of one bucket a text is compared, the next in rank; a template in a hundred
thousand variants that are no duplicates would cost the square of their number."""

Policy: TypeAlias = Literal["star", "component"]


class Rule(NamedTuple):
    """When two texts are near-duplicates, and which of them stays."""

    threshold: float
    """Least Jaccard similarity of the shingles, in (0, 1]."""
    policy: Policy
    """`star`: each dropped text is that similar to the one that stays. `component`: to any."""
    bands: int
    rows: int

    @property
    def slots(self) -> int:
        """How many of the minima must be equal for a pair to be worth verifying."""
        error = math.sqrt(self.threshold * (1 - self.threshold) / PERMUTATIONS)
        return math.ceil(PERMUTATIONS * (self.threshold - DEVIATIONS * error))


def rule(threshold: float, policy: Policy = "star", recall: float = RECALL) -> Rule:
    """The rule for a threshold, with `bands` for it."""
    return Rule(threshold, policy, *bands(threshold, recall))


def bands(threshold: float, recall: float = RECALL) -> tuple[int, int]:
    """Bands and rows: the most rows that still reach the recall for pairs at the threshold.

    datasketch weighs the areas of missed and of needless pairs instead, each by one half; that
    gives 9 x 13 at 0.8, which finds 40 % of the pairs there. What is needless costs only time here,
    as each pair is verified; what is missed stays in the data. Hence 21 x 6, which finds 99.8 %
    there and 99.95 % of all pairs above. `datasketch.MinHashLSH(params=...)` takes either.

    Args:
        threshold: Jaccard similarity, in (0, 1].
        recall: the least share of pairs at the threshold that meet in a band.
    """
    for rows in range(PERMUTATIONS // 2, 1, -1):
        count = PERMUTATIONS // rows
        if meeting(threshold, count, rows) >= recall:
            return count, rows
    return PERMUTATIONS, 1


def meeting(similarity: float, bands: int, rows: int) -> float:
    """The probability that a pair of this similarity meets in a band: the S-curve of LSH."""
    return 1 - (1 - similarity**rows) ** bands
