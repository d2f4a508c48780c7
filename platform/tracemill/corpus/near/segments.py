"""What is known of a batch of texts, as one Arrow file that is read by mapping it into memory.

Nothing of a file is loaded until it is touched, and what is touched can be dropped again: an index
of any size costs the memory of the texts that a batch meets.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracemill.corpus.near.manifest import damaged
from tracemill.corpus.near.settle import Part
from tracemill.corpus.sketch import PERMUTATIONS, Sketches
from tracemill.files import write_atomically

if TYPE_CHECKING:
    import polars as pl

BATCH = 1 << 16
"""Rows that are put together at most when files are merged."""
COLUMNS = ("record_id", "source", "timestamp", "length", "quality")
"""What an index knows of a text beside its sketch."""


def write(path: Path, documents: "pl.DataFrame", sketches: Sketches, tags: Any) -> Path:
    """The texts of a batch as one file, whole or absent.

    Args:
        path: where.
        documents: n rows with `COLUMNS`.
        sketches: of the texts, in the same order.
        tags: (n, bands) of the signatures.
    """
    pa = _arrow()
    table = documents.select(COLUMNS).to_arrow(compat_level=_plain_strings()).combine_chunks()
    for name, values in (("signature", sketches.signatures), ("tags", tags)):
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        table = table.append_column(name, pa.FixedSizeListArray.from_arrays(flat, values.shape[1]))
    sets = pa.LargeListArray.from_arrays(pa.array(sketches.offsets), pa.array(sketches.shingles))
    table = table.append_column("shingles", sets)
    table = table.append_column("digest", pa.array(sketches.digests))
    return _write(path, table.schema, table.to_batches())


def merge(path: Path, files: Sequence[Path]) -> Path:
    """Several files as one, in memory no more than `BATCH` rows."""
    batches = (batch for file in files for batch in _batches(file))
    return _write(path, _open(files[0]).schema, _joined(batches))


def read(path: Path) -> list[Part]:
    """The parts of a file, mapped; raises `InputError` where it is none of ours or is damaged."""
    pa = _arrow()
    try:
        return [_part(batch) for batch in _batches(path)]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise damaged(path, error) from None


def _part(batch: Any) -> Part:
    import polars as pl

    shingles = batch["shingles"]
    bands = batch["tags"].type.list_size
    return Part(
        pl.DataFrame(batch.select(COLUMNS)),
        _flat(batch["signature"]).reshape(-1, PERMUTATIONS),
        shingles.values.to_numpy(),
        shingles.offsets.to_numpy(),
        batch["digest"].to_numpy(),
        _flat(batch["tags"]).reshape(-1, bands),
    )


def _flat(lists: Any) -> NDArray[np.uint32]:
    return lists.values.to_numpy()


def _joined(batches: Iterable[Any]) -> Iterator[Any]:
    waiting: list[Any] = []
    for batch in batches:
        if waiting and sum(each.num_rows for each in waiting) + batch.num_rows > BATCH:
            yield _arrow().concat_batches(waiting)
            waiting = []
        waiting.append(batch)
    if waiting:
        yield _arrow().concat_batches(waiting)


def _batches(path: Path) -> Iterator[Any]:
    reader = _open(path)
    for at in range(reader.num_record_batches):
        yield reader.get_batch(at)


def _open(path: Path) -> Any:
    pa = _arrow()
    return pa.ipc.open_file(pa.memory_map(str(path)))


def _write(path: Path, schema: Any, batches: Iterable[Any]) -> Path:
    pa = _arrow()

    def fill(aside: Path) -> None:
        with pa.OSFile(str(aside), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)

    return write_atomically(path, fill)


def _plain_strings() -> Any:
    import polars as pl

    return pl.CompatLevel.oldest()


def _arrow() -> Any:
    import pyarrow

    return pyarrow
