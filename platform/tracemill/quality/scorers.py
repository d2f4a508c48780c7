"""How an answer is judged: each scorer takes answers as columns and gives one number for each.

Answers are rows with `answer` (null where there is none), `expected` (texts that are right) and the
case's `input` and `form`. A row without an answer is never judged here: it counts as wrong.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from tracemill.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tracemill.llm.client import Client

_EDGES = " \t\n\r\"'`.!\u201c\u201d\u2018\u2019"


@dataclass(frozen=True)
class Scorer:
    """A figure, and how it comes of answers."""

    name: str
    score: "Callable[[pl.DataFrame], pl.Series] | None"
    """A number for each row with an answer, null where nothing can be told; None for figures that
    need no answer."""
    direction: Literal["higher", "lower"] = "higher"
    unit: bool = True
    """Whether all its numbers lie from 0 to 1."""
    needs_expected: bool = True
    """Whether a case without an expected answer has this figure."""
    measure: "Callable[[Client, str, pl.DataFrame], pl.Series] | None" = None
    """For figures that need no answer: client, model and the cases -> a number for each case."""


def accuracy() -> Scorer:
    """Whether the answer is a right label; as `normalised`, which forgives no more than edges."""
    return Scorer("accuracy", _among(_normal))


def exact_match() -> Scorer:
    """Whether the answer is, letter by letter, one that is right."""
    return Scorer("exact_match", _among(lambda text: text))


def normalised() -> Scorer:
    """Whether the answer is right but for case, blanks, quotes around it and a last full stop.

    Punctuation inside stays: C and C++ are two answers.
    """
    return Scorer("normalised", _among(_normal))


def contains() -> Scorer:
    """Whether a right answer stands in what was said, as words of its own; as `normalised`."""
    return Scorer("contains", _holding)


def json_match() -> Scorer:
    """Whether the answer is JSON with the expected value, in whatever order its fields are."""
    return Scorer("json_match", lambda rows: _each(rows, _same_json))


def json_schema(schema: Mapping[str, Any]) -> Scorer:
    """Whether the answer is JSON that keeps to a JSON Schema: format compliance.

    Raises `UsageError` where it is none.
    """
    from tracemill.llm.schema_check import problems, wrong_schema

    fixed = dict(schema)
    if wrong := wrong_schema(fixed):
        raise UsageError(wrong)

    def keeps(answer: str, _: Sequence[str]) -> float:
        return float(not problems(fixed, answer))

    return Scorer("format_compliance", lambda rows: _each(rows, keeps), needs_expected=False)


def similarity(model: str = "local/wordllama") -> Scorer:
    """The cosine of the answer and the nearest right one, by an embedding model that runs here."""

    def score(rows: "pl.DataFrame") -> "pl.Series":
        return _cosine(rows, model)

    return Scorer("similarity", score, unit=False)


def bits_per_byte() -> Scorer:
    """How many bits a language model that was trained here takes for a byte of the right answer,
    after the question: lower is better, and no answer is written."""
    return Scorer("bits_per_byte", None, direction="lower", unit=False, measure=_bits_per_byte)


def by(name: str, score: Callable[[str, Sequence[str]], float | bool], **more: Any) -> Scorer:
    """A figure of your own: a function of an answer and of those that are right.

    `more` are further fields of `Scorer`. Numbers that are not between 0 and 1 need `unit=False`.
    """

    def one(answer: str, expected: Sequence[str]) -> float:
        return float(score(answer, expected))

    return Scorer(name, lambda rows: _each(rows, one), **more)


SCORERS: Mapping[str, Callable[[], Scorer]] = {
    "accuracy": accuracy,
    "exact_match": exact_match,
    "normalised": normalised,
    "contains": contains,
    "json_match": json_match,
    "similarity": similarity,
    "bits_per_byte": bits_per_byte,
}
"""Name of a figure -> its scorer; `json_schema` and `by` need more than a name."""
DIRECTIONS: Mapping[str, Literal["higher", "lower"]] = {"bits_per_byte": "lower"}
"""Figures of which less is better; of all others more is."""


def scorer(name: str) -> Scorer:
    """The scorer of a figure. Raises `UsageError` where there is none."""
    if name not in SCORERS:
        raise UsageError(f"no figure is called {name!r}: there are {', '.join(SCORERS)}")
    return SCORERS[name]()


def direction(figure: str) -> Literal["higher", "lower"]:
    """Which way a figure is better."""
    return DIRECTIONS.get(figure, "higher")


def _normal(text: "pl.Expr") -> "pl.Expr":
    blanks = text.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ")
    return blanks.str.strip_chars(_EDGES)


def _among(normal: "Callable[[pl.Expr], pl.Expr]") -> "Callable[[pl.DataFrame], pl.Series]":
    import polars as pl

    def score(rows: "pl.DataFrame") -> "pl.Series":
        right = pl.col("expected").list.eval(normal(pl.element()))
        found = right.list.contains(normal(pl.col("answer")))
        return rows.select(found.cast(pl.Float64).alias("score")).to_series()

    return score


def _holding(rows: "pl.DataFrame") -> "pl.Series":
    import re

    import polars as pl

    both = rows.select(
        _normal(pl.col("answer")), pl.col("expected").list.eval(_normal(pl.element()))
    )
    found = [
        float(any(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", answer) for text in right))
        for answer, right in both.iter_rows()
    ]
    return pl.Series("score", found, dtype=pl.Float64)


def _each(rows: "pl.DataFrame", score: Callable[[str, Sequence[str]], float]) -> "pl.Series":
    import polars as pl

    found = [
        score(answer, right) for answer, right in rows.select("answer", "expected").iter_rows()
    ]
    return pl.Series("score", found, dtype=pl.Float64)


def _same_json(answer: str, right: Sequence[str]) -> float:
    from tracemill.llm.schema_check import unfenced

    try:
        said = _canonical(json.loads(unfenced(answer) or answer))
    except (ValueError, RecursionError):
        return 0.0
    return float(any(said == _canonical(json.loads(text)) for text in right))


def _canonical(value: Any) -> str:
    """As text that is the same for equal JSON: 1.0 is 1, and true is no 1."""
    return json.dumps(_whole(value), sort_keys=True)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in cast("dict[str, Any]", value).items()}
    return value


def _cosine(rows: "pl.DataFrame", name: str) -> "pl.Series":
    import numpy as np
    import polars as pl

    from tracemill.retrieval import embed

    model = embed.model(name)
    pairs = rows.select("answer", "expected").with_row_index("row").explode("expected")
    said = embed.embed(rows["answer"].to_list(), model=model).vectors
    right = embed.embed(pairs["expected"].fill_null("").to_list(), model=model).vectors
    near = np.einsum("ij,ij->i", said[pairs["row"].to_numpy()], right)
    found = pairs.with_columns(near=pl.Series(near, dtype=pl.Float64).clip(-1, 1))
    return found.group_by("row", maintain_order=True).agg(pl.col("near").max())["near"]


def _bits_per_byte(client: "Client", model: str, cases: "pl.DataFrame") -> "pl.Series":
    import polars as pl

    from tracemill.llm.trained import is_trained, ngram, served

    if not is_trained(model) or client.settings is None:
        raise UsageError(
            f"bits_per_byte is measured of language models that were trained here, not of {model}"
        )
    _, _, named = served.version(client.log, model).partition(":local:")
    name, _, digest = named.partition(":")
    loaded = served.load(client.settings.models, name, digest)
    if loaded.about.get("kind") != ngram.KIND:
        raise UsageError(f"{model} is no language model: measure its accuracy")
    answered = cases.with_row_index("row").filter(pl.col("expected").list.len() > 0)
    talks = [
        [*_unlearned(text, form), {"role": "assistant", "content": right[0]}]
        for text, form, right in answered.select("input", "form", "expected").iter_rows()
    ]
    bits = pl.Series(ngram.bits_per_byte(loaded, talks), dtype=pl.Float64).fill_nan(None)
    found = answered.select("row").with_columns(bits.alias("bits"))
    rows = cases.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"))
    return rows.join(found, on="row", how="left", maintain_order="left")["bits"]


def _unlearned(text: str, form: str) -> list[dict[str, Any]]:
    """What a case asks, as turns of which none is scored."""
    if form == "values":
        raise UsageError("bits_per_byte takes inputs that are text or messages, not values")
    turns = json.loads(text) if form == "messages" else [{"role": "user", "content": text}]
    return [{**turn, "weight": 0} for turn in turns]
