"""The index on disk: batches as one pass, what a crash leaves, what is refused, what it costs."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.corpus.test_dedup import WHEN, frame
from tracemill.corpus import records
from tracemill.corpus.dedup import NearIndex, add, clusters, decide, deduplicate, groups
from tracemill.corpus.near.bands import RECALL, STRICT, Policy
from tracemill.errors import InputError, UsageError


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test kills is a process, which loses nothing that was written: waiting for the disk
    would show nothing here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def rows(count: int, seed: int = 1) -> pl.DataFrame:
    """Records in clusters, with exact duplicates, empty ones, and some from several places."""
    chance = random.Random(seed)
    found: list[tuple[str, str, float | None]] = []
    while len(found) < count:
        words = [f"v{chance.randrange(500)}" for _ in range(chance.randrange(0, 40))]
        for _ in range(chance.choice([1, 2, 5])):
            own = list(words)
            for _ in range(chance.randrange(3) if words else 0):
                own[chance.randrange(len(own))] = f"v{chance.randrange(500)}"
            answer = " ".join(own).upper() if chance.random() < 0.2 else " ".join(own)
            found.append(("why", answer, chance.choice([None, 1.0, 2.0])))
    found = found[: count * 9 // 10]
    found += [
        (*chance.choice(found)[:2], chance.choice([None, 3.0])) for _ in range(count - len(found))
    ]
    chance.shuffle(found)
    return frame(*found)


def batches(whole: pl.DataFrame, cuts: list[int]) -> list[pl.DataFrame]:
    places = [0, *sorted(min(cut, whole.height) for cut in cuts), whole.height]
    return [whole[low:high] for low, high in pairwise(places)]


def judged(pieces: list[pl.DataFrame], decisions: pl.DataFrame) -> list[pl.DataFrame]:
    """Kept and dropped of all batches, in the order of the places."""
    found = [decide(piece, decisions) for piece in pieces]
    return [pl.concat(side).sort("source") for side in zip(*found, strict=True)]


@given(
    st.integers(1, 10**6),
    st.lists(st.integers(0, 60), max_size=12),
    st.sampled_from(["star", "component"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
@settings(max_examples=12, deadline=None)
def test_day_by_day_gives_what_one_pass_gives(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    cuts: list[int],
    policy: Policy,
    plain: bool,
    chance: random.Random,
):
    whole = rows(60, seed)
    pieces = batches(whole, cuts)
    chance.shuffle(pieces)
    folder = tmp_path_factory.mktemp("index") / "near"
    for piece in pieces:
        index = NearIndex(folder, policy=policy, plain=plain)
        new = add(index, piece)
        assert new == piece.filter(~piece["record_id"].is_in(list(seen(pieces, piece)))).n_unique(
            "record_id"
        )
        if chance.random() < 0.5:
            assert index.decisions().height == len(index)
    decisions = NearIndex(folder, policy=policy, plain=plain).decisions()
    once = deduplicate(whole, policy=policy)
    for found, expected in zip(judged(pieces, decisions), once, strict=True):
        assert_frame_equal(found, expected.sort("source"))


def seen(pieces: list[pl.DataFrame], last: pl.DataFrame) -> set[str]:
    at = next(at for at, piece in enumerate(pieces) if piece is last)
    return {each for piece in pieces[:at] for each in piece["record_id"]}


def test_a_longer_newcomer_takes_the_place_of_the_one_that_stayed(tmp_path: Path):
    words = [f"w{number}" for number in range(60)]
    short, long = frame(
        ("Why?", " ".join(words)), ("Why?", " ".join([*words, "and", "more"]))
    ).iter_slices(1)
    index = NearIndex(tmp_path / "near")
    add(index, short)
    assert decide(short, index.decisions()).kept.height == 1
    add(index, long)
    after = index.decisions()
    assert decide(long, after).kept.height == 1
    assert decide(short, after).dropped["kept_id"].to_list() == long["record_id"].to_list()


def test_records_that_come_again_change_nothing(tmp_path: Path):
    whole = rows(200)
    index = NearIndex(tmp_path / "near")
    assert add(index, whole) == whole.n_unique("record_id")
    before, files = index.decisions(), sorted(tmp_path.rglob("*"))
    assert add(index, whole) == add(index, whole[50:70]) == 0
    assert_frame_equal(index.decisions(), before)
    assert sorted(tmp_path.rglob("*")) == files


def test_a_better_rating_that_comes_later_counts(tmp_path: Path):
    words = [f"w{number}" for number in range(60)]
    texts = [" ".join([*words, end]) for end in ("aaa", "bbb")]
    one = frame(*(("Why?", text, 1.0) for text in texts))
    index = NearIndex(tmp_path / "near")
    add(index, one)
    [loser] = decide(one, index.decisions()).dropped["record_id"]
    better = one.filter(record_id=loser).with_columns(rating=2.0, source=pl.lit("elsewhere"))
    assert add(index, better) == 0
    kept = decide(one, index.decisions()).kept
    assert deduplicate(pl.concat([one, better])).kept["record_id"].to_list() == [loser]
    assert kept["record_id"].to_list() == []  # the row "elsewhere" was first by source
    assert decide(better, index.decisions()).kept["record_id"].to_list() == [loser]


def test_groups_for_a_split_come_from_an_index_too(tmp_path: Path):
    whole = rows(300)
    index = NearIndex(tmp_path / "near", policy="component", fields="answer")
    for piece in whole.iter_slices(70):
        add(index, piece)
    found = dict(groups(index.decisions()).rows())
    expected = clusters(whole, fields="answer")
    assert [found[each] for each in whole["record_id"]] == expected.to_list()


def test_a_stricter_index_finds_what_the_bands_missed(tmp_path: Path):
    """Pairs at the threshold: of 21 x 6 bands some are missed, of 25 x 5 none."""
    chance, pairs = random.Random(4), list[tuple[str, str]]()
    for _ in range(1_500):
        words = [f"w{chance.randrange(9_000)}" for _ in range(49)]
        pairs += [("", " ".join(words)), ("", " ".join([*words[:44], "other", *words[45:]]))]
    whole = frame(*pairs)
    found: list[int] = []
    for recall in (RECALL, STRICT):
        index = NearIndex(tmp_path / str(recall), policy="component", recall=recall)
        add(index, whole)
        found.append(index.decisions()["reason"].count())
        assert clusters(whole, fields="both", recall=recall).n_unique() == 3_000 - found[-1]
    assert 1_480 < found[0] < found[1] >= 1_499
    with pytest.raises(UsageError, match="made with bands 25, not 21"):
        NearIndex(tmp_path / str(STRICT), policy="component")


def test_segments_are_merged_and_few(tmp_path: Path):
    whole = rows(80)
    index = NearIndex(tmp_path / "near")
    for number, piece in enumerate(whole.iter_slices(1)):
        add(index, piece)
        if number % 20 == 0:
            index.decisions()
    files = sorted(each.name for each in (tmp_path / "near").iterdir())
    assert len([name for name in files if name.startswith("segment")]) <= 20
    assert len([name for name in files if name.startswith("repeats")]) <= 32
    assert len([name for name in files if name.startswith("state")]) == 1
    for found, expected in zip(judged([whole], index.decisions()), deduplicate(whole), strict=True):
        assert_frame_equal(found, expected.sort("source"))


def test_an_empty_index_has_no_decisions(tmp_path: Path):
    index = NearIndex(tmp_path / "near")
    assert add(index, records.record_frame([])) == len(index) == 0
    decisions = index.decisions()
    assert decisions.is_empty()
    kept, dropped = decide(records.record_frame([]), decisions)
    assert kept.is_empty()
    assert dropped.columns == deduplicate(rows(5)).dropped.columns


def test_what_was_not_added_cannot_be_decided(tmp_path: Path):
    whole = rows(20)
    index = NearIndex(tmp_path / "near")
    add(index, whole[:10])
    with pytest.raises(UsageError, match="not in the index: add them"):
        decide(whole, index.decisions())


RENAMES = [0, 1, 2, 3, 5, 60, 61] if os.environ.get("TRACEMILL_TEST_FULL") else [1, 2, 60, 61]
CRASHING = """
    import os, signal, sys
    from pathlib import Path
    from tracemill import files
    from tests.corpus.test_near_index import rows
    from tracemill.corpus.dedup import NearIndex, add

    left = int(sys.argv[2])
    real = Path.rename

    def rename(path, target):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(path, target)

    Path.rename = rename
    index = NearIndex(Path(sys.argv[1]))
    for piece in list(rows(170).iter_slices(10))[1:]:
        add(index, piece)
        index.decisions()
"""


@pytest.mark.parametrize("renames", RENAMES)
def test_a_process_killed_between_two_files_leaves_the_state_before(tmp_path: Path, renames: int):
    """Files 60 and 61 are a merge of segments and the manifest that names it."""
    whole = rows(170)
    folder = tmp_path / "near"
    add(NearIndex(folder), whole[:10])
    root = Path(__file__).parents[2]
    crashed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASHING), str(folder), str(renames)],
        env=os.environ | {"PYTHONPATH": f"{root}:{root / 'platform'}:{os.environ['PYTHONPATH']}"},
        timeout=60,
        check=False,
    )
    assert crashed.returncode == -signal.SIGKILL
    index = NearIndex(folder)
    assert len(index) in {whole[: 10 * done].n_unique("record_id") for done in range(1, 18)}
    for piece in whole.iter_slices(10):
        add(index, piece)
    for found, expected in zip(judged([whole], index.decisions()), deduplicate(whole), strict=True):
        assert_frame_equal(found, expected.sort("source"))
    named = json.loads((folder / "manifest.json").read_text())
    expected = {each["file"] for each in named["segments"]} | set(named["repeats"])
    assert {each.name for each in folder.iterdir()} == expected | {
        named["state"], "lock", "manifest.json"
    }  # fmt: skip


def test_several_processes_may_add(tmp_path: Path):
    whole = rows(120)
    adding = """
        import sys
        from pathlib import Path
        from tests.corpus.test_near_index import rows
        from tracemill.corpus.dedup import NearIndex, add

        index = NearIndex(Path(sys.argv[1]))
        for at in range(int(sys.argv[2]), 120, 20):
            add(index, rows(120)[at : at + 10])
    """
    root = Path(__file__).parents[2]
    environment = os.environ | {
        "PYTHONPATH": f"{root}:{root / 'platform'}:{os.environ['PYTHONPATH']}"
    }
    command = [sys.executable, "-c", textwrap.dedent(adding), str(tmp_path / "near")]
    writers = [subprocess.Popen([*command, start], env=environment) for start in ("0", "10")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    decisions = NearIndex(tmp_path / "near").decisions()
    for found, expected in zip(judged([whole], decisions), deduplicate(whole), strict=True):
        assert_frame_equal(found, expected.sort("source"))


@pytest.mark.parametrize(
    ("other", "name"),
    [({"threshold": 0.7}, "threshold"), ({"policy": "component"}, "policy"), ({"fields": "prompt"}, "fields")],
)  # fmt: skip
def test_other_settings_are_not_mixed_in(tmp_path: Path, other: dict[str, Any], name: str):
    add(NearIndex(tmp_path / "near"), rows(10))
    with pytest.raises(UsageError, match=f"made with {name}"):
        NearIndex(tmp_path / "near", **other)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is no index .*notes\.txt"):
        NearIndex(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"notes.txt", "lock"}


@pytest.mark.parametrize("kind", ["segment", "state", "repeats", "manifest"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "noise"])
def test_a_damaged_file_is_named(tmp_path: Path, kind: str, damage: str):
    index = NearIndex(tmp_path / "near")
    add(index, rows(100))
    index.decisions()
    [file] = (tmp_path / "near").glob(f"{kind}*")
    content = file.read_bytes()
    file.unlink()
    if damage != "gone":
        spoiled = {"empty": b"", "cut": content[: len(content) // 2], "noise": b"\xff{" * 900}
        file.write_bytes(spoiled[damage])
    with pytest.raises(InputError, match=f"{kind}.*delete the folder|is no index.*'manifest"):
        NearIndex(tmp_path / "near").decisions()


def test_an_index_of_another_version_is_refused(tmp_path: Path):
    NearIndex(tmp_path / "near")
    path = tmp_path / "near" / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(InputError, match="its format is 99, not 1"):
        NearIndex(tmp_path / "near")


def test_a_record_costs_less_than_1500_bytes_on_disk(tmp_path: Path):
    """Of 150 words, which are about 1 KB of text."""
    chance = random.Random(3)
    texts = [" ".join(f"word{chance.randrange(9_000)}" for _ in range(150)) for _ in range(400)]
    index = NearIndex(tmp_path / "near")
    add(index, frame(*(("", text) for text in texts)))
    index.decisions()
    assert sum(each.stat().st_size for each in (tmp_path / "near").iterdir()) / 400 < 1_500


def test_the_time_of_a_record_is_kept_as_it_was(tmp_path: Path):
    one = frame(("Why?", "So."))
    pieces = [one, one.with_columns(timestamp=pl.lit(WHEN).dt.offset_by("-1d"))]
    index = NearIndex(tmp_path / "near")
    for piece in pieces:
        add(index, piece)
    decisions = index.decisions()
    assert decisions["timestamp"].to_list() == pieces[1]["timestamp"].to_list()
    assert [decide(piece, decisions).kept.height for piece in pieces] == [0, 1]
