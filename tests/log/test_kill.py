"""An acknowledged event survives whatever is killed, whenever it is killed."""

from pathlib import Path

import pytest

from benchmarks.kill import MARKS, ROLES, Outcome, read, torment, write


def test_no_kill_loses_doubles_or_tears_anything(tmp_path: Path) -> None:
    outcome = torment(tmp_path / "warehouse" / "log", kills=20, seed=1, pause_s=0.05)
    assert outcome.ok, outcome
    assert outcome.kills >= 20
    assert outcome.acknowledged > 500
    assert outcome.stored >= outcome.acknowledged
    assert outcome.forked > 0
    assert outcome.spawned > 0
    # Most of these must have died where they were told to, or the marks are names of the past.
    assert sum(n for where, n in outcome.died_at.items() if where != "at random") >= 3


def test_every_mark_names_a_step_that_exists() -> None:
    import importlib

    for module, owner, name in MARKS:
        home = importlib.import_module(module)
        assert callable(getattr(getattr(home, owner) if owner else home, name))
    assert (ROLES.count(write), ROLES.count(read)) == (4, 1)


@pytest.mark.parametrize(
    "finding",
    [
        {"lost": 1},
        {"doubled": 1},
        {"gaps": 1},
        {"broken_streams": 1},
        {"problems": ("position 3: does not match its digest",)},
        {"reader_errors": ["LogError"]},
        {"errors": ["write ended with 1"]},
    ],
)
def test_any_finding_is_a_failure(finding: dict[str, object]) -> None:
    assert Outcome().ok
    assert not Outcome(**finding).ok  # type: ignore[arg-type]
