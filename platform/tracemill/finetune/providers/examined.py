"""What a hosted trainer would refuse, and what training would cost: told before anything is sent."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import TYPE_CHECKING

from tracemill.finetune.providers import Estimate, JobSpec, Part, Validation, issues
from tracemill.finetune.providers.wires import Facts, file_of, known_model

if TYPE_CHECKING:
    from tracemill.corpus.validation import Report


def report(facts: Facts, job: JobSpec, part: Part) -> "Report":
    """What `tracemill validate` finds in a file, by the limits of the job's model."""
    from tracemill.corpus.validation import validate

    return validate(
        file_of(job, part).path,
        model=_limits_of(facts, job),
        min_rows=facts.min_rows if part == "training" else 1,
        epochs=epochs(facts, job),
        keep=issues.MOST_TOLD,
    )


def validation(
    facts: Facts, job: JobSpec, reports: Mapping[Part, "Report"], today: date
) -> Validation:
    """All that is wrong with a job, before anything is sent.

    Args:
        facts: of the trainer.
        job: what is wanted.
        reports: of its files.
        today: warnings `closing` and `shutdown` count from here.
    """
    errors = [*_of_the_job(facts, job)]
    for part, found in reports.items():
        errors += issues.errors(part, found)
    warnings = issues.warnings(*reports.values())
    known = known_model(facts, job.base_model)
    if facts.last_jobs and today > facts.last_jobs:
        warnings["closing"] = 1
    if known and known.shutdown_date and today >= known.shutdown_date:
        warnings["shutdown"] = 1
    return Validation(tuple(errors), warnings)


def estimate(facts: Facts, job: JobSpec, found: "Report") -> Estimate:
    """Tokens of the training file, each epoch anew, times the price of the model."""
    if found.lengths is None:
        return Estimate(None, None)
    tokens = found.lengths.total * epochs(facts, job)
    known = known_model(facts, job.base_model)
    price = known.usd_per_million if known else None
    return Estimate(tokens, None if price is None else price * tokens / 1_000_000)


def epochs(facts: Facts, job: JobSpec) -> int:
    """How often the examples are gone through; the provider's custom where it is left to it."""
    named = job.hyperparameters.get(facts.epochs)
    return named if isinstance(named, int) and named > 0 else facts.usual_epochs


def _of_the_job(facts: Facts, job: JobSpec) -> Iterator[str]:
    if job.method not in facts.methods:
        yield (
            f"{facts.title} trains no `{job.method}`: method is one of {', '.join(facts.methods)}"
        )
    else:
        known = facts.hyperparameters[job.method]
        for name in job.hyperparameters.keys() - known:
            yield (
                f"hyperparameters: {facts.title} has no {name!r} for `{job.method}`; "
                f"it has {', '.join(sorted(known))}"
            )
    for file in (job.training, job.validation):
        if file and file.size_bytes > facts.max_file_bytes:
            yield (
                f"{file.path.name} has {file.size_bytes / 1e6:,.0f} MB, and {facts.title} takes "
                f"files of up to {facts.max_file_bytes / 1e6:,.0f} MB: leave records out"
            )


def _limits_of(facts: Facts, job: JobSpec) -> str | None:
    """The name by which `corpus.trainable` knows the limits; None where it has none of a trainer."""
    known = known_model(facts, job.base_model)
    return known.name if known else job.base_model if facts.models else None
