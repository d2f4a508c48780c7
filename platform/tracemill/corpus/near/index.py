"""Near-duplicates among all records that ever came: segments and decisions in one folder.

`add` appends a batch as a segment; `decisions` decides what is new against all that came before,
without any text, and remembers it. The result is that of one pass over everything, for any batches
in any order.

Several processes may add; they wait for each other. A crash leaves the state before (`manifest`).
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracemill.corpus.near import manifest, segments, settle
from tracemill.corpus.near.bands import RECALL, Policy, Rule, rule
from tracemill.corpus.near.manifest import Manifest, Segment
from tracemill.corpus.near.settle import Decisions, Part
from tracemill.corpus.sketch import Sketches
from tracemill.files import write_atomically

if TYPE_CHECKING:
    import polars as pl

FAN_OUT = 16
"""So many segments of a level become one of the next."""
LARGE = 1 << 18
"""No segment of more texts is made by merging: it would be written again for nothing."""


class NearIndex:
    """An index of near-duplicates in a folder, made where there is none."""

    def __init__(
        self,
        folder: Path,
        *,
        fields: str = "both",
        threshold: float = 0.8,
        policy: Policy = "star",
        recall: float = RECALL,
        threads: int | None = None,
        plain: bool | None = None,
    ) -> None:
        """Open the index, or make it.

        Args:
            folder: of this index alone.
            fields: which text of the records is compared: kept so that none are mixed.
            threshold: least Jaccard similarity, in (0, 1].
            policy: `star` or `component`.
            recall: least share of the pairs at the threshold that are compared, below 1.
            threads: as many as there are cores by default.
            plain: whether to do without compiled kernels; decided by the number of texts.

        Raises:
            InputError: the folder holds something else, or an index that is damaged.
            UsageError: the index was made with other settings.
        """
        self.folder, self.fields = folder, fields
        self.rule: Rule = rule(threshold, policy, recall)
        self._threads, self._plain = threads, plain
        self._parts: dict[str, list[Part]] = {}
        with manifest.locked(folder):
            manifest.make(folder, self.rule, fields)
            self._manifest = self._read()

    def __len__(self) -> int:
        """How many records there are, each id once."""
        return sum(segment.rows for segment in self._manifest.segments)

    def add(self, documents: "pl.DataFrame", sketches: Sketches) -> int:
        """Append records; what is known already is not added again. The number of new ones.

        Of a record that comes several times the best quality counts, and its place is the first by
        source and time.

        Args:
            documents: `record_id`, `source`, `timestamp`, `length` (of the text, in characters),
                `quality` (null: lowest).
            sketches: of their texts, in the same order.
        """
        import polars as pl

        rows = documents.select(segments.COLUMNS).with_columns(
            pl.col("quality").cast(pl.Float64).fill_nan(None)
        )
        with manifest.locked(self.folder):
            self._manifest = self._read()
            known = rows["record_id"].is_in(self._known(rows["record_id"]).implode())
            ranked = (
                rows.with_row_index("row").filter(~known).sort("record_id", "source", "timestamp")
            )
            new = ranked.unique("record_id", keep="first", maintain_order=True).sort("row")
            again = rows.filter(known | rows["record_id"].is_duplicated())
            twice = again.join(self._seen(again, new), on=segments.COLUMNS, how="anti",
                               nulls_equal=True)  # fmt: skip
            if new.height or twice.height:
                self._append(new, _taken(sketches, new["row"].to_numpy()), twice)
        return new.height

    def decisions(self) -> "pl.DataFrame":
        """What became of every record, one row each, in the order in which they came.

        `record_id`; `kept_id`, its own where it stays; `jaccard`, `via_id` and `reason`, null where
        it stays; `source` and `timestamp` of the one row that counts where the record came from
        several places, else null.
        """
        with manifest.locked(self.folder):
            self._manifest = self._read()
            decided = self._decide()
        return frame(self._all_parts(), decided, self._places())

    def _seen(self, rows: "pl.DataFrame", new: "pl.DataFrame") -> "pl.DataFrame":
        """All rows with these ids that came before, and those that are new."""
        import polars as pl

        if rows.is_empty():
            return rows
        ids = rows["record_id"].implode()
        stored = [part.documents for part in self._all_parts()]
        if self._manifest.repeats:
            stored.append(self._repeats(self._manifest.repeats))
        return pl.concat(
            each.filter(pl.col("record_id").is_in(ids)).select(segments.COLUMNS)
            for each in [*stored, new]
        )

    def _append(self, new: "pl.DataFrame", sketches: Sketches, twice: "pl.DataFrame") -> None:
        now = self._manifest
        made: dict[str, Any] = {}
        if new.height:
            file = f"segment-{now.next:06}.arrow"
            tags = settle.tags(sketches.signatures, self.rule, plain=self._plain)
            segments.write(self.folder / file, new, sketches, tags)
            made["segments"] = self._merged((*now.segments, Segment(file, new.height)))
        if twice.height:
            file = f"repeats-{now.next:06}.arrow"
            write_atomically(self.folder / file, twice.write_ipc)
            made["repeats"] = (*now.repeats, file)
        self._swap(replace(now, next=now.next + 1, **made))

    def _merged(self, files: tuple[Segment, ...]) -> tuple[Segment, ...]:
        """The last `FAN_OUT` segments as one where they have the same level, and so on."""
        last = files[-FAN_OUT:]
        rows = sum(segment.rows for segment in last)
        if len(last) < FAN_OUT or len({segment.level for segment in last}) > 1 or rows > LARGE:
            return files
        level = last[0].level + 1
        file = f"{last[-1].file.removesuffix('.arrow')}-{level}.arrow"
        segments.merge(self.folder / file, [self.folder / segment.file for segment in last])
        return self._merged((*files[:-FAN_OUT], Segment(file, rows, level)))

    def _decide(self) -> Decisions:
        now, parts = self._manifest, self._all_parts()
        before = self._state()
        if before.kept.size == len(self) and now.settled == len(now.repeats):
            return before
        if not parts:
            return before
        changed = self._texts_of(now.repeats[now.settled :])
        decided = settle.decide(
            self._improved(parts), self.rule, before, changed,
            threads=self._threads, plain=self._plain,
        )  # fmt: skip
        self._remember(decided)
        return decided

    def _remember(self, decided: Decisions) -> None:
        import polars as pl

        now = self._manifest
        file = f"state-{now.next:06}.arrow"
        state = pl.DataFrame(decided._asdict())
        write_atomically(self.folder / file, state.write_ipc)
        repeats = now.repeats
        if len(repeats) > FAN_OUT:
            repeats = (f"repeats-{now.next:06}.arrow",)
            write_atomically(self.folder / repeats[0], self._repeats(now.repeats).write_ipc)
        made: dict[str, Any] = {"state": file, "repeats": repeats, "settled": len(repeats)}
        self._swap(replace(now, next=now.next + 1, **made))

    def _state(self) -> Decisions:
        import polars as pl

        if self._manifest.state is None:
            return settle.undecided()
        with self._reading(self._manifest.state) as path:
            state = pl.read_ipc(path)
            return Decisions(*(state[name].to_numpy() for name in Decisions._fields))

    def _all_parts(self) -> list[Part]:
        named = {segment.file for segment in self._manifest.segments}
        self._parts = {file: parts for file, parts in self._parts.items() if file in named}
        for file in named - set(self._parts):
            self._parts[file] = segments.read(self.folder / file)
        for segment in self._manifest.segments:
            rows = sum(part.documents.height for part in self._parts[segment.file])
            if rows != segment.rows:
                why = f"{rows} rows, not {segment.rows}"
                raise manifest.damaged(self.folder / segment.file, why)
        return [part for segment in self._manifest.segments for part in self._parts[segment.file]]

    def _ids(self) -> "pl.Series":
        import polars as pl

        ids = [part.documents["record_id"] for part in self._all_parts()]
        return pl.concat(ids) if ids else pl.Series("record_id", [], pl.String)

    def _known(self, ids: "pl.Series") -> "pl.Series":
        """Those of the ids that the index has."""
        known = self._ids()
        return known.filter(known.is_in(ids.implode()))

    def _repeats(self, files: tuple[str, ...]) -> "pl.DataFrame":
        """Every row of records that came several times, but the one that was added."""
        import polars as pl

        frames: list[pl.DataFrame] = []
        for file in files:
            with self._reading(file) as path:
                frames.append(pl.read_ipc(path))
        return pl.concat(frames)

    def _texts_of(self, files: tuple[str, ...]) -> list[int]:
        """The numbers of the records that came again."""
        if not files:
            return []
        again = self._repeats(files)["record_id"].unique()
        return self._ids().is_in(again.implode()).arg_true().to_list()

    def _improved(self, parts: list[Part]) -> list[Part]:
        """The parts with the best quality that each record ever came with."""
        import polars as pl

        if not self._manifest.repeats:
            return parts
        again = self._repeats(self._manifest.repeats)
        best = again.group_by("record_id").agg(best=pl.col("quality").max())
        quality = pl.max_horizontal("quality", "best")
        return [
            part._replace(
                documents=part.documents.join(
                    best, on="record_id", how="left", maintain_order="left"
                ).with_columns(quality=quality)
            )
            for part in parts
        ]

    def _places(self) -> "pl.DataFrame":
        """The place that counts of each record that came from several."""
        import polars as pl

        columns = ["record_id", "source", "timestamp"]
        if not self._manifest.repeats:
            return pl.DataFrame(schema=dict.fromkeys(columns[:2], pl.String) | {
                "timestamp": pl.Datetime("us", "UTC")})  # fmt: skip
        again = self._repeats(self._manifest.repeats).select(columns)
        added = [part.documents.select(columns) for part in self._all_parts()]
        own = pl.concat(added).join(again, on="record_id", how="semi")
        first = pl.concat([own, again]).sort(columns)
        return first.unique("record_id", keep="first", maintain_order=True)

    @contextmanager
    def _reading(self, file: str) -> Generator[Path]:
        import polars as pl

        path = self.folder / file
        try:
            yield path
        except (OSError, pl.exceptions.PolarsError) as error:
            raise manifest.damaged(path, error) from None

    def _read(self) -> Manifest:
        return manifest.read(self.folder, self.rule, self.fields)

    def _swap(self, now: Manifest) -> None:
        manifest.swap(self.folder, now)
        self._manifest = now


def frame(parts: list[Part], decided: Decisions, places: "pl.DataFrame") -> "pl.DataFrame":
    """Decisions as a frame: see `NearIndex.decisions`."""
    import polars as pl

    documents = [part.documents.select("record_id") for part in parts]
    ids = pl.concat(documents)["record_id"] if documents else pl.Series("record_id", [], pl.String)
    dropped = pl.col("record_id") != pl.col("kept_id")
    exact = pl.lit("exact duplicate"), pl.lit("near duplicate")
    via = pl.Series(decided.via)
    table = pl.DataFrame(
        {
            "record_id": ids,
            "kept_id": ids.gather(pl.Series(decided.kept)),
            "jaccard": decided.jaccard,
            "via_id": ids.gather(via.set(via < 0, None)),
            "exact": decided.exact,
        }
    )
    return table.select(
        "record_id",
        "kept_id",
        pl.when(dropped).then("jaccard"),
        "via_id",
        reason=pl.when(dropped & pl.col("exact")).then(exact[0]).when(dropped).then(exact[1]),
    ).join(places, on="record_id", how="left", maintain_order="left")


def _taken(sketches: Sketches, rows: Any) -> Sketches:
    """The sketches of some rows."""
    sizes = np.diff(sketches.offsets)[rows]
    if len(rows) == len(sketches.digests):
        return sketches
    starts = sketches.offsets[rows]
    sets = [sketches.shingles[at : at + size] for at, size in zip(starts, sizes, strict=True)]
    return Sketches(
        sketches.signatures[rows],
        np.concatenate([*sets, np.empty(0, np.uint32)]),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]),
        sketches.digests[rows],
    )
