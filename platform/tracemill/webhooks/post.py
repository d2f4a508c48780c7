"""POST to an address that somebody configured: to no place that it must not reach, in bounded time.

The name is looked up once, every address behind it is checked, and the connection goes to one of
those: a name that changes its mind between check and use changes nothing.
"""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple, Protocol
from urllib.parse import SplitResult, urlsplit

from tracemill.errors import NotDelivered

READ_BYTES = 4_096
_CONNECT_S = 5.0
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Allowed(Protocol):
    """What the address may be, and how long all of it may take."""

    @property
    def insecure(self) -> bool: ...
    @property
    def allow_private(self) -> bool: ...
    @property
    def timeout_s(self) -> float: ...


class Place(NamedTuple):
    """Where a request goes."""

    url: SplitResult
    host: str
    port: int
    addresses: tuple[Address, ...]


def post(url: str, body: bytes, allowed: Allowed, headers: Mapping[str, str]) -> None:
    """Send JSON; a 2xx answer is a success. Redirects are not followed, nor proxies used.

    Raises `NotDelivered`, without the address or what was answered.
    """
    deadline = time.monotonic() + allowed.timeout_s
    place = _checked(_read(url), allowed, deadline)
    status = _sent(place, body, headers, deadline, allowed.timeout_s)
    if 300 <= status < 400:
        raise NotDelivered(f"it answered {status}, a redirect, which is not followed")
    if not 200 <= status < 300:
        raise NotDelivered(f"it answered {status}")


def _read(url: str) -> tuple[SplitResult, str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise NotDelivered("the address cannot be read: write it as https://host/path") from None
    if parts.scheme not in ("http", "https") or not host:
        raise NotDelivered("the address is none: write it as https://host/path")
    if parts.username is not None or any(ord(each) < 33 or ord(each) > 126 for each in url):
        raise NotDelivered("the address holds a name and password, or characters that none has")
    return parts, host, port or _PORTS[parts.scheme]


def _checked(read: tuple[SplitResult, str, int], allowed: Allowed, deadline: float) -> Place:
    url, host, port = read
    addresses = _looked_up(host, port, deadline)
    for address in map(_plain, addresses):
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            raise NotDelivered("the address is link-local, multicast or none: no webhook is there")
        if not address.is_global and not allowed.allow_private:
            raise NotDelivered(
                "the address is of a private network: `allow_private: true` allows it"
            )
        if url.scheme == "http" and not address.is_loopback and not allowed.insecure:
            raise NotDelivered("the address is http://: take https://, or say `insecure: true`")
    return Place(url, host, port, addresses)


def _looked_up(host: str, port: int, deadline: float) -> tuple[Address, ...]:
    """Every address of a name. In a thread: the look-up itself knows no limit."""
    found: list[str] = []

    def look() -> None:
        with suppress(OSError, UnicodeError):
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(str(info[4][0]).partition("%")[0] for info in infos)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(max(0.0, deadline - time.monotonic()))
    if not found:
        raise NotDelivered("the name of the address is not known, or nobody told in time")
    return tuple(dict.fromkeys(map(ipaddress.ip_address, found)))


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


def _sent(
    place: Place, body: bytes, headers: Mapping[str, str], deadline: float, timeout_s: float
) -> int:
    late = NotDelivered(f"it did not answer within {timeout_s:g} s")
    try:
        with _connected(place, deadline) as connected:
            # Each wait has a limit of its own: whoever answers byte by byte is cut off by this.
            cut = threading.Timer(_left(deadline), _cut, [connected])
            cut.start()
            try:
                if isinstance(connected, ssl.SSLSocket):
                    connected.do_handshake()
                return _asked(connected, place, body, headers, deadline)
            finally:
                cut.cancel()
    except TimeoutError:
        raise late from None
    except (OSError, HTTPException) as error:
        if time.monotonic() >= deadline:
            raise late from None
        # Its words may quote what came.
        raise NotDelivered(f"the connection failed ({type(error).__name__})") from None


def _asked(
    connected: socket.socket,
    place: Place,
    body: bytes,
    headers: Mapping[str, str],
    deadline: float,
) -> int:
    """The status of the answer."""
    connection = HTTPConnection(place.host, place.port)
    connection.sock = connected
    connection.default_port = _PORTS[place.url.scheme]  # which is left out of the header `host`
    target = (place.url.path or "/") + (f"?{place.url.query}" if place.url.query else "")
    told = {"content-type": "application/json", "user-agent": "tracemill", **headers}
    connection.request("POST", target, body, told)
    with connection.getresponse() as answer:
        _left(deadline)  # headers that were cut off look like headers that ended
        # Who has said 200 has taken it, whatever comes of the rest.
        with suppress(OSError, HTTPException):
            answer.read(READ_BYTES)
        return answer.status


def _connected(place: Place, deadline: float) -> socket.socket:
    """A connection to the first of the checked addresses that takes one; for https before its
    handshake."""
    for number, address in enumerate(place.addresses):
        try:
            limit_s = min(_CONNECT_S, _left(deadline))
            plain = socket.create_connection((str(address), place.port), limit_s)
            break
        except OSError:
            if number == len(place.addresses) - 1:
                raise
    else:
        raise OSError("no address")
    plain.settimeout(_left(deadline))
    if place.url.scheme == "http":
        return plain
    return _tls().wrap_socket(plain, server_hostname=place.host, do_handshake_on_connect=False)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        # That of an SSLSocket would also take the encryption away from under who reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
