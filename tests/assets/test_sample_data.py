"""The sample warehouse: what was planted is what the steps find, and notebooks can ask about it."""

from pathlib import Path

import polars as pl
import pytest

from assets.sample_data import models, raw, sample, write_sample_data
from tracemill.analysis import dataset, families, retrieval
from tracemill.analysis import models as contests
from tracemill.finetune import registry
from tracemill.log import EventLog
from tracemill.settings import Settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The whole sample; nobody changes it."""
    folder = tmp_path_factory.mktemp("sample") / "warehouse"
    made = Settings(warehouse=folder, harvest_installed=False)
    write_sample_data(made)
    return made


def dropped(settings: Settings) -> dict[str, int]:
    """Reason -> records or lines, all steps together."""
    return dict(dataset.left_out(settings).group_by("reason").agg(pl.col("records").sum()).rows())


def test_every_planted_fault_is_found_and_nothing_else(settings: Settings):
    planted, found = sample().planted, dropped(settings)
    spanish = 16
    assert found == {
        "not JSON": 2,
        "assistant_response is a list, not text": 1,
        **{reason: 1 for reason in found if reason.startswith(("no ", "not an object"))},
        "language: es is not en or de or fr": spanish,
        "basic.refusal: answer declines": planted.refusals,
        "basic.short_answer: answer under 10 characters": planted.short,
        "over 400 tokens": planted.long,
        "near duplicate": sum(planted.families.values()) - len(planted.families),
        "exact duplicate": planted.exact,
        "13-gram of the evaluation set held-out": len(planted.contaminated),
    }
    assert dataset.refused(settings).height == sum(planted.unreadable.values())


def test_planted_personal_data_is_counted_and_gone(settings: Settings):
    found = dict(dataset.personal(settings).select("kind", "found").iter_rows())
    assert found == sample().planted.personal
    assert dataset.still_personal(settings) == 0


def test_questions_planted_in_two_wordings_would_leak_and_do_not(settings: Settings):
    leaks = {row["what"]: row for row in dataset.leaks(settings).iter_rows(named=True)}
    assert {what: row["found"] for what, row in leaks.items()} == dict.fromkeys(leaks, 0)
    assert leaks["nearly the same question"]["alone"] > len(sample().planted.twins) / 2
    assert "in the evaluation held-out" in leaks
    sides = dict(dataset.written(settings).select("question", "split").iter_rows())
    pairs = [pair for pair in sample().planted.twins if all(each in sides for each in pair)]
    assert len(pairs) > 50
    assert all(sides[one] == sides[other] for one, other in pairs)


def test_a_leak_is_counted(settings: Settings, tmp_path: Path):
    """One record of the training split is put into the test split too, in other words at its end."""
    import shutil

    from tracemill.corpus.write import current

    copy = Settings(warehouse=Path(shutil.copytree(settings.warehouse, tmp_path / "warehouse")))
    folder = current(copy.splits).path
    one = pl.read_parquet(folder / "train.parquet").head(1)
    test = pl.read_parquet(folder / "test.parquet")
    leaked = one.with_columns(split=pl.lit("test"), record_id=pl.lit("b2:leaked"))
    pl.concat([test, leaked]).write_parquet(folder / "test.parquet")
    found = dict(dataset.leaks(copy).select("what", "found").iter_rows())
    assert found["nearly the same record"] == 2
    assert found["of one group"] == 2


def test_families_have_a_line_between_each_two_and_are_drawn(settings: Settings):
    largest = dataset.families(settings, most=4)
    sizes = sorted(sample().planted.families.values(), reverse=True)
    assert [len(each.members) for each in largest] == sizes[:4]
    for family in largest:
        size = len(family.members)
        assert len(family.pairs) == size * (size - 1) / 2
        assert all(pair.jaccard >= 0.8 for pair in family.pairs)
    drawn = families.clusters("Families", largest, period="")
    figures = {text.get_text() for text in drawn.axes[0].texts}
    assert f"{largest[-1].pairs[0].jaccard:.2f}" in figures
    why = dataset.explained(settings, largest[0].members[1])
    assert (why.kept_id, why.reason) == (largest[0].kept_id, "near duplicate")


def test_the_handbook_is_asked_and_its_misses_can_be_read(settings: Settings):
    with EventLog.open(settings) as log:
        (asked,) = retrieval.evaluated(settings, log)
        said = retrieval.not_found(asked, log)
    assert (asked.event.index, asked.by_people, asked.is_current) == (raw.COLLECTION, True, True)
    everything = retrieval.recall(asked).filter(kind="all questions")
    assert dict(everything.select("k", "value").iter_rows()) == pytest.approx(
        {k: asked.event.metrics[f"recall@{k}"] for k in (1, 5, 10)}
    )
    ranks = dict(retrieval.ranks(asked).iter_rows())
    misses = retrieval.misses(asked)
    assert misses.height == asked.outcomes.height - ranks["1"]
    assert misses["rank"].null_count() == ranks[retrieval.NOWHERE]
    assert (misses["right_text"] != misses["instead_text"]).all()
    assert said.height == asked.event.questions
    assert said.filter(~pl.col("answerable"))["said"].all()


def test_the_second_version_is_better_and_in_production(settings: Settings):
    with EventLog.open(settings) as log:
        serving = registry.production(log, models.NAME)
        (contest,) = contests.contests(settings, log)
    assert list(contest.evaluations) == ["majority", "version 1", "version 2"]
    assert serving is not None
    assert serving.model == contest.evaluations["version 2"].model
    differences = contests.differences(contest)
    assert all(each.low > 0 for each in differences.values())
    changed = [contests.changed(contest, "version 1", worse=each).height for each in (True, False)]
    assert sum(changed) == differences["less version 1"].changed
    assert contests.by_label(contest)["cases"].sum() == contest.answers.height
    assert contests.confusion(contest)["cases"].sum() == contest.answers.height
    sure = contests.calibration(contests.confidences(settings, contest))
    assert sure["cases"].sum() == contest.answers.height
    assert contests.calibration_error(sure) < 0.1


def test_an_empty_warehouse_has_no_answers_and_no_errors(tmp_path: Path):
    empty = Settings(warehouse=tmp_path / "warehouse").create()
    frames = (dataset.steps, dataset.left_out, dataset.refused, dataset.written, dataset.leaks)
    assert [function(empty).height for function in frames] == [0] * len(frames)
    assert (dataset.families(empty), dataset.card(empty)) == ([], {})
    with EventLog.open(empty) as log:
        assert (retrieval.evaluated(empty, log), contests.contests(empty, log)) == ([], [])


def test_the_same_files_are_written_each_time():
    assert sample() == sample()
