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
from tracemill.llm.providers.attached import base64_of, kind_of
from tracemill.log import EventLog
from tracemill.messages import (
    File,
    Image,
    Message,
    Native,
    Part,
    Reasoning,
    Request,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)

_CHARACTERS_A_TOKEN = 4
_USUAL_OUTPUT_TOKENS = 1_000
_IMAGE_TOKENS = 1_000
_PAGE_TOKENS, _PAGE_BYTES = 2_000, 50_000
"""Of a PDF: text and picture of a page, as providers read it."""
_SOUND_BYTES = 1_000
"""Of a recording, for a token."""


def estimate(log: EventLog, what: Request | Sequence[str], model: str) -> Estimate:
    """One call, its tokens and its price; without a known price no money is reserved.

    Args:
        what: the request, or texts that are to be embedded or ranked.
        model: provider and model.
    """
    if isinstance(what, Request):
        characters = len(what.system or "") + sum(_characters(each) for each in what.messages)
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


def file_tokens(file: File) -> int:
    """About how many tokens a document or a recording takes, by its size; one that is elsewhere is
    taken to have a page."""
    size = len(base64_of(file) or "") * 3 // 4
    if kind_of(file).startswith("audio/"):
        return -(-size // _SOUND_BYTES)
    return max(1, -(-size // _PAGE_BYTES)) * _PAGE_TOKENS


def _characters(message: Message) -> int:
    if isinstance(message.content, str):
        return len(message.content)
    return sum(map(_length, message.content))


def _length(part: Part) -> int:
    match part:
        case Text() | Reasoning():
            return len(part.content)
        case ToolCall():
            return len(part.arguments)
        case ToolResult():
            return len(part.response)
        case Image():
            return _IMAGE_TOKENS * _CHARACTERS_A_TOKEN
        case Native():
            return len(str(part.body))
        case File():
            return file_tokens(part) * _CHARACTERS_A_TOKEN
