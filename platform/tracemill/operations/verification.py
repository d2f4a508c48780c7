"""Every byte of what manifests vouch for: data sets, collections and models.

The log vouches for itself, see `EventLog.verify`; what it cannot know is what lies in files.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tracemill.errors import InputError, TracemillError
from tracemill.files import sha256_of
from tracemill.operations.parts import trained_here
from tracemill.settings import Settings

Progress = Callable[[int], object]
"""Called with the number of files that were just read."""


class Verified(NamedTuple):
    """What was read of one part of the warehouse."""

    part: str
    files: int
    problems: tuple[str, ...]
    """One line for each; empty where all is as it was written."""


def verify(settings: Settings, progress: Progress | None = None) -> list[Verified]:
    """Read everything that has a manifest; changes nothing."""
    looks = {"data sets": _data_sets, "collections": _collections, "models": _models}
    advance = progress or _nobody
    return [_looked(part, look, settings, advance) for part, look in looks.items()]


def _looked(
    part: str,
    look: Callable[[Settings, Progress], tuple[int, tuple[str, ...]]],
    settings: Settings,
    advance: Progress,
) -> Verified:
    """One part, whatever fails: a log that cannot be asked must not hide what files say."""
    try:
        return Verified(part, *look(settings, advance))
    except (TracemillError, OSError, ValueError, KeyError) as error:
        return Verified(part, 0, (f"{part} cannot be looked at: {error}",))


def _nobody(_: int) -> None: ...


def _data_sets(settings: Settings, advance: Progress) -> tuple[int, tuple[str, ...]]:
    from tracemill.corpus.write import MANIFEST

    problems: list[str] = []
    count = 0
    for path in sorted(settings.splits.glob(f"*/{MANIFEST}")):
        for name, digest in json.loads(path.read_text(encoding="utf-8"))["files"].items():
            count += 1
            advance(1)
            file = path.parent / name
            if not file.is_file():
                problems.append(f"{file}: is missing")
            elif sha256_of(file) != digest:
                problems.append(f"{file}: is not what was written")
    return count, tuple(problems)


def _collections(settings: Settings, advance: Progress) -> tuple[int, tuple[str, ...]]:
    from tracemill.retrieval.collection import collections as names
    from tracemill.retrieval.collection import versions

    problems: list[str] = []
    count = 0
    for name in names(settings.indexes):
        home = settings.indexes / name
        for digest in versions.served(home):
            try:
                manifest = versions.read(home / digest)
                count += len(manifest.files)
                advance(len(manifest.files))
                versions.verify(home / digest, manifest, anew=True)
            except TracemillError as error:
                problems.append(str(error))
    return count, tuple(problems)


def _models(settings: Settings, advance: Progress) -> tuple[int, tuple[str, ...]]:
    from tracemill.finetune import registry
    from tracemill.llm.trained import artefact
    from tracemill.log import EventLog

    with EventLog.open(settings) as opened:
        every = [each for each in registry.versions(opened) if trained_here(each)]
    problems: list[str] = []
    for each in every:
        advance(2)
        folder: Path = settings.models / each.name / each.digest
        try:
            found = artefact.digest_of(folder)
        except InputError as error:
            problems.append(str(error))
            continue
        if found != each.digest:
            problems.append(f"{folder}: its bytes have the digest {found}: it was altered")
    return 2 * len(every), tuple(problems)
