"""How many tokens a request has, by the bundled tokenizer: an estimate, since the vocabulary of most
models is not known.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from tracemill import tokenizer
from tracemill.messages import (
    File,
    Image,
    Message,
    Native,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from tracemill.server.estimate import file_tokens

_TURN_TOKENS = 4
"""What surrounds each message."""


def counted(conversation: Iterable[Message], beside: Iterable[str], image_tokens: int) -> int:
    """Tokens of a conversation and of what stands beside it: instructions, functions.

    Args:
        image_tokens: what a picture of usual size takes.
    """
    turns = list(conversation)
    parts = [part for turn in turns for part in turn.parts]
    words = [*beside, *map(_words, parts)]
    beside_words = sum(image_tokens for part in parts if isinstance(part, Image))
    beside_words += sum(file_tokens(part) for part in parts if isinstance(part, File))
    told = sum(tokenizer.count(text) for text in words if text)
    return told + beside_words + len(turns) * _TURN_TOKENS


def _words(part: Part) -> str:
    match part:
        case Text() | Reasoning():
            return part.content
        case ToolCall():
            return part.name + part.arguments
        case ToolResult():
            return part.response
        case Native():
            return "\n".join(texts_in(part.body))
        case Image() | File():
            return ""


def texts_in(value: Any) -> Iterator[str]:
    """Every text within JSON, names of fields too: what a model reads of a schema."""
    match value:
        case str():
            yield value
        case dict():
            for name, each in value.items():  # pyright: ignore[reportUnknownVariableType]
                yield str(name)  # pyright: ignore[reportUnknownArgumentType]
                yield from texts_in(each)
        case list() | tuple():
            for each in value:  # pyright: ignore[reportUnknownVariableType]
                yield from texts_in(each)
        case _:
            pass
