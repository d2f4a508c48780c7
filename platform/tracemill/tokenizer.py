"""Tokens as the bundled tokenizer counts them, and their vectors: offline, loaded once a process.

wordllama's wheel carries its tokenizer and weights. Its files are read where they lie, because
importing the package itself sets up the root logger and loads an HTTP client.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracemill.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "tokenizers/l2_supercat_tokenizer_config.json"
WEIGHTS = "weights/l2_supercat_256.safetensors"
_BATCH = 512  # texts; few enough that all cores end together
# A word with the blanks before it; no token reaches over its end, or over a newline.
_WORD = re.compile(r"\n+| *[^ \n]{1,20000}| +")
_SHORT = 64  # characters; longer words are mostly seen once
_MOST_KNOWN = 200_000  # words, about 30 MB


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
    return _starts()(text)


class Starts:
    """For each token of a text, the character it begins at, remembered word by word.

    Most words of a text were seen before, and then nothing is left to encode. It holds for
    tokenizers of which no token reaches over a blank before a word, nor over a newline.
    """

    def __init__(self, whole: Any, words: Any = None, mark: str = "") -> None:
        """
        Args:
            whole: a tokenizer of the library `tokenizers`.
            words: one that gives the same tokens but does not put a mark before a text.
            mark: what does; one character that stands for itself.
        """
        self._whole, self._words, self._mark = whole, words or whole, mark
        added = [token.content for token in whole.get_added_tokens_decoder().values()]
        # A blank that is written as its mark would join the words around it.
        self._odd = re.compile("|".join(map(re.escape, [*added, "\u2581"])))
        self._newline = len(_offsets(self._words, "\n"))
        self._known: dict[str, tuple[int, ...]] = {}

    def __call__(self, text: str) -> "NDArray[np.int64]":
        """Array of int64, never decreasing; several tokens of one character share a start."""
        import numpy as np

        if not text or self._odd.search(text):
            return np.array([start for start, _ in _offsets(self._whole, text)], dtype=np.int64)
        words: list[str] = _WORD.findall(self._mark + text)
        parts = self._parts(words)
        counts = np.fromiter(map(len, parts), np.int64, len(parts))
        ends = np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))
        begins = np.append(0, ends[:-1]) - len(self._mark)
        within = np.fromiter(chain.from_iterable(parts), np.int64, int(counts.sum()))
        return np.maximum(within + np.repeat(begins, counts), 0)

    def _parts(self, words: list[str]) -> list[tuple[int, ...]]:
        """For each word, where its tokens begin in it; those not known are encoded in one text."""
        import numpy as np

        if len(self._known) > _MOST_KNOWN:
            self._known = {}
        known = self._known
        parts = list(map(known.get, words))
        if None not in parts:
            return cast("list[tuple[int, ...]]", parts)
        new = list({word for word, part in zip(words, parts, strict=True) if part is None})
        own = {word: self._newlines(len(word)) for word in new if word[0] == "\n"}
        new = [word for word in new if word[0] != "\n"]
        marks = np.array([start for start, _ in _offsets(self._words, "\n".join(new))], np.int64)
        ends = np.cumsum(np.fromiter((len(word) + 1 for word in new), np.int64, len(new))) - 1
        begins = ends - np.fromiter(map(len, new), np.int64, len(new))
        firsts, lasts = np.searchsorted(marks, begins), np.searchsorted(marks, ends)
        plain: list[int] = marks.tolist()
        for word, begin, first, last in zip(
            new, begins.tolist(), firsts.tolist(), lasts.tolist(), strict=True
        ):
            own[word] = tuple([mark - begin for mark in plain[first:last]])
        known.update((word, part) for word, part in own.items() if len(word) <= _SHORT)
        return [
            own[word] if part is None else part for word, part in zip(words, parts, strict=True)
        ]

    def _newlines(self, count: int) -> tuple[int, ...]:
        return tuple(sorted([*range(count)] * self._newline))


@cache
def vectors() -> "NDArray[np.float16]":
    """One vector for each token, as the wheel carries them: (32000, 256)."""
    from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

    return load_file(bundled(WEIGHTS))["embedding.weight"]


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


@cache
def _starts() -> Starts:
    """Of the bundled tokenizer: it writes a blank as a mark, and puts one before each text."""
    from tokenizers import Tokenizer, normalizers

    words = Tokenizer.from_str(_tokenizer().to_str())
    words.normalizer = normalizers.Replace(" ", "\u2581")  # pyright: ignore[reportAttributeAccessIssue]
    return Starts(_tokenizer(), words, mark=" ")


def _offsets(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    return tokenizer.encode(text, add_special_tokens=False).offsets
