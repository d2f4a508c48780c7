"""Which language a text is in, offline: the model lies in the wheel of py3langid (BSD, 4.5 MB).

Its naive Bayes over byte n-grams (Lui and Baldwin 2012) weighs a text's first characters; where it
is not sure, or a text is short, the answer is null, and nothing is dropped for it.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from tracemill.errors import InputError

if TYPE_CHECKING:
    import polars as pl

LEAST_LETTERS = 20
LEAST_CHARACTERS = 10
"""Of scripts in which a character is about a syllable or a word."""

SAMPLE = 300
"""Characters of a text that are looked at: more costs time and changes next to nothing."""

NO_PROSE = r"https?://\S+|[^\p{L}\p{M}'\x{2019}.,;:!?\s-]+"

LEAST_CONFIDENCE = 0.5


def identify(texts: "pl.Series") -> "pl.Series":
    """The language of each text as ISO 639-1; null for a null, a short text, or when unsure."""
    import polars as pl

    sample = _sample(texts)
    long = _long_enough(sample).arg_true()
    written = cast("Sequence[str]", sample.gather(long).to_list())
    model = _model()
    found = [None if code == "und" else code for code, _ in map(model.classify, written)]
    empty = pl.Series("language", [None] * len(texts), dtype=pl.String)
    return empty.scatter(long, pl.Series(found, dtype=pl.String))


def known() -> tuple[str, ...]:
    """The codes that `identify` can give, sorted."""
    return tuple(sorted(_model().labels))


def check(codes: Sequence[str]) -> None:
    """Raise `InputError` if one of the codes is never given."""
    for code in codes:
        if code not in known():
            raise InputError(
                f"languages: {code} is not known; write ISO 639-1 codes: {', '.join(known())}"
            )


def _sample(texts: "pl.Series") -> "pl.Series":
    """The prose at the beginning: no code block, address, number or sign says much of language."""
    plain = texts.str.head(4 * SAMPLE).str.replace_all(r"(?s)```.*?(```|\z)", " ")
    return plain.str.replace_all(NO_PROSE, " ").str.head(SAMPLE)


def _long_enough(texts: "pl.Series") -> "pl.Series":
    letters = texts.str.count_matches(r"\p{L}")
    dense = texts.str.count_matches(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")
    enough = (letters >= LEAST_LETTERS) | (dense >= LEAST_CHARACTERS)
    return enough.fill_null(False)


@cache
def _model() -> Any:
    from py3langid.langid import (  # pyright: ignore[reportMissingTypeStubs]
        MODEL_FILE,
        LanguageIdentifier,
    )

    untyped = cast(Any, LanguageIdentifier)
    model = untyped.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=LEAST_CONFIDENCE)
    model.set_languages([code for code in model.labels if len(code) == 2])
    return model
