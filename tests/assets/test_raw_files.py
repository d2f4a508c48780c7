"""The sensor on warehouse/raw/: one run for each change, none without one."""

import dagster as dg

from assets import sources
from assets.definitions import raw_files
from assets.warehouse import ORIGINS, Warehouse, every
from tracemill.settings import Settings


def look(settings: Settings, cursor: str | None = None) -> dg.RunRequest | dg.SkipReason:
    warehouse = Warehouse(changed=settings.model_dump(mode="json", exclude_none=True))
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(
            instance=instance, resources={"warehouse": warehouse}, cursor=cursor
        )
        seen = raw_files(context)
        assert isinstance(seen, dg.RunRequest | dg.SkipReason)
        if isinstance(seen, dg.RunRequest):
            partitions = set(instance.get_dynamic_partitions("origin"))
            assert partitions == set(sources.origins(settings))
    return seen


def harvest(settings: Settings) -> None:
    definitions = dg.Definitions(
        assets=dg.load_assets_from_modules([sources]),
        resources={
            "warehouse": Warehouse(changed=settings.model_dump(mode="json", exclude_none=True))
        },
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(
            instance=instance,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags=every(ORIGINS, instance, sources.origins(settings)),
        )


def test_it_waits_for_the_first_build(settings: Settings):
    seen = look(settings)
    assert isinstance(seen, dg.SkipReason)
    assert "nothing has been built yet" in str(seen.skip_message)


def test_a_change_asks_for_one_run_until_it_was_read(settings: Settings):
    harvest(settings)
    assert isinstance(look(settings), dg.SkipReason)
    (settings.raw_records / "new.jsonl").write_text('{"question": "a", "answer": "b"}')
    first, second = look(settings), look(settings)
    assert isinstance(first, dg.RunRequest)
    assert isinstance(second, dg.RunRequest)
    assert first.run_key == second.run_key
    harvest(settings)
    assert isinstance(look(settings), dg.SkipReason)


def test_going_back_is_a_change_too(settings: Settings):
    file = settings.raw_records / "new.jsonl"
    keys = set()
    harvest(settings)
    for _ in range(2):
        file.write_text('{"question": "a", "answer": "b"}')
        keys.add(look(settings).run_key)  # pyright: ignore[reportAttributeAccessIssue]
        harvest(settings)
        file.unlink()
        keys.add(look(settings).run_key)  # pyright: ignore[reportAttributeAccessIssue]
        harvest(settings)
    assert len(keys) == 4


def test_another_recipe_is_a_change_and_a_wrong_one_is_told(settings: Settings):
    harvest(settings)
    before = sources.recipes(settings)
    assert isinstance(look(settings, before), dg.SkipReason)
    settings.raw_dataset.write_text("dedup: {threshold: 0.9}\n")
    assert isinstance(look(settings, before), dg.RunRequest)
    settings.raw_dataset.write_text("dedup: {thresh: 0.9}\n")
    assert "dataset.yaml" in str(getattr(look(settings, before), "skip_message", ""))
