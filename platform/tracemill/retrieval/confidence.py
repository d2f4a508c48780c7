"""How likely an answer is right: plain signs of it, weighed as labelled questions taught.

A logistic regression makes one number of the signs, a monotone curve makes a probability of that.
docs/confidence.md tells what both were fitted on, and how well they hold on what was held out.
"""

import re
from collections.abc import Collection as Several
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field, ValidationError, model_validator

from tracemill.corpus.recipe import Strict
from tracemill.errors import InputError
from tracemill.files import write_text_atomically
from tracemill.llm import bm25

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from tracemill.settings import Settings

SHIPPED = Path(__file__).with_name("calibrations.json")
ANY = "any"
"""Whose calibration serves an embedding model that none was fitted for."""
_CITATION = re.compile(r"\s*\[\d+\]")


class Features(NamedTuple):
    """What speaks for an answer; each from 0 to 1 but for the cosine, and larger is better."""

    lexical: float
    """The share of the question's weight (BM25) that the best cited passage holds."""
    margin: float
    """How far the best passage's share is above the mean of the others that were found."""
    cosine: float
    """Of the question and the answer, by the light model, whichever model embeds the passages."""
    coverage: float
    """The share of the question's words that the answer and its passages' titles hold."""
    supported: float = 1.0
    """The share of the answer's citations that support their sentence. It is not weighed but
    multiplies: the offline model copies its sentences, so there is nothing to learn it from."""


SIGNS = Features._fields[:4]
"""What is weighed."""


class Calibration(Strict):
    """From signs to a probability: sigmoid(weights . (signs - centre) / spread + intercept), then
    a curve of straight lines between points, where there is one."""

    model: str
    """The embedding model of the passages."""
    signs: tuple[str, ...] = SIGNS
    centre: tuple[float, ...]
    spread: tuple[Annotated[float, Field(gt=0)], ...]
    weights: tuple[Annotated[float, Field(ge=0)], ...]
    """Never negative: more evidence never lowers a probability."""
    intercept: float
    curve: tuple[tuple[float, float], ...] = ()
    """Points (logistic, probability), both rising; empty for none."""
    provenance: dict[str, str | int | float]
    """What it was fitted on, when, and how well it held on what was held out."""

    @model_validator(mode="after")
    def _weighs_todays_signs(self) -> "Calibration":
        if self.signs != SIGNS:
            raise ValueError(f"it weighs {', '.join(self.signs)}, not {', '.join(SIGNS)}")
        if {len(self.centre), len(self.spread), len(self.weights)} != {len(SIGNS)}:
            raise ValueError(f"centre, spread and weights have not {len(SIGNS)} numbers each")
        return self

    def probability(self, features: Features) -> float:
        """How likely the answer is right, from 0 to 1."""
        import numpy as np

        signs = np.array([features[: len(SIGNS)]], dtype=np.float64)
        return float(self.probabilities(signs)[0]) * features.supported

    def probabilities(self, signs: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """As `probability`, of all citations supported, for signs of shape (answers, 4)."""
        import numpy as np

        scaled = (signs - self.centre) / self.spread
        logistic = sigmoid(scaled @ np.array(self.weights) + self.intercept)
        if not self.curve:
            return logistic
        points = np.array(self.curve)
        return np.interp(logistic, points[:, 0], points[:, 1])


def features(
    question: str,
    found: "pl.DataFrame",
    answer: str,
    *,
    cited: Several[str],
    supported: float = 1.0,
) -> Features:
    """The signs of an answer.

    Args:
        found: what the search gave, best first: `chunk_id`, `title`, `headings`, `text` and, where
            it looked at words, `lexical` from 0 to 1.
        answer: its text with citations.
        cited: the ids of the chunks that it cites.
        supported: the share of its citations that support their sentence.
    """
    from tracemill.retrieval.embed import compute

    plain = _CITATION.sub("", answer)
    asked = frozenset(bm25.words(question))
    held = _held(asked, found)
    shares = _shares(found, [len(words) / max(len(asked), 1) for words in held])
    is_cited = [chunk_id in cited for chunk_id in found["chunk_id"]]
    titles = found.filter(is_cited).select("title", "headings").rows()
    said = {*bm25.words(plain), *bm25.words(" ".join(f"{t} {' '.join(h)}" for t, h in titles))}
    about, answers = compute([question, plain])
    return Features(
        lexical=max((s for s, yes in zip(shares, is_cited, strict=True) if yes), default=0.0),
        margin=_margin(shares),
        cosine=float(about @ answers),
        coverage=len(asked & said) / max(len(asked), 1),
        supported=supported,
    )


def _held(asked: frozenset[str], found: "pl.DataFrame") -> list[frozenset[str]]:
    return [asked & set(bm25.words(text)) for text in found["text"]]


def _shares(found: "pl.DataFrame", plain: list[float]) -> list[float]:
    """BM25's shares; a search by vectors alone has none, and plain shares of words stand in."""
    if "lexical" not in found.columns or found["lexical"].null_count() == found.height:
        return plain
    return found["lexical"].fill_null(0).clip(0, 1).to_list()


def _margin(shares: list[float]) -> float:
    best, *others = sorted(shares, reverse=True) or [0.0]
    return best - sum(others) / len(others) if others else best


def shipped(model: str) -> Calibration:
    """The calibration that comes with the package for an embedding model, else the one for any."""
    fitted = _shipped()
    return fitted.get(model, fitted[ANY])


def calibration(settings: "Settings", collection: str, model: str) -> Calibration:
    """A collection's own calibration where it has one for this embedding model, else the one that
    is shipped for the model.

    Raises `InputError` when its own cannot be read.
    """
    path = own(settings, collection)
    if not path.is_file():
        return shipped(model)
    try:
        learned = Calibration.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(
            f"{path} is not a calibration ({error.errors()[0]['msg']}): delete it, or write it "
            f"anew by `tracemill collections evaluate {collection} --calibrate`"
        ) from None
    return learned if learned.model == model else shipped(model)


def keep(settings: "Settings", collection: str, learned: Calibration) -> Path:
    """Let a collection have its own calibration from now on."""
    text = learned.model_dump_json(indent=1) + "\n"
    return write_text_atomically(own(settings, collection), text)


def own(settings: "Settings", collection: str) -> Path:
    """Where a collection's own calibration lies."""
    return settings.collection(collection) / "confidence.json"


@cache
def _shipped() -> dict[str, Calibration]:
    from pydantic import TypeAdapter

    every = TypeAdapter(list[Calibration]).validate_json(SHIPPED.read_bytes())
    return {each.model: each for each in every}


def sigmoid(x: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """1 / (1 + exp(-x)), without overflow."""
    import numpy as np

    return np.exp(-np.logaddexp(0, -x))
