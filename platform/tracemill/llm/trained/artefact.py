"""A trained model on the disk: a description in JSON and weights in safetensors, named by their bytes.

Nothing in it is code, so nothing that it holds can run. Whoever loads one names the digest, and
bytes that do not add up to it are refused.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tracemill.errors import InputError, UsageError
from tracemill.files import sync, write_atomically
from tracemill.messages import Json

if TYPE_CHECKING:
    from numpy.typing import NDArray

ABOUT, WEIGHTS = "model.json", "weights.safetensors"
FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{16}")


class Artefact(NamedTuple):
    """A trained model as it was loaded."""

    about: Json
    """What model.json says; `kind` tells who can use it."""
    weights: "Mapping[str, NDArray[Any]]"
    digest: str


def save(folder: Path, about: Json, weights: "Mapping[str, NDArray[Any]]") -> str:
    """Write an artefact and return its digest; the same content gives the same bytes.

    Args:
        folder: made where there is none; an artefact in it is replaced.
        about: JSON with at least `kind`, the name of the module that uses it.
    """
    from safetensors.numpy import save as as_bytes  # pyright: ignore[reportUnknownVariableType]

    described = json.dumps({**about, "format": FORMAT}, sort_keys=True, ensure_ascii=False)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / WEIGHTS, lambda aside: aside.write_bytes(as_bytes(dict(weights))))
    write_atomically(folder / ABOUT, lambda aside: aside.write_text(described, encoding="utf-8"))
    return digest_of(folder)


def digest_of(folder: Path) -> str:
    """16 hex digits of the SHA-256 of an artefact's bytes. Raises `InputError` for none."""
    return _digest(*_bytes(folder))


def size_bytes(folder: Path) -> int:
    """Of an artefact's files."""
    return sum((folder / name).stat().st_size for name in (ABOUT, WEIGHTS))


def folder_of(models: Path, name: str, digest: str) -> Path:
    """Where a version of a model lies. Raises `UsageError` for names that are none."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"a model's name has letters, digits, and `_.-` inside, at most 100: not {name[:120]!r}"
        )
    if not _DIGEST.fullmatch(digest):
        raise UsageError(f"a model's version is 16 hex digits, not {digest[:40]!r}")
    return models / name / digest


def publish(folder: Path, models: Path, name: str) -> str:
    """Copy the artefact in `folder` to where it is served from; returns its digest.

    It is there whole or not at all; what is there already stays. A folder that is there and was
    altered is replaced.
    """
    digest = digest_of(folder)
    target = folder_of(models, name, digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not _is_whole(target, digest):
        shutil.rmtree(target)
    if target.exists():
        return digest
    aside = target.with_name(f".{digest}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        aside.mkdir()
        for file in (WEIGHTS, ABOUT):
            shutil.copyfile(folder / file, aside / file)
            sync(aside / file)
        sync(aside)
        # Somebody else who publishes the same at the same time is right too.
        with suppress(FileExistsError, OSError):
            os.rename(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    sync(target.parent)
    if not _is_whole(target, digest):
        raise InputError(f"{target}: the model could not be copied there: is the disk full?")
    return digest


def load(folder: Path, digest: str | None = None) -> Artefact:
    """An artefact from its folder.

    Args:
        digest: that of the bytes; None where whatever lies there is wanted.

    Raises:
        InputError: there is none, its bytes are not those of the digest, or it is of another
            format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes  # pyright: ignore[reportUnknownVariableType]

    described, weights = _bytes(folder)
    found = _digest(described, weights)
    if digest is not None and found != digest:
        raise InputError(
            f"{folder}: this model was altered: its bytes have the digest {found}, not {digest}; "
            "delete the folder and train or publish it again"
        )
    try:
        about = cast(Json, json.loads(described))
        written = about["format"]
        held = from_bytes(weights)
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"{folder}: this is no trained model: {error}") from None
    if written != FORMAT:
        raise InputError(
            f"{folder}: the model is of format {written!r}, and this tracemill reads {FORMAT}: "
            "train it again"
        )
    return Artefact(about, held, found)


def _bytes(folder: Path) -> tuple[bytes, bytes]:
    try:
        return (folder / ABOUT).read_bytes(), (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise InputError(f"{folder}: there is no trained model here: {error.strerror}") from None


def _digest(described: bytes, weights: bytes) -> str:
    whole = hashlib.sha256(hashlib.sha256(described).digest() + hashlib.sha256(weights).digest())
    return whole.hexdigest()[:16]


def _is_whole(folder: Path, digest: str) -> bool:
    with suppress(InputError):
        return digest_of(folder) == digest
    return False
