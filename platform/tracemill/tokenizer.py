"""Tokens as the bundled tokenizer counts them: offline, loaded once for each process.

wordllama's wheel carries its tokenizer and weights. Its files are read where they lie, because
importing the package itself sets up the root logger and loads an HTTP client.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "tokenizers/l2_supercat_tokenizer_config.json"
_BATCH = 512  # texts; few enough that all cores end together


def count(text: str) -> int:
    """How many tokens a text has, without markers for its beginning or end."""
    return len(_tokenizer().encode(text, add_special_tokens=False).ids)


def ids(texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text."""
    encoded = _tokenizer().encode_batch_fast(list(texts), add_special_tokens=False)
    return [one.ids for one in encoded]


def lengths(texts: Sequence[str]) -> "NDArray[np.int64]":
    """How many tokens each text has; as `count`, on all cores."""
    import numpy as np

    encode = _tokenizer().encode_batch_fast
    parts = [list(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]

    def measure(part: list[str]) -> list[int]:
        return [len(one) for one in encode(part, add_special_tokens=False)]

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        counted = [length for part in threads.map(measure, parts) for length in part]
    return np.array(counted, dtype=np.int64)


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

    return Tokenizer.from_file(str(bundled(FILE)))
