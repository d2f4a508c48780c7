"""Snapshots: a missing one fails, none leaves its folder, and a difference can be read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tracemill.errors import InputError, UsageError
from tracemill.quality import snapshots
from tracemill.quality.snapshots import check, diff, normalised, path_of, text_of


def test_a_missing_snapshot_fails_and_is_not_written(tmp_path: Path) -> None:
    verdict = check(tmp_path / "kept", "answer", "yes")
    assert (verdict.state, verdict.ok) == ("missing", False)
    assert "--snapshot-update" in verdict.reason
    assert list(tmp_path.iterdir()) == []


def test_an_update_writes_what_is_missing_and_what_differs_and_nothing_else(tmp_path: Path) -> None:
    states = [check(tmp_path, "a", text, update=True).state for text in ("one", "one", "two")]
    assert states == ["written", "matched", "updated"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert check(tmp_path, "a", "two").ok


@given(st.text(st.characters(codec="utf-8")))
def test_text_is_kept_byte_by_byte(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("kept")
    path = check(folder, "answer", text, update=True).path
    assert path.read_bytes() == text.encode()
    assert check(folder, "answer", text).state == "matched"


def test_ends_of_lines_count(tmp_path: Path) -> None:
    check(tmp_path, "a", "one\r\ntwo\n", update=True)
    assert check(tmp_path, "a", "one\ntwo\n").state == "different"
    assert check(tmp_path, "a", "one\r\ntwo").state == "different"


def test_json_is_kept_so_that_people_can_read_it(tmp_path: Path) -> None:
    class Answer(BaseModel):
        text: str
        at: tuple[int, ...] = ()

    path = check(tmp_path, "a", Answer(text="grün", at=(1,)), update=True).path
    assert path.read_text() == '{\n  "at": [\n    1\n  ],\n  "text": "grün"\n}\n'
    assert path.name == "a.json"
    assert check(tmp_path, "a", {"text": "grün", "at": [1]}).ok


@pytest.mark.parametrize("value", [object(), float("nan"), {"a": {1, 2}}, "\ud800", ["\udfff"]])
def test_what_is_neither_text_nor_json_is_told(value: object) -> None:
    with pytest.raises(UsageError, match="a snapshot is"):
        text_of(value)


@pytest.mark.parametrize(
    "name",
    [
        *("../out", "..", "/etc/passwd", "a/b", "a\\b", "C:x", "a\0b", ".hidden", "", " ", "a."),
        *("con", "NUL.old", "lpt1", "COM¹", "a\nb", "a*", "a" * 151, "é" * 76, "\ud800", "a "),
    ],
)
def test_a_name_cannot_leave_its_folder_nor_break_another_system(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a snapshot"):
        check(tmp_path / "kept", name, "x", update=True)
    assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=40))
def test_every_name_is_refused_or_stays_inside(name: str) -> None:
    folder = Path("/snapshots/of/a/test")
    try:
        path = path_of(folder, name)
    except UsageError:
        return
    assert path.parent == folder
    assert path.name == f"{name}.txt"


@pytest.mark.parametrize(("one", "other"), [("Answer", "answer"), ("caf\u00e9", "cafe\u0301")])
def test_names_that_are_one_on_some_systems_are_refused(
    tmp_path: Path, one: str, other: str
) -> None:
    check(tmp_path, one, "x", update=True)
    with pytest.raises(UsageError, match="are one file where case does not count"):
        check(tmp_path, other, "x", update=True)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("precious")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a.txt").symlink_to(outside)
    with pytest.raises(UsageError, match="is a link"):
        check(tmp_path / "kept", "a", "x", update=True)
    assert outside.read_text() == "precious"


def test_a_snapshot_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"a\.txt cannot be read"):
        check(tmp_path, "a", "x")


def test_normalised_forgives_white_space_and_unicode_forms_but_no_case(tmp_path: Path) -> None:
    check(tmp_path, "a", "The  caf\u00e9\nis open.\n", update=True)
    assert check(tmp_path, "a", " The cafe\u0301 is\t\topen.", how="normalised").ok
    assert not check(tmp_path, "a", "the caf\u00e9 is open.", how="normalised").ok
    assert not check(tmp_path, "a", "The caf\u00e9 is open", how="normalised").ok
    # What is equal in this sense is not written anew.
    same = check(tmp_path, "a", "The caf\u00e9 is open.", how="normalised", update=True)
    assert same.state == "matched"


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


def test_semantic_forgives_other_words_of_the_same_meaning_only(tmp_path: Path) -> None:
    check(tmp_path, "a", "The function returns the length of the list.", update=True)
    near = "It returns the length of a list, this function."
    far = "Paris is the capital of France."
    assert check(tmp_path, "a", near, how="semantic", threshold=0.8).ok
    verdict = check(tmp_path, "a", far, how="semantic", threshold=0.8)
    assert verdict.state == "different"
    assert "(semantic: similarity 0." in verdict.reason
    assert not check(tmp_path, "a", "", how="semantic", threshold=0.1).ok


@pytest.mark.parametrize("wrong", [{"how": "fuzzy"}, {"how": "semantic", "threshold": 1.5}])
def test_a_way_to_compare_that_does_not_exist_is_told(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(UsageError, match="exact, normalised, semantic"):
        check(tmp_path, "a", "x", **wrong)


def test_a_difference_shows_what_cannot_be_seen() -> None:
    assert diff("same\nold\n", "same\nold \x1b\u202e\t") == (
        "--- snapshot\n+++ value\n@@ -1,2 +1,2 @@\n same\n-old\n"
        "+old \\x1b\\u202e\\t  (no end of line)"
    )
    assert "and 803 more lines" in diff("\n".join(map(str, range(1000))), "")


def test_unused_snapshots_can_be_removed_with_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    made = [check(folder, name, name, update=True).path for name in "ab"]
    assert snapshots.stored(folder) == made
    snapshots.prune(made[:1])
    assert snapshots.stored(folder) == made[1:]
    snapshots.prune(made[1:])
    assert not folder.exists()
