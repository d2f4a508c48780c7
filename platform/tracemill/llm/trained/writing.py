"""A request answered by a language model: instructions, limits and stop texts around `ngram.write`.

A token of these models is a byte, so that `max_output_tokens` and usage count bytes.
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple

from tracemill.llm.providers import Reply
from tracemill.llm.trained import ngram
from tracemill.llm.trained.artefact import Artefact
from tracemill.llm.trained.conversation import asked
from tracemill.llm.trained.ngram import Piece
from tracemill.messages import FinishReason, Message, Request, Text, Usage


class Written(NamedTuple):
    """An answer."""

    pieces: tuple[Piece, ...]
    """Its characters with their log probabilities."""
    finish_reason: FinishReason
    input_bytes: int

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(piece.text for piece in self.pieces)


def generate(artefact: Artefact, request: Request) -> Reply:
    """Answer a request."""
    return reply(artefact, written(stream(artefact, request)))


def written(pieces: Generator[Piece, None, Written]) -> Written:
    """An answer that nobody wants in pieces."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value


def reply(artefact: Artefact, answer: Written) -> Reply:
    """An answer as the client wants it."""
    return Reply(
        parts=(Text(content=answer.text),) if answer.pieces else (),
        finish_reason=answer.finish_reason,
        raw_finish_reason=answer.finish_reason,
        response_model=artefact.digest,
        usage=Usage(input_tokens=answer.input_bytes, output_tokens=len(answer.text.encode())),
    )


def stream(artefact: Artefact, request: Request) -> Generator[Piece, None, Written]:
    """Answer a request, character by character. Without a temperature the likeliest is written.

    Where a character may be the beginning of a stop text, it waits until it is known not to be.
    """
    system = (Message(role="system", content=request.system),) if request.system else ()
    conversation = (*system, *request.messages)
    pieces = ngram.write(
        ngram.model(artefact),
        conversation,
        most_bytes=request.max_output_tokens or ngram.MOST_BYTES,
        temperature=request.temperature or 0.0,
        top_p=1.0 if request.top_p is None else request.top_p,
        top_k=request.top_k or 0,
        seed=request.seed,
    )
    handed: list[Piece] = []
    finish = yield from _handed(_until(pieces, request.stop), handed)
    return Written(tuple(handed), finish, len(asked(conversation)))


def _handed(
    pieces: Generator[Piece, None, FinishReason], handed: list[Piece]
) -> Generator[Piece, None, FinishReason]:
    """The same, kept too."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            return end.value
        handed.append(piece)
        yield piece


def _until(
    pieces: Generator[Piece, None, FinishReason], stops: Sequence[str]
) -> Generator[Piece, None, FinishReason]:
    """The characters before the first stop text."""
    held: list[Piece] = []
    while True:
        try:
            held.append(next(pieces))
        except StopIteration as end:
            yield from held
            return end.value
        text = "".join(piece.text for piece in held)
        for stop in filter(text.endswith, filter(None, stops)):
            yield from held[: len(held) - len(stop)]
            return "stop"
        begun = (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        ready = len(held) - max(begun, default=0)
        yield from held[:ready]
        del held[:ready]
