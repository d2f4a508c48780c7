"""A request as handlers see it: who asks, with what body, under which ids. Bodies are bounded in size
and time, so that nobody holds memory or a connection by sending slowly.
"""

import asyncio
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from pydantic import TypeAdapter
from pydantic_core import from_json
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest

from tracemill.server.trouble import Trouble, invalid
from tracemill.telemetry import context

if TYPE_CHECKING:
    from tracemill.access.keys import Key

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Of JSON: more than any provider takes."""
MAX_FILE_BYTES = 512 * 1024 * 1024
BODY_S = 30.0
"""How long a body of JSON may take to arrive."""
_NAME = re.compile(r"[\x20-\x7e]{1,200}")
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
T = TypeVar("T")


@dataclass(frozen=True)
class Incoming:
    """One request to the server."""

    http: HttpRequest
    request_id: str
    key: "Key | None"
    """None where the server runs without keys."""

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case; of those that come twice the first."""
        # Starlette's look through all of them each time.
        return dict(reversed(self.http.headers.items()))

    @property
    def path(self) -> Mapping[str, str]:
        """The variable parts of the path."""
        return self.http.path_params

    @property
    def query(self) -> Mapping[str, str]:
        """What stands behind the question mark."""
        return self.http.query_params

    async def body(self, most: int = MAX_BODY_BYTES) -> bytes:
        """The bytes of the body. Raises `Trouble`: it is too large, or too slow."""
        told = self.headers.get("content-length", "")
        if told.isdecimal() and int(told) > most:
            raise _too_large(most)
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_S):
                async for piece in self.http.stream():
                    size += len(piece)
                    if size > most:
                        raise _too_large(most)
                    pieces.append(piece)
        except TimeoutError:
            raise Trouble(
                408, "timeout", f"the body did not arrive within {BODY_S:.0f} s", retry=True
            ) from None
        except ClientDisconnect:
            raise Trouble(499, "interrupted", "the caller went away") from None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self, form: TypeAdapter[T]) -> T:
        """The body as this form. Raises `ValidationError`, `Trouble`."""
        return form.validate_json(await self.body() or b"null")

    async def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises `Trouble`."""
        try:
            read = from_json(await self.body() or b"null")
        except ValueError as error:
            raise invalid(f"the body is not JSON: {error}") from None
        if not isinstance(read, dict):
            raise invalid("the body is not a JSON object")
        return cast("dict[str, Any]", read)

    @cached_property
    def trace_id(self) -> str | None:
        """Of the W3C trace that the request is part of."""
        given = context.read(self.headers)
        return given.trace_id if given else None

    def label(self, header: str) -> str | None:
        """The text of a header of ours. Raises `Trouble` where it cannot be a label."""
        given = self.headers.get(header)
        if given is None or not given.strip():
            return None
        if not _NAME.fullmatch(given):
            raise invalid(f"the header {header} takes up to 200 plain letters", header)
        return given.strip()

    @cached_property
    def tags(self) -> dict[str, str]:
        """Those of the header `x-tracemill-tags`, as `feature=search, team=core`, and of the key."""
        made: dict[str, str] = {}
        for item in filter(str.strip, (self.label("x-tracemill-tags") or "").split(",")):
            name, equals, value = item.partition("=")
            if not equals or not name.strip():
                raise invalid("x-tracemill-tags is written as name=value, name=value")
            made[name.strip()] = value.strip()
        return {**made, **(self.key.tags if self.key else {})}


def request_id(http: HttpRequest, made: str) -> str:
    """The caller's own id of the request, where it is one; else this one."""
    given = http.headers.get("x-request-id", "")
    return given if _ID.fullmatch(given) else made


def secret_of(http: HttpRequest) -> str | None:
    """The key that a request carries, wherever its SDK puts it; None where there is none."""
    authorization = http.headers.get("authorization", "")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for name in ("x-api-key", "x-goog-api-key", "api-key"):
        if given := http.headers.get(name, "").strip():
            return given
    return http.query_params.get("key") or None


def check_origin(http: HttpRequest) -> None:
    """Without keys whoever is on this machine may ask, and a page that its browser shows is not who:
    neither by a name that it made point here, nor from another origin. Raises `Trouble` (403)."""
    host = http.headers.get("host", "")
    name = urlsplit(f"//{host}").hostname or ""
    if not is_loopback(name):
        raise Trouble(
            403, "permission_denied", f"without keys only localhost is served, not {name}"
        )
    origin = http.headers.get("origin")
    if origin and urlsplit(origin).netloc != host:
        raise Trouble(403, "permission_denied", "without keys no other site may ask")


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _too_large(most: int) -> Trouble:
    return Trouble(
        413, "request_too_large", f"the body is larger than {most // 1024**2} MiB: send less"
    )
