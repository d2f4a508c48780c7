"""Open the version that serves; where it is damaged, the last good one, and say why.

Nothing is locked: whoever writes never changes a version, and a reader that finds its version
deleted under its hands looks at the pointer again.
"""

from dataclasses import dataclass
from pathlib import Path

from tracemill.errors import InputError
from tracemill.retrieval.collection import contents as parts
from tracemill.retrieval.collection import versions
from tracemill.retrieval.collection.contents import Contents
from tracemill.retrieval.collection.versions import Manifest


@dataclass(frozen=True)
class Opened:
    """A version that is whole."""

    manifest: Manifest
    contents: Contents
    degraded: str | None = None
    """Why this is not the version that should serve."""


def current(home: Path) -> Opened:
    """The version that serves, else the last one that is whole.

    Raises `InputError` when there is none.
    """
    while True:
        named = versions.served(home)
        faults: list[str] = []
        for digest in named or versions.present(home):
            try:
                opened = version(home, digest)
            except InputError as error:
                faults.append(str(error))
                continue
            if not faults and named:
                return opened
            why = faults[0] if faults else f"{home / versions.CURRENT} names no version"
            if versions.served(home) == named:
                return Opened(
                    opened.manifest,
                    opened.contents,
                    f"collection {home.name!r} serves version {digest}, not its last: {why}; "
                    "build it again",
                )
            break
        else:
            if versions.served(home) == named:
                raise InputError(_nothing(home, faults))


def version(home: Path, digest: str) -> Opened:
    """One version, verified and loaded; `InputError` when anything of it is not as written."""
    folder = home / digest
    manifest = versions.read(folder)
    versions.verify(folder, manifest)
    try:
        return Opened(manifest, parts.load(folder, manifest))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error}") from None


def _nothing(home: Path, faults: list[str]) -> str:
    if not (home / versions.CURRENT).exists() and not faults:
        there = versions.names(home.parent)
        known = f"there are {', '.join(there)}" if there else "there are none yet"
        return (
            f"there is no collection {home.name!r} in {home.parent} ({known}): "
            "`tracemill build` makes those of raw/documents/"
        )
    why = faults[0] if faults else f"{home / versions.CURRENT} names none"
    return f"collection {home.name!r} has no whole version: {why}; build it again"
