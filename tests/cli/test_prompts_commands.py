"""`tracemill prompts`, from adding a file to moving a label."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.running import Run
from tracemill import EventLog
from tracemill.llm import prompts

FILE = """\
+++
name = "greeting"
description = "Says hello."
system = "Be polite."
[variables]
person = "string"
+++
Greet {{ person }}.
"""


@pytest.fixture
def versions(run: Run, warehouse: Path, tmp_path: Path) -> tuple[str, str]:
    """Two versions of one prompt, the first in production."""
    path = tmp_path / "greeting.md"
    path.write_text(FILE)
    first = run("prompts", "add", str(path), "--json").lines[0]["greeting"]
    path.write_text(FILE.replace("polite", "brief"))
    second = run("prompts", "add", str(path), "--json").lines[0]["greeting"]
    assert run("prompts", "label", "greeting", "production", first[:8], "--json").lines == [
        {"production": first}
    ]
    return first, second


def test_what_is_added_is_listed_with_its_labels(run: Run, versions: tuple[str, str]) -> None:
    lines = run("prompts", "ls", "--json").lines
    assert [(line["prompt_version"], line["labels"], line["calls"]) for line in lines] == [
        (versions[0], ["production"], 0),
        (versions[1], [], 0),
    ]
    assert run("prompts", "ls", "greeting", "--json").lines == lines
    table = run("prompts", "ls").out.splitlines()
    assert table[1].split()[:3] == ["greeting", versions[0][:12], "production"]


def test_a_version_is_shown_as_the_file_it_came_from(run: Run, versions: tuple[str, str]) -> None:
    assert run("prompts", "show", "greeting").out == FILE
    (shown,) = run("prompts", "show", "greeting", versions[1], "--json").lines
    assert shown == {
        "name": "greeting",
        "version": versions[1],
        "description": "Says hello.",
        "system": "Be brief.",
        "template": "Greet {{ person }}.",
        "variables": {"person": "string"},
        "source": "greeting.md",
    }


def test_a_diff_goes_from_the_old_to_the_new(run: Run, versions: tuple[str, str]) -> None:
    lines = run("prompts", "diff", "greeting", versions[1]).out.splitlines()
    assert [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")] == [
        '-system = "Be brief."',
        '+system = "Be polite."',
    ]
    assert run("prompts", "diff", "greeting", "production", "production").out == ""


def test_the_examples_are_ready_for_use(run: Run, warehouse: Path) -> None:
    (added,) = run("prompts", "add", "--examples", "--json").lines
    with EventLog(warehouse / "log") as log:
        assert {name: prompts.get(log, name).version for name in prompts.names(log)} == added
    assert run("prompts", "add", "--examples", "--json").lines == [added]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("ls", "none"), 2, "there is no prompt 'none'"),
        (("show", "none"), 2, "there is no prompt 'none'"),
        (("show", "greeting", "ffffff"), 2, "no version or label 'ffffff'"),
        (("add",), 2, "--examples"),
        (("add", "nowhere.md"), 1, "nowhere.md"),
        (("add", "wrong.md"), 1, "wrong.md: a prompt begins with TOML"),
        (("label", "greeting", "a b", "production"), 2, "a label has a name"),
        (("diff", "greeting", "beta"), 2, "its labels are production"),
    ],
)
def test_a_refusal_of_prompts_is_one_line(
    run: Run,
    versions: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.md").write_text("Hello.")
    ran = run("prompts", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert re.fullmatch(r"error: .*\n", ran.err), ran.err
    assert says in ran.err


@pytest.mark.parametrize("command", ["ls", "show", "add", "label", "diff"])
def test_help_of_prompts_teaches_by_example(run: Run, command: str) -> None:
    ran = run("prompts", command, "--help")
    assert ran.code == 0
    assert re.search(rf"^ +tracemill prompts {command}\b", ran.out, re.MULTILINE)
