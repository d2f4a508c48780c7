"""Labelled examples as a classifier learns from them: read once, then numbers in files.

A hundred thousand conversations are some 100 MB of features; they are written as they are read and
looked at through memory maps, so that memory holds a batch.
"""

import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic_core import from_json

from tracemill.errors import InputError
from tracemill.llm.trained import classifier, features
from tracemill.llm.trained.classifier import Seen, Shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH = 500  # conversations


class Example(NamedTuple):
    """A conversation, and the label that stands as the assistant's answer."""

    shown: Shown
    label: str


class Labelled:
    """Examples of a file, as features in a folder."""

    def __init__(self, path: Path, folder: Path) -> None:
        """Read a file. Raises `InputError`, with the line, for what is no labelled example."""
        import numpy as np

        folder.mkdir(parents=True, exist_ok=True)
        self._files = folder / "features", folder / "vectors"
        self._maps: dict[int, NDArray[Any]] = {}
        self.labels: list[str] = []
        self.frequencies = np.zeros(1 << features.BITS, np.int32)
        """In how many examples each feature is."""
        self.tokens = 0
        """Of all that is read and answered."""
        codes: dict[str, int] = {}
        answers: list[int] = []
        keys: list[int] = []
        counts: list[NDArray[np.int64]] = []
        with self._files[0].open("wb") as ids, self._files[1].open("wb") as vectors:
            reader = examples(path)
            while batch := list(islice(reader, _BATCH)):
                shown = [one.shown for one in batch]
                answers += [codes.setdefault(one.label, len(codes)) for one in batch]
                keys += [zlib.crc32(one.whole.encode(errors="replace")) for one in shown]
                seen = classifier.seen(shown)
                found, often = np.unique(seen.ids, return_counts=True)
                self.frequencies[found] += often.astype(np.int32)
                counts.append(seen.counts)
                seen.ids.tofile(ids)
                classifier.vectors(shown).tofile(vectors)
                self.tokens += _tokens(batch)
        self.labels = list(codes)
        self.answers = np.array(answers, np.int64)
        self.keys = np.array(keys, np.uint32)
        """Equal conversations have equal keys."""
        self._counts = np.concatenate(counts) if counts else np.zeros((0, 2), np.int64)
        self._starts = np.concatenate(([0], np.cumsum(self._counts.sum(axis=1))))

    def __len__(self) -> int:
        return len(self.answers)

    def coded(self, labels: Sequence[str]) -> "NDArray[np.int64]":
        """The answers as places in `labels`; -1 for those that are not there."""
        import numpy as np

        places = {label: place for place, label in enumerate(labels)}
        table = np.array([places.get(label, -1) for label in self.labels], np.int64)
        return table[self.answers]

    def words(self, rows: "NDArray[np.int64]") -> Seen:
        """The features of some examples."""
        import numpy as np

        counts = self._counts[rows]
        sizes = counts.sum(axis=1)
        ends = np.cumsum(sizes)
        at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(
            self._starts[rows] - (ends - sizes), sizes
        )
        return Seen(self._map(0, np.uint32)[at], counts)

    def vectors(self, rows: "NDArray[np.int64]") -> "NDArray[np.float32]":
        """The meaning of some examples."""
        import numpy as np

        return self._map(1, np.float16).reshape(len(self), -1)[rows].astype(np.float32)

    def discard(self) -> None:
        """Remove the files."""
        for file in self._files:
            file.unlink(missing_ok=True)

    def _map(self, which: int, dtype: Any) -> "NDArray[Any]":
        import numpy as np

        if which not in self._maps:
            path = self._files[which]
            empty = not path.stat().st_size
            self._maps[which] = np.zeros(0, dtype) if empty else np.memmap(path, dtype, mode="r")
        return self._maps[which]


def examples(path: Path) -> Iterator[Example]:
    """The examples of a file. Raises `InputError`, with the line, for what is none."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _example(line, f"{path.name}, line {number}")


def _example(line: bytes, where: str) -> Example:
    try:
        turns = [_turn(message) for message in from_json(line)["messages"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: this is no example: {error!r}") from None
    if not turns or turns[-1][0] != "assistant" or not turns[-1][1].strip():
        raise InputError(
            f"{where}: an example ends with the assistant's turn, which is the label: this has none"
        )
    return Example(classifier.conversation(turns[:-1]), turns[-1][1])


def _turn(message: dict[str, Any]) -> tuple[str, str]:
    content = message.get("content")
    if isinstance(content, list):
        parts = cast("list[dict[str, Any]]", content)
        content = "".join(part.get("text") or "" for part in parts)
    return message["role"], content or ""


def _tokens(batch: Sequence[Example]) -> int:
    from tracemill import tokenizer

    return int(
        tokenizer.lengths([text for one in batch for text in (one.shown.whole, one.label)]).sum()
    )
