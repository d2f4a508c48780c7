"""Tokens as the bundled tokenizer counts them: offline, loaded once for each process.

wordllama's wheel carries its tokenizer and weights. Its files are read where they lie, because
importing the package itself sets up the root logger and loads an HTTP client.
"""

import os
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def count(text: str) -> int:
    """How many tokens a text has, without markers for its beginning or end."""
    return len(_tokenizer().encode(text, add_special_tokens=False).ids)


def ids(texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text."""
    encoded = _tokenizer().encode_batch_fast(list(texts), add_special_tokens=False)
    return [one.ids for one in encoded]


def starts(text: str) -> "NDArray[np.int64]":
    """For each token, the character of the text that it begins at; never decreasing.

    Several tokens share a start where one character takes several, such as an emoji.
    """
    import numpy as np

    offsets = _tokenizer().encode(text, add_special_tokens=False).offsets
    return np.array([start for start, _ in offsets], dtype=np.int64)


def bundled(path: str) -> Path:
    """A file inside the installed wordllama. Raises `InputError` when it is not there."""
    spec = find_spec("wordllama")
    found = Path(spec.origin).parent / path if spec and spec.origin else None
    if found is None or not found.is_file():
        raise InputError(f"wordllama/{path} is not installed: reinstall with `uv sync`")
    return found


@cache
def _tokenizer() -> Any:
    # With its own threads the library warns on stderr in every process that is forked later.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(bundled("tokenizers/l2_supercat_tokenizer_config.json")))
