"""What a route is: a path, who may ask it, what it takes, who answers; and a dialect's manners."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from tracemill.server.trouble import Trouble

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from tracemill.server.gateway import Gateway
    from tracemill.server.incoming import Incoming


class Dialect(NamedTuple):
    """How the clients of one API want to be spoken to."""

    name: str
    provider: str
    """Whose model a name without a provider is: the first part of a model's name."""
    error: Callable[[Trouble, str], Mapping[str, Any]]
    """The body of an error, with the id of the request."""
    request_id: str = "x-request-id"
    """The header in which its SDKs look for the id of the request."""


Handler = Callable[["Gateway", "Incoming"], Awaitable[HttpResponse]]


class Route(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    handler: Handler
    dialect: Dialect
    scope: str
    """What a key must be allowed: `chat`, `embeddings`, `files` ...; empty where none is needed."""
    summary: str
    """For the OpenAPI document: a sentence."""
    body: "TypeAdapter[Any] | None" = None
    """The form of the body."""
    streams: bool = False
    """Whether it may answer with events."""
    spoken: Callable[[HttpRequest], Dialect] | None = None
    """Whose client asks, where the path is the same for several."""

    @property
    def shown(self) -> str:
        """The path as people write it: `/v1/models/{model}`."""
        return self.path.replace(":path}", "}")
