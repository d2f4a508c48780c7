"""What an index's folder holds: one file that names all others and is replaced last.

No other file is ever changed, so a crash leaves the state before; what the manifest does not name
is swept away by the next writer.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tracemill.corpus.near.bands import Rule
from tracemill.errors import InputError, UsageError
from tracemill.files import only_one_writer, write_text_atomically

FORMAT = 1
"""Of files, shingles and tags: another definition of any of them is another number."""
NAME, LOCK = "manifest.json", "lock"
KINDS = ("segment-", "repeats-", "state-")


@dataclass(frozen=True)
class Segment:
    """A file of texts."""

    file: str
    rows: int
    level: int = 0
    """How often its texts were merged."""


@dataclass(frozen=True)
class Manifest:
    """What the folder holds."""

    threshold: float
    policy: str
    bands: int
    rows: int
    fields: str
    format: int = FORMAT
    next: int = 1
    """The number of the next file."""
    segments: tuple[Segment, ...] = ()
    repeats: tuple[str, ...] = ()
    """Records that came again, from another place or with another quality."""
    state: str | None = None
    """The decisions, on the first texts."""
    settled: int = 0
    """How many of `repeats` they have taken into account."""


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """One process at a time; others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with only_one_writer(folder / LOCK):
        yield


def make(folder: Path, rule: Rule, fields: str) -> None:
    """The manifest of an empty index, where there is none; the folder must hold nothing else."""
    if (folder / NAME).exists():
        return
    others = (each.name for each in folder.iterdir() if each.name != LOCK)
    strangers = sorted(name for name in others if not name.endswith(".tmp"))
    if strangers:
        raise InputError(
            f"{folder} is no index of near-duplicates (it holds {strangers[0]!r} and no "
            f"{NAME!r}): name an empty folder"
        )
    _write(folder, Manifest(*rule, fields=fields))


def read(folder: Path, rule: Rule, fields: str) -> Manifest:
    """The manifest; `InputError` where it is damaged, `UsageError` where it has another rule."""
    path = folder / NAME
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if raw.get("format") != FORMAT:
            raise ValueError(f"its format is {raw.get('format')}, not {FORMAT}")
        raw["segments"] = tuple(Segment(**each) for each in raw["segments"])
        raw["repeats"] = tuple(raw["repeats"])
        found = Manifest(**raw)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(path, error) from None
    for name, asked in {**rule._asdict(), "fields": fields}.items():
        if (has := getattr(found, name)) != asked:
            raise UsageError(
                f"the index in {folder} was made with {name} {has}, not {asked}: "
                "open it so, or name another folder"
            )
    return found


def swap(folder: Path, manifest: Manifest) -> None:
    """From here on the folder holds this; files that it does not name are deleted."""
    _write(folder, manifest)
    named = {*(segment.file for segment in manifest.segments), *manifest.repeats}
    for each in folder.iterdir():
        if _ours(each.name) and each.name not in {*named, manifest.state, LOCK}:
            each.unlink()


def damaged(path: Path, why: object) -> InputError:
    """A file of the index cannot be read: what to do about it."""
    return InputError(
        f"the index of near-duplicates cannot be read: {path}: {' '.join(str(why).split())}; "
        f"delete the folder {path.parent} and add all records anew"
    )


def _write(folder: Path, manifest: Manifest) -> None:
    write_text_atomically(folder / NAME, json.dumps(asdict(manifest), indent=1))


def _ours(name: str) -> bool:
    return name == LOCK or name.endswith(".tmp") or name.startswith(KINDS)
