"""What `tracemill validate` finds in a file of examples, as a trainer tells it of a job."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracemill.corpus.validation import Report

MOST_TOLD = 20
"""Issues of one kind that are told one by one."""


def errors(where: str, found: "Report") -> Iterator[str]:
    """Sentences that name the line and the mend. `where` is the file, in people's words."""
    for group in found.groups:
        if group.level != "error":
            continue
        for issue in group.issues:
            line = f"line {issue.line}" if issue.line else "the file"
            at = f" at {issue.path}" if issue.path else ""
            said = f" ({issue.message})" if issue.message else ""
            yield f"{where}: {line}{at}: {group.what}{said}: {group.mend}"
        if (more := group.count - len(group.issues)) > 0:
            yield f"{where}: {more:,} more lines with: {group.what}"


def warnings(*reports: "Report") -> dict[str, int]:
    """The codes of what is odd and may be meant, and how often."""
    found = Counter[str]()
    for report in reports:
        for group in report.groups:
            if group.level == "warning":
                found[group.code] += group.count
    return dict(found)
