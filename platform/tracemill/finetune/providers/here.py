"""What training on this machine takes, and what is wrong with its examples: told before it begins."""

from decimal import Decimal
from typing import TYPE_CHECKING

from tracemill.finetune.providers import Estimate, JobSpec, Validation, issues

if TYPE_CHECKING:
    from tracemill.corpus.validation import Report


def report(job: JobSpec) -> "Report":
    """What `tracemill validate` finds in the examples that are learned from."""
    from tracemill.corpus.validation import validate

    return validate(job.training.path, min_rows=1, epochs=epochs(job) or 1, keep=issues.MOST_TOLD)


def validation(job: JobSpec, found: "Report") -> Validation:
    """All that is wrong with the examples; a classifier needs a choice."""
    errors = [*issues.errors(job.training.split, found)]
    if job.method == "classify" and len(found.answers) == 1:
        only = next(iter(found.answers))
        errors.append(
            f"every example of {job.training.split!r} has the label {only!r}: a classifier needs "
            "two at least; add records of another one"
        )
    return Validation(tuple(errors), issues.warnings(found))


def estimate(job: JobSpec, found: "Report") -> Estimate:
    """Tokens of all epochs where their number is named; it costs nothing but time."""
    often = epochs(job)
    tokens = found.lengths.total * often if found.lengths and often else None
    return Estimate(tokens, Decimal(0))


def epochs(job: JobSpec) -> int | None:
    """How often the examples are gone through at most; None where it is the trainer's choice."""
    named = job.hyperparameters.get("epochs")
    return named if isinstance(named, int) and named > 0 else None
