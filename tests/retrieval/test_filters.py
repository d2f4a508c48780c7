"""A filter leaves exactly the chunks for which it holds, whatever is written in it."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.retrieval.passages import directions, numbered, passages, vectors_of
from tracemill.errors import UsageError
from tracemill.retrieval import rerank
from tracemill.retrieval.collection import Collection, contents, create, search
from tracemill.retrieval.filters import compiled, read, rows

METADATA: list[dict[str, Any]] = [
    {"team": "core", "year": 2020, "draft": False, "tags": ["a", "b"], "by": {"name": "Ada"}},
    {"team": "docs", "year": 2021.5, "draft": True, "tags": [], "day": "2026-01-05"},
    {"team": "o'hara\"; DROP TABLE chunks --", "year": "2020", "a/b": {"~c": 1}},
    {},
]
CHUNKS = passages((str(row), f"text {row}") for row in range(4)).with_columns(
    metadata=pl.Series([json.dumps(each) for each in METADATA]),
    language=pl.Series(["en", "de", None, "en"]),
    modified_at=pl.Series([datetime(2026, 1, day, 12, tzinfo=UTC) for day in (1, 2, 3, 4)]),
    tokens=pl.Series([10, 20, 30, 40]),
    first_page=pl.Series([1, None, 3, None], dtype=pl.Int64),
    headings=pl.Series([["Guide", "Install"], ["Guide"], [], ["Use"]]),
)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"language": "en"}, [0, 3]),
        ({"language": {"!=": "en"}}, [1, 2]),
        ({"language": None}, [2]),
        ({"language": {"!=": None}}, [0, 1, 3]),
        ({"language": {"in": ["de", None]}}, [1, 2]),
        ({"language": {"in": []}}, []),
        ({"tokens": {">": 10, "<=": 30}}, [1, 2]),
        ({"tokens": {">=": 30.5}}, [3]),
        ({"tokens": {"==": 20}, "language": "en"}, []),
        ({"first_page": {"<": 3}}, [0]),
        ({"modified_at": {">=": "2026-01-03"}}, [2, 3]),
        ({"modified_at": {"<": date(2026, 1, 2)}}, [0]),
        ({"modified_at": datetime(2026, 1, 2, 12, tzinfo=UTC)}, [1]),
        ({"modified_at": {">": "2026-01-03T14:00+02:00"}}, [3]),
        ({"text": {"contains": "xt 2"}}, [2]),
        ({"text": {"contains": "%"}}, []),
        ({"headings": {"contains": "Guide"}}, [0, 1]),
        ({"metadata.team": "core"}, [0]),
        ({"metadata.team": METADATA[2]["team"]}, [2]),
        ({"metadata.team": {"in": ["core", "docs"]}}, [0, 1]),
        ({"metadata.team": {"!=": "core"}}, [1, 2, 3]),
        ({"metadata.team": {"contains": "DROP"}}, [2]),
        ({"metadata.year": 2020}, [0]),
        ({"metadata.year": "2020"}, [2]),
        ({"metadata.year": {">": 2020}}, [1]),
        ({"metadata.draft": True}, [1]),
        ({"metadata.draft": False}, [0]),
        ({"metadata.draft": 1}, []),
        ({"metadata.tags": {"contains": "b"}}, [0]),
        ({"metadata.by.name": "Ada"}, [0]),
        ({"metadata.a/b.~c": 1}, [2]),
        ({"metadata.day": {">=": date(2026, 1, 1)}}, [1]),
        ({"metadata.team": None}, [3]),
        ({"metadata.by.name": {"!=": None}}, [0]),
        ({"metadata.nothing'; --": "x"}, []),
        ({"metadata": {"contains": "Ada"}}, [0]),
    ],
)
def test_what_a_filter_leaves(where: dict[str, Any], expected: list[int]):
    assert rows(CHUNKS, where).tolist() == expected


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({"lang": "en"}, r"no field 'lang'; there are chunk_id, .*, text and metadata.KEY"),
        ({"language": {"like": "e%"}}, r"no operator 'like'; there are ==, !=, <, <=, >, >=, in"),
        ({"language": {}}, "no condition is given"),
        ({"language": ["en"]}, r"cannot compare with \['en'\]"),
        ({"language": {"in": "en"}}, "`in` takes a list"),
        ({"tokens": "many"}, "tokens is a number: it cannot be compared with 'many'"),
        ({"tokens": {"contains": 1}}, "`contains` is for texts and lists"),
        ({"tokens": True}, "tokens is a number"),
        ({"headings": "Guide"}, "headings is a list: only `contains`"),
        ({"modified_at": "yesterday"}, "modified_at is a time, as 2026-03-01"),
        ({"language": {"<": None}}, "cannot compare with None"),
        ({'x" OR true --': 1}, "no field"),
    ],
)
def test_what_cannot_be_is_refused(where: dict[str, Any], says: str):
    with pytest.raises(UsageError, match=says):
        rows(CHUNKS, where)


@given(
    st.dictionaries(
        st.text(min_size=1).map("metadata.{}".format), st.text() | st.integers(), max_size=3
    )
)
def test_nothing_that_people_write_becomes_sql(where: dict[str, Any]):
    sql = compiled(CHUNKS.schema, where).sql
    only = set("()?=' ,ANDCASEWHENIRCHTjson_typemetadataextract_stringDOUBLEBIGINTUVL")
    assert set(sql) <= only | set("true")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("language=en", {"language": {"==": "en"}}),
        ("tokens >= 100", {"tokens": {">=": 100}}),
        ("metadata.share<0.5", {"metadata.share": {"<": 0.5}}),
        ("metadata.team in core, docs", {"metadata.team": {"in": ["core", "docs"]}}),
        ("title contains a = b", {"title": {"contains": "a = b"}}),
        ("metadata.year='2020'", {"metadata.year": {"==": "2020"}}),
        ("metadata.draft!=true", {"metadata.draft": {"!=": True}}),
        ("language=null", {"language": {"==": None}}),
        ("source=https://a.b/?x=1", {"source": {"==": "https://a.b/?x=1"}}),
        ("metadata.n=inf", {"metadata.n": {"==": "inf"}}),
    ],
)
def test_conditions_as_people_type_them(text: str, expected: dict[str, Any]):
    assert read([text]) == expected


def test_several_conditions_on_one_field_all_hold():
    assert read(["tokens>1", "tokens<9"]) == {"tokens": {">": 1, "<": 9}}
    with pytest.raises(UsageError, match=r"'language' is no condition: write FIELD OPERATOR VALUE"):
        read(["language"])


COUNT = 600


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """With a graph; `metadata.n` counts from 0."""
    chunks = numbered(COUNT).with_columns(
        metadata=pl.int_range(COUNT).map_elements(lambda n: f'{{"n":{n}}}', return_dtype=pl.String)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "EXACT_BELOW", 200)
        return create(tmp_path_factory.mktemp("indexes"), "many").replace(chunks, directions(COUNT))


def without_graph(collection: Collection) -> Collection:
    from dataclasses import replace

    return replace(collection, contents=replace(collection.contents, graph=None))


spans = st.tuples(st.integers(0, COUNT - 1), st.integers(1, COUNT))
Ask = Callable[[Collection, int, Any], pl.DataFrame]
ASKS: dict[str, Ask] = {
    "vector": lambda one, k, where: one.search(directions(3, seed=9)[1], k, where=where),
    "words": lambda one, k, where: one.search("passage number 117", k, where=where),
    "lexical": lambda one, k, where: one.search("number 117 or 12", k, where=where, mode="lexical"),
}


@pytest.mark.parametrize("ask", ASKS)
@given(span=spans, k=st.integers(1, 20))
@settings(deadline=None, max_examples=8)
def test_a_filter_only_leaves_out(many: Collection, ask: str, span: tuple[int, int], k: int):
    """What an exact search finds, without what the filter does not let pass, and as scored there."""
    first, last = span[0], span[0] + span[1]
    where = {"metadata.n": {">=": first, "<": last}}
    exact = without_graph(many)
    with pytest.MonkeyPatch.context() as patch:
        # Else a chunk far behind is looked at once more only where others are left out.
        for module in (rerank, search):
            patch.setattr(module, "CANDIDATES", COUNT)
        everything = ASKS[ask](exact, COUNT, None)
        found = ASKS[ask](exact, k, where).drop("rank")
    n = pl.col("metadata").str.json_path_match("$.n").cast(pl.Int64)
    expected = everything.filter((n >= first) & (n < last)).head(k).drop("rank")
    assert found["chunk_id"].to_list() == expected["chunk_id"].to_list()
    for side in ("score", "lexical", "dense"):
        pair = (found[side].to_numpy(), expected[side].to_numpy())
        assert np.allclose(*pair, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.3, 0.6, 0.95])
def test_with_a_graph_narrow_and_wide_filters_find_the_same(many: Collection, share: float):
    where = {"metadata.n": {"<": int(share * COUNT)}}
    exact, queries = without_graph(many), directions(40, seed=3)
    pairs = zip(
        many.search_many(queries, 10, where=where),
        exact.search_many(queries, 10, where=where),
        strict=True,
    )
    shares = [one.join(other, on="chunk_id").height / 10 for one, other in pairs]
    assert np.mean(shares) >= 0.995


def test_a_filter_that_leaves_nothing_finds_nothing(many: Collection, tmp_path: Path):
    for query in ("passage", directions(1)[0]):
        assert many.search(query, where={"language": "fr"}).is_empty()
    chunks = passages()
    small = create(tmp_path, "small").add(chunks, vectors_of(chunks))
    assert small.search("writes", where={"title": {"in": ["clocks"]}})["title"].to_list() == [
        "clocks"
    ]


@pytest.mark.parametrize("where", [{"tokens": {"<": 10**60}}, {"title": "\ud800"}])
def test_a_value_that_nothing_can_hold_is_told(many: Collection, where: dict[str, Any]):
    with pytest.raises(UsageError, match=next(iter(where))):
        many.count(where)
