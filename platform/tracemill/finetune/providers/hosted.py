"""Trainers with an API: one flow for all of them, over pure modules that know what each calls things."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tracemill.llm.client import Client


class Wires(Protocol):
    """What a module offers."""


class Hosted:
    """A trainer behind an API."""

    def __init__(self, client: "Client", wires: Wires, prefix: str) -> None:
        self._client, self._wires, self._prefix = client, wires, prefix
