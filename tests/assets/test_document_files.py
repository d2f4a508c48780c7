"""The sensor on raw/documents and raw/questions: one run for each change, none without one."""

import json
import shutil
from pathlib import Path

import dagster as dg
import pytest

from assets import build, documents
from assets.definitions import document_files
from assets.warehouse import COLLECTIONS, Warehouse, every
from tests.assets.test_collection_assets import KEYS
from tracemill.settings import Settings

QUESTION = json.dumps({"question": "When is the lamp lit?", "document": "boiler.md"})


def look(settings: Settings) -> dg.RunRequest | dg.SkipReason:
    warehouse = Warehouse(changed=settings.model_dump(mode="json", exclude_none=True))
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"warehouse": warehouse})
        seen = document_files(context)
        assert isinstance(seen, dg.RunRequest | dg.SkipReason)
        if isinstance(seen, dg.RunRequest):
            partitions = set(instance.get_dynamic_partitions("collection"))
            assert partitions == set(documents.names(settings))
    return seen


def key(settings: Settings) -> str:
    """Of the run that is asked for."""
    seen = look(settings)
    assert isinstance(seen, dg.RunRequest), seen
    assert seen.run_key
    return seen.run_key


def said(settings: Settings) -> str:
    """Why nothing is asked for."""
    seen = look(settings)
    assert isinstance(seen, dg.SkipReason), seen
    return seen.skip_message or ""


def run(settings: Settings, *, keys: list[dg.AssetKey] = KEYS) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        tags = every(COLLECTIONS, instance, documents.names(settings))
        build.run(settings, instance, keys, tags)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("sensor") / "warehouse"
    settings = Settings(warehouse=folder, harvest_installed=False).create()
    handbook = settings.raw_documents / "handbook"
    handbook.mkdir()
    (handbook / "boiler.md").write_text("# The boiler\n\nThe lamp is lit when it rains.\n")
    run(settings)
    return settings


@pytest.fixture
def built(first: Settings, tmp_path: Path) -> Settings:
    copy = shutil.copytree(first.warehouse, tmp_path / "warehouse")
    return Settings(warehouse=copy, harvest_installed=False)


def test_it_waits_for_the_first_build(settings: Settings):
    assert "nothing has been built yet" in said(settings)


def test_nothing_is_asked_for_when_nothing_changed(built: Settings):
    assert said(built) == "warehouse/raw/documents/ is as it was when it was last read"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("documents/handbook/boiler.md", "# The boiler\n\nIt is cold.\n"),
        ("documents/handbook/deep/new.md", "# New\n"),
        ("documents/another/new.md", "# New\n"),
        ("documents/loose.md", "# Loose\n"),
        ("documents/handbook.yaml", "vectors: int8\n"),
        ("documents/handbook.yaml", "extraction: {timeout_s: 9}\n"),
        ("questions/handbook.jsonl", QUESTION),
    ],
)
def test_a_change_asks_for_one_run_until_it_was_followed(built: Settings, file: str, text: str):
    path = built.warehouse / "raw" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    asked = key(built)
    run(built, keys=KEYS[:2])
    under_way = look(built)
    assert getattr(under_way, "run_key", asked) == asked
    run(built)
    assert "is as it was" in said(built)


def test_a_deleted_folder_is_a_change(built: Settings):
    shutil.rmtree(built.raw_documents / "handbook")
    assert key(built) == key(built)
    run(built)
    assert "is as it was" in said(built)


def test_going_back_is_a_change_too_each_time(built: Settings):
    recipe = built.raw_documents / "handbook.yaml"
    keys: set[str] = set()
    for _ in range(2):
        recipe.write_text("vectors: int8\n")
        keys.add(key(built))
        run(built)
        recipe.unlink()
        keys.add(key(built))
        run(built)
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("handbook.yaml", "chunkin: there is no such field"),
        ("ghost.yaml", "a recipe for nothing"),
        ("installed/x.md", "the name of a collection of ours"),
    ],
)
def test_what_is_wrong_is_told_in_the_reason(built: Settings, name: str, told: str):
    file = built.raw_documents / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("chunkin: {}\n")
    assert told in said(built)


def test_it_waits_for_a_run_that_is_under_way(built: Settings):
    (built.raw_documents / "loose.md").write_text("# Loose\n")
    warehouse = Warehouse(changed=built.model_dump(mode="json", exclude_none=True))
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.DagsterRun(job_name="refresh_collections", status=dg.DagsterRunStatus.STARTED)
        instance.add_run(run)
        context = dg.build_sensor_context(instance=instance, resources={"warehouse": warehouse})
        seen = document_files(context)
    assert isinstance(seen, dg.SkipReason)
    assert "a run is under way" in (seen.skip_message or "")
