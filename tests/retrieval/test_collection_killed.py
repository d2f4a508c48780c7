"""Whoever is killed while writing a collection leaves the old version or the new one, whole."""

import importlib
from pathlib import Path

import pytest

from benchmarks.kill_index import MARKS, Death, Outcome, torment
from tracemill.retrieval.collection import contents

DEATHS = [
    Death("files_of", 1, False),
    Death("place", 1, False),
    Death("write_text_atomically", 1, True),
    Death("fsync", 2, False),
    Death("rename", 3, False),
    Death("place", 1, True),
    Death("point", 1, True),
    Death("fsync", 5, True),
]
"""Every fourth of them befalls who writes the very first version."""


@pytest.mark.parametrize(
    ("graph_from", "deaths"),
    [(1, DEATHS), (10**9, DEATHS[::3])],
    ids=["with a graph", "without a graph"],
)
def test_no_kill_leaves_a_half_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph_from: int, deaths: list[Death]
):
    monkeypatch.setattr(contents, "EXACT_BELOW", graph_from)
    outcome = torment(tmp_path, deaths=deaths, kills=1, count=120)
    assert outcome.ok, outcome.errors
    # Most must have died where they were told to, or the marks are names of the past.
    assert sum(n for where, n in outcome.died_at.items() if where != "at random") >= 3
    assert outcome.old > 0
    assert outcome.new > 0
    assert outcome.left > 0


def test_every_mark_names_a_step_that_exists():
    for name, (module, owner) in MARKS.items():
        home = importlib.import_module(module)
        assert callable(getattr(getattr(home, owner) if owner else home, name))


def test_any_finding_is_a_failure():
    assert Outcome().ok
    assert not Outcome(errors=["version 0 has other chunks"]).ok
