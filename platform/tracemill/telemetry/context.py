"""W3C trace context: which trace a request is part of, in and out.

Sources: w3.org/TR/trace-context (level 2), w3.org/TR/baggage.
"""

import re
import secrets
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE_KEY = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_MAX_STATES = 32
_MAX_STATE_CHARACTERS = 512
_MAX_BAGGAGE = 64
_MAX_BAGGAGE_CHARACTERS = 8192
_SAMPLED = 1


class Context(NamedTuple):
    """The place of a request in a trace."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits: of the caller's span, the parent of ours."""
    sampled: bool = True
    state: str = ""
    """`tracestate`, handed on as it came."""
    baggage: Mapping[str, str] = {}
    """What the caller wants to be known to all who take part."""

    def child(self) -> "Context":
        """The same trace, with a span of ours that others may hang theirs below."""
        return self._replace(span_id=secrets.token_hex(8))

    def headers(self) -> dict[str, str]:
        """`traceparent`, `tracestate` and `baggage` for a request to another service."""
        made = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"}
        if self.state:
            made["tracestate"] = self.state
        if self.baggage:
            pairs = (f"{name}={quote(value, safe='')}" for name, value in self.baggage.items())
            made["baggage"] = ",".join(pairs)
        return made


def new() -> Context:
    """A trace that begins here."""
    return Context(secrets.token_hex(16), secrets.token_hex(8))


def read(headers: Mapping[str, str]) -> Context | None:
    """The context that a request brings; None where it brings none, or one that is not as it must be.

    Args:
        headers: names in lower case.
    """
    found = _TRACEPARENT.fullmatch(headers.get("traceparent", "").strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    # Version ff is forbidden; 00 has no further fields, later ones may.
    if version == "ff" or (version == "00" and more):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return Context(
        trace_id,
        span_id,
        bool(int(flags, 16) & _SAMPLED),
        _state(headers.get("tracestate", "")),
        _baggage(headers.get("baggage", "")),
    )


def _state(given: str) -> str:
    """`tracestate`, where it is as it must be: else nothing of it is handed on."""
    members = [member.strip() for member in given.split(",") if member.strip()]
    keys = [member.partition("=")[0] for member in members]
    whole = all(_STATE_KEY.fullmatch(key) for key in keys) and len(set(keys)) == len(keys)
    if not whole or len(members) > _MAX_STATES or any("=" not in member for member in members):
        return ""
    made = ",".join(members)
    return made if len(made) <= _MAX_STATE_CHARACTERS and made.isprintable() else ""


def _baggage(given: str) -> dict[str, str]:
    if len(given) > _MAX_BAGGAGE_CHARACTERS:
        return {}
    made: dict[str, str] = {}
    for member in given.split(",")[:_MAX_BAGGAGE]:
        name, equals, value = member.partition(";")[0].partition("=")
        if equals and _TOKEN.fullmatch(name.strip()):
            made[name.strip()] = unquote(value.strip())
    return made
