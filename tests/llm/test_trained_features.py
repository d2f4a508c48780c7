"""Features of texts: they depend on the text alone, and tell texts apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.llm.trained import features
from tracemill.llm.trained.classifier import Shown, conversation, seen


def of(text: str, field: int = 0) -> list[int]:
    return features.hashed([text], field).ids.tolist()


@given(st.lists(st.text(max_size=40), max_size=6))
def test_a_text_has_the_same_features_among_others(texts: list[str]):
    together = features.hashed(texts)
    parts = np.split(together.ids, np.cumsum(together.counts)[:-1]) if texts else []
    assert [part.tolist() for part in parts] == [of(text) for text in texts]


@given(st.text(max_size=60))
def test_features_are_few_numbers_in_rising_order(text: str):
    found = of(text)
    assert found == sorted(set(found))
    assert all(0 <= one < 1 << features.BITS for one in found)


def test_case_and_blanks_do_not_count():
    assert of("Oak  PLANK\n") == of("oak plank")


def test_words_pairs_and_runs_are_features():
    # Two words, a pair of them, and of " oak axe " six runs of four bytes.
    assert len(of("oak axe")) == 2 + 1 + 6
    assert set(of("oak")) & set(of("the oak tree"))
    assert len(set(of("oak axe")) - set(of("axe oak"))) > 0


def test_a_field_has_features_of_its_own():
    assert not set(of("oak plank", 0)) & set(of("oak plank", 1))


@pytest.mark.parametrize("text", ["鍛冶屋は金槌を使う", "кузница", "🔨🪚", "a\x00b", "\ud800x"])
def test_any_script_has_features(text: str):
    assert of(text)


def test_of_a_long_text_the_ends_count():
    middle = "the same words over and over " * 2_000
    assert of(f"anvil {middle} loom") != of(f"anvil {middle} forge") != of(f"oak {middle} forge")
    assert len(of("x" * 5_000_000)) < 100


def test_a_conversation_of_one_turn_has_one_field():
    assert conversation([("user", "oak")]) == Shown("oak", "")
    assert conversation([("system", ""), ("user", "oak")]) == Shown("oak", "")
    assert conversation(
        [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")]
    ) == Shown("s\na\nb\nc", "c")
    assert conversation([]) == Shown("", "")


def test_fields_stand_side_by_side():
    two = [Shown("oak", ""), Shown("axe", "loom"), Shown("", "warp")]
    found = seen(two)
    assert found.counts.tolist() == [
        [len(of("oak")), 0], [len(of("axe")), len(of("loom", 1))], [0, len(of("warp", 1))]
    ]  # fmt: skip
    assert found.ids.tolist() == of("oak") + of("axe") + of("loom", 1) + of("warp", 1)
