"""What a call may take, told before it is made: what budgets reserve until it is known.

About four characters are a token, and an answer without a limit of its own is taken to be of usual
length: a reservation only has to be near, for what the call took is settled after it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from tracemill import prices
from tracemill.access.limits import Estimate
from tracemill.llm.line import labels
from tracemill.log import EventLog
from tracemill.messages import Request, Usage, text_of

_CHARACTERS_A_TOKEN = 4
_USUAL_OUTPUT_TOKENS = 1_000


def estimate(log: EventLog, what: Request | Sequence[str], model: str) -> Estimate:
    """One call, its tokens and its price; without a known price no money is reserved.

    Args:
        what: the request, or texts that are to be embedded or ranked.
        model: provider and model.
    """
    if isinstance(what, Request):
        characters = sum(len(text_of(message.content)) for message in what.messages)
        characters += len(what.system or "")
        written = what.max_output_tokens or _USUAL_OUTPUT_TOKENS
    else:
        characters, written = sum(map(len, what)), 0
    read = -(-characters // _CHARACTERS_A_TOKEN)
    known = labels(model)
    cost = prices.cost(
        known.provider,
        known.model,
        Usage(input_tokens=read, output_tokens=written),
        datetime.now(UTC),
        table=log.prices,
    )
    return Estimate(1, read + written, cost.usd or Decimal(0))
