"""Rows sorted on disk, and the files of one split: the part of writing that streams.

Rows are spilled in runs, each cut by the first characters of the record ids; what begins alike is
read from all runs, sorted, and written, so that never more than a run or a piece is in memory.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from tracemill.corpus.export import JSONL, hub_columns, json_lines
from tracemill.errors import InputError
from tracemill.files import sync

if TYPE_CHECKING:
    import polars as pl

RUN_BYTES = 64 << 20
GROUP_ROWS = 10_000
SHARD_BYTES = 500_000_000
"""As large as the Hub's own shards."""
PREFIX = 5
"""Characters: `b2:` and two hex digits."""


class Sorter:
    """Takes batches in any order, gives the rows of a split back in the order of their ids."""

    def __init__(self, folder: Path, run_bytes: int = RUN_BYTES) -> None:
        self._folder, self._run_bytes = folder, run_bytes
        self._batches: list[pl.DataFrame] = []
        self._bytes, self._empty = 0, cast("pl.DataFrame | None", None)
        self._pieces: defaultdict[str, defaultdict[str, list[tuple[int, int]]]]
        self._pieces = defaultdict(lambda: defaultdict(list))
        self._readers: list[Any] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()

    def add(self, batch: "pl.DataFrame") -> None:
        """Take rows; raises InputError when their columns are not those of the first batch."""
        if self._empty is None:
            self._empty = batch.clear()
        if batch.schema != self._empty.schema:
            raise InputError(
                f"a batch has the columns {dict(batch.schema)}, the first one had "
                f"{dict(self._empty.schema)}: give all the same"
            )
        if batch.height:
            self._batches.append(batch)
            self._bytes += int(batch.estimated_size())
        if self._bytes >= self._run_bytes:
            self._spill()

    def splits(self) -> set[str]:
        self._spill()
        return set(self._pieces)

    def sorted(self, split: str) -> "Iterator[pl.DataFrame]":
        """Frames of `GROUP_ROWS` rows and a rest, or one empty frame."""
        import polars as pl

        self._spill()
        if self._empty is None:
            raise InputError("nothing to write: not even an empty batch with columns")
        left, waiting, rows = self._empty, list[pl.DataFrame](), 0
        prefixes = sorted(self._pieces[split])
        for prefix in prefixes:
            pieces = [self._readers[run].get_batch(at) for run, at in self._pieces[split][prefix]]
            waiting += [pl.DataFrame(piece) for piece in pieces]
            rows += sum(piece.num_rows for piece in pieces)
            if rows < GROUP_ROWS and prefix != prefixes[-1]:
                continue
            left, waiting, rows = pl.concat([left, _in_order(pl.concat(waiting))]), [], 0
            while left.height >= GROUP_ROWS:
                yield left.head(GROUP_ROWS)
                left = left.slice(GROUP_ROWS)
        if left.height or not self._pieces[split]:
            yield left

    def _spill(self) -> None:
        import polars as pl
        import pyarrow as pa

        if not self._batches:
            return
        rows = pl.concat(self._batches).sort("split", "record_id")
        self._batches, self._bytes = [], 0
        start = pl.col("record_id").str.slice(0, PREFIX).alias("start")
        cuts = rows.select("split", start).group_by("split", "start", maintain_order=True).len()
        path, at = self._folder / str(len(self._readers)), 0
        arrow = rows.to_arrow().combine_chunks()
        with pa.ipc.new_file(str(path), arrow.schema) as writer:
            for number, (split, prefix, count) in enumerate(cuts.iter_rows()):
                writer.write_table(arrow.slice(at, count), max_chunksize=count)
                self._pieces[split][prefix].append((len(self._readers), number))
                at += count
        # Not packed: thousands of small pieces are then read where they lie.
        mapped = self._open.enter_context(pa.memory_map(str(path)))
        self._readers.append(pa.ipc.open_file(mapped))


def write_split(
    frames: "Iterable[pl.DataFrame]",
    folder: Path,
    split: str,
    formats: Sequence[str],
    used: Collection[str],
    shard_bytes: int = SHARD_BYTES,
) -> int:
    """Write `<split>.parquet`, `<format>/<split>.jsonl` and the shards in `hf/data`; the rows.

    Args:
        frames: the rows in their order, at least one frame; each becomes a row group.
        folder: where to.
        split: its name.
        formats: of `JSONL`, or `hf`.
        used: fields of messages that are not null everywhere.
        shard_bytes: after how many bytes the next shard in `hf/data` begins.
    """
    rows = 0
    with ExitStack() as stack:
        table = stack.enter_context(_Parquet(folder, f"{split}.parquet"))
        names = [name for name in formats if name in JSONL]
        lines = {name: stack.enter_context(_text(folder / name, split)) for name in names}
        data = folder / "hf" / "data"
        hub = stack.enter_context(_Parquet(data, split, shard_bytes)) if "hf" in formats else None
        pool = stack.enter_context(ThreadPoolExecutor(1))
        for frame in frames:
            rows += frame.height
            packed = pool.submit(table.write, frame)
            for name, file in lines.items():
                texts = json_lines(frame, name)
                file.write("".join(f"{text}\n" for text in texts).encode())
            packed.result()
            if hub is not None:
                hub.write(hub_columns(frame, used))
    for path in [folder / name / f"{split}.jsonl" for name in names]:
        sync(path)
    return rows


class _Parquet:
    """One file, or shards `<name>-00000-of-00002.parquet` of about `shard_bytes` each."""

    def __init__(self, folder: Path, name: str, shard_bytes: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name, self._shard_bytes = folder, name, shard_bytes
        self._paths: list[Path] = []
        self._writer: Any = None
        self._sink: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._close()
        if self._shard_bytes is not None and kind is None:
            for at, path in enumerate(self._paths):
                name = f"{self._name}-{at:05d}-of-{len(self._paths):05d}.parquet"
                path.rename(self._folder / name)

    def write(self, frame: "pl.DataFrame") -> None:
        from pyarrow import parquet

        if self._writer is not None and self._sink.tell() >= (self._shard_bytes or 1 << 62):
            self._close()
        # One chunk: the pages of a file must not depend on how its rows came together.
        arrow = frame.rechunk().to_arrow().combine_chunks()
        if self._writer is None:
            part = f"{self._name}.{len(self._paths)}" if self._shard_bytes else self._name
            self._paths.append(self._folder / part)
            self._sink = self._paths[-1].open("wb")
            self._writer = parquet.ParquetWriter(self._sink, arrow.schema, compression="zstd")
        self._writer.write_table(arrow, row_group_size=GROUP_ROWS)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            sync(self._paths[-1])
        self._writer = None


def _text(folder: Path, split: str) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / f"{split}.jsonl").open("wb")


def _in_order(frame: "pl.DataFrame") -> "pl.DataFrame":
    keys = ("record_id", "origin", "source")
    return frame.sort([key for key in keys if key in frame.columns], maintain_order=True)
