"""Bands, linking and decisions: compiled, plain and by the definition, all pairs of Python sets."""

import math
import random
from itertools import pairwise
from time import process_time
from typing import Any

import datasketch
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.corpus.near import settle
from tracemill.corpus.near.bands import RECALL, STRICT, Policy, Rule, bands, meeting, rule
from tracemill.corpus.sketch import Sketches, sketch, to_minhash

VOCABULARY = [f"w{number}" for number in range(40)]
TEXTS = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 39)), max_size=6)),
    max_size=40,
)  # fmt: skip
POLICIES: list[Policy] = ["star", "component"]


def made(seeds: list[tuple[int, list[tuple[int, int]]]]) -> list[str]:
    """Texts of 30 words from four templates with some words changed; every fifth is cut short."""
    texts: list[str] = []
    for template, changes in seeds:
        words = [VOCABULARY[random.Random(template * 100 + at).randrange(40)] for at in range(30)]
        for at, word in changes:
            words[at] = VOCABULARY[word]
        texts.append(" ".join(words[: 30 if len(texts) % 5 else 26]))
    return texts


def part(texts: list[str], by: Rule, plain: bool | None = True) -> settle.Part:
    found = sketch(pl.Series("text", texts, dtype=pl.String))
    documents = pl.DataFrame(
        {
            "record_id": [f"{random.Random(text).getrandbits(32):08x}-{at:06}" for at, text in enumerate(texts)],
            "length": [len(text) for text in texts],
            "quality": [float(len(text) % 3) for text in texts],
        },
        schema={"record_id": pl.String, "length": pl.Int64, "quality": pl.Float64},
    )  # fmt: skip
    return settle.Part(documents, *found, settle.tags(found.signatures, by, plain=plain))


def cut(whole: settle.Part, *at: int) -> list[settle.Part]:
    """The same texts in several parts."""
    pieces: list[settle.Part] = []
    for low, high in pairwise((0, *at, len(whole.tags))):
        begin, end = whole.offsets[low], whole.offsets[high]
        pieces.append(
            settle.Part(
                whole.documents[low:high],
                whole.signatures[low:high],
                whole.shingles[begin:end],
                whole.offsets[low : high + 1] - begin,
                whole.digests[low:high],
                whole.tags[low:high],
            )
        )
    return pieces


ALIKE = "your order {number} was sent to you today and will be there by noon"
"""Any two have half of their shingles in common: they meet in buckets and are no duplicates."""


class Oracle:
    """The definition: Python sets, all pairs; which pairs may be seen is read off the signatures."""

    def __init__(self, whole: settle.Part, by: Rule) -> None:
        cuts = pairwise(whole.offsets.tolist())
        self.sets = [frozenset(whole.shingles[low:high].tolist()) for low, high in cuts]
        self.part, self.by = whole, by
        key = whole.documents.with_columns(pl.col("length", "quality") * -1)
        self.order = key.select(
            pl.arg_sort_by("length", "quality", "record_id")
        ).to_series().to_list()  # fmt: skip

    def near(self, one: int, other: int) -> float:
        """Their Jaccard similarity where they meet and look alike enough, else 0."""
        left, right = self.sets[one], self.sets[other]
        if not left or not right or len(left) == len(right) == 1:
            return 0.0
        rows = self.part.signatures[one], self.part.signatures[other]
        banded = [row[: self.by.bands * self.by.rows].reshape(-1, self.by.rows) for row in rows]
        meets = (banded[0] == banded[1]).all(axis=1).any()
        alike = (rows[0] == rows[1]).sum() >= self.by.slots
        return len(left & right) / len(left | right) if meets and alike else 0.0

    def heads(self) -> dict[int, int]:
        """For each text the first in rank of the same words."""
        first: dict[Any, int] = {}
        return {
            text: first.setdefault(
                (int(self.part.digests[text]), self.sets[text]) if self.sets[text] else text, text
            )
            for text in self.order
        }

    def star(self) -> list[tuple[int, float]]:
        heads, stars, found = self.heads(), list[int](), dict[int, tuple[int, float]]()
        for text in (text for text in self.order if heads[text] == text):
            near = [(self.near(text, star), -at, star) for at, star in enumerate(stars)]
            best, _, star = max(near, default=(0.0, 0, text))
            if best < self.by.threshold:
                stars.append(text)
                best, star = 1.0, text
            found[text] = star, best
        return [found[heads[text]] for text in range(len(self.sets))]

    def components(self) -> list[int]:
        """For each text the first in rank of its component."""
        heads, group = self.heads(), {text: text for text in self.order}
        for one in self.order:
            for other in self.order:
                joined = heads[one] == other or (
                    heads[one] == one
                    and heads[other] == other
                    and self.near(one, other) >= self.by.threshold
                )
                if joined and group[one] != group[other]:
                    old, new = group[one], group[other]
                    group = {text: new if at == old else at for text, at in group.items()}
        members = [[text for text in self.order if group[text] == group[one]] for one in group]
        named = dict(zip(group, members, strict=True))
        return [named[text][0] for text in range(len(self.sets))]


def same(one: settle.Decisions, other: settle.Decisions) -> None:
    for name, left, right in zip(one._fields, one, other, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


@pytest.mark.parametrize("plain", [True, False])
@given(TEXTS, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
@settings(max_examples=30, deadline=None)
def test_stars_are_those_of_the_definition(plain: bool, seeds: Any, threshold: float):
    by = rule(threshold)
    whole = part(made(seeds), by)
    decided = settle.decide([whole], by, plain=plain)
    assert (
        list(zip(decided.kept.tolist(), decided.jaccard.tolist(), strict=True))
        == Oracle(whole, by).star()
    )


@pytest.mark.parametrize("plain", [True, False])
@given(TEXTS, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
@settings(max_examples=30, deadline=None)
def test_components_are_those_of_the_definition(plain: bool, seeds: Any, threshold: float):
    by = rule(threshold, "component")
    whole = part(made(seeds), by)
    decided = settle.decide([whole], by, plain=plain)
    oracle = Oracle(whole, by)
    assert decided.kept.tolist() == oracle.components()
    for text, (kept, jaccard, via) in enumerate(zip(*decided[1:4], strict=True)):
        if kept != text:
            left, right = oracle.sets[text], oracle.sets[via if via >= 0 else kept]
            assert jaccard == len(left & right) / len(left | right) >= threshold
            assert via < 0 or decided.kept[via] == kept


@given(
    TEXTS,
    st.lists(st.integers(0, 40), max_size=4),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from(POLICIES),
)
@settings(max_examples=40, deadline=None)
def test_in_any_batches_with_any_threads_the_decisions_are_those_of_one_pass(
    seeds: Any, at: list[int], threads: int, plain: bool, policy: Policy
):
    by = rule(0.5, policy)
    whole = part(made(seeds), by)
    once = settle.decide([whole], by, plain=True)
    cuts = sorted(min(place, len(seeds)) for place in at)
    parts = cut(whole, *cuts)
    decided = settle.undecided()
    for count in range(1, len(parts) + 1):
        decided = settle.decide(parts[:count], by, decided, threads=threads, plain=plain)
    same(decided, once)


def corpus(texts: int, seed: int) -> list[str]:
    """Clusters of up to twelve texts around one of 20 to 120 words, with up to 5 % changed."""
    chance = random.Random(seed)
    found: list[str] = []
    while len(found) < texts:
        words = [f"v{chance.randrange(4_000)}" for _ in range(chance.randrange(20, 120))]
        for _ in range(chance.choice([1, 1, 1, 2, 3, 12])):
            own = list(words)
            for _ in range(chance.randrange(1 + len(words) // 20)):
                own[chance.randrange(len(own))] = f"v{chance.randrange(4_000)}"
            found.append(" ".join(own))
    return found[:texts]


@pytest.mark.parametrize("policy", POLICIES)
def test_compiled_and_plain_agree_on_many_texts_in_blocks(policy: Policy):
    by = rule(0.8, policy)
    texts = [*corpus(3_000, 5), *(ALIKE.format(number=number) for number in range(500))]
    whole = part(texts, by)
    np.testing.assert_array_equal(whole.tags, part(texts, by, plain=False).tags)
    plain = settle.decide([whole], by, plain=True)
    assert 600 < (plain.kept != np.arange(3_500)).sum() < 2_500
    same(settle.decide([whole], by, threads=3, plain=False), plain)
    same(settle.decide(cut(whole, 1, 2_500, 2_500, 3_499), by, plain=False), plain)


def test_of_all_pairs_at_or_above_the_threshold_999_in_1000_are_found():
    """Pairs of 100 words with 1 to 4 of them changed: Jaccard similarities from 0.6 to 0.95."""
    chance, texts = random.Random(11), list[str]()
    for _ in range(3_000):
        words = [f"v{chance.randrange(9_000)}" for _ in range(100)]
        texts.append(" ".join(words))
        for at in chance.sample(range(100), chance.randrange(1, 5)):
            words[at] = f"v{chance.randrange(9_000)}"
        texts.append(" ".join(words))
    by = rule(0.8, "component")
    whole = part(texts, by)
    oracle = Oracle(whole, by)
    pairs = zip(oracle.sets[::2], oracle.sets[1::2], strict=True)
    true = np.array([len(one & other) / len(one | other) >= 0.8 for one, other in pairs])
    decided = settle.decide([whole], by, plain=False)
    found = decided.kept[::2] == decided.kept[1::2]
    assert 1_000 < true.sum() < 2_800
    assert not found[~true].any()
    assert found[true].mean() >= 0.999


def seconds(texts: list[str], policy: Policy) -> tuple[float, settle.Decisions]:
    by = rule(0.8, policy)
    whole = part(texts, by, plain=False)
    settle.decide(cut(whole, 10)[:1], by, plain=False)
    start = process_time()
    decided = settle.decide([whole], by, plain=False)
    return process_time() - start, decided


TEMPLATE = " ".join(f"word{number}" for number in range(60))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{template} {number}", 1),
        ("{template}", 1),
        (ALIKE, 20_000),
    ],
    ids=["near", "equal", "alike"],
)
def test_one_template_many_times_takes_time_in_proportion(policy: Policy, text: str, expected: int):
    """20,000 near-duplicates, equals, or texts that meet in one bucket and are no duplicates."""
    texts = [text.format(template=TEMPLATE, number=number) for number in range(20_000)]
    spent, decided = seconds(texts, policy)
    assert (decided.kept == np.arange(20_000)).sum() == expected
    assert spent < 6


def test_equal_digests_of_different_texts_delete_nothing():
    by = rule(0.8)
    one, other = "one two three four five six", "seven eight nine ten eleven twelve"
    whole = part([one, other, one], by)
    collided = whole._replace(digests=np.zeros_like(whole.digests) + np.uint64(7))
    # They meet in no band, so they must be brought together for the digests to be compared.
    met = collided._replace(tags=np.ones_like(whole.tags))
    for plain in (True, False):
        decided = settle.decide([met], by, plain=plain)
        assert len(set(decided.kept.tolist())) == 2
        assert decided.kept[0] == decided.kept[2]


def test_a_text_without_words_meets_nobody():
    for plain in (True, False):
        by = rule(0.8, "component")
        decided = settle.decide([part(["", " \n", "", "one"], by, plain)], by, plain=plain)
        assert decided.kept.tolist() == [0, 1, 2, 3]


def test_bands_reach_the_recall_that_they_promise():
    assert bands(0.8) == (21, 6)
    assert meeting(0.8, *bands(0.8)) == pytest.approx(0.9983, abs=1e-4)
    assert meeting(0.8, 9, 13) == pytest.approx(0.40, abs=0.01)
    for threshold in (0.3, 0.5, 0.7, 0.9, 0.99, 1.0):
        count, rows = bands(threshold)
        assert count * rows <= 128
        assert count >= 2
        assert meeting(threshold, count, rows) >= 0.998


def test_a_stricter_recall_takes_other_bands():
    assert bands(0.8, STRICT) == (25, 5)
    assert rule(0.8, "component", STRICT)[2:] == (25, 5)
    for threshold in (0.5, 0.7, 0.9):
        assert meeting(threshold, *bands(threshold, STRICT)) >= STRICT > RECALL
        assert bands(threshold, STRICT)[1] <= bands(threshold)[1]


def test_different_words_with_one_hash_are_not_alike():
    """The only shingle of a short text has 32 bits: of a million, a hundred pairs are equal."""
    by = rule(0.8, "component")
    whole = part(["yes", "no", "yes", "one two three four five six"], by)
    collided = whole._replace(
        signatures=whole.signatures[[0, 0, 0, 3]],
        shingles=np.concatenate([whole.shingles[[0, 0, 0]], whole.shingles[3:]]),
        tags=whole.tags[[0, 0, 0, 3]],
    )
    for plain in (True, False):
        decided = settle.decide([collided], by, plain=plain)
        assert decided.kept[0] == decided.kept[2] != decided.kept[1]


def test_what_meets_is_what_meets_in_datasketch():
    by = rule(0.8)
    texts = corpus(300, 9)
    whole = part(texts, by)
    lsh = datasketch.MinHashLSH(num_perm=128, params=(by.bands, by.rows))
    sketches = [to_minhash(row) for row in whole.signatures]
    for text, minhash in enumerate(sketches):
        lsh.insert(text, minhash)
    for text, minhash in enumerate(sketches):
        ours = np.flatnonzero((whole.tags == whole.tags[text]).any(axis=1))
        assert set(lsh.query(minhash)) == set(ours.tolist())


def test_the_filter_by_signatures_is_four_deviations_wide():
    slots = rule(0.8).slots
    deviation = math.sqrt(0.8 * 0.2 / 128)
    assert slots == math.ceil(128 * (0.8 - 4 * deviation))
    assert rule(1.0).slots == 128


def test_sketches_fit_a_part():
    """A part takes the fields of `Sketches` between its documents and tags."""
    assert settle.Part._fields[1:-1] == Sketches._fields
