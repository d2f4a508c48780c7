"""How well a collection finds: labelled questions in, figures out, one event, and a verdict
against the version before.

The event keeps the figures; what came of each question lies beside the collection, so that two
versions are compared question by question and chance does not fail a build.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tracemill.errors import UsageError
from tracemill.events import RetrievalEvaluated
from tracemill.files import write_atomically
from tracemill.retrieval import judge, metrics
from tracemill.retrieval.metrics import Figure
from tracemill.retrieval.questions import dataset_digest
from tracemill.retrieval.relevance import right_chunks

if TYPE_CHECKING:
    import polars as pl

    from tracemill.log import EventLog
    from tracemill.retrieval.collection import Collection, Mode
    from tracemill.settings import Settings

TOLERANCE = 0.01
"""A measure that falls by no more than this, one point of a hundred, is as good as before."""
FOLDER = "evaluations"
KEPT = 20
"""How many evaluations of a collection keep what came of each question."""
_TIMED, _BATCH = 50, 256


@dataclass(frozen=True)
class Evaluation:
    """What came of a set of questions."""

    event: RetrievalEvaluated
    """As the log has it."""
    figures: dict[str, Figure]
    """Each measure with its interval."""
    outcomes: "pl.DataFrame"
    """What came of each question that has an answer; columns as `metrics.outcomes` says."""
    lost: "pl.DataFrame"
    """The questions whose place is nowhere in the collection; they count as missed."""
    judged: tuple[judge.Judged, ...] = ()
    """What came of each question that was asked, where answers were wanted."""

    @cached_property
    def missed(self) -> list[str]:
        """The ids of the questions for which no right chunk was found."""
        import polars as pl

        return self.outcomes.filter(pl.col("first").is_null())["question_id"].to_list()


class Verdict(NamedTuple):
    """Whether a version is as good as the one before it, and why."""

    passed: bool
    lines: tuple[str, ...]
    """One for each measure that was compared, or why nothing was."""


def evaluate(
    collection: "Collection",
    questions: "pl.DataFrame",
    *,
    settings: "Settings",
    log: "EventLog | None" = None,
    mode: "Mode" = "hybrid",
    k: int = 10,
    answer_model: str | None = None,
    sample: int | None = judge.SAMPLE,
    actor: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Search for every question, see at which rank a right chunk comes, and tell the log.

    Args:
        questions: as `questions.question_schema` says.
        log: gets one `retrieval.evaluated`; None: nothing is kept. Answers need a log.
        answer_model: who answers a sample of the questions, as `local/extract`; None: nobody.
        sample: how many questions are answered, chosen by hash; None: all.
        progress: is called with a number of questions done.

    Raises `UsageError` where there is no question.
    """
    import polars as pl

    if not questions.height:
        raise UsageError(f"there is no question to evaluate {collection.name} by")
    if answer_model and log is None:
        raise UsageError("answers are calls, and calls are events: evaluate with a log")
    right = right_chunks(questions, collection.chunks)
    asked = questions.filter(~pl.col("unanswerable"))
    found, latency_ms = _search(collection, asked, k, mode, progress)
    outcomes = metrics.outcomes(asked["question_id"], found, right, k)
    judged: list[judge.Judged] = []
    if answer_model and log is not None:
        judged = judge.judge(
            collection,
            judge.sample(questions, sample),
            right,
            settings=settings,
            log=log,
            model=answer_model,
            mode=mode,
            progress=progress,
        )
    figures = metrics.figures(outcomes) | judge.figures(judged)
    event = RetrievalEvaluated(
        index=collection.name,
        index_digest=collection.digest,
        embedding_model=collection.model,
        mode=mode,
        dataset_digest=dataset_digest(questions),
        questions=questions.height,
        unanswerable=questions.height - asked.height,
        metrics={name: each.value for name, each in figures.items()},
        answer_model=answer_model,
        latency_ms=latency_ms,
        actor=actor,
    )
    lost = asked.join(right, on="question_id", how="anti")
    if log is not None:
        write_atomically(_path(settings, event), outcomes.write_parquet)
        log.append(event)
        _forget(settings, event.index)
    return Evaluation(event, figures, outcomes, lost, tuple(judged))


def against_last(
    log: "EventLog",
    evaluation: Evaluation,
    *,
    settings: "Settings",
    tolerance: float = TOLERANCE,
) -> Verdict:
    """Compare with the last version of the collection that was evaluated in the same way.

    Paired on the questions that both were asked. It fails when recall, MRR or nDCG fell by more
    than the tolerance and by more than chance explains (p < 0.05, one-sided).
    """
    import polars as pl

    before = last(log, evaluation.event, settings=settings)
    if before is None:
        return Verdict(True, ("no earlier version was evaluated by these questions",))
    outcomes = pl.read_parquet(_path(settings, before), glob=False)
    changes = metrics.changes(outcomes, evaluation.outcomes)
    if not changes:
        return Verdict(True, ("no question is the same as the last time",))
    fell = [change for change in changes if change.fell(tolerance)]
    return Verdict(not fell, tuple(_line(change, change in fell, before) for change in changes))


def last(
    log: "EventLog", event: RetrievalEvaluated, *, settings: "Settings"
) -> RetrievalEvaluated | None:
    """The newest evaluation before this one, of another version, by questions of the same kind,
    of which it is known what came of each question."""
    found = None
    for recorded in log.read(stream=event.stream):
        earlier = recorded.event
        if not isinstance(earlier, RetrievalEvaluated) or earlier.event_id == event.event_id:
            continue
        alike = earlier.mode == event.mode and _kind(earlier) == _kind(event)
        if alike and earlier.index_digest != event.index_digest:
            found = earlier if _path(settings, earlier).is_file() else found
    return found


def _kind(event: RetrievalEvaluated) -> bool:
    """Whether people labelled the questions."""
    return ":" not in event.dataset_digest


def _line(change: metrics.Change, fell: bool, before: RetrievalEvaluated) -> str:
    became = f"{change.metric} {change.before:.3f} -> {change.after:.3f}"
    verdict = f"fell (p = {change.p:.3g})" if fell else "holds"
    return f"{became} {verdict}; {change.questions} questions, version {before.index_digest}"


def _search(
    collection: "Collection",
    asked: "pl.DataFrame",
    k: int,
    mode: "Mode",
    progress: Callable[[int], None] | None,
) -> "tuple[pl.DataFrame, float]":
    """question_id, rank, chunk_id; and how long one question takes, in milliseconds.

    The first questions are asked one by one, as people ask, and timed; the others in batches.
    """
    import polars as pl

    schema = {"question_id": pl.String, "rank": pl.Int64, "chunk_id": pl.String}
    parts = [pl.DataFrame(schema=schema)]
    took_s = 0.0
    start = 0
    while start < asked.height:
        batch = asked[start : start + (1 if start < _TIMED else _BATCH)]
        began = time.perf_counter()
        found = collection.search_many(batch["question"].to_list(), k, mode=mode)
        took_s += time.perf_counter() - began if start < _TIMED else 0
        parts += [
            ranked.select(pl.lit(question_id).alias("question_id"), "rank", "chunk_id")
            for question_id, ranked in zip(batch["question_id"], found, strict=True)
        ]
        start += batch.height
        if progress:
            progress(batch.height)
    return pl.concat(parts), took_s * 1000 / max(min(asked.height, _TIMED), 1)


def _path(settings: "Settings", event: RetrievalEvaluated) -> Path:
    return settings.collection(event.index) / FOLDER / f"{event.event_id}.parquet"


def _forget(settings: "Settings", collection: str) -> None:
    """Keep the newest; ids are ordered by time."""
    for path in sorted((settings.collection(collection) / FOLDER).glob("[!.]*.parquet"))[:-KEPT]:
        path.unlink(missing_ok=True)
