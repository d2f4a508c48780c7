"""Snapshots: what an answer was when somebody looked at it, in a file that review can read.

A snapshot is written only where that is asked for; one that is missing is a failure, or a test that
nobody has looked at would pass.
"""

import difflib
import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from tracemill.errors import InputError, UsageError
from tracemill.files import write_atomically

How = Literal["exact", "normalised", "semantic"]
SUFFIXES = (".txt", ".json")
THRESHOLD = 0.9
"""The least cosine of two texts that mean the same, where none is given."""
_MOST_BYTES = 150
_MOST_LINES = 200
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\<>:"|?*\ud800-\udfff]')
_DEVICES = re.compile(
    r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE
)
_BLANKS = {" ": "\N{MIDDLE DOT}"}
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


class Verdict(NamedTuple):
    """What came of holding a value against its snapshot."""

    state: Literal["matched", "missing", "different", "written", "updated"]
    path: Path
    reason: str = ""
    """Why it does not match, with the difference; empty where it does."""

    @property
    def ok(self) -> bool:
        return self.state not in {"missing", "different"}


def check(
    folder: Path,
    name: str,
    value: Any,
    *,
    how: How = "exact",
    threshold: float = THRESHOLD,
    update: bool = False,
) -> Verdict:
    """Hold a value against the snapshot of a name; with `update`, make it the snapshot.

    Args:
        folder: where the snapshots are; made when the first is written.
        name: of the snapshot: it becomes a file's name, so it must be one on every system.
        value: text, kept letter by letter, or what JSON can say (also a pydantic model), kept with
            its names sorted and two blanks to a level.
        how: `exact`; `normalised`: Unicode's form C, each run of white space one blank, none at
            the ends, while case and punctuation count; `semantic`: the cosine of the offline
            embeddings is at least `threshold`. What is equal in this sense is not written anew.
        threshold: from 0 to 1, for `semantic`.

    Raises `UsageError` for names and values that no snapshot can have, `InputError` where its file
    cannot be read.
    """
    if how not in get_args(How) or not 0 <= threshold <= 1:
        raise UsageError(
            f"a snapshot is compared {', '.join(get_args(How))}, with a threshold from 0 to 1: "
            f"not {how!r}, {threshold!r}"
        )
    got, suffix = text_of(value)
    path = path_of(folder, name, suffix)
    stored = _read(path)
    if stored is None:
        if not update:
            return Verdict("missing", path, f"there is no snapshot {path}: {_MEND}")
        return Verdict("written", _write(path, got))
    near = None if how != "semantic" else similarity(stored, got)
    if _same(stored, got, how, near, threshold):
        return Verdict("matched", path)
    if update:
        return Verdict("updated", _write(path, got))
    by = "" if near is None else f": similarity {near:.3f}, at least {threshold:g} is asked"
    told = f"the value is not as in {path} ({how}{by})"
    return Verdict("different", path, f"{told}; {_MEND}\n{diff(stored, got)}")


_MEND = "look at the value, then run with --snapshot-update to keep it"


def path_of(folder: Path, name: str, suffix: str = ".txt") -> Path:
    """The file of a name in a folder.

    Raises `UsageError` for a name that would leave the folder, that is no file name on some system,
    or that differs from another one's only by case or Unicode form.
    """
    if wrong := _wrong_name(name):
        raise UsageError(f"{name[:80]!r} cannot name a snapshot: {wrong}")
    path = folder / f"{name}{suffix}"
    if path.is_symlink():
        raise UsageError(f"{path} is a link: a snapshot is a file in its folder")
    if folder.is_dir():
        _refuse_clash(folder, name, suffix)
    return path


def stored(folder: Path) -> list[Path]:
    """The snapshots in a folder."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        path for path in found if path.suffix in SUFFIXES and not path.name.startswith(".")
    )


def prune(paths: Iterable[Path]) -> None:
    """Remove snapshots, and the folders that are then empty."""
    for path in paths:
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


def text_of(value: Any) -> tuple[str, str]:
    """A value as a snapshot keeps it, and the suffix of its file.

    Raises `UsageError` for what is neither text nor JSON.
    """
    if isinstance(value, str):
        text, suffix = value, ".txt"
    else:
        plain = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        try:
            text = json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"a snapshot is text or JSON: {error}") from None
        text, suffix = text + "\n", ".json"
    if re.search("[\ud800-\udfff]", text):
        raise UsageError("a snapshot is UTF-8: half of a surrogate pair cannot be written")
    return text, suffix


def normalised(text: str) -> str:
    """Unicode's form C, with each run of white space as one blank and none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def similarity(one: str, other: str) -> float:
    """The cosine of two texts, by the offline embeddings; of a text without words, 1 or 0."""
    from tracemill.retrieval.embed import compute

    if not one.strip() or not other.strip():
        return float(one.strip() == other.strip())
    first, second = compute([one, other])
    return float(first @ second)


def diff(stored: str, got: str) -> str:
    """What was taken away and what was added, line by line; what cannot be seen is escaped."""
    lines = list(
        difflib.unified_diff(_lines(stored), _lines(got), "snapshot", "value", lineterm="")
    )
    more = [f"... and {len(lines) - _MOST_LINES:,} more lines"] if len(lines) > _MOST_LINES else []
    return "\n".join(lines[:_MOST_LINES] + more)


def _same(stored: str, got: str, how: How, near: float | None, threshold: float) -> bool:
    if how == "normalised":
        return normalised(stored) == normalised(got)
    return stored == got or (near is not None and near >= threshold)


def _lines(text: str) -> list[str]:
    lines = [_visible(line) for line in text.split("\n")]
    if lines[-1] == "":
        return lines[:-1]
    return [*lines[:-1], lines[-1] + "  (no end of line)"]


def _visible(line: str) -> str:
    """A line with control characters, marks of direction and blanks at its end made visible."""
    shown = _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], line)
    bare = shown.rstrip()
    return bare + "".join(_BLANKS.get(blank, ascii(blank)[1:-1]) for blank in shown[len(bare) :])


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the snapshot {path} cannot be read: {error}") from None


def _write(path: Path, text: str) -> Path:
    return write_atomically(path, lambda aside: aside.write_bytes(text.encode()))


def _wrong_name(name: str) -> str | None:
    if not name or name[0] in ". " or name[-1] in ". ":
        return "it is empty, or begins or ends with a dot or a blank"
    if found := _FORBIDDEN.search(name):
        return f"{found[0]!r} leads out of the folder or is in no file's name everywhere"
    if _DEVICES.fullmatch(name):
        return "Windows keeps this name for a device"
    if len(name.encode()) > _MOST_BYTES:
        return f"it is longer than {_MOST_BYTES} bytes"
    return None


def _refuse_clash(folder: Path, name: str, suffix: str) -> None:
    whole = f"{name}{suffix}"
    for other in stored(folder):
        if other.name != whole and _folded(other.name) == _folded(whole):
            raise UsageError(
                f"{whole!r} and {other.name!r} in {folder} are one file where case does not count: "
                "give the snapshot another name"
            )


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
