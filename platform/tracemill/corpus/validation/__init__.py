"""Validates a file of training data: every issue with line, path and mend, before a provider does.

`rules` lists what can be wrong; `lines` reads bytes, `shapes` knows the layouts, `chat` and `tools`
check them, `measure` counts tokens, repeats and personal data; `run` puts them together.
"""

from tracemill.corpus.validation.report import Cost, Group, Issue, Lengths, Report
from tracemill.corpus.validation.run import validate

__all__ = ["Cost", "Group", "Issue", "Lengths", "Report", "validate"]
