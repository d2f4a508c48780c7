"""Does the log still hold what was appended? Every hash is derived anew, every law checked.

Bit rot is silent otherwise: most flipped bits in a database page or a Parquet file still read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tracemill.errors import TracemillError
from tracemill.events import KINDS
from tracemill.files import sha256_of
from tracemill.log import rows, segments
from tracemill.log.erase import Vouched
from tracemill.log.figures import emptied, is_emptied
from tracemill.log.journal import Journal
from tracemill.log.tables import Segment


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    events: int
    """How many events were checked."""
    segments: int
    """How many sealed files were checked."""
    problems: tuple[str, ...]
    """One line for each; empty when the log is sound."""

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(journal: Journal, progress: segments.Progress | None = None) -> Verification:
    """Check files against the manifest, events against their digests, the journal against itself.

    What is appended meanwhile is left to the next time.
    """
    end, live, heads = journal.state()
    problems = [*journal.problems(), *_check_files(journal, live)]
    chain = _Chain()
    if not problems:
        sealed = live[-1].hi if live else 0
        for page in segments.pages(journal):
            chain.follow(page[: end.position - chain.position])
            chain.problems += _check_columns([raw for raw in page if raw[0] > sealed])
            chain.problems += [
                f"position {position}: the journal does not know its event id"
                for position in journal.unknown(page)
            ]
            if progress:
                progress(len(page))
            if chain.position >= end.position:
                break
        chain.compare_heads(heads)
        chain.compare_emptied(journal.kept("log") or [])
    return Verification(chain.position, len(live), (*problems, *chain.problems))


def _check_files(journal: Journal, live: list[Segment]) -> Iterator[str]:
    expected = 1
    for segment in live:
        path = segments.segment_path(journal.folder, segment)
        if segment.lo != expected:
            yield f"{segment.file}: begins at {segment.lo}, not at {expected}"
        expected = segment.hi + 1
        if not path.exists() and segment not in journal.segments():
            continue  # replaced and deleted while we were looking
        if not path.exists():
            yield f"{path}: is missing; restore it, it holds events {segment.lo} to {segment.hi}"
        elif sha256_of(path) != segment.sha256:
            yield f"{path}: its bytes have changed since it was sealed; restore it from a copy"


class _Chain:
    """Walks the log in order, and remembers where it stands."""

    def __init__(self) -> None:
        self.position = 0
        self.problems: list[str] = []
        self._digest = b""
        self._versions: dict[str, int] = {}
        self._emptied: list[int] = []
        self._vouched = Vouched()

    def follow(self, raws: list[tuple[Any, ...]]) -> None:
        for raw in raws:
            position, stream, version, stored = raw[0], raw[4], raw[5], raw[-1]
            if position != self.position + 1:
                self.problems.append(f"position {position} follows position {self.position}")
            if rows.digest(self._digest, raw) != stored:
                if _is_rightly_emptied(raw):
                    self._emptied.append(position)
                else:
                    self.problems.append(f"position {position}: does not match its digest")
            if raw[2] == "log.erased":
                self._vouched.add(raw[-2])
            if version != self._versions.get(stream, 0) + 1:
                self.problems.append(
                    f"position {position}: version {version} of {stream} is out of order"
                )
            self.position, self._digest, self._versions[stream] = position, stored, version

    def compare_emptied(self, later: list[tuple[Any, ...]]) -> None:
        """Emptied rows cannot match their digest: a `log.erased` must speak for each, which may
        have been appended while the log was read."""
        for raw in later:
            if raw[0] > self.position and raw[2] == "log.erased":
                self._vouched.add(raw[-2])
        self.problems += [
            f"position {position}: was emptied, and no log.erased says so"
            for position in self._vouched.lacks(self._emptied)
        ]

    def compare_heads(self, heads: dict[str, int]) -> None:
        for stream in sorted(heads.keys() | self._versions.keys()):
            if heads.get(stream) != self._versions.get(stream):
                self.problems.append(
                    f"stream {stream}: the journal says version {heads.get(stream)}, "
                    f"the events say {self._versions.get(stream)}"
                )


def _is_rightly_emptied(raw: tuple[Any, ...]) -> bool:
    """Whether a row holds only what emptying leaves: nobody has written anything into it since."""
    try:
        return is_emptied(raw) and emptied(raw, figures=True) == raw
    except TracemillError:
        return False


def _check_columns(raws: list[tuple[Any, ...]]) -> Iterator[str]:
    """The typed columns must be what the payload says. Sealed rows are covered by their file's hash."""
    for raw in raws:
        try:
            row = rows.from_journal(raw)
        except (TypeError, ValueError, OverflowError, AttributeError) as error:
            yield f"position {raw[0]}: a column holds what no event has ({error})"
            continue
        if row["kind"] in KINDS and row["schema_version"] == KINDS[row["kind"]].schema_version:
            try:
                again = rows.draft(rows.recorded(row).event)
            except TracemillError as error:
                yield str(error)
                continue
            if again.rest[:-1] != tuple(raw[8:-2]):
                yield f"position {row['position']}: a column disagrees with the payload"
