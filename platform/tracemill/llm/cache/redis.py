"""The response cache in Redis, for several machines. The package `redis` is an extra.

Redis itself sees to the size: set its `maxmemory`, and `maxmemory-policy` to `volatile-lru`.
Values are JSON; what expires does so by the server's clock.
"""

import logging
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tracemill.errors import UsageError
from tracemill.llm.cache.answers import read_back, written
from tracemill.messages import Response

if TYPE_CHECKING:
    from redis import Redis

_TIMEOUT_S = 2.0
_PAUSE_S = 5.0  # a server that is away is not asked again for so long
_LEAD = """if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
return redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0"""
_DELETE_IF = """if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0"""

_logger = logging.getLogger("tracemill.cache")
_T = TypeVar("_T")


class RedisCache:
    """The cache in the Redis at `url`. Threads and forks may share it."""

    def __init__(self, url: str) -> None:
        """`url` is such as `redis://host:6379/0`, `rediss://...` or `unix:///path`.

        Raises `UsageError` when the package is missing or the URL is none.
        """
        self._redis: Any = _connected(url)  # its own types are partly unknown
        self._away_until = 0.0

    def get(self, key: str) -> Response | None:
        """As of `Cache`."""
        # As bytes, also where the URL says `decode_responses`: a foreign value may be no text.
        ask = ("GET", _entry(key))
        value: object = self._do(lambda: self._redis.execute_command(*ask, NEVER_DECODE=[]), None)
        if not isinstance(value, bytes):
            return None
        response = read_back(value)
        if response is None:
            self._do(lambda: self._redis.eval(_DELETE_IF, 1, _entry(key), value), None)
        return response

    def put(self, key: str, response: Response, ttl_s: float) -> None:
        """As of `Cache`."""
        value = written(response)
        if value is not None and ttl_s > 0:
            self._do(lambda: self._redis.set(_entry(key), value, px=_ms(ttl_s)), None)

    def lead(self, key: str, lease_s: float) -> str | None:
        """As of `Cache`."""
        token = secrets.token_hex(8)
        asked = (_LEAD, 2, _entry(key), _lease(key), token, _ms(lease_s))
        return token if self._do(lambda: self._redis.eval(*asked), 1) else None

    def release(self, key: str, token: str) -> None:
        """As of `Cache`."""
        self._do(lambda: self._redis.eval(_DELETE_IF, 1, _lease(key), token), None)

    def close(self) -> None:
        """As of `Cache`."""
        self._redis.close()

    def _do(self, work: Callable[[], _T], otherwise: _T) -> _T:
        from redis.exceptions import RedisError, ResponseError

        if time.monotonic() < self._away_until:
            return otherwise
        try:
            return work()
        except (RedisError, OSError) as error:
            if not isinstance(error, ResponseError):
                self._away_until = time.monotonic() + _PAUSE_S
            said = f"{type(error).__name__}: {error}"
            _logger.warning("the response cache in Redis is not used: %s", said)
            return otherwise


def _connected(url: str) -> "Redis":
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise UsageError(
            "the response cache is to be in Redis, but the package `redis` is not installed: "
            "pip install 'tracemill[redis]', or leave out the URL for a cache in a file"
        ) from error
    try:
        return redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            url,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise UsageError(
            f"the URL of the response cache is none that Redis knows: {error}"
        ) from error


def _entry(key: str) -> str:
    # The braces keep a cluster from parting the two names of a key.
    return f"tracemill:{{{key}}}:response"


def _lease(key: str) -> str:
    return f"tracemill:{{{key}}}:lease"


def _ms(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
