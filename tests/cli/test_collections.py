"""`tracemill search` and `tracemill collections` on collections that are whole and that are not."""

from pathlib import Path

import pytest

from tests.cli.running import Run
from tests.retrieval.passages import passages
from tracemill.retrieval.collection import Collection, create


@pytest.fixture
def facts(warehouse: Path) -> Collection:
    chunks = passages(metadata='{"team":"core"}', first_line=3, last_line=9)
    first = create(warehouse / "indexes", "facts").add(chunks[:2])
    return first.add(chunks[2:])


def test_search_prints_what_fits_best_and_where_it_stands(run: Run, facts: Collection):
    ran = run("search", "Who takes the writes?", "-c", "facts", "-k", "1")
    assert (ran.code, ran.err) == (0, "")
    title, place, text, _ = ran.out.split("\n", 3)
    assert title.startswith("1. journal  (score ")
    assert place == "   journal.md, lines 3-9"
    assert text == "   The journal takes the writes of every process, one after the other."


def test_search_for_programs(run: Run, facts: Collection):
    arguments = ("search", "dollars of a day", "-c", "facts", "--json")
    [best, *_] = run(*arguments).lines
    assert (best["rank"], best["chunk_id"], best["lexical"] > 0.2) == (1, "c:prices", True)
    assert [row["dense"] for row in run(*arguments, "--mode", "lexical").lines] == [None]
    where = ("--where", "title in clocks,journal", "--where", "metadata.team=core")
    assert {row["title"] for row in run(*arguments, *where).lines} == {"clocks", "journal"}


def test_search_that_finds_nothing_says_so(run: Run, facts: Collection):
    ran = run("search", "writes", "-c", "facts", "--where", "language=fr")
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing found\n")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("-c", "nobody"), 1, "there is no collection 'nobody'"),
        (("-c", "facts", "--mode", "fuzzy"), 2, "--mode is one of hybrid, dense, lexical"),
        (("-c", "facts", "--where", "language"), 2, "is no condition: write FIELD OPERATOR VALUE"),
        (("-c", "facts", "--where", "lang=en"), 2, "chunks have no field 'lang'; there are"),
    ],
)
def test_search_asked_the_wrong_way(
    run: Run, facts: Collection, arguments: tuple[str, ...], code: int, says: str
):
    ran = run("search", "writes", *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
    assert says in ran.err


def test_ls_and_show(run: Run, facts: Collection):
    [row] = run("collections", "ls", "--json").lines
    assert row | {"mb": 0} == {
        "name": "facts",
        "chunks": 4,
        "documents": 4,
        "model": "local/wordllama",
        "recall": 1.0,
        "mb": 0,
        "version": facts.digest,
        "state": "serves",
    }
    assert f"{facts.digest}  serves" in run("collections", "ls").out
    shown = run("collections", "show", "facts")
    assert shown.err == ""
    for part in (
        "4 of 4 documents",
        "256 numbers as float32",
        "exact",
        "markdown 4",
        "en 4",
        "team",
    ):
        assert part in shown.out
    [row] = run("collections", "show", "facts", "--json").lines
    assert (row["metadata"], "vectors.npy" in row["files"]) == (["team"], True)


def test_without_collections_ls_names_the_mend(run: Run, warehouse: Path):
    ran = run("collections", "ls")
    assert (ran.code, ran.out, ran.err) == (
        0,
        "",
        "no collections yet: `tracemill build` makes them\n",
    )


def test_check_finds_nothing_wrong(run: Run, facts: Collection):
    ran = run("collections", "check", "facts", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert [(row["what"], row["ok"]) for row in ran.lines] == [
        (what, True) for what in ("version", "digests", "chunks", "vectors", "recall", "fresh")
    ]


def test_a_damaged_version_is_told_by_all_commands(run: Run, facts: Collection):
    home = facts.folder / "facts"
    (home / facts.digest / "vectors.npy").write_bytes(b"")
    checked = run("collections", "check", "facts")
    assert checked.code == 1
    assert "error: collection 'facts': version not as it should be" in checked.err
    searched = run("search", "writes", "-c", "facts", "--json")
    assert (searched.code, len(searched.lines)) == (0, 2)
    for told in (searched.err, run("collections", "show", "facts").err):
        assert told.startswith("warning: collection 'facts' serves version ")
        assert told.endswith("vectors.npy is not what was written; build it again\n")
    [listed] = run("collections", "ls", "--json").lines
    assert (listed["chunks"], "not its last" in listed["state"]) == (2, True)
    [finding] = [row for row in run("doctor", "--json").lines if row["what"] == "collections"]
    assert (finding["ok"], "vectors.npy is not what was written" in finding["detail"]) == (
        False,
        True,
    )


def test_doctor_tells_every_collection(run: Run, facts: Collection, warehouse: Path):
    create(warehouse / "indexes", "empty")
    [finding] = [row for row in run("doctor", "--json").lines if row["what"] == "collections"]
    assert (finding["ok"], finding["detail"]) == (True, "empty: 0 chunks, facts: 4 chunks")
