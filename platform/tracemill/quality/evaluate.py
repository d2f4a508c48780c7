"""Put cases to a model or a function, score the answers, and tell the log in one piece.

Each answer of a model is an ordinary call in the log. What the evaluation found is appended at its
end, all or nothing: one that was interrupted leaves its calls and nothing else.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tracemill.errors import UsageError
from tracemill.events import CasesScored, EvaluationFinished, new_id
from tracemill.intervals import Interval, mean
from tracemill.quality import ask, statistical
from tracemill.quality.consistency import consistency
from tracemill.quality.statistical import Direction

if TYPE_CHECKING:
    import polars as pl

    from tracemill.llm.client import Client
    from tracemill.llm.prompts import Prompt
    from tracemill.log import EventLog
    from tracemill.quality.cases import Cases
    from tracemill.quality.scorers import Scorer

NAME = re.compile(r"[^\x00-\x1f]{1,200}")
CASES_AN_EVENT = 1_000
_LOCAL = ("local/", "ft:local:")
_LENGTH = 36
"""Of an id as it stands in the log."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came of a set of cases."""

    event: EvaluationFinished
    """As the log has it."""
    answers: "pl.DataFrame"
    """One row for each case and sample: the columns of the cases, sample, those of `Answer`, and one
    for each figure."""
    scores: "pl.DataFrame"
    """One row for each case: id, and a column for each figure, the mean over its samples."""
    units: Mapping[str, bool]
    """Figure -> whether its values lie from 0 to 1."""

    def by_tag(self) -> "pl.DataFrame":
        """Each figure for the cases of each tag: tag, figure, value, low, high, n."""
        import polars as pl

        tags = self.answers.filter(sample=0).select("id", pl.col("tags").alias("tag"))
        tagged = tags.explode("tag").drop_nulls("tag").join(self.scores, on="id")
        rows = [
            (tag, figure, *mean(part[figure].drop_nulls().to_numpy(), unit=self.units[figure]))
            for (tag,), part in sorted(tagged.group_by("tag"), key=lambda each: str(each[0]))
            for figure in self.event.metrics
            if part[figure].count()
        ]
        return pl.DataFrame(rows, schema=["tag", "figure", *Interval._fields], orient="row")

    def wrong(self, figure: str) -> "pl.DataFrame":
        """The answers that have less than all of a figure."""
        import polars as pl

        return self.answers.filter(pl.col(figure) < 1)


class _Asked(NamedTuple):
    """Everything that was said of one evaluation."""

    evaluation_id: str
    cases: "Cases"
    scorers: "Sequence[Scorer]"
    samples: int


def evaluate(
    client: "Client",
    cases: "Cases",
    *,
    model: str | Callable[[Any], Any],
    scorers: "Sequence[Scorer]",
    name: str | None = None,
    samples: int = 1,
    prompt: "Prompt | None" = None,
    thresholds: Mapping[str, float] | None = None,
    asked: Mapping[str, Any] | None = None,
    actor: str | None = None,
    concurrency: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Ask each case so many times, score what comes back, and tell the log.

    Args:
        client: makes the calls; its log gets the evaluation.
        model: a name for `Request.model`, or a function of a case's input: see `ask.of_function`.
        scorers: figures; of those in `scorers.SCORERS`, or your own.
        name: what is evaluated; None: the model.
        samples: how often each case is asked; with two or more there is a figure `consistency`.
        prompt: a registered prompt that the inputs are the values of.
        thresholds: figure -> what the end of its interval has to reach: the lower end, or the
            upper one for figures of which less is better.
        asked: further fields of the requests, such as `temperature` and `response_schema`.
        concurrency: calls under way at a time; None: 8, and 1 for what runs here.
        progress: is called with 1 for each answer.

    An answer that is missing counts as wrong. Money is that of all answers, None where a price is
    not known. Raises `CallFailed` where no call can succeed, such as without a key, and
    `UsageError` for what cannot be measured. Then, or when it is interrupted, the log has the
    calls that were made and no evaluation.
    """
    thresholds = thresholds or {}
    _check(cases, scorers, samples, thresholds)
    if not NAME.fullmatch(name or ask.label(model)):
        raise UsageError(f"a name has 1 to 200 characters that can be printed, not {name!r:.80}")
    this = _Asked(new_id(), cases, scorers, samples)
    answers = ask.unasked(cases)
    if any(each.score for each in scorers):
        more: Any = {"prompt": prompt, "asked": asked, "actor": actor}
        function = (
            ask.of_model(client, model, evaluation_id=this.evaluation_id, **more)
            if isinstance(model, str)
            else ask.of_function(model)
        )
        at_once = concurrency or (1 if _is_here(model) else ask.CONCURRENT)
        answers = ask.ask_all(
            cases, function, samples=samples, concurrency=at_once, progress=progress
        )
    answers = _scored(client, model, answers, scorers)
    scores = _by_case(answers, this)
    about: dict[str, Any] = {
        "name": name or ask.label(model),
        "model": ask.label(model),
        "prompt_name": prompt.name if prompt else None,
        "prompt_version": prompt.version if prompt else None,
        "actor": actor,
    }
    event = _event(this, answers, scores, thresholds, about)
    client.log.append([*_parts(answers, scores, event), event])
    return Evaluation(event, answers, scores, _units(scorers, samples))


def latest(
    log: "EventLog",
    *,
    name: str,
    model: str,
    dataset_digest: str,
    prompt_version: str | None = None,
    samples: int = 1,
    figures: Sequence[str] = (),
    thresholds: Mapping[str, float] | None = None,
) -> EvaluationFinished | None:
    """The newest evaluation of the same: whose model is deterministic need not be asked again.

    Args:
        figures: it has all of these.
        thresholds: it was held against just these; None: any.
    """
    found = log.arrow(
        "SELECT substr(stream, 12) AS id FROM events WHERE kind = 'evaluation.finished' "
        "AND payload ->> '$.name' = $name AND payload ->> '$.model' = $model "
        "AND payload ->> '$.dataset_digest' = $digest ORDER BY position DESC",
        {"name": name, "model": model, "digest": dataset_digest},
    )
    for one in found.column("id").to_pylist():
        event = get(log, str(one))
        same = event.prompt_version == prompt_version and event.samples == samples
        same = same and event.metrics.keys() >= set(figures)
        if same and (thresholds is None or event.thresholds == dict(thresholds)):
            return event
    return None


def listed(
    log: "EventLog", *, name: str | None = None, most: int | None = None
) -> list[EvaluationFinished]:
    """The evaluations in the log, newest first; at most so many."""
    found = log.arrow(
        "SELECT substr(stream, 12) AS id FROM events WHERE kind = 'evaluation.finished' "
        "AND ($name IS NULL OR payload ->> '$.name' = $name) ORDER BY position DESC LIMIT $most",
        {"name": name, "most": most or 1_000_000},
    )
    return [get(log, str(one)) for one in found.column("id").to_pylist()]


def get(log: "EventLog", evaluation_id: str) -> EvaluationFinished:
    """An evaluation by its id, or by the beginning or end of one. Raises `UsageError` for none."""
    whole = evaluation_id if len(evaluation_id) == _LENGTH else _whole(log, evaluation_id)
    for recorded in log.read(stream=f"evaluation:{whole}", kinds={"evaluation.finished"}):
        return cast("EvaluationFinished", recorded.event)
    raise UsageError(
        f"there is no finished evaluation {whole} in the log: `tracemill evals ls` lists those "
        "that there are"
    )


def case_scores(log: "EventLog", evaluation_id: str) -> "pl.DataFrame":
    """The cases of an evaluation: id, call_id, and a column for each figure."""
    import polars as pl

    parts = [
        pl.DataFrame(
            {"id": part.case_ids, "call_id": part.call_ids or None, **part.scores},
            schema={
                "id": pl.String,
                "call_id": pl.String,
                **dict.fromkeys(part.scores, pl.Float64),
            },
        )
        for part in (each.event for each in log.read(stream=f"evaluation:{evaluation_id}"))
        if isinstance(part, CasesScored)
    ]
    if not parts:
        raise UsageError(f"the log has no cases of an evaluation {evaluation_id}")
    return pl.concat(parts, how="diagonal")


def _is_here(model: str | Callable[[Any], Any]) -> bool:
    return not isinstance(model, str) or model.startswith(_LOCAL)


def _event(
    this: _Asked,
    answers: "pl.DataFrame",
    scores: "pl.DataFrame",
    thresholds: Mapping[str, float],
    about: dict[str, Any],
) -> EvaluationFinished:
    figures = _figures(scores, this)
    told = {figure: statistical.measured(each) for figure, each in figures.items()}
    directions: dict[str, Direction] = {each.name: each.direction for each in this.scorers}
    decided = statistical.decide(figures, thresholds, directions)
    latency_ms = answers["latency_ms"].median()
    return EvaluationFinished(
        evaluation_id=this.evaluation_id,
        **about,
        dataset=this.cases.name,
        dataset_digest=this.cases.digest,
        cases=len(this.cases),
        samples=this.samples,
        failed=answers["error_type"].count(),
        metrics={figure: each for figure, each in told.items() if each},
        thresholds=dict(thresholds),
        outcome=decided.outcome,
        reason=decided.reason,
        cost_usd=_cost(answers),
        latency_ms=latency_ms if isinstance(latency_ms, float) else None,
        correlation_id=this.evaluation_id,
    )


def _whole(log: "EventLog", given: str) -> str:
    wanted = given.strip().lower()
    table = log.arrow(
        "SELECT DISTINCT substr(stream, 12) AS id FROM events WHERE kind = 'evaluation.finished' "
        "AND (starts_with(id, $wanted) OR ends_with(id, $wanted))",
        {"wanted": wanted},
    )
    found = [str(each) for each in table.column("id").to_pylist()]
    if len(found) == 1 and wanted:
        return found[0]
    why = f"{len(found)} evaluations match" if found else "no evaluation matches"
    raise UsageError(f"{why} {given!r}: `tracemill evals ls` lists them")


def _check(
    cases: "Cases", scorers: "Sequence[Scorer]", samples: int, thresholds: Mapping[str, float]
) -> None:
    names = [each.name for each in scorers]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"an evaluation takes figures, each once, not {names or 'none'}")
    if samples < 1:
        raise UsageError(f"samples is how often each case is asked, 1 or more, not {samples}")
    measured = {*names, "consistency"} if samples > 1 else set(names)
    if unknown := sorted(thresholds.keys() - measured):
        raise UsageError(
            f"there is a threshold for {unknown[0]}, which is not measured: {', '.join(names)} are"
        )
    if not cases.frame["id"].is_unique().all():
        raise UsageError(f"{cases.name}: two cases have the same id: ids pair evaluations")
    expects = [each.name for each in scorers if each.needs_expected]
    if expects and not cases.frame["expected"].list.len().sum():
        raise UsageError(
            f"{cases.name}: no case says what is expected, and {expects[0]} is measured by that"
        )


def _scored(
    client: "Client",
    model: str | Callable[[Any], Any],
    answers: "pl.DataFrame",
    scorers: "Sequence[Scorer]",
) -> "pl.DataFrame":
    """The answers with a column for each figure."""
    import polars as pl

    rows = answers.with_row_index("row")
    there = rows.filter(pl.col("answer").is_not_null())
    for each in scorers:
        if each.measure:
            if not isinstance(model, str):
                raise UsageError(f"{each.name} is measured of models that were trained here")
            found = each.measure(client, model, answers)
            answers = answers.with_columns(found.alias(each.name))
            continue
        assert each.score is not None
        values = there.select("row").with_columns(each.score(there).alias(each.name))
        column = rows.join(values, on="row", how="left", maintain_order="left")[each.name]
        if each.direction == "higher":
            wrong = pl.when(answers["answer"].is_null()).then(0.0)
            column = pl.select(wrong.otherwise(column).alias(each.name)).to_series()
        if each.needs_expected:
            said = answers["expected"].list.len() > 0
            column = pl.select(pl.when(said).then(column)).to_series()
        answers = answers.with_columns(column.alias(each.name))
    return answers


def _by_case(answers: "pl.DataFrame", this: _Asked) -> "pl.DataFrame":
    import polars as pl

    names = [each.name for each in this.scorers]
    means = answers.group_by("id", maintain_order=True).agg(pl.col(names).mean())
    if this.samples == 1:
        return means
    agreed = consistency(answers.select("id", "answer")).cases
    agreed = agreed.select("id", pl.col("mean").alias("consistency"))
    return means.join(agreed, on="id", maintain_order="left")


def _figures(scores: "pl.DataFrame", this: _Asked) -> dict[str, Interval]:
    """Each figure over the cases that have it; samples of one case are not cases of their own."""
    return {
        figure: mean(scores[figure].drop_nulls().to_numpy(), unit=unit)
        for figure, unit in _units(this.scorers, this.samples).items()
        if scores[figure].count()
    }


def _units(scorers: "Sequence[Scorer]", samples: int) -> dict[str, bool]:
    units = {each.name: each.unit for each in scorers}
    return units | {"consistency": True} if samples > 1 else units


def _cost(answers: "pl.DataFrame") -> Decimal | None:
    """Of all answers; None where one has no known price."""
    answered = answers.filter(answers["answer"].is_not_null())["cost_usd"]
    if answered.null_count():
        return None
    return Decimal(answers["cost_usd"].sum() or 0)


def _parts(
    answers: "pl.DataFrame", scores: "pl.DataFrame", event: EvaluationFinished
) -> list[CasesScored]:
    import polars as pl

    calls = answers.group_by("id", maintain_order=True).agg(pl.col("call_id").first())
    rows = scores.join(calls, on="id", maintain_order="left")
    figures = [name for name in scores.columns if name != "id"]
    return [
        CasesScored(
            evaluation_id=event.evaluation_id,
            case_ids=tuple(part["id"]),
            scores={name: tuple(part[name]) for name in figures},
            call_ids=tuple(part["call_id"]) if part["call_id"].count() else (),
            actor=event.actor,
            correlation_id=event.correlation_id,
        )
        for part in rows.iter_slices(CASES_AN_EVENT)
    ]
