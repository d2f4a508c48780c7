"""Recorded traffic of real providers, with what the official SDKs decode it to.

The recordings lie beside the repository (`../shared/data`, or where `TRACEMILL_TEST_DATA` says) and
are no part of it: tests that need them are skipped, with this reason, where they are absent.
"""

import gzip
import json
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from tracemill.llm.providers import Fold, Provider, Reply
from tracemill.llm.sse import Decoder
from tracemill.messages import Delta

F = TypeVar("F", bound=Fold)

DATA = Path(os.environ.get("TRACEMILL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
CASSETTES = DATA / "cassettes"

needs_recordings = pytest.mark.skipif(
    not CASSETTES.is_dir(), reason=f"no recorded provider traffic in {CASSETTES}"
)
needs_specs = pytest.mark.skipif(
    not (DATA / "specs").is_dir(), reason=f"no published request schemas in {DATA / 'specs'}"
)


class Recorded(NamedTuple):
    """One exchange, and what the SDK made of its response."""

    file: str
    provider: str
    endpoint: str
    tags: tuple[str, ...]
    request: dict[str, Any]
    status: int
    headers: dict[str, str]
    body: bytes
    expected: dict[str, Any] | None

    @property
    def is_stream(self) -> bool:
        return "event-stream" in self.headers.get("content-type", "") or (
            "stream" in self.tags and self.body.lstrip().startswith((b"data:", b"event:"))
        )


@cache
def _expected() -> dict[str, dict[str, Any]]:
    with gzip.open(CASSETTES / "expected.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {row["file"]: row["expected"] for row in map(json.loads, lines)}


def recordings(providers: str, *endpoints: str) -> list[Recorded]:
    """The recordings of the files that match a pattern, such as `compat-*`; all endpoints if none
    is named. Empty where there are none."""
    return [r for r in _read(providers) if not endpoints or r.endpoint in endpoints]


@cache
def _read(providers: str) -> tuple[Recorded, ...]:
    return tuple(_lines(providers)) if CASSETTES.is_dir() else ()


def _lines(providers: str) -> Iterator[Recorded]:
    for path in sorted(CASSETTES.glob(f"{providers}.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                response = row["recording"]["response"]
                body = response["text"] if "text" in response else json.dumps(response["json"])
                yield Recorded(
                    file=row["file"],
                    provider=row["provider"],
                    endpoint=row["endpoint"],
                    tags=tuple(row["tags"]),
                    request=row["recording"]["request"],
                    status=response["status"],
                    headers={k.lower(): str(v) for k, v in response["headers"].items()},
                    body=body.encode(),
                    expected=_expected().get(row["file"]),
                )


def name(recorded: Recorded) -> str:
    """A recording's name, as the id of a test."""
    return recorded.file


def fed(fold: F, chunks: Iterable[bytes]) -> tuple[F, list[Delta]]:
    """A stream that was read to its end, and the pieces that it gave."""
    decoder = Decoder()
    deltas = [d for chunk in chunks for event in decoder.feed(chunk) for d in fold.feed(event)]
    deltas += [d for event in decoder.close() for d in fold.feed(event)]
    return fold, deltas


def answered(adapter: Any, provider: Provider, recorded: Recorded) -> Reply:
    """What an adapter makes of a recorded answer, streamed or not."""
    if recorded.is_stream:
        fold, _ = fed(adapter.fold(provider), [recorded.body])
        assert fold.done
        return fold.reply()
    return adapter.read(json.loads(recorded.body), provider)
