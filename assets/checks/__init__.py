"""Asset checks that hold what is there against what was there before: they warn, and stop nothing.

`verdicts` judges frames, `of_calls` asks the log, `of_tables` the records of what assets made.
"""

from assets.checks.of_calls import calls_against_their_past
from assets.checks.of_tables import TABLE_CHECKS

__all__ = ["TABLE_CHECKS", "calls_against_their_past"]
