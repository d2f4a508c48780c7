"""Models that were trained here, as the client calls them: `ft:local:<name>` and a version of it.

Without a version it is the one in production, as the log has it at that moment. An artefact is read
and its digest checked once a process.
"""

from collections.abc import Generator, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tracemill import tokenizer
from tracemill.errors import CallFailed, InputError, UsageError
from tracemill.events import ModelPromoted, ModelRetired, ModelRolledBack
from tracemill.llm.providers import Reply
from tracemill.llm.trained import PREFIX, artefact, classifier
from tracemill.llm.trained.artefact import Artefact
from tracemill.llm.trained.classifier import Classifier
from tracemill.messages import Logprob, Message, Request, Text, TokenLogprob, Usage

if TYPE_CHECKING:
    from tracemill.log import EventLog

_KEPT = 8  # artefacts, at most 20 MB each
_CHANGES = ["model.promoted", "model.rolled_back", "model.retired"]


def named(name: str, digest: str) -> str:
    """The name for `Request.model` of a version."""
    return f"{PREFIX}{name}:{digest}"


def in_production(log: "EventLog", name: str) -> str | None:
    """The digest of the version in production; None where there is none."""
    digest: str | None = None
    for recorded in log.read(stream=f"model:{name}", kinds=_CHANGES):
        match recorded.event:
            case ModelPromoted(digest=now) | ModelRolledBack(digest=now):
                digest = now
            case ModelRetired(digest=gone) if gone == digest:
                digest = None
            case _:
                pass
    return digest


def version(log: "EventLog", model: str) -> str:
    """A model's whole name, with the version that is in production where none was named.

    Raises `CallFailed` with `unknown_model`.
    """
    name, colon, digest = model.removeprefix(PREFIX).partition(":")
    try:
        artefact.folder_of(Path(), name, digest if colon else "0" * 16)
    except UsageError as error:
        raise CallFailed("unknown_model", f"model {model[:80]!r}: {error}") from None
    if colon:
        return model
    if found := in_production(log, name):
        return named(name, found)
    raise CallFailed(
        "unknown_model",
        f"no version of {name} is in production: `tracemill models promote` makes one so, and "
        f"`tracemill models ls` shows them; {PREFIX}{name}:<version> calls any",
    )


def answer(request: Request, model: str, models: Path) -> Generator[str, None, Reply]:
    """Answer a request, piece by piece; the reply is the generator's value.

    Args:
        model: with its version.
        models: the folder of all models.

    Raises `CallFailed`: `unknown_model`, `damaged_model`.
    """
    name, _, digest = model.removeprefix(PREFIX).partition(":")
    folder = artefact.folder_of(models, name, digest)
    if not folder.is_dir():
        raise CallFailed(
            "unknown_model",
            f"{name} has no version {digest} here: `tracemill models ls` shows those that there are",
        )
    try:
        opened = _opened(folder, digest)
    except InputError as error:
        raise CallFailed("damaged_model", str(error)) from None
    if isinstance(opened, Classifier):
        return (yield from _classified(request, model, opened))
    return (yield from _written(request, model, opened))


def load(models: Path, name: str, digest: str) -> Artefact:
    """A version of a model; the last few are kept in memory.

    Raises `InputError` where it is not there or was altered, `UsageError` for names that are none.
    """
    return _loaded(artefact.folder_of(models, name, digest), digest)


def load_classifier(models: Path, name: str, digest: str) -> Classifier:
    """As `load`, ready to be asked. Raises `InputError` too where it is none."""
    found = _opened(artefact.folder_of(models, name, digest), digest)
    if isinstance(found, Artefact):
        raise InputError(
            f"{name} {digest} is no classifier, but of the kind {found.about['kind']!r}"
        )
    return found


@lru_cache(_KEPT)
def _loaded(folder: Path, digest: str) -> Artefact:
    return artefact.load(folder, digest)


@lru_cache(_KEPT)
def _opened(folder: Path, digest: str) -> Classifier | Artefact:
    loaded = _loaded(folder, digest)
    return Classifier(loaded) if loaded.about.get("kind") == classifier.KIND else loaded


def _turns(request: Request) -> list[Message]:
    """The conversation, with the instructions as its first turn."""
    system = [Message(role="system", content=request.system)] if request.system else []
    return [*system, *request.messages]


def _classified(request: Request, model: str, loaded: Classifier) -> Generator[str, None, Reply]:
    import numpy as np

    shown = classifier.conversation([(turn.role, turn.text) for turn in _turns(request)])
    logs = loaded.log_probs([shown])[0]
    order: list[int] = np.argsort(-logs, kind="stable").tolist()
    likely = [Logprob(token=loaded.labels[at], logprob=float(logs[at])) for at in order]
    label = likely[0].token
    starts, most = tokenizer.starts(label), request.max_output_tokens
    text = label if most is None or len(starts) <= most else label[: int(starts[most])]
    yield text
    reply = _reply(request, model, text, cut=text != label)
    if request.logprobs is None:
        return reply
    top = tuple(likely[: request.logprobs])
    return reply._replace(logprobs=(TokenLogprob(**likely[0].model_dump(), top=top),))


def _written(request: Request, model: str, loaded: Artefact) -> Generator[str, None, Reply]:
    """What a language model says, until it ends, or a stop text or the most tokens are reached."""
    from tracemill.llm.trained import ngram

    try:
        knowing = ngram.model(loaded)
    except (KeyError, ValueError) as error:
        raise CallFailed("damaged_model", f"{model} is of no kind that is known: {error}") from None
    writing = ngram.write(
        knowing,
        _turns(request),
        temperature=request.temperature or 0.0,
        top_p=1.0 if request.top_p is None else request.top_p,
        top_k=request.top_k or 0,
        seed=request.seed,
    )
    pieces: list[tuple[str, float]] = []
    said = _Said(request.stop, request.max_output_tokens)
    whole = True
    while not said.ended:
        try:
            text, log_prob = next(writing)
        except StopIteration as end:
            whole = bool(end.value)
            break
        pieces.append((text, log_prob))
        if now := said.add(text):
            yield now
    if rest := said.rest():
        yield rest
    reply = _reply(request, model, said.text, cut=said.cut or not whole)
    return reply if request.logprobs is None else reply._replace(logprobs=_told(said.text, pieces))


class _Said:
    """A text that grows, and is handed on as far as it can no longer be cut."""

    def __init__(self, stops: Sequence[str], most_tokens: int | None) -> None:
        self._stops, self._most = stops, most_tokens
        self._held = max(map(len, stops), default=1) - 1
        self._given = 0
        self.text = ""
        self.ended = self.cut = False

    def add(self, piece: str) -> str:
        """Goes on with a piece; returns what can be handed on: whole words."""
        self.text += piece
        found = [at for stop in self._stops if (at := self.text.find(stop)) >= 0]
        if found:
            self.text, self.ended = self.text[: min(found)], True
        elif self._most is not None and len(self.text) >= self._most:
            starts = tokenizer.starts(self.text)
            if len(starts) > self._most:
                self.text = self.text[: max(int(starts[self._most]), self._given)]
                self.ended = self.cut = True
        return "" if self.ended or not piece.isspace() else self._give(len(self.text) - self._held)

    def rest(self) -> str:
        """What was not handed on."""
        return self._give(len(self.text))

    def _give(self, until: int) -> str:
        until = max(self._given, until)
        now, self._given = self.text[self._given : until], until
        return now


def _told(text: str, pieces: Iterable[tuple[str, float]]) -> tuple[TokenLogprob, ...]:
    """The pieces that the text is made of."""
    told: list[TokenLogprob] = []
    left = len(text)
    for piece, log_prob in pieces:
        if left <= 0:
            break
        told.append(TokenLogprob(token=piece, logprob=log_prob))
        left -= len(piece)
    return tuple(told)


def _reply(request: Request, model: str, text: str, *, cut: bool) -> Reply:
    read = sum(tokenizer.count(turn.text) for turn in _turns(request))
    usage = Usage(input_tokens=read, output_tokens=tokenizer.count(text))
    reason = "length" if cut else "stop"
    parts = (Text(content=text),) if text else ()
    return Reply(parts, reason, reason, model, usage)
