"""Models of providers: each batch is a call through the `llm` client, and so in the log.

A name alone does not tell how many numbers a vector has; where nobody said, the model is asked once.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tracemill import tokenizer
from tracemill.errors import UsageError
from tracemill.llm.embedding import InputKind
from tracemill.retrieval.embed.model import Computed, Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tracemill.llm.client import Client
    from tracemill.log import EventLog

LEXICAL_SHARE = 0.5
MAX_TOKENS = 8_191
"""OpenAI's limit, and near that of most: longer texts are refused or cut by the provider."""
_TEXTS = 256  # in a call
_AT_ONCE = 4  # calls


def provided(name: str, log: "EventLog", dimensions: int | None) -> Model:
    """The model provider/model, through a client for `log`.

    Args:
        dimensions: None costs a call about one word, which tells how many there are.

    Raises `CallFailed` when it cannot be asked.
    """
    from tracemill.llm.client import Client

    calls = _Calls(Client(log), name, dimensions)
    dimensions = dimensions or calls.own_dimensions()
    return Model(
        name=name,
        dimensions=dimensions,
        max_tokens=MAX_TOKENS,
        lexical_share=LEXICAL_SHARE,
        identity=f"{name} {dimensions}",
        starts=tokenizer.starts,
        run=calls.run,
        batch=_TEXTS * _AT_ONCE,
    )


class _Calls:
    """Calls to one model, and whether it must be told how many numbers are wanted.

    Many refuse to be told at all. So the first answer shows what the model gives by itself, and only
    when that is more than is wanted is it told.
    """

    def __init__(self, client: "Client", name: str, wanted: int | None) -> None:
        self._client, self._name, self._wanted = client, name, wanted
        self._own: int | None = None

    def own_dimensions(self, text: str = "dimensions", kind: InputKind = "document") -> int:
        """As many as the model gives when nobody says."""
        if self._own is None:
            found = self._client.embed([text], model=self._name, input_kind=kind)
            self._own = found.vectors.shape[1]
        return self._own

    def run(self, texts: Sequence[str], kind: InputKind) -> Computed:
        """As of `Model`: up to four calls at once, in the order of the texts."""
        import numpy as np

        own = self.own_dimensions()
        if self._wanted is not None and self._wanted > own:
            raise UsageError(f"{self._name} has vectors of {own} numbers, not of {self._wanted}")
        told = None if self._wanted in (None, own) else self._wanted
        parts = [texts[first : first + _TEXTS] for first in range(0, len(texts), _TEXTS)]

        def call(part: Sequence[str]) -> "tuple[NDArray[np.float32], str]":
            found = self._client.embed(part, model=self._name, dimensions=told, input_kind=kind)
            return found.vectors, found.call_id

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            found = list(threads.map(call, parts))
        return Computed(
            np.concatenate([vectors for vectors, _ in found]), tuple(i for _, i in found)
        )
