"""A confidence is a probability: it holds on what was held out, and rises with the evidence."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.errors import InputError, UsageError
from tracemill.retrieval.calibrate import CURVE_FROM, fit, held_out, quality
from tracemill.retrieval.confidence import (
    ANY,
    SIGNS,
    Calibration,
    Features,
    calibration,
    features,
    keep,
    own,
    shipped,
)
from tracemill.settings import Settings

WEIGHTS = np.array([2.0, 1.0, 0.0, 3.0])


def answers(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signs, the true probabilities, and what came of them."""
    random = np.random.default_rng(seed)
    signs = random.random((count, 4))
    true = 1 / (1 + np.exp(3 - signs @ WEIGHTS))
    return signs, true, random.random(count) < true


@pytest.mark.parametrize("count", [480, 4_000])
def test_what_made_the_answers_right_is_found_again(count: int) -> None:
    signs, _, right = answers(count)
    learned = fit(signs, right, model="local/wordllama", provenance={"data": "made"})
    fresh, true, _ = answers(2_000, seed=1)
    assert np.abs(learned.probabilities(fresh) - true).mean() < 0.05
    assert bool(learned.curve) == (count >= CURVE_FROM)
    assert learned.provenance == {"answers": count, "data": "made"}


def test_a_curve_mends_what_no_logistic_function_can_be() -> None:
    random = np.random.default_rng(0)
    signs = random.random((6_000, 4))
    steps = np.where(signs[:, 0] > 0.9, 0.7, np.where(signs[:, 0] > 0.2, 0.4, 0.1))
    right = random.random(6_000) < steps
    groups = np.arange(6_000) % 40
    assert quality(held_out(signs, right, groups), right).ece < 0.03
    straight = fit(signs, right, model=ANY).model_copy(update={"curve": ()})
    assert quality(straight.probabilities(signs), right).ece > 0.03


def test_a_group_has_no_part_in_its_own_probabilities() -> None:
    signs, _, right = answers(600)
    groups = np.arange(600) % 8
    turned = np.where(groups == 3, ~right, right)
    before, after = held_out(signs, right, groups), held_out(signs, turned, groups)
    assert np.array_equal(before[groups == 3], after[groups == 3])
    assert not np.array_equal(before[groups == 4], after[groups == 4])


def test_a_sign_that_speaks_against_an_answer_is_left_aside() -> None:
    signs, _, right = answers(1_000)
    signs[:, 1] = np.where(right, 0.2, 0.8)
    assert fit(signs, right, model=ANY).weights[1] == 0


signs = st.tuples(*[st.floats(0, 1)] * 4)


@given(signs, st.sampled_from(SIGNS), st.floats(0, 1), st.sampled_from(["local/minilm", ANY]))
def test_more_evidence_never_lowers_a_probability(
    values: tuple[float, ...], sign: str, more: float, model: str
) -> None:
    fitted, less = shipped(model), Features(*values)
    richer = less._replace(**{sign: max(getattr(less, sign), more)})
    assert 0 <= fitted.probability(less) <= fitted.probability(richer) <= 1


def test_a_citation_that_does_not_hold_takes_its_share() -> None:
    fitted, good = shipped(ANY), Features(0.9, 0.5, 0.9, 1.0)
    assert fitted.probability(good) > 0.8
    half = fitted.probability(good._replace(supported=0.5))
    assert half == pytest.approx(fitted.probability(good) / 2)


@pytest.mark.parametrize(("right", "wrong"), [(100, 99), (300, 49), (49, 300), (0, 500)])
def test_too_few_answers_are_refused(right: int, wrong: int) -> None:
    signs, _, _ = answers(right + wrong)
    with pytest.raises(UsageError, match=f"{right} right and {wrong} wrong, are too few"):
        fit(signs, np.arange(right + wrong) < right, model=ANY)


# Quality


def test_quality_of_an_example_worked_out_by_hand() -> None:
    probabilities = np.array([0.1, 0.3, 0.6, 0.8])
    right = np.array([False, True, False, True])
    found = quality(probabilities, right, bins=2)
    assert found.answers == 4
    assert found.bins == ((pytest.approx(0.2), 0.5), (pytest.approx(0.7), 0.5))
    assert found.ece == pytest.approx((0.3 + 0.2) / 2)
    assert found.brier == pytest.approx((0.01 + 0.49 + 0.36 + 0.04) / 4)
    assert found.auroc == pytest.approx(3 / 4)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.booleans()), min_size=2))
def test_auroc_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[float, bool]]) -> None:
    good = [p for p, right in pairs if right]
    bad = [p for p, right in pairs if not right]
    found = quality(np.array([p for p, _ in pairs]), np.array([right for _, right in pairs]))
    if good and bad:
        won = sum((a > b) + (a == b) / 2 for a in good for b in bad)
        assert found.auroc == pytest.approx(won / (len(good) * len(bad)))
    else:
        assert np.isnan(found.auroc)


# Which calibration serves


@pytest.mark.parametrize("model", ["local/wordllama", ANY])
def test_what_is_shipped_says_where_it_comes_from_and_how_well_it_holds(model: str) -> None:
    fitted = shipped(model)
    assert fitted.model == model
    assert fitted.provenance.keys() >= {"data", "date", "answers", "answer_model", "ece"}
    assert float(fitted.provenance["ece"]) <= 0.05


def test_an_unknown_model_gets_the_calibration_for_any() -> None:
    assert shipped("openai/text-embedding-3-small") == shipped(ANY)


def test_a_collection_has_its_own_once_it_is_kept(tmp_path: Path) -> None:
    settings = Settings(warehouse=tmp_path)
    assert calibration(settings, "handbook", "local/minilm") == shipped("local/minilm")
    signs, _, right = answers(400)
    learned = fit(signs, right, model="local/minilm")
    keep(settings, "handbook", learned)
    assert calibration(settings, "handbook", "local/minilm") == learned
    assert Calibration.model_validate_json(own(settings, "handbook").read_bytes()) == learned
    assert calibration(settings, "other", "local/minilm") == shipped("local/minilm")
    # It was fitted for vectors of another model.
    assert calibration(settings, "handbook", "local/wordllama") == shipped("local/wordllama")


def test_a_damaged_calibration_is_refused_with_the_mend(tmp_path: Path) -> None:
    settings = Settings(warehouse=tmp_path)
    path = own(settings, "handbook")
    path.parent.mkdir(parents=True)
    path.write_text('{"model": 7}', encoding="utf-8")
    with pytest.raises(InputError, match=r"confidence\.json is not a calibration .*--calibrate"):
        calibration(settings, "handbook", "local/minilm")


# Signs


def found(*shares: float | None) -> pl.DataFrame:
    texts = ["The journal takes all writes.", "Segments are files.", "Nothing else."]
    rows = [(f"c{n}", "Log", ["Journal"], texts[n], share) for n, share in enumerate(shares)]
    schema = {
        "chunk_id": pl.String,
        "title": pl.String,
        "headings": pl.List(pl.String),
        "text": pl.String,
        "lexical": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"signs": ["lexical", "margin", "cosine", "length"]}, "it weighs"),
        ({"weights": [1.0, 1.0, 1.0]}, "4 numbers each"),
        ({"spread": [1.0, 0.0, 1.0, 1.0]}, "greater than 0"),
    ],
)
def test_a_calibration_of_other_signs_is_refused(
    tmp_path: Path, change: dict[str, object], why: str
) -> None:
    settings = Settings(warehouse=tmp_path)
    odd = shipped("local/wordllama").model_dump() | change
    path = settings.collection("notes") / "confidence.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(odd))
    with pytest.raises(InputError, match=why):
        calibration(settings, "notes", "local/wordllama")


def test_signs_of_an_answer() -> None:
    question, answer = "What takes the writes of the log?", "The journal takes all writes. [1]"
    signs = features(question, found(0.8, 0.3, 0.1), answer, cited={"c0"}, supported=1.0)
    assert signs._replace(cosine=0) == pytest.approx((0.8, 0.6, 0, 1.0, 1.0))
    assert 0.3 < signs.cosine <= 1
    second = features(question, found(0.8, 0.3, 0.1), answer, cited={"c1"})
    assert (second.lexical, second.margin) == (0.3, signs.margin)


def test_without_bm25_the_words_themselves_are_counted() -> None:
    question = "What takes the writes of the log?"
    signs = features(question, found(None, None), "All writes. [1]", cited={"c0"})
    assert signs.lexical == pytest.approx(2 / 3)
    assert signs.margin == pytest.approx(2 / 3)
    assert signs.coverage == pytest.approx(2 / 3)
