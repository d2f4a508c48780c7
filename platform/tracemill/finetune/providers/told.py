"""What a trainer on this machine tells in its job's folder, read as if anybody could have written it.

A field of the wrong type is left out, a line that is not whole is read when it is.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any, cast, get_args

from tracemill.files import sha256_of
from tracemill.finetune.providers import Checkpoint, Events, Remote, RemoteState

STATE, EVENTS, CHECKPOINTS, ARTEFACT = "state.json", "events.jsonl", "checkpoints", "artefact"
OUTPUT = "output.log"
ENDED = ("succeeded", "failed", "cancelled")
ONE_BY_ONE = 100
"""Lines of events that are told one by one; of more, the first ones are told together."""
_CHUNK_BYTES = 1 << 20
_TAIL_BYTES = 2_000


def read_state(folder: Path, remote_id: str) -> Remote:
    """How far the trainer says it is; queued while it says nothing, unknown where it is odd."""
    try:
        told = _object((folder / STATE).read_bytes())
    except OSError:
        return Remote(remote_id, "queued", "queued")
    word = told.get("state")
    if not isinstance(word, str) or word not in get_args(RemoteState):
        return Remote(remote_id, "unknown", str(word)[:100])
    return Remote(
        remote_id,
        cast(RemoteState, word),
        word,
        step=whole(told.get("step")),
        total_steps=whole(told.get("total_steps")),
        epoch=number(told.get("epoch")),
        loss=number(told.get("loss")),
        metrics=numbers(told.get("metrics")),
        model=text(told.get("model")),
        model_digest=text(told.get("model_digest")),
        trained_tokens=whole(told.get("trained_tokens")),
        cost_usd=Decimal(0),
        size_bytes=whole(told.get("size_bytes")),
        error_message=text(told.get("error_message")),
        error_code=text(told.get("error_code")),
    )


def read_events(folder: Path, after: str | None) -> Events:
    """The next line of events behind the cursor, which counts bytes; far behind, many at once."""
    start = int(after) if after and after.isdecimal() else 0
    try:
        with (folder / EVENTS).open("rb") as file:
            file.seek(start)
            lines = file.read(_CHUNK_BYTES).splitlines(keepends=True)
    except OSError:
        return Events((), cursor=after)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    lines = lines[: max(1, len(lines) - ONE_BY_ONE)]
    said = [_object(line) for line in lines]
    messages = tuple(found for each in said if (found := text(each.get("message"))))
    steps = [each for each in said if whole(each.get("step")) is not None]
    last = steps[-1] if steps else _object(b"{}")
    return Events(
        messages,
        step=whole(last.get("step")),
        loss=number(last.get("loss")),
        metrics=numbers(last.get("metrics")),
        cursor=str(start + sum(map(len, lines))),
    )


def read_checkpoints(folder: Path) -> Sequence[Checkpoint]:
    """Those that are there with their description, by step."""
    found: list[Checkpoint] = []
    for path in (folder / CHECKPOINTS).glob("[!.]*.json"):
        told = _object(path.read_bytes() if path.with_suffix("").exists() else b"{}")
        if (step := whole(told.get("step"))) is not None:
            found.append(Checkpoint(path.stem, step, numbers(told.get("metrics"))))
    return sorted(found, key=lambda each: (each.step, each.checkpoint_id))


def artefact(folder: Path) -> tuple[str, int] | None:
    """A digest over the files of a model and how many bytes they have; None where there are none."""
    root = folder / ARTEFACT
    files = sorted(path for path in root.rglob("*") if path.is_file())
    if not files:
        return None
    named = [(path.relative_to(root).as_posix(), sha256_of(path)) for path in files]
    digest = hashlib.sha256(json.dumps(named).encode()).hexdigest()
    return digest, sum(path.stat().st_size for path in files)


def last_words(folder: Path) -> str:
    """The end of what the program printed."""
    try:
        with (folder / OUTPUT).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        told: Any = json.loads(data)
    except ValueError:
        return {}
    return cast("dict[str, Any]", told) if isinstance(told, dict) else {}


def whole(value: Any) -> int | None:
    """A count, where it is one."""
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return value if fits else None


def number(value: Any) -> float | None:
    """A number, where it is one and finite."""
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e300:
        return None
    return float(value) if isfinite(value) else None


def numbers(value: Any) -> dict[str, float]:
    """The numbers of an object."""
    if not isinstance(value, dict):
        return {}
    fields = cast("Mapping[str, Any]", value)
    return {name: found for name, each in fields.items() if (found := number(each)) is not None}


def text(value: Any) -> str | None:
    """A text that is not empty, where it is one."""
    return value if isinstance(value, str) and value else None
