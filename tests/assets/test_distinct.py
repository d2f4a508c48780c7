"""`dedup.semantic` in raw/dataset.yaml: another wording of a record goes, and comes back."""

import json
from collections.abc import Callable

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from assets import distinct
from assets.warehouse import Warehouse
from tracemill.cli import app
from tracemill.corpus.write import current
from tracemill.settings import Settings

TIN = "Pull the ring towards you until the lid comes off."
REWORDED = {"question": "How do I open the tin?", "answer": f"{TIN[:-1]} the tin."}
CHECKS = distinct.none_lost_as_semantic_duplicates, distinct.semantic_duplicates_explained


@pytest.fixture
def semantic(built: Settings) -> Settings:
    """A warehouse with one record in two wordings, whose recipe asks for meaning."""
    (built.raw_records / "more.jsonl").write_text(json.dumps(REWORDED), encoding="utf-8")
    built.raw_dataset.write_text("dedup:\n  semantic: 0.9\n", encoding="utf-8")
    return built


def test_another_wording_is_dropped_told_and_comes_back(
    semantic: Settings, materialize: Callable[[Settings], dg.ExecuteInProcessResult]
):
    assert materialize(semantic).success
    gone = pl.read_parquet(semantic.quarantined_records).filter(step="distinct_records")
    [(record_id, kept_id, jaccard, similarity, reason)] = gone.select(
        "record_id", "kept_id", "jaccard", "similarity", "reason"
    ).rows()
    assert (jaccard, reason) == (None, "semantic duplicate")
    assert 0.9 <= similarity < 1
    kept = pl.read_parquet(semantic.kept("distinct_records") / "all.parquet")
    assert kept.height == 7
    assert kept_id in kept["record_id"]
    assert record_id not in kept["record_id"]
    version = current(semantic.corpus / "splits")
    assert sum(version.rows.values()) == 7
    card = json.loads((version.path / "card.json").read_text(encoding="utf-8"))
    assert card["duplicates"]["semantic duplicate"] == 1

    arguments = ["explain", record_id, "--warehouse", str(semantic.warehouse)]
    told = " ".join(CliRunner().invoke(app, arguments).output.split())
    assert f"semantic duplicate: cosine {similarity:.3f}; " in told
    assert "distinct_records" in told

    assert all(passes(check, semantic) for check in CHECKS)
    semantic.raw_dataset.unlink()
    result = materialize(semantic)
    assert made(result) >= {"distinct_records", "training_splits", "quarantine"}
    assert not list(semantic.kept("distinct_records").glob("*"))
    assert sum(current(semantic.corpus / "splits").rows.values()) == 8
    assert all(passes(check, semantic) for check in CHECKS)
    assert made(materialize(semantic)) == set()


def test_a_table_that_was_tampered_with_fails_its_check(
    semantic: Settings, materialize: Callable[[Settings], dg.ExecuteInProcessResult]
):
    materialize(semantic)
    file = semantic.dropped("distinct_records") / "all.parquet"
    frame = pl.read_parquet(file)

    def verdicts(**change: pl.Expr) -> list[bool]:
        frame.with_columns(**change).write_parquet(file)
        return [passes(check, semantic) for check in CHECKS]

    assert verdicts() == [True, True]
    assert verdicts(record_id=pl.lit("b2:another")) == [False, True]
    assert verdicts(kept_id=pl.lit("b2:another")) == [True, False]
    assert verdicts(similarity=pl.lit(0.5)) == [True, False]


def passes(check: dg.AssetChecksDefinition, settings: Settings) -> bool:
    """A check on its own, on what lies in the warehouse now."""
    there = Warehouse(changed=settings.model_dump(mode="json", exclude_none=True))
    return check(warehouse=there).passed  # pyright: ignore[reportAttributeAccessIssue]


def made(result: dg.ExecuteInProcessResult) -> set[str]:
    """The assets that were not left as they were."""
    found = (event.materialization for event in result.get_asset_materialization_events())
    return {each.label.rpartition(" ")[2] for each in found if not each.metadata["unchanged"].value}
