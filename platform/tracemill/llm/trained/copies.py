"""What an answer would say next if it repeated something from earlier in its conversation.

N-grams see a dozen bytes back; names, dates and code that were said before come again all the same.
Only turns that are over are copied from: an answer never feeds on itself.
"""

from typing import TYPE_CHECKING

import numpy as np

from tracemill.llm.trained.conversation import Rendered

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHORTEST = 5
"""So many bytes have to agree before anything is expected to repeat."""
_LONGEST = 24
_REMEMBERED = 200_000
"""Places to copy from; when there are more, all are forgotten."""

KINDS = 9
"""How sure a copy can be: 0 where there is none, then by the bytes that agree."""
_KIND = [0] * _SHORTEST + [1, 2, 3, 4, 5, 5, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8]


class Copies:
    """Follows a conversation, byte by byte or turn by turn."""

    def __init__(self) -> None:
        self._said = bytearray()
        self._places: dict[bytes, int] = {}
        self._indexed = 0
        self._from = -1
        self._agreed = 0

    def read(self, said: bytes) -> None:
        """Take in what comes before a turn of the assistant."""
        self._said += said
        end = len(self._said)
        start = max(self._indexed, _SHORTEST, end - _REMEMBERED)
        if len(self._places) + end - start > _REMEMBERED:
            self._places.clear()
        whole = bytes(self._said[start - _SHORTEST :]) if start <= end else b""
        grams = (whole[i : i + _SHORTEST] for i in range(end - start))
        self._places.update(zip(grams, range(start, end), strict=True))
        self._indexed = max(end, self._indexed)
        self._from = -1
        self._look()

    def expected(self) -> tuple[int, int]:
        """The byte that would come next, and the kind of the copy; -1 and 0 for none."""
        if self._from < 0:
            return -1, 0
        return self._said[self._from], _KIND[self._agreed]

    def write(self, byte: int) -> None:
        """Take in a byte of the assistant's turn."""
        follows = self._from >= 0 and self._said[self._from] == byte
        self._said.append(byte)
        if follows and self._from + 1 < self._indexed:
            self._from += 1
            self._agreed = min(self._agreed + 1, _LONGEST)
        else:
            self._look()

    def _look(self) -> None:
        """Find where the last bytes were said before."""
        said, end = self._said, len(self._said)
        self._from = self._places.get(bytes(said[-_SHORTEST:]), -1)
        if self._from < 0:
            return
        agreed = _SHORTEST
        while (
            agreed < _LONGEST
            and self._from > agreed
            and said[self._from - agreed - 1] == said[end - agreed - 1]
        ):
            agreed += 1
        self._agreed = agreed


def expected(conversation: Rendered) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """The byte that a copy would say, and the kind of the copy, for each byte of the assistant's."""
    copies, data, read = Copies(), conversation.data, 0
    bytes_: list[int] = []
    kinds: list[int] = []
    for start, end in conversation.spans:
        copies.read(data[read:start])
        for byte in data[start:end]:
            next_byte, kind = copies.expected()
            bytes_.append(next_byte)
            kinds.append(kind)
            copies.write(byte)
        read = end
    return np.array(bytes_, np.int64), np.array(kinds, np.int64)
