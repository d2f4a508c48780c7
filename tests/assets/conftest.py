"""A small warehouse: records and documents that a user dropped in, nothing that is installed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import pytest

from assets import build, daily
from tracemill.settings import Settings

RECORDS = [
    ("How do I open a tin?", "Pull the ring towards you until the lid comes off."),
    ("When does the library open?", "At nine on weekdays and at eleven on Saturdays."),
    ("When does the library open?", "At nine on weekdays and at eleven on Saturdays."),
    ("Where is the key?", "Under the third flower pot, counted from the door."),
    ("How long does rice take?", "Eighteen minutes on a low flame, with the lid on."),
    ("Who waters the garden?", "The neighbours do it in summer, we do it in autumn."),
    ("Which bus goes to the lake?", "Number twelve, every twenty minutes from the station."),
    ("What does the red lamp mean?", "The boiler has no water: fill it up to the mark."),
]
BOILER = """\
# The boiler

The boiler stands in the cellar and heats the whole house.

## The red lamp

The red lamp means that the boiler has no water. Fill it up to the mark.

## The green lamp

The green lamp means that the boiler is heating.
"""
GARDEN = """\
# The garden

The neighbours water the garden in summer. In autumn we do it ourselves.
"""


class Runs(NamedTuple):
    """The runs that made everything, as if they were one."""

    all: list[dg.ExecuteInProcessResult]

    @property
    def success(self) -> bool:
        return all(run.success for run in self.all)

    @property
    def run_ids(self) -> set[str]:
        return {run.run_id for run in self.all}

    def get_asset_materialization_events(self) -> list[dg.DagsterEvent]:
        return [each for run in self.all for each in run.get_asset_materialization_events()]

    def get_asset_check_evaluations(self) -> list[dg.AssetCheckEvaluation]:
        return [each for run in self.all for each in run.get_asset_check_evaluations()]


Materialize = Callable[[Settings], Runs]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A warehouse with eight good records, one bad line and two documents in raw/."""
    return dropped_in(tmp_path / "warehouse")


@pytest.fixture(scope="session")
def materialize() -> Materialize:
    """All assets but notebooks and days (which have tests of their own), run by Dagster, with their
    checks."""
    apart = {asset.key for asset in daily.ASSETS}
    keys = [k for k in build.selected(None) if k.path[0] != "reports" and k not in apart]

    def run(settings: Settings) -> Runs:
        with dg.DagsterInstance.ephemeral() as instance:
            return Runs(
                [
                    build.run(settings, instance, stage.keys, stage.tags(settings, instance))
                    for stage in build.stages(keys)
                    if stage.wanted(settings)
                ]
            )

    return run


class First(NamedTuple):
    """A warehouse after its first run, which nobody changes, and that run."""

    settings: Settings
    result: Runs


@pytest.fixture(scope="session")
def first(materialize: Materialize, tmp_path_factory: pytest.TempPathFactory) -> First:
    settings = dropped_in(tmp_path_factory.mktemp("first") / "warehouse")
    return First(settings, materialize(settings))


@pytest.fixture
def built(first: First, tmp_path: Path) -> Settings:
    """A copy of the warehouse after the first run."""
    copy = shutil.copytree(first.settings.warehouse, tmp_path / "warehouse")
    return Settings(warehouse=copy, harvest_installed=False)


def dropped_in(folder: Path) -> Settings:
    made = Settings(warehouse=folder, harvest_installed=False).create()
    lines = [json.dumps({"question": q, "answer": a}) for q, a in RECORDS]
    (made.raw_records / "house.jsonl").write_text("\n".join([*lines, "{broken"]), encoding="utf-8")
    (made.raw_documents / "boiler.md").write_text(BOILER, encoding="utf-8")
    (made.raw_documents / "garden.md").write_text(GARDEN, encoding="utf-8")
    return made
