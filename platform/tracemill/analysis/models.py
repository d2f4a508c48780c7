"""Is a fine-tuned model better, and where: its versions and what they were held against, case by case.

Answers come from the log, where each is a call; what is right comes from the cases, which must be
those of the evaluation.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.errors import TracemillError
from tracemill.events import EvaluationFinished
from tracemill.intervals import Paired, paired, wilson
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.finetune.registry import Version
    from tracemill.log import EventLog
    from tracemill.messages import Message

BINS = 8


class Contest(NamedTuple):
    """The newest version of a model, and what was asked the same cases."""

    name: str
    versions: "list[Version]"
    """Oldest first."""
    evaluations: dict[str, EvaluationFinished]
    """`version 1`, `version 2` ... and names of what else was evaluated -> the last evaluation by
    the cases of the newest version."""
    newest: str
    """The key of the newest version that was evaluated."""
    answers: "pl.DataFrame"
    """id, asked (its last question), input and form (all of it), expected, and for each key of `evaluations` whether it was right
    (0 to 1), and `answer of KEY` where its calls are in the log."""

    @property
    def others(self) -> list[str]:
        return [key for key in self.evaluations if key != self.newest]


def contests(settings: Settings, log: "EventLog") -> list[Contest]:
    """Each classifier that was evaluated by accuracy, by name; others have no answers to count."""
    from tracemill.finetune.registry import models

    found = (_contest(settings, log, name, [*known.versions.values()])
             for name, known in sorted(models(log).items()))  # fmt: skip
    return [each for each in found if each is not None]


def differences(contest: Contest) -> dict[str, Paired]:
    """The newest version less each other one, on the same cases, with the interval for 95 %."""
    after = contest.answers[contest.newest]
    return {
        f"less {key}": paired(contest.answers[key].to_list(), after.to_list(), unit=True)
        for key in contest.others
    }


def by_label(contest: Contest) -> "pl.DataFrame":
    """Precision and recall of the newest version, label by label, beside the recall of the others.

    Columns: label, cases, precision (null for one that was never given), recall, low, high (Wilson's interval of the recall, 95 %), f1,
    and `recall of KEY` for each other; the label with the least recall first.
    """
    import polars as pl

    answers, said = contest.answers, f"answer of {contest.newest}"
    rows: list[dict[str, Any]] = []
    for (label,), part in answers.group_by("expected", maintain_order=True):
        right = int(part[contest.newest].sum())
        given = answers.filter(pl.col(said) == label).height
        recall = wilson(right / part.height, part.height)
        precision = right / given if given else None
        f1 = 2 * right / (given + part.height)
        told = {f"recall of {key}": part[key].mean() for key in contest.others}
        rows.append(
            {"label": label, "cases": part.height, "precision": precision, "recall": recall.value,
             "low": recall.low, "high": recall.high, "f1": f1, **told}
        )  # fmt: skip
    return pl.DataFrame(rows).sort("recall", "label")


def confusion(contest: Contest, key: str | None = None) -> "pl.DataFrame":
    """How often which label was given for which: expected, answer, cases; zeros are left out."""
    said = f"answer of {key or contest.newest}"
    counted = contest.answers.group_by("expected", said).len("cases")
    return counted.rename({said: "answer"}).sort("expected", "answer")


def changed(contest: Contest, before: str, *, worse: bool) -> "pl.DataFrame":
    """The cases that became wrong, or right, since another version: asked, expected, before, now.

    The answer before is null where it was no call.
    """
    import polars as pl

    fell = pl.col(contest.newest) < pl.col(before)
    rose = pl.col(contest.newest) > pl.col(before)
    found = contest.answers.filter(fell if worse else rose)
    said = {"before": f"answer of {before}", "now": f"answer of {contest.newest}"}
    return found.select(
        "asked",
        "expected",
        **{
            when: pl.col(text) if text in found.columns else pl.lit(None, pl.String)
            for when, text in said.items()
        },
    )


def confidences(settings: Settings, contest: Contest) -> "pl.DataFrame":
    """How sure the newest version is of each answer: id, confidence (0 to 1), right.

    Asked anew of the model in the warehouse; empty where its files are gone.
    """
    import numpy as np
    import polars as pl

    from tracemill.llm.trained.classifier import conversation
    from tracemill.llm.trained.served import load_classifier
    from tracemill.quality.cases import messages_of

    schema = {"id": pl.String, "confidence": pl.Float64, "right": pl.Float64}
    model = contest.evaluations[contest.newest].model
    version = next(each for each in contest.versions if each.model == model)
    try:
        loaded = load_classifier(settings.models, contest.name, version.digest)
    except TracemillError:
        return pl.DataFrame(schema=schema)
    rows = contest.answers.iter_rows(named=True)
    shown = [conversation([(turn.role, turn.text) for turn in messages_of(row)]) for row in rows]
    sure = np.exp(np.max(loaded.log_probs(shown), axis=1))
    columns = [contest.answers["id"], sure, contest.answers[contest.newest]]
    return pl.DataFrame(dict(zip(schema, columns, strict=True)), schema)


def calibration(sure: "pl.DataFrame", bins: int = BINS) -> "pl.DataFrame":
    """How often answers are right that a model is so sure of: bins of as many cases each.

    Columns: confidence (the mean), right (the share), low, high (Wilson's, 95 %), cases.
    """
    import polars as pl

    ordered = sure.sort("confidence", "id").with_row_index("row")
    parts = ordered.group_by((pl.col("row") * bins // max(sure.height, 1)).alias("bin"))
    means = parts.agg(pl.col("confidence", "right").mean(), pl.len().alias("cases")).sort("bin")
    ends = [wilson(right, n) for right, n in means.select("right", "cases").iter_rows()]
    return means.select(
        "confidence",
        "right",
        pl.Series("low", [each.low for each in ends], pl.Float64),
        pl.Series("high", [each.high for each in ends], pl.Float64),
        pl.col("cases").cast(pl.Int64),
    )


def calibration_error(table: "pl.DataFrame") -> float:
    """How far confidence is from the share that is right, on average over cases (Guo et al. 2017)."""
    import polars as pl

    apart = (pl.col("confidence") - pl.col("right")).abs() * pl.col("cases")
    return float(table.select(apart.sum() / pl.col("cases").sum()).item() or 0.0)


def _contest(
    settings: Settings, log: "EventLog", name: str, versions: "list[Version]"
) -> Contest | None:
    from tracemill.quality.evaluate import listed

    keys = {version.model: f"version {n}" for n, version in enumerate(versions, 1)}
    found = [each for each in listed(log, name=name) if "accuracy" in each.metrics]
    of_versions = [each for each in found if each.model in keys]
    if not of_versions:
        return None
    best = max(of_versions, key=lambda each: list(keys).index(each.model))
    evaluations: dict[str, EvaluationFinished] = {}
    for each in found:
        if each.dataset_digest == best.dataset_digest:
            evaluations.setdefault(keys.get(each.model, each.model), each)
    ordered = dict(sorted(evaluations.items(), key=lambda each: _rank(each[0])))
    answers = _answers(settings, log, name, ordered)
    if answers is None:
        return None
    return Contest(name, versions, ordered, keys[best.model], answers)


def _rank(key: str) -> tuple[int, str]:
    """What is no version first, then versions in their order."""
    number = key.removeprefix("version ")
    return (int(number), "") if number.isdigit() else (0, key)


def _answers(
    settings: Settings, log: "EventLog", name: str, evaluations: dict[str, EvaluationFinished]
) -> "pl.DataFrame | None":
    """See `Contest.answers`; None where the cases are no longer those that were asked."""
    import polars as pl

    from tracemill.quality.cases import messages_of
    from tracemill.quality.evaluate import case_scores

    one = next(iter(evaluations.values()))
    cases = _cases(settings, name, one.dataset_digest)
    if cases is None:
        return None
    asked = pl.Series([_asked(messages_of(row)) for row in cases.iter_rows(named=True)])
    right = pl.col("expected").list.first()
    table = cases.select("id", "input", "form", asked.alias("asked"), expected=right)
    for key, each in evaluations.items():
        scores = case_scores(log, each.evaluation_id)
        told = scores.select("id", pl.col("accuracy").alias(key))
        if scores["call_id"].null_count() < scores.height:
            said = log.sql(
                "SELECT call_id, answer FROM calls WHERE call_id IN (SELECT unnest($ids))",
                {"ids": scores["call_id"].drop_nulls().to_list()},
            )
            both = scores.select("id", "call_id").join(said, on="call_id", how="left")
            told = told.join(both.select("id", pl.col("answer").alias(f"answer of {key}")), on="id")
        table = table.join(told, on="id", how="left")
    return table.sort("expected", "asked", "id")


def _asked(turns: "Sequence[Message]") -> str:
    return next((turn.text for turn in reversed(turns) if turn.role == "user"), "")


def _cases(settings: Settings, name: str, digest: str) -> "pl.DataFrame | None":
    """The cases with this digest: of the recipe's sets, or of the split `test`."""
    import polars as pl

    from tracemill.finetune.recipe import recipes
    from tracemill.quality.cases import Cases, named_set, of_split

    recipe = recipes(settings).get(name)
    if recipe is None:
        return None

    def of_sets() -> Cases:
        sets = [named_set(settings, each) for each in recipe.evaluation.sets]
        return Cases("+".join(recipe.evaluation.sets), pl.concat(each.frame for each in sets))

    def of_test() -> Cases:
        return of_split(settings, name, recipe)

    ways: Sequence[Callable[[], Cases]] = (of_sets,) if recipe.evaluation.sets else (of_test,)
    for way in ways:
        try:
            cases = way().sample(recipe.evaluation.max_cases)
        except TracemillError:
            continue
        if cases.digest == digest:
            return cases.frame
    return None
