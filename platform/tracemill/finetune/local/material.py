"""What a language model learns from and is watched on: read once, counted, kept for a resumption.

Rows are streamed to one file of bytes, which is counted in parts: memory does not grow with them.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from tracemill.errors import InputError
from tracemill.files import write_atomically
from tracemill.finetune.local import counts
from tracemill.llm.trained import trie
from tracemill.llm.trained.conversation import BREAK, Rendered, rendered
from tracemill.llm.trained.trie import Level

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WATCHED_EVERY = 20
"""Without a file of their own, one example in so many is not learned from but watched."""
_WATCHED_BYTES = 2_000_000
_SAMPLED_BYTES = 100_000


class Material(NamedTuple):
    """What the epochs work on."""

    inner: tuple[Level, ...]
    tops: tuple[Level, ...]
    """Each level as it is where it is the longest."""
    learned_bytes: int
    """That the assistant said in the examples."""
    fitted: list[Rendered]
    """Watched: the mixture is learned from these."""
    told: list[Rendered]
    """Watched: the losses are those of these; may be none."""
    sample: list[Rendered]
    """Of the examples that are learned from."""


def gather(
    training: Path, validation: Path | None, counted: Path, *, order: int, most: int, seed: int
) -> Material:
    """Read and count the examples.

    Args:
        counted: where the counts are kept; what lies there is taken as theirs.
        most: about so many n-grams are kept.
        seed: chooses the examples that are watched where there is no file of those.

    Raises:
        InputError: a line is no conversation, or the assistant says nothing in any.
    """
    every = _WATCHED_EVERY if validation is None and _has(training, _WATCHED_EVERY) else 0
    if not counted.exists():
        write_atomically(counted, lambda aside: _count(training, aside, order, most, every, seed))
    watched = _some(
        _read(validation) if validation else _rows(training, every, seed, held=True), _WATCHED_BYTES
    )
    sample = _some(_rows(training, every, seed, held=False), _SAMPLED_BYTES)
    fitted, told = (watched[::2], watched[1::2]) if len(watched) > 1 else (watched, watched)
    return Material(*_counted(counted), fitted, told, sample)


def _read(path: Path) -> Iterator[Rendered]:
    """The conversations of a file. Raises `InputError`, with the line, for what is none."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield rendered(json.loads(line)["messages"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{path}: line {number} is no conversation ({type(error).__name__}: {error}): "
                    'each line has to be {"messages": [{"role": ..., "content": ...}, ...]}'
                ) from None


def _rows(path: Path, every: int, seed: int, *, held: bool) -> Iterator[Rendered]:
    """The examples that are held back, or the others."""
    for number, row in enumerate(_read(path)):
        if held == (every > 0 and (number + seed) % every == 0):
            yield row


def _has(path: Path, rows: int) -> bool:
    return sum(1 for _, _ in zip(range(rows), _read(path), strict=False)) == rows


def _some(rows: Iterator[Rendered], size: int) -> list[Rendered]:
    """Conversations of about so many bytes, chosen by what is in them."""
    kept: list[Rendered] = []
    share, held = 1, 0
    for row in rows:
        if not row.spans or zlib.crc32(row.data) % share:
            continue
        kept.append(row)
        held += len(row.data)
        while held > size and len(kept) > 1:
            share *= 2
            kept = [row for row in kept if zlib.crc32(row.data) % share == 0] or kept[:1]
            held = sum(len(row.data) for row in kept) if len(kept) > 1 else 0
    return kept


def _count(training: Path, aside: Path, order: int, most: int, every: int, seed: int) -> None:
    """Write the counts of the examples to a file."""
    from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

    text = aside.with_suffix(".bytes.tmp")
    try:
        learned = _write_text(_rows(training, every, seed, held=False), text)
        if not learned:
            raise InputError(
                f"{training}: the assistant says nothing in these examples: "
                "there is nothing to learn"
            )
        counted = counts.count(np.memmap(text, np.uint8, "r"), order, most)
    finally:
        text.unlink(missing_ok=True)
    arrays = {
        **trie.packed(tuple(counts.level(counted, n, top=False) for n in range(1, order + 1)), "inner"),
        **trie.packed(tuple(counts.level(counted, n, top=True) for n in range(1, order + 1)), "tops"),
        "learned_bytes": np.array([learned]),
    }  # fmt: skip
    save_file(arrays, aside)


def _write_text(rows: Iterator[Rendered], path: Path) -> int:
    """Write what is to be counted; returns how many bytes of it the assistant said."""
    learned = 0
    with path.open("wb") as file:
        file.write(bytes([BREAK]))
        for row in rows:
            file.writelines(counts.turns(row))
            learned += sum(end - start for start, end in row.spans)
        file.write(counts.PADDING)
    return learned


def _counted(path: Path) -> tuple[tuple[Level, ...], tuple[Level, ...], int]:
    from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

    arrays = cast("Mapping[str, NDArray[Any]]", load_file(path))
    inner, tops = (trie.unpacked(arrays, name) for name in ("inner", "tops"))
    return inner, tops, int(arrays["learned_bytes"][0])
