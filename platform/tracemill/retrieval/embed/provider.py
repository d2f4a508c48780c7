"""Models of providers: each batch is a call through the `llm` client, and so in the log.

A name alone does not tell how many numbers a vector has: what is not in the table is asked once.
"""

import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from tracemill import tokenizer
from tracemill.errors import UsageError
from tracemill.llm.embedding import InputKind
from tracemill.retrieval.embed.models import Computed, Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tracemill.llm.client import Client
    from tracemill.log import EventLog


class Known(NamedTuple):
    """What a provider says of a model."""

    dimensions: int
    max_tokens: int


KNOWN = {
    "openai/text-embedding-3-small": Known(1536, 8191),
    "openai/text-embedding-3-large": Known(3072, 8191),
    "openai/text-embedding-ada-002": Known(1536, 8191),
    "gemini/gemini-embedding-001": Known(3072, 2048),
    "cohere/embed-v4.0": Known(1536, 128_000),
    "cohere/embed-english-v3.0": Known(1024, 512),
    "cohere/embed-multilingual-v3.0": Known(1024, 512),
}
"""Models whose dimensions need not be asked for; an answer of another length is refused."""
LEXICAL_SHARE = 0.5
_MAX_TOKENS = 8_191
_TEXTS = 256  # in a call
_AT_ONCE = 4  # calls


def load(name: str, log: "EventLog", dimensions: int | None) -> Model:
    """The model provider/model, through a client for `log`.

    Args:
        dimensions: None costs a call about one word, where the model is not known.

    Raises `UsageError` for more dimensions than it has, `CallFailed` when it cannot be asked.
    """
    from tracemill.llm.client import Client

    known = KNOWN.get(name)
    calls = _Calls(Client(log), name, dimensions, known.dimensions if known else None)
    dimensions = dimensions or calls.own_dimensions()
    return Model(
        name=name,
        dimensions=dimensions,
        max_tokens=known.max_tokens if known else _MAX_TOKENS,
        lexical_share=LEXICAL_SHARE,
        identity=f"{name} {dimensions}",
        starts=tokenizer.starts,
        run=calls.run,
        batch=_TEXTS * _AT_ONCE,
    )


class _Calls:
    """Calls to one model, and whether it must be told how many numbers are wanted.

    Many refuse to be told at all. So it is told only when it gives more by itself, which its first
    answer shows.
    """

    def __init__(self, client: "Client", name: str, wanted: int | None, own: int | None) -> None:
        self._client, self._name, self._wanted, self._own = client, name, wanted, own
        # Connections are closed when nobody has the model any more.
        weakref.finalize(self, client.close)
        self._check()

    def own_dimensions(self) -> int:
        """As many as the model gives when nobody says."""
        if self._own is None:
            self._call(["dimensions"], "document", None)
        assert self._own
        return self._own

    def run(self, texts: Sequence[str], kind: InputKind) -> Computed:
        """As of `Model`: up to four calls at once, in the order of the texts."""
        import numpy as np

        first = [self._call(texts[:1], kind, None)] if self._own is None else []
        told = None if self._wanted in (None, self._own) else self._wanted
        found = [] if told else first
        rest = texts[len(found) :]
        parts = [rest[at : at + _TEXTS] for at in range(0, len(rest), _TEXTS)]

        def call(part: Sequence[str]) -> "tuple[NDArray[np.float32], str]":
            return self._call(part, kind, told)

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            made = list(threads.map(call, parts))
        ids = tuple(call_id for _, call_id in [*first, *made])
        return Computed(np.concatenate([vectors for vectors, _ in [*found, *made]]), ids)

    def _call(
        self, texts: Sequence[str], kind: InputKind, told: int | None
    ) -> "tuple[NDArray[np.float32], str]":
        found = self._client.embed(texts, model=self._name, dimensions=told, input_kind=kind)
        if told is None and self._own is None:
            self._own = found.vectors.shape[1]
            self._check()
        return found.vectors, found.call_id

    def _check(self) -> None:
        if self._wanted and self._own and self._wanted > self._own:
            raise UsageError(
                f"{self._name} has vectors of {self._own} numbers, not of {self._wanted}: "
                "name fewer dimensions, or none"
            )
