"""The files of a folder that may hold documents, in the order of their names, and why some do not.

Links are followed, but not in circles. Hidden files and those that programs leave while they work
are passed over.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PASSED_OVER = re.compile(
    r"\..*|~\$.*|.*~|#.*#|.*\.(tmp|temp|part|partial|crdownload|swp|swo|bak|pyc)"
    r"|__pycache__|node_modules|thumbs\.db|desktop\.ini",
    re.IGNORECASE,
)
"""Names of files and folders."""
MOST_WAYS = 10
"""To one folder: thirty folders, each with two links to the next, are a thousand million ways."""


class File(NamedTuple):
    """A file, or why it, or a folder, cannot be read."""

    document_id: str
    """The path below the folder, with slashes."""
    path: Path
    bytes: int = 0
    modified_ns: int = 0
    problem: str = ""


def files(
    folder: Path, include: Sequence[str] = (), exclude: Sequence[str] = (), *, deep: bool = True
) -> list[File]:
    """The files of a folder, by `document_id`.

    Args:
        include, exclude: globs relative to the folder; no `include`: all.
        deep: also those of the folders below it. Without, YAML files are passed over: beside
            folders they are recipes.
    """
    taken, left = [_pattern(each) for each in include], [_pattern(each) for each in exclude]
    found = _below(folder) if deep else _top(folder)
    chosen = (
        each
        for each in found
        if (not taken or any(pattern.fullmatch(each.document_id) for pattern in taken))
        and not any(pattern.fullmatch(each.document_id) for pattern in left)
    )
    return sorted(chosen, key=lambda each: each.document_id)


def _top(folder: Path) -> Iterator[File]:
    for each in _below(folder, deep=False):
        if not each.document_id.lower().endswith((".yaml", ".yml")):
            yield each


class _Folder(NamedTuple):
    path: Path
    prefix: str = ""
    above: frozenset[tuple[int, int]] = frozenset()


def _below(folder: Path, *, deep: bool = True) -> Iterator[File]:
    left = [_Folder(folder)]
    ways: Counter[tuple[int, int]] = Counter()
    while left:
        path, prefix, above = left.pop()
        try:
            here = path.stat()
            identity = (here.st_dev, here.st_ino)
            ways[identity] += 1
            if identity in above or ways[identity] > MOST_WAYS:
                yield File(_id(prefix.rstrip("/")), path, problem=_lost(identity in above))
                continue
            with os.scandir(path) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            reason = f"the folder cannot be read: {error.strerror}"
            yield File(_id(prefix.rstrip("/")) or folder.name, path, problem=reason)
            continue
        for entry in entries:
            if PASSED_OVER.fullmatch(entry.name):
                continue
            if not _is_folder(entry):
                yield _file(Path(entry.path), _id(prefix + entry.name))
            elif deep:
                inner = Path(entry.path), f"{prefix}{entry.name}/", above | {identity}
                left.append(_Folder(*inner))


def _lost(in_a_circle: bool) -> str:
    if in_a_circle:
        return "a link that leads back to a folder above it: remove it"
    return f"a folder that links lead to in more than {MOST_WAYS} ways: remove some"


def _file(path: Path, document_id: str) -> File:
    try:
        about = path.stat()
    except OSError as error:
        what = "a link to nothing" if path.is_symlink() else f"cannot be opened: {error.strerror}"
        return File(document_id, path, problem=what)
    problem = "" if path.is_file() else "no regular file"
    return File(document_id, path, about.st_size, about.st_mtime_ns, problem)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself.
        return False


def _id(name: str) -> str:
    """The name as valid Unicode: a byte that is none is written as `\\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _pattern(glob: str) -> re.Pattern[str]:
    """`**/` stands for folders, none too, `*` and `?` for what has no slash in it."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(signs.get(each) or re.escape(each) for each in pieces), re.DOTALL)
