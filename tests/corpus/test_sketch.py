"""Sketches: the plain definition against datasketch, the kernels against the plain definition."""

import subprocess
import sys
from typing import Any

import datasketch
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.sketches import assert_same, real_texts
from tracemill.corpus import sketch as sketches
from tracemill.corpus.kernels.letters import TAGS
from tracemill.corpus.sketch import Sketches, murmur64a, permutations, sketch, to_minhash, words

ODD = "aZ \t\n\x0b\x1c\x1f\x85\xa0\xdf\xe9\u0130\u212a\u03a3\u03c3\u03c2\u0345'\u2019.:\xb7\u4e2d\u3002"
ODD += "\u0e01\u0e49\u3042\u3000\u200d\u0307\U0001d400\U00020000\U000e0101"
"""Blanks, letters that grow or shrink or look around, words of one character, all widths."""

texts = st.text(st.sampled_from(ODD) | st.characters(exclude_categories=["Cs"]), max_size=200)
columns = st.lists(texts | st.none(), max_size=8)


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    sketches.warm()


def theirs(found: Sketches) -> list[datasketch.MinHash]:
    """What datasketch itself makes of the shingle hashes."""
    ranges = zip(found.offsets[:-1], found.offsets[1:], strict=True)
    sets = [found.shingles[start:end].tolist() for start, end in ranges]
    return list(datasketch.MinHash.generator(sets, num_perm=128, hashfunc=int))


def test_word_hash_is_murmurhash64a() -> None:
    """The verification value that SMHasher lists for MurmurHash2 for x64, 64 bits."""
    keys = (murmur64a(bytes(range(size)), 256 - size) for size in range(256))
    total = murmur64a(b"".join(key.to_bytes(8, "little") for key in keys))
    assert total & 0xFFFFFFFF == 0x1F0D3804


def test_permutations_are_those_of_datasketch() -> None:
    theirs: Any = datasketch.MinHash(num_perm=128).permutations
    assert np.array_equal(permutations(), theirs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Hello\tWORLD\n", ["hello", "world"]),
        ("A\x1fB\xa0C\u3000D", ["a", "b", "c", "d"]),
        ("我有2个GPU。", ["我", "有", "2", "个", "gpu。"]),
        ("データを読む", list("データを読む")),
        ("ไทย ok", [*"ไทย", "ok"]),
        ("ΟΔΟΣ İ", ["οδος", "i̇"]),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_what_a_sketch_holds() -> None:
    found = sketch(pl.Series(["a b c d e f", "A B  c d\ne F", "b a c d e f", "a", " ", None]))
    assert found.offsets.tolist() == [0, 2, 4, 6, 7, 7, 7]
    assert found.shingles[:2].tolist() == sorted(found.shingles[2:4])
    assert found.digests[0] == found.digests[1] != found.digests[2]
    assert found.digests[4:].tolist() == [0, 0]
    assert (found.signatures[4:] == 0xFFFFFFFF).all()
    assert (found.signatures[0] == found.signatures[1]).all()


def test_a_shingle_is_the_polynomial_of_five_words() -> None:
    rolled = 0
    for word in ["one", "two", "three", "four", "five"]:
        rolled = (rolled * 0x9E3779B97F4A7C15 + murmur64a(word.encode())) % (1 << 64)
    assert sketch(pl.Series(["One two three four five"])).shingles.tolist() == [rolled >> 32]


@settings(deadline=None)
@given(columns)
def test_signatures_are_those_of_datasketch(column: list[str | None]) -> None:
    found = sketch(pl.Series(column, dtype=pl.String), plain=True)
    assert [to_minhash(each) for each in found.signatures] == theirs(found)


@settings(max_examples=400, deadline=None)
@given(columns)
def test_kernels_are_the_definition(column: list[str | None]) -> None:
    assert_same(pl.Series(column, dtype=pl.String))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8))
def test_kernels_on_bytes_that_were_mended(raw: list[bytes]) -> None:
    assert_same(pl.Series([each.decode(errors="replace") for each in raw], dtype=pl.String))


@settings(deadline=None)
@given(st.lists(st.text(max_size=30) | st.none(), min_size=2, max_size=40), st.data())
def test_every_layout_of_arrow(column: list[str | None], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(column) - 1))
    expected = sketch(pl.Series(column[start:], dtype=pl.String), plain=True)
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        sliced = pa.array(column, kind).slice(start)
        halves = pa.chunked_array([sliced[: len(sliced) // 2], sliced[len(sliced) // 2 :]], kind)
        for texts in (sliced, halves):
            assert_same(texts, expected)
    chunked = pl.concat([pl.Series([each], dtype=pl.String) for each in column], rechunk=False)
    assert_same(chunked[start:], expected)


def test_every_code_point_as_python_has_it() -> None:
    """In a word, before, behind and between capital sigmas, which look at their neighbours."""
    same = range(0x20100, 0x110000, 97)  # test_kernels: their own lower case, all of them
    ranges = (range(0xD800), range(0xE000, 0x20100), range(*TAGS), same)
    codes = (chr(code) for each in ranges for code in each)
    column = pl.Series([f"a{each}b {each}Σ AΣ{each} AΣ{each}a A{each}Σ" for each in codes])
    folded = pl.Series([" ".join(words(each)) for each in column])
    found, expected = (sketch(each, plain=False).digests for each in (column, folded))
    assert column.filter(found != expected).to_list() == []
    assert_same(column[:0x600])


def test_every_length_and_place_of_a_text() -> None:
    long = ("Word WORDS, of-many lengths\tand 1 extraordinarily-long-one " * 10).strip()
    column = [long[start : start + size] for start in range(3) for size in range(270)]
    assert_same(pl.Series(column))
    accented = [f"é{each}" for each in column]
    assert_same(pl.Series(accented))


def test_no_words_nulls_and_no_texts() -> None:
    for column in ([], [None], ["", None, " \t\n"], [None, "a"]):
        assert_same(pl.Series(column, dtype=pl.String))
    assert_same(pa.nulls(3))
    assert_same(pa.chunked_array([], pa.string()))


def test_something_else_than_strings_is_refused() -> None:
    with pytest.raises(TypeError, match="texts are of type int64, not strings"):
        sketch(pl.Series([1]))


def test_long_documents_and_many_parts() -> None:
    numbers = np.random.default_rng(1).integers(0, 5000, 300_000).tolist()
    long = " ".join(map(str, numbers))
    column = pl.Series([long, "x" * 500_000, "short", long[:250_000] + "é", *["w " * 99] * 3000])
    assert_same(column)


def test_threads_change_nothing() -> None:
    column = pl.Series(
        [f"{each} text number {each} of several {each % 7}" for each in range(40_000)]
    )
    one, two = (sketch(column, threads=threads, plain=False) for threads in (1, 2))
    assert all(np.array_equal(left, right) for left, right in zip(one, two, strict=True))


def test_real_texts_agree_with_datasketch() -> None:
    column = real_texts()
    found = assert_same(column)
    assert [to_minhash(each) for each in found.signatures] == theirs(found)


def few(code: str) -> str:
    """What a fresh Python prints; warnings are errors there too."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_few_texts_do_without_numba() -> None:
    code = """
import sys
import polars
from tracemill.corpus.sketch import compiled, sketch
sketch(polars.Series(["few words"]))
print("numba" in sys.modules, compiled())
"""
    assert few(code) == "False False"


def test_warm_kernels_are_used_for_few_texts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sketches.warm()
    assert sketches.compiled()
    monkeypatch.setattr(sketches, "_plain", None)
    assert sketch(pl.Series(["few words"])).offsets.tolist() == [0, 1]
