"""Models that are trained through an API: how long an example may be, and what training costs.

One table. A model is found by the longest name in it that its own begins with, so that
`gpt-4.1-mini-2025-04-14` is found as `gpt-4.1-mini`.
"""

from datetime import date
from decimal import Decimal
from typing import NamedTuple


class Trainable(NamedTuple):
    """What a provider says of training a model."""

    max_tokens: int
    """Of one example; what is longer is cut off at the end or refused."""
    tokenizer: str
    """A name in `tokens.TOKENIZERS`."""
    usd_per_million: Decimal | None
    """For one million tokens trained on, each epoch anew; None where it is not known."""
    source: str
    as_of: date
    min_rows: int = 10
    shutdown_date: date | None = None
    """When OpenAI shuts it down, with all that was trained on it; Microsoft has dates of its own."""


_OPENAI = (
    "OpenAI, pricing page, fine-tuning, and deprecations page; Microsoft Learn, fine-tune-models"
)


def _openai(
    max_tokens: int, tokenizer: str, usd: str, as_of: date, shutdown_date: date
) -> Trainable:
    return Trainable(
        max_tokens, tokenizer, Decimal(usd), _OPENAI, as_of, shutdown_date=shutdown_date
    )


_2025_11 = date(2025, 11, 1)
# Announced on 22 April and on 14 October 2026.
_2026_10, _2027_01 = date(2026, 10, 23), date(2027, 1, 14)

LIMITS: dict[str, Trainable] = {
    "gpt-4.1": _openai(65_536, "o200k_base", "25", _2025_11, _2027_01),
    "gpt-4.1-mini": _openai(65_536, "o200k_base", "5", _2025_11, _2027_01),
    "gpt-4.1-nano": _openai(65_536, "o200k_base", "1.5", _2025_11, _2026_10),
    "gpt-4o": _openai(65_536, "o200k_base", "25", _2025_11, _2027_01),
    "gpt-4o-mini": _openai(65_536, "o200k_base", "3", _2025_11, _2027_01),
    "gpt-3.5-turbo-0613": _openai(4_096, "cl100k_base", "8", _2025_11, _2026_10),
    "gpt-3.5-turbo": _openai(16_385, "cl100k_base", "8", _2025_11, _2026_10),
}
"""Model -> what is known of it."""


def trainable(model: str) -> Trainable | None:
    """What is known of a model, of one of its dated versions or of what was trained on it
    (`ft:gpt-4.1-mini-2025-04-14:us::id`); None where nothing is."""
    name = model.removeprefix("openai/").removeprefix("ft:").split(":")[0]
    known = [each for each in LIMITS if name == each or name.startswith(f"{each}-")]
    return LIMITS[max(known, key=len)] if known else None
