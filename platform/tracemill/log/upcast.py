"""Old events stay readable for ever: one small step from each version of a kind to the next.

A step takes the payload of version n and returns that of n + 1. Nothing in the log is rewritten.
To change an event: raise its `schema_version`, add the step here, and keep an old log in
`tests/golden/` that must still read.
"""

from collections.abc import Callable, Mapping
from typing import Any

Payload = dict[str, Any]
Steps = Mapping[tuple[str, int], Callable[[Payload], Payload]]


def _text_to_content(payload: Payload) -> Payload:
    """Answers were text alone."""
    payload["content"] = payload.pop("text")
    return payload


def _seed_to_salt(payload: Payload) -> Payload:
    """Salts were whole numbers."""
    payload["salt"] = str(payload.pop("seed"))
    return payload


def _only_added(payload: Payload) -> Payload:
    """The new fields have defaults that say what was true before."""
    return payload


STEPS: Steps = {
    ("llm.call.started", 1): _only_added,
    ("llm.call.finished", 1): _text_to_content,
    ("llm.call.failed", 1): _only_added,
    ("dataset.built", 1): _seed_to_salt,
    ("rag.answered", 1): _only_added,
    ("embeddings.computed", 1): _only_added,
    ("index.built", 1): _only_added,
}
"""(kind, version that the step reads) to the step."""


def upcast(kind: str, version: int, payload: Payload, steps: Steps = STEPS) -> Payload:
    """Lift a payload of `version` through every later version that has a step."""
    while (kind, version) in steps:
        payload = steps[kind, version](payload)
        version += 1
    return payload
