"""Versions of a collection on the disk: whole folders, named by what they hold, and a pointer.

    indexes/<name>/current       the versions that were served, the one that serves first: a line each
    indexes/<name>/<digest>/     manifest.json and the files that it names; nothing of it ever changes
    indexes/<name>/lock          held by the one process that writes

A write goes in five steps, and a crash between any two leaves the old version or the new one:
`aside` fills a temporary folder and syncs it; `place` renames it to its digest; `point` swaps the
pointer; `forget` removes what is no longer needed.
"""

import json
import os
import re
import shutil
import uuid
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from tracemill.errors import InputError, UsageError
from tracemill.files import only_one_writer, sha256_of, sync, write_text_atomically

FORMAT = 2
"""Of the files of a version."""
MANIFEST, CURRENT, LOCK = "manifest.json", "current", "lock"
KEPT = 3
"""Versions that served stay: the last one and those before it."""
STAGED = 3
"""So do the newest of those that were written and do not serve."""

MOST_NAME_BYTES = 100

_NAME = re.compile(r"[^\W_][^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{16}")
_checked: set[tuple[object, ...]] = set()
"""Files whose digest this process has compared, by path, inode, size and time of change."""


@dataclass(frozen=True)
class File:
    """What a file of a version is."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Terms:
    """What holds for all vectors of a collection, and how it is searched."""

    model: str
    """The embedding model, as provider/model."""
    identity: str
    """Which weights of it: vectors of two identities are never compared."""
    dimensions: int
    vectors: str
    """float32 or int8."""
    lexical_share: float
    """The weight of BM25 beside the vectors, from 0 to 1."""
    min_recall: float
    """A version whose graph finds less of the exact nearest is not written."""


@dataclass(frozen=True)
class Manifest:
    """What a version holds."""

    digest: str
    terms: Terms
    chunks: int
    documents: int
    recall_at_10: float
    """Share of the exact ten nearest that a search finds; 1 where every vector is compared."""
    ef: int
    """How wide the graph is searched; 0 where there is none."""
    slots: int
    """Of the graph, dead ones among them."""
    files: dict[str, File]
    format: int = FORMAT


def is_name(name: str) -> bool:
    """Whether a collection can have this name: that of a folder, begun with a letter or a digit."""
    return _NAME.fullmatch(name) is not None and len(name.encode()) <= MOST_NAME_BYTES


def home(folder: Path, name: str) -> Path:
    """The folder of a collection; `UsageError` for a name that cannot be a folder's."""
    if not is_name(name):
        raise UsageError(
            f"{name!r} cannot name a collection: it must begin with a letter or a digit, hold no "
            f"slash and no control character, and take at most {MOST_NAME_BYTES} bytes"
        )
    return folder / name


def names(folder: Path) -> list[str]:
    """The collections in a folder."""
    return sorted(path.parent.name for path in folder.glob(f"*/{CURRENT}"))


@contextmanager
def writing(home: Path) -> Generator[None]:
    """Be the only writer; what one that was killed left behind is swept away."""
    home.mkdir(parents=True, exist_ok=True)
    with only_one_writer(home / LOCK):
        for left in home.glob(".*.tmp"):
            if _DIGEST.match(left.name[1:]) and left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            elif left.name.startswith(f".{CURRENT}."):
                left.unlink(missing_ok=True)
        yield


def read(version: Path) -> Manifest:
    """The manifest of a version; `InputError` when it is missing, altered or of another format."""
    path = version / MANIFEST
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if raw.get("format") != FORMAT:
            raise ValueError(f"its format is {raw.get('format')}, not {FORMAT}")
        if raw.pop("seal", None) != _seal(raw):
            raise ValueError("it is not what was written")
        files = {_file(name): File(**file) for name, file in raw.pop("files").items()}
        found = Manifest(terms=Terms(**raw.pop("terms")), files=files, **raw)
        if found.digest != version.name:
            raise ValueError(f"it is that of version {found.digest}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not a version's manifest ({error})") from None
    return found


def sealed(manifest: dict[str, Any]) -> str:
    """A manifest as text, with a digest of itself."""
    return json.dumps({**manifest, "seal": _seal(manifest)}, indent=1) + "\n"


def _seal(manifest: dict[str, Any]) -> str:
    return sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _file(name: str) -> str:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"it names {name!r}, outside its folder")
    return name


def verify(version: Path, manifest: Manifest, *, anew: bool = False) -> None:
    """Every file is there and as it was written, or `InputError` names one that is not.

    Args:
        anew: also those that this process has compared before and that have not changed since.
    """

    def check(item: tuple[str, File]) -> None:
        name, file = item
        path = version / name
        try:
            key = _key(path, file)
            if key in _checked and not anew:
                return
            same = path.stat().st_size == file.bytes and sha256_of(path) == file.sha256
        except OSError as error:
            raise InputError(f"{path} is missing ({error.strerror})") from None
        if not same:
            raise InputError(f"{path} is not what was written")
        _checked.add(key)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(check, manifest.files.items()))


def _key(path: Path, file: File) -> tuple[object, ...]:
    found = path.stat()
    return (path, found.st_ino, found.st_size, found.st_mtime_ns, file)


def served(home: Path) -> list[str]:
    """The versions that the pointer names, the one that serves first; none when it is no pointer."""
    try:
        lines = (home / CURRENT).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return []
    return [line for line in lines if _DIGEST.fullmatch(line)]


def present(home: Path) -> list[str]:
    """The versions in the folder, the newest first."""
    found = [path for path in home.glob("*") if _DIGEST.fullmatch(path.name)]
    return [path.name for path in sorted(found, key=_changed_ns, reverse=True)]


def _changed_ns(path: Path) -> int:
    try:
        return (path / MANIFEST).stat().st_mtime_ns
    except OSError:
        return 0


@contextmanager
def aside(home: Path, digest: str) -> Generator[Path]:
    """Step 1: a folder to be filled, which is gone afterwards unless it was placed.

    Raises `InputError` when the disk takes no more; numpy and Arrow say that in words of their own.
    """
    folder = home / f".{digest}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        folder.mkdir()
        yield folder
    except OSError as error:
        free = shutil.disk_usage(home).free
        raise InputError(
            f"the next version of {home.name!r} could not be written to {home} ({error}; "
            f"{free / 1e6:,.0f} MB free): make room or give the right to write, and build again; "
            "the last version serves"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def files_of(folder: Path) -> dict[str, File]:
    """Step 2: sync all files of a folder; what each of them is."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())

    def settle(path: Path) -> tuple[str, File]:
        sync(path)
        name = path.relative_to(folder).as_posix()
        return name, File(path.stat().st_size, sha256_of(path))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(pool.map(settle, paths))


def place(folder: Path, manifest: Manifest, version: Path) -> None:
    """Step 3: write the manifest and rename the folder; a damaged one of the name makes way."""
    write_text_atomically(folder / MANIFEST, sealed(asdict(manifest)))
    for inner in _folders(folder):
        sync(inner)
    if version.exists():
        damaged = folder.with_name(f".{version.name}.{uuid.uuid4().hex[:8]}.tmp")
        version.rename(damaged)
        folder.rename(version)
        shutil.rmtree(damaged, ignore_errors=True)
    else:
        folder.rename(version)
    sync(version.parent)
    _checked.update(_key(version / name, file) for name, file in manifest.files.items())


def _folders(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_dir())
    yield folder


def point(home: Path, digest: str) -> None:
    """Step 4: from here on this version serves; those before it stay in reserve."""
    others = [each for each in served(home) if each != digest]
    write_text_atomically(home / CURRENT, "\n".join([digest, *others[: KEPT - 1]]) + "\n")


def forget(home: Path, keep: str) -> None:
    """Step 5: remove the versions that neither serve, nor are in reserve, nor are new.

    Who has one open keeps it, for its files are mapped or loaded.
    """
    named = {*served(home), keep}
    staged = [digest for digest in present(home) if digest not in named]
    for digest in staged[STAGED - 1 :]:
        # Renamed first: a folder of half its files must not be found under its name.
        gone = home / f".{digest}.{uuid.uuid4().hex[:8]}.tmp"
        (home / digest).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
