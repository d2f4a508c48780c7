"""The response cache: an answer that was paid for once can be given again to the same request.

Whether a call reads or writes it is the caller's choice, never guessed. Its one idea: a cache that
fails is a miss, so no call is ever lost to it; a warning of the logger `tracemill.cache` says why.
"""

from typing import Protocol

from tracemill.llm.cache.answers import key, storable
from tracemill.llm.cache.file import FileCache
from tracemill.llm.cache.redis import RedisCache
from tracemill.messages import Response

__all__ = ["Cache", "FileCache", "RedisCache", "key", "storable"]


class Cache(Protocol):
    """What a cache offers. `key` is of the function `key`, or any text without secrets."""

    def get(self, key: str) -> Response | None:
        """The answer, as it was put; None where there is none that can still be used."""
        ...

    def put(self, key: str, response: Response, ttl_s: float) -> None:
        """Keep an answer for so many seconds, if it is `storable`."""
        ...

    def lead(self, key: str, lease_s: float) -> str | None:
        """Ask to be the one who makes the call, across threads and processes.

        Args:
            lease_s: how long others wait for you, in seconds; longer than the call can take.

        Returns a token for `release`: make the call, put the answer, release. None: someone else
        is making it, or the answer has just come; ask `get` and `lead` again a moment later.
        """
        ...

    def release(self, key: str, token: str) -> None:
        """Let others lead; a lease that has expired and become another's is left alone."""
        ...

    def close(self) -> None:
        """Let go of files and connections; the next use opens them again."""
        ...
