"""Who may see the page. Without keys, whoever is on this machine; with keys, who has shown one that
may be used for `page`.

The cookie holds a random name of the session, never the key; sessions end with the server.
"""

import secrets
import time
from typing import NamedTuple

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from tracemill.access.keys import Key
from tracemill.errors import KeyRefused
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import check_origin

COOKIE = "tracemill_session"
LASTS_S = 12 * 3600
_MOST = 10_000


class _Session(NamedTuple):
    secret: str
    until: float


class Sessions:
    """Those of this server."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._open: dict[str, _Session] = {}

    def may_see(self, http: HttpRequest) -> bool:
        """Whether who asks may see the page: the key is checked anew each time, so that one that
        was revoked shows nothing more. Raises `Trouble` (403) for another site's page."""
        if not self._gateway.keys.any:
            check_origin(http)
            return True
        session = self._open.get(http.cookies.get(COOKIE, ""))
        if session is None or session.until < time.monotonic():
            return False
        return self._allowed(session.secret) is not None

    def begin(self, secret: str, response: HttpResponse, *, https: bool) -> bool:
        """Let in who shows a good key; False where it is none."""
        if self._allowed(secret) is None:
            return False
        now = time.monotonic()
        if len(self._open) >= _MOST:
            self._open = {name: one for name, one in self._open.items() if one.until > now}
        name = secrets.token_urlsafe(32)
        self._open[name] = _Session(secret, now + LASTS_S)
        response.set_cookie(
            COOKIE, name, max_age=LASTS_S, httponly=True, samesite="strict", secure=https
        )
        return True

    def end(self, http: HttpRequest, response: HttpResponse) -> None:
        """Forget who asks."""
        self._open.pop(http.cookies.get(COOKIE, ""), None)
        response.delete_cookie(COOKIE)

    def _allowed(self, secret: str) -> Key | None:
        try:
            key = self._gateway.keys.check(secret)
        except KeyRefused:
            return None
        return key if key.may(route="page") else None
