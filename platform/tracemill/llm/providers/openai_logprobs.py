"""How likely the tokens of an answer were, as servers tell that speak OpenAI's language."""

import math
from collections.abc import Sequence
from typing import Any

from tracemill.llm.providers.fields import objects, text
from tracemill.messages import Json, Logprob, TokenLogprob

_NEVER = -9999.0
"""What OpenAI tells of a token that is less likely than it can say."""


def logprobs_of(tokens: Sequence[Json]) -> tuple[TokenLogprob, ...] | None:
    """The tokens of `logprobs.content`; None where the server told nothing."""
    if not tokens:
        return None
    return tuple(
        TokenLogprob(
            token=text(one.get("token")),
            logprob=_number(one.get("logprob")),
            top=tuple(
                Logprob(token=text(other.get("token")), logprob=_number(other.get("logprob")))
                for other in objects(one.get("top_logprobs"))
            ),
        )
        for one in tokens
    )


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return _NEVER
    return min(float(value), 0.0)
