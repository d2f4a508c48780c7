"""`tracemill serve`: the application on uvicorn, opened and closed in the right order.

Why uvicorn: it is what Starlette is tested with, and in one process it serves as many requests as
granian here (docs/server.md has the figures) with one process less.
"""

import gc
import os
import signal
import socket
from collections.abc import Callable
from contextlib import closing

from pydantic import SecretStr

from tracemill.access.admin import NAME as ADMIN_KEY
from tracemill.errors import UsageError
from tracemill.llm.client import Client
from tracemill.log import EventLog
from tracemill.server.incoming import is_loopback
from tracemill.settings import Settings

_BACKLOG = 2048
DRAIN_S = 30
"""How long answers that are being written may take once the server was asked to stop."""


def serve(
    settings: Settings,
    host: str,
    port: int,
    *,
    workers: int = 0,
    ready: Callable[[str, bool], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; answers that are being written are finished first.

    Args:
        port: 0 takes a free one.
        workers: processes that do the requests of jobs, as long as there are any.
        ready: told the address, and whether keys are needed, once requests are taken.

    Raises `UsageError`: the port is taken, the key in `TRACEMILL_ADMIN_KEY` is weak, or without a key others than this machine would be served.
    """
    try:
        import uvicorn
    except ImportError:
        raise UsageError("the server needs more: pip install 'tracemill[server]'") from None

    from tracemill.server.app import create
    from tracemill.server.gateway import Gateway
    from tracemill.server.protocol import Limited

    with closing(EventLog.open(settings)) as log:
        gateway = Gateway(settings, log, Client(log, settings), admin=_admin())
        _check_place(host, has_keys=gateway.keys.any)
        with _bound(host, port) as listening:
            place = _address(host, listening.getsockname()[1])

            def began() -> None:
                _keep_what_is_loaded()
                if ready:
                    ready(place, gateway.keys.any)

            config = uvicorn.Config(
                create(gateway, began, workers=workers),
                http=Limited,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=DRAIN_S,
                backlog=_BACKLOG,
            )
            # uvicorn raises the signal again once it is done: to have stopped when asked is no failure.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, _noted)
            uvicorn.Server(config).run(sockets=[listening])


def _keep_what_is_loaded() -> None:
    """What is loaded by now stays for good: to look through it for garbage again and again takes a
    quarter of the time of all requests, and a tenth of a second each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _noted(_number: int, _frame: object) -> None:
    """Nothing is left to do."""


def _admin() -> SecretStr | None:
    given = os.environ.get(ADMIN_KEY, "").strip()
    return SecretStr(given) if given else None


def _check_place(host: str, *, has_keys: bool) -> None:
    if has_keys or is_loopback(host):
        return
    raise UsageError(
        f"there is no key yet, so only this machine may be served, not {host}: "
        "run `tracemill keys create NAME` first, or leave out --host"
    )


def _bound(host: str, port: int) -> socket.socket:
    """A socket that takes connections there."""
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror:
        raise UsageError(f"--host {host}: this name is not known here") from None
    made = socket.socket(info[0], info[1], info[2])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(info[4])
        # From here on whoever connects is kept waiting, not refused.
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise UsageError(
            f"{host}:{port} cannot be served: {error.strerror}; --port takes another, 0 a free one"
        ) from None
    return made


def _address(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
