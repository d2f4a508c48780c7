"""Where keys of providers come from: the environment, and a file that only its owner may read.

A provider may have several: `OPENAI_API_KEY`, more in `OPENAI_API_KEYS` with commas between, and those
of the file, whose lines look alike. They are taken in turn; one that was refused rests for a while.
The environment is read for each call and the file looked at every moment, so that what is changed
there holds without a restart.
"""

import os
import stat
import threading
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tracemill.errors import CallFailed, TracemillError
from tracemill.settings import Settings

FILE = "secrets.env"
"""In the warehouse; `TRACEMILL_SECRETS` names another file."""
LOOK_S = 0.05
"""How soon a change of the file holds."""
_REFUSED_S = 600.0
_LIMITED_S = 60.0
_REMEMBERED = 32
"""So many keys of one variable, the latest, are kept out of texts: calls in flight may have old ones."""


class _Read(NamedTuple):
    """What the file said, and which state of it."""

    path: Path | None = None
    state: tuple[int, int, int] | None = None
    keys: Mapping[str, tuple[str, ...]] = {}
    look_at: float = 0.0


_lock = threading.Lock()
_read = _Read()
_resting: dict[str, float] = {}
_turns: dict[str, int] = {}
_seen: dict[str, list[str]] = {}
_siblings: dict[str, list[str]] = {}


def keys_in(variable: str) -> tuple[str, ...]:
    """All keys of a variable, those of the environment first; empty where there are none.

    Raises `CallFailed` (`missing_key`): the file may be read by others, or cannot be read.
    """
    found = _split(os.environ.get(variable, "")) + _split(os.environ.get(f"{variable}S", ""))
    kept = _in_file()
    if kept:
        found += kept.get(variable, ()) + kept.get(f"{variable}S", ())
    unique = tuple(dict.fromkeys(found))
    _remember(variable, unique)
    return unique


def in_turn(variable: str, keys: tuple[str, ...]) -> str:
    """The next of these keys that does not rest; if all do, the one that has rested for longest."""
    if len(keys) == 1:
        return keys[0]
    with _lock:
        now = time.monotonic()
        begin = _turns.get(variable, 0)
        for step in range(len(keys)):
            key = keys[(begin + step) % len(keys)]
            if _resting.get(key, 0.0) <= now:
                _turns[variable] = (begin + step + 1) % len(keys)
                return key
        return min(keys, key=lambda key: _resting[key])


def ready(keys: Iterable[str]) -> tuple[str, ...]:
    """Those that do not rest."""
    now = time.monotonic()
    return tuple(key for key in keys if _resting.get(key, 0.0) <= now)


def refused(key: str, error: CallFailed) -> None:
    """A provider did not take a key (401, 402, 403), or limits it (429): others go first for a while."""
    if len(_siblings.get(key, ())) < 2:
        return
    if error.status in (401, 402, 403):
        rest_s = _REFUSED_S
    elif error.status == 429:
        rest_s = error.retry_after_s or _LIMITED_S
    else:
        return
    with _lock:
        _resting[key] = time.monotonic() + rest_s


def alike(key: str) -> list[str]:
    """This key and the others of its variable: none of them may be shown."""
    return _siblings.get(key) or [key]


def forget() -> None:
    """Which keys rest, whose turn it is, and what the file said, as at the start."""
    global _read
    with _lock:
        _read = _Read()
        _resting.clear()
        _turns.clear()


def _split(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, text.split(",")))) if "," in text else _one(text)


def _one(text: str) -> tuple[str, ...]:
    text = text.strip()
    return (text,) if text else ()


def _remember(variable: str, keys: tuple[str, ...]) -> None:
    seen = _seen.get(variable)
    if seen is not None and seen[: len(keys)] == list(keys):
        return
    with _lock:
        merged = list(dict.fromkeys((*keys, *(seen or ()))))[:_REMEMBERED]
        _seen[variable] = merged
        for key in merged:
            _siblings[key] = merged


def _path() -> tuple[Path | None, bool]:
    """The file, and whether it was named."""
    named = os.environ.get("TRACEMILL_SECRETS", "").strip()
    if named:
        return Path(named).expanduser(), True
    return _of_warehouse(os.environ.get("TRACEMILL_WAREHOUSE")), False


@lru_cache(maxsize=8)
def _of_warehouse(_: str | None) -> Path | None:
    try:
        return Settings.find().warehouse / FILE
    except (TracemillError, ValueError):
        return None


def _in_file() -> Mapping[str, tuple[str, ...]]:
    global _read
    now = time.monotonic()
    if now >= _read.look_at:
        path, named = _path()
        seen = _looked_at(path, named=named) if path else _Read()
        _read = seen._replace(look_at=now + LOOK_S)
    return _read.keys


def _looked_at(path: Path, *, named: bool) -> _Read:
    try:
        found = os.stat(path)
        state = (found.st_ino, found.st_mtime_ns, found.st_mode)
        if (path, state) == _read[:2]:
            return _read
        _check(path, found)
        return _Read(path, state, _parsed(path))
    except FileNotFoundError:
        if not named:
            return _Read(path)
        raise CallFailed(
            "missing_key",
            f"TRACEMILL_SECRETS names {path}, which is not there: make it, or unset it",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CallFailed("missing_key", f"{path} cannot be read: {why}") from None


def _check(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise CallFailed("missing_key", f"{path} is not a file: keys are read from a file alone")
    if found.st_uid != os.geteuid():
        raise CallFailed(
            "missing_key", f"{path} belongs to somebody else: run `chown $USER {path}`"
        )
    if found.st_mode & 0o077:
        raise CallFailed(
            "missing_key", f"{path} may be read by others: run `chmod 600 {path}` to use its keys"
        )


def _parsed(path: Path) -> dict[str, tuple[str, ...]]:
    """Lines of NAME=value; several values have commas between them, or a line each."""
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            # Without the line: it may be a key.
            raise CallFailed(
                "missing_key", f"{path}, line {number}: not NAME=value, as OPENAI_API_KEY=sk-..."
            )
        found[name] = found.get(name, ()) + _split(value.strip().strip("'\""))
    return found
