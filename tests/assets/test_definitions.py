"""What Dagster is told of: a renamed asset, check or schedule shows here first."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from assets import definitions
from assets.definitions import MODULES, defs

ROOT = Path(definitions.__file__).parent.parent
GRAPH = defs.resolve_asset_graph()
ASSETS = sorted(GRAPH.materializable_asset_keys)


def test_the_assets_and_what_each_is_made_from():
    made_from = {
        key.to_user_string(): sorted(
            parent.to_user_string() for parent in GRAPH.get(key).parent_keys
        )
        for key in ASSETS
    }
    assert made_from == {
        "sources/installed_records": [],
        "sources/raw_records": ["sources/installed_records"],
        "corpus/clean_records": ["sources/raw_records"],
        "corpus/protected_records": ["corpus/clean_records"],
        "corpus/fitting_records": ["corpus/protected_records"],
        "corpus/unique_records": ["corpus/fitting_records"],
        "corpus/distinct_records": ["corpus/unique_records"],
        "corpus/decontaminated_records": ["corpus/distinct_records"],
        "corpus/training_splits": ["corpus/decontaminated_records"],
        "corpus/quarantine": [
            "corpus/clean_records",
            "corpus/decontaminated_records",
            "corpus/distinct_records",
            "corpus/fitting_records",
            "corpus/protected_records",
            "corpus/training_splits",
            "corpus/unique_records",
            "sources/raw_records",
        ],
        "retrieval/documents": ["sources/installed_records"],
        "retrieval/chunks": ["retrieval/documents"],
        "retrieval/embeddings": ["retrieval/chunks"],
        "retrieval/chunk_index": ["retrieval/chunks", "retrieval/embeddings"],
        "retrieval/evaluation": ["retrieval/chunk_index"],
        "models/fine_tuned_model": ["corpus/training_splits"],
        "models/evaluation": ["models/fine_tuned_model"],
        "models/baseline": ["models/evaluation"],
        "models/production_model": ["models/baseline", "models/evaluation"],
        "log/log_fold": [
            "corpus/training_splits",
            "models/production_model",
            "retrieval/chunk_index",
            "retrieval/embeddings",
            "retrieval/evaluation",
            "sources/raw_records",
        ],
        "log/calls": ["log/log_fold"],
        "log/costs": ["log/calls"],
        "log/daily_costs": ["log/log_fold"],
        "log/daily_failures": ["log/log_fold"],
        "log/daily_latency": ["log/log_fold"],
        "log/daily_lengths": ["log/log_fold"],
        "reports/first_look": ["log/calls", "log/costs"],
        "reports/spend": ["log/calls", "log/costs"],
        "reports/failures": ["log/calls"],
        "reports/training_data": ["corpus/quarantine", "corpus/training_splits"],
        "housekeeping/retention": [],
        "housekeeping/compaction": ["housekeeping/retention"],
        "housekeeping/backup": ["housekeeping/compaction"],
        "housekeeping/verification": ["housekeeping/compaction"],
        "housekeeping/health": [],
    }


AGAINST_THE_PAST = [
    *(f"log/costs: {name}" for name in ("cost_anomaly", "error_rate_change", "price_coverage")),
    *(f"log/costs: {name}" for name in ("length_drift", "embedding_drift")),
    *(f"corpus/{name}: row_counts" for name in ("clean_records", "training_splits")),
    *(f"retrieval/{name}: row_counts" for name in ("documents", "chunks")),
    *("sources/raw_records: row_counts", "log/calls: row_counts"),
    *(f"sources/{name}_records: schema" for name in ("installed", "raw")),
    *(f"corpus/{name}_records: schema" for name in ("clean", "protected", "fitting")),
    *(f"corpus/{name}_records: schema" for name in ("unique", "distinct", "decontaminated")),
    *("corpus/training_splits: schema", "corpus/quarantine: schema"),
    *(f"retrieval/{name}: schema" for name in ("documents", "chunks", "embeddings")),
    *("log/calls: schema", "log/costs: schema"),
    *(f"corpus/{name}_records: dropped_share" for name in ("clean", "fitting", "unique")),
    *(f"corpus/{name}_records: dropped_share" for name in ("distinct", "decontaminated")),
]


def test_the_checks_and_which_of_them_block():
    blocking = {
        f"{key.asset_key.to_user_string()}: {key.name}": GRAPH.get_check_spec(key).blocking
        for key in GRAPH.asset_check_keys
    }
    assert blocking == {
        "sources/raw_records: nothing_quarantined": False,
        "corpus/clean_records: no_record_lost": True,
        "corpus/protected_records: no_record_lost": True,
        "corpus/unique_records: no_record_lost": True,
        "corpus/unique_records: duplicates_explained": True,
        "corpus/distinct_records: no_record_lost": True,
        "corpus/distinct_records: duplicates_explained": True,
        "corpus/decontaminated_records: no_record_lost": True,
        "corpus/fitting_records: no_record_lost": True,
        "corpus/training_splits: no_record_lost": True,
        "corpus/training_splits: splits_disjoint": True,
        "corpus/training_splits: no_split_empty": False,
        "corpus/training_splits: no_leakage": True,
        "corpus/training_splits: no_personal_data": True,
        "corpus/training_splits: no_contamination": True,
        "retrieval/embeddings: vectors_fit": True,
        "retrieval/documents: every_file_read": False,
        "retrieval/chunk_index: index_holds": True,
        "retrieval/evaluation: every_question_read": False,
        "retrieval/evaluation: no_worse": False,
        # Registered evidence blocks a version: one that is bad keeps no other model from promotion.
        "models/evaluation: no_regression": False,
        "models/evaluation: no_contamination": False,
        "models/production_model: newest_is_in_production": False,
        "log/costs: costs_reconcile": False,
        "log/daily_costs: every_day_has_a_table": False,
        "housekeeping/backup: backup_holds": False,
        "housekeeping/verification: all_sound": False,
        "housekeeping/health: all_well": False,
        **dict.fromkeys(AGAINST_THE_PAST, False),
    }


def test_what_starts_by_itself():
    repository = defs.get_repository_def()
    assert [job for job in repository.job_names if not job.startswith("__")] == [
        "refresh",
        "refresh_collections",
        "refresh_models",
        "refresh_days",
        "render_reports",
        "look_after",
        "keep_safe",
    ]
    schedules = {each.name: each.cron_schedule for each in repository.schedule_defs}
    assert schedules == {
        "daily": "0 5 * * *",
        "daily_collections": "30 5 * * *",
        "daily_look_after": "15 3 * * *",
        "weekly_keep_safe": "45 3 * * 0",
        "daily_reports": "0 6 * * *",
    }
    assert [each.name for each in repository.sensor_defs] == [
        *("alerts", "batches", "document_files", "fine_tunes", "follow_the_log", "log_growth"),
        "raw_files",
    ]


def test_no_two_schedules_make_the_same():
    """What follows the log by its condition is in the run of the day anyway, and in no other."""
    made_by = {
        job.name: {each.to_user_string() for each in job.asset_layer.executable_asset_keys}
        for job in defs.get_repository_def().get_all_jobs()
        if not job.name.startswith("__")
    }
    twice = [{*made_by[one] & made_by[other]} for one, other in itertools.combinations(made_by, 2)]
    assert set().union(*twice) == {"log/log_fold"}
    assert {key.to_user_string() for key in ASSETS} == set().union(*made_by.values())


def test_what_rewrites_what_all_share_waits_for_its_turn():
    in_pool = {key.to_user_string() for key in ASSETS if GRAPH.get(key).pools}
    assert in_pool == {f"housekeeping/{name}" for name in ("retention", "compaction", "backup")}


def test_what_a_schedule_looks_at_each_day_says_so():
    fresh = {key.to_user_string() for key in ASSETS if GRAPH.get(key).freshness_policy}
    groups = {"sources", "corpus", "retrieval", "log", "reports"}
    daily = {key.to_user_string() for key in ASSETS if key.path[-1].startswith("daily_")}
    assert (
        fresh
        == {
            *(key.to_user_string() for key in ASSETS if key.path[0] in groups),
            *("housekeeping/health", "housekeeping/retention"),
        }
        - daily
    )


@pytest.mark.parametrize("key", ASSETS, ids=dg.AssetKey.to_user_string)
def test_every_asset_says_what_it_is(key: dg.AssetKey):
    node = GRAPH.get(key)
    assert node.group_name == key.path[0]
    assert node.description
    assert node.owners
    assert node.kinds
    assert node.code_version


def test_every_module_with_assets_is_listed():
    folder = ROOT / "assets"
    with_assets = {
        file.stem
        for file in folder.glob("*.py")
        if re.search(r"^( *@|\w+ = )(dg\.asset|asset_by)\(", file.read_text("utf-8"), re.MULTILINE)
    }
    listed = {module.__name__.removeprefix("assets.") for module in MODULES}
    assert listed == with_assets | {"checks"}


def test_loading_the_definitions_loads_nothing_heavy():
    heavy = {
        "polars",
        "duckdb",
        "pyarrow",
        "numpy",
        "matplotlib",
        "hnswlib",
        "datasketch",
        "marimo",
    }
    code = "import sys, assets.definitions; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert heavy & set(loaded.stdout.split()) == set()
    assert loaded.stderr == ""
