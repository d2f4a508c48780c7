"""The assets, run by Dagster over a small warehouse: what they leave, and what they leave alone."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets import automation, cleaning, corpus, distinct, reports, retrieval, sources, splits
from assets.warehouse import Warehouse, code_of
from tests.assets.conftest import First, Materialize, Runs
from tracemill.corpus.write import current
from tracemill.log import EventLog
from tracemill.retrieval.answer import ask
from tracemill.settings import Settings

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def warehouse(settings: Settings) -> Warehouse:
    return Warehouse(changed=settings.model_dump(mode="json", exclude_none=True))


def shown(result: Runs) -> dict[str, dict[str, Any]]:
    """Asset name -> what its page shows."""
    found = (event.materialization for event in result.get_asset_materialization_events())
    return {
        each.label.rpartition(" ")[2]: {name: value.value for name, value in each.metadata.items()}
        for each in found
    }


def passes(check: Any, settings: Settings) -> bool:
    """A check on its own, on what lies in the warehouse now."""
    return check(warehouse=warehouse(settings)).passed


def made(result: Runs) -> set[str]:
    """The assets that were not left as they were."""
    return {name for name, each in shown(result).items() if not each["unchanged"]}


def test_records_become_splits_and_documents_an_index_that_answers(first: First, built: Settings):
    rows = {name: each["dagster/row_count"] for name, each in shown(first.result).items()}
    assert rows == {
        "installed_records": 0,
        "raw_records": 8,
        "clean_records": 8,
        "protected_records": 8,
        "fitting_records": 8,
        "unique_records": 7,
        "distinct_records": 7,
        "decontaminated_records": 7,
        "training_splits": 7,
        "quarantine": 2,
        "documents": 2,
        "chunks": rows["chunks"],
        "embeddings": rows["chunks"],
        "chunk_index": rows["chunks"],
        "evaluation": 0,
        "log_fold": 8,
        "calls": 0,
        "costs": 0,
    }
    version = current(built.corpus / "splits")
    assert sum(version.rows.values()) == 7
    with EventLog.open(built) as events:
        answer = ask("What does the red lamp mean?", settings=built, log=events, index="documents")
    assert "no water" in answer.text
    cited = {source.source for source in answer.sources if source.cited}
    assert cited == {"raw/documents/boiler.md"}


def test_every_step_is_an_event_of_its_run(first: First, built: Settings):
    with EventLog.open(built) as events:
        happened = [recorded.event for recorded in events.read()]
    assert sorted((type(event).__name__, event.actor) for event in happened) == [
        ("DatasetBuilt", "asset corpus/training_splits"),
        ("EmbeddingsComputed", "asset retrieval/embeddings"),
        ("IndexBuilt", "asset retrieval/chunk_index"),
        ("SourceHarvested", "asset retrieval/documents"),
        ("SourceHarvested", "asset sources/installed_records"),
        *[("SourceHarvested", "asset sources/raw_records")] * 3,
    ]
    assert {event.correlation_id for event in happened} <= first.result.run_ids


def test_a_bad_line_goes_to_the_quarantine_and_warns(first: First):
    rows = pl.read_parquet(first.settings.quarantined_records).select("step", "origin", "source")
    assert rows.rows()[0] == ("raw_records", "house", "house.jsonl:9")
    failed = [each for each in first.result.get_asset_check_evaluations() if not each.passed]
    assert [(each.check_name, each.severity) for each in failed] == [
        ("nothing_quarantined", dg.AssetCheckSeverity.WARN),
        ("no_split_empty", dg.AssetCheckSeverity.WARN),
    ]
    assert first.result.success


def test_every_page_has_a_sample_or_kinds_and_a_plot(first: First):
    for name, metadata in shown(first.result).items():
        assert metadata["plot"].startswith("!["), name
        assert "data:image/png;base64," in metadata["plot"]
        assert {"sample", "kinds"} & set(metadata), name


def test_nothing_is_made_again_when_nothing_changed(
    first: First, built: Settings, materialize: Materialize
):
    second = materialize(built)
    assert made(second) == set()
    # The second lies elsewhere.
    apart = {"unchanged": None, "dagster/uri": None}
    pages = {name: each | apart for name, each in shown(second).items()}
    assert pages == {name: each | apart for name, each in shown(first.result).items()}
    with EventLog.open(built) as events:
        assert events.position() == 8


def test_a_new_file_of_records_makes_what_stems_from_it_and_nothing_else(
    built: Settings, materialize: Materialize
):
    new = {"question": "Who feeds the cat?", "answer": "The neighbours, at eight in the morning."}
    (built.raw_records / "more.jsonl").write_text(json.dumps(new), encoding="utf-8")
    assert made(materialize(built)) == {
        *("raw_records", "clean_records", "protected_records", "unique_records"),
        *("distinct_records", "decontaminated_records", "fitting_records", "training_splits"),
        *("quarantine", "log_fold"),
    }


def test_a_changed_document_makes_what_stems_from_it_and_nothing_else(
    built: Settings, materialize: Materialize
):
    file = built.raw_documents / "garden.md"
    file.write_text(file.read_text(encoding="utf-8") + "\nThe cat sleeps here.\n", encoding="utf-8")
    result = materialize(built)
    assert made(result) == {
        *("documents", "chunks", "embeddings", "chunk_index", "evaluation", "log_fold")
    }
    pages = shown(result)
    assert (pages["documents"]["files_read"], pages["documents"]["files_unchanged"]) == (1, 1)
    assert (pages["embeddings"]["computed"], pages["embeddings"]["from_cache"]) == (1, 1)
    assert (pages["chunk_index"]["added"], pages["chunk_index"]["deleted"]) == (1, 1)


def test_a_file_that_is_rewritten_with_the_same_content_stops_at_its_reader(
    built: Settings, materialize: Materialize
):
    file = built.raw_documents / "garden.md"
    file.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    result = materialize(built)
    assert shown(result)["documents"]["files_read"] == 0
    assert "embeddings" not in made(result)


def test_a_deleted_table_is_made_again_and_what_stems_from_it_is_left(
    built: Settings, materialize: Materialize
):
    (built.kept("unique_records") / "all.parquet").unlink()
    assert made(materialize(built)) == {"unique_records"}


def test_a_call_makes_calls_and_costs_again(built: Settings, materialize: Materialize):
    with EventLog.open(built) as events:
        ask("What does the green lamp mean?", settings=built, log=events, index="documents")
    result = materialize(built)
    assert made(result) == {"log_fold", "calls", "costs"}
    assert shown(result)["calls"]["dagster/row_count"] == 1


def test_an_edit_of_the_code_is_a_new_code_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "a_step_of_ours.py"
    module.write_text("LIMIT = 1\n", encoding="utf-8")
    before = code_of("a_step_of_ours")
    module.write_text("LIMIT = 2\n", encoding="utf-8")
    assert code_of("a_step_of_ours") != before


def test_what_an_asset_needs_must_be_there(settings: Settings):
    definitions = dg.Definitions(
        assets=dg.load_assets_from_modules([sources, cleaning, corpus, distinct]),
        resources={"warehouse": warehouse(settings)},
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    with pytest.raises(dg.Failure, match="run `tracemill build corpus/distinct_records` first"):
        job.execute_in_process(
            asset_selection=[corpus.decontaminated_records.key], run_config=QUIET
        )


@pytest.mark.parametrize(
    ("table", "check"),
    [
        ("dropped/clean_records/house", cleaning.none_lost_in_cleaning),
        ("clean_records/house", cleaning.none_lost_in_protecting),
        ("protected_records/house", corpus.none_lost_as_too_long),
        ("fitting_records/house", corpus.none_lost_as_duplicates),
        ("dropped/unique_records/all", corpus.none_lost_as_duplicates),
        ("unique_records/all", corpus.none_lost_as_contaminated),
        ("decontaminated_records/all", splits.none_lost_in_splitting),
    ],
)
def test_a_table_that_was_tampered_with_fails_the_check(
    built: Settings, table: str, check: dg.AssetChecksDefinition
):
    assert passes(check, built)
    file = built.corpus / f"{table}.parquet"
    frame = pl.read_parquet(file)
    extra = pl.read_parquet(built.kept("raw_records") / "house.parquet").head(1)
    other = extra.with_columns(record_id=pl.lit("b2:another"))
    pl.concat([frame, other], how="diagonal").write_parquet(file)
    assert not passes(check, built)


def test_vectors_in_another_order_fail_the_check(built: Settings):
    file = built.collection("documents") / "embeddings.parquet"
    pl.read_parquet(file).reverse().write_parquet(file)
    assert not passes(retrieval.vectors_fit, built)


def test_each_day_the_reports_are_made_whose_data_has_been_built(first: First, settings: Settings):
    def asked(where: Settings) -> dg.RunRequest | dg.SkipReason:
        context = dg.build_schedule_context(resources={"warehouse": warehouse(where)})
        made = automation.daily_reports(context)
        assert isinstance(made, dg.RunRequest | dg.SkipReason)
        return made

    nothing, all_ = asked(settings), asked(first.settings)
    assert isinstance(nothing, dg.SkipReason)
    assert isinstance(all_, dg.RunRequest)
    assert {*(all_.asset_selection or ())} == {each.key for each in reports.ASSETS}
    assert reports.ASSETS
