"""Who is asked: a function of this process, or an HTTP endpoint; both give an `Answer`.

What goes wrong on the way is part of the answer, never an exception. Secrets come from the
environment, and what is shown has their names in their place.
"""

import asyncio
import inspect
import json
import os
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

from tracemill.errors import InputError, TracemillError, UsageError
from tracemill.quality.contracts.cases import Raw

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_LONGEST = 2_000


class Answer(NamedTuple):
    """What came back."""

    latency_ms: float
    status: int | None = None
    """Of HTTP; None for a function, and where nothing came back."""
    value: Any = None
    """What a function returned, or the JSON of a body."""
    text: str = ""
    """What is shown: the body, the value, or the error."""
    is_json: bool = True
    content_type: str = ""
    error: BaseException | None = None
    """What a function raised, or what kept an answer from coming."""


@dataclass(frozen=True)
class Endpoint:
    """An HTTP endpoint that takes JSON."""

    url: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """`${NAME}` stands for a variable of the environment, as in `Bearer ${API_TOKEN}`; its value is
    sent and never shown."""
    send: Literal["body", "query"] = "body"
    """Whether a value is sent as a JSON body, or an object's fields in the address."""
    timeout_s: float = 30
    transport: Any = None
    """Of httpx, for an application that runs in this process; None: the network."""

    def resolved(self) -> dict[str, str]:
        """The headers with their secrets. Raises `UsageError` where a variable is not set."""

        def secret(found: re.Match[str]) -> str:
            if found[1] not in os.environ:
                raise UsageError(f"{self.url} needs {found[1]}: set it in the environment")
            return os.environ[found[1]]

        return {name: _VARIABLE.sub(secret, text) for name, text in self.headers.items()}

    def secrets(self) -> list[tuple[str, str]]:
        """Value and name of each secret."""
        names = [name for text in self.headers.values() for name in _VARIABLE.findall(text)]
        return [(os.environ[name], f"${{{name}}}") for name in names if os.environ.get(name)]


class OfEndpoint:
    """Asks an endpoint; one connection for all cases."""

    def __init__(self, endpoint: Endpoint) -> None:
        import httpx

        self.endpoint, self.name = endpoint, f"{endpoint.method} {endpoint.url}"
        self._headers, self._secrets = endpoint.resolved(), endpoint.secrets()
        self._client = httpx.Client(
            timeout=endpoint.timeout_s, transport=endpoint.transport, follow_redirects=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def takes(self, sent: Any) -> bool:
        """Whether it can be sent at all."""
        if self.endpoint.send == "body":
            return True
        return isinstance(sent, dict) and all(map(_in_address, sent.values()))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]

    def ask(self, sent: Any) -> Answer:
        """Raises `InputError` where nobody listens."""
        import httpx

        begun = time.perf_counter()
        try:
            got = self._client.request(self.endpoint.method, self.endpoint.url, **self._wire(sent))
        except httpx.ConnectError as error:
            raise InputError(f"{self.name}: nobody answers there: {error}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = f"{type(error).__name__}: {error}"
            return Answer(_since(begun), text=self._clean(said), error=error)
        taken = _since(begun)
        try:
            value, is_json = json.loads(got.content), True
        except (ValueError, RecursionError):
            value, is_json = None, False
        kind = got.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Answer(taken, got.status_code, value, self._clean(got.text), is_json, kind)

    def reproduce(self, sent: Any) -> str:
        """A command that does it again; secrets stay variables of the shell."""
        parts = ["curl", "-sS", "-i", "-X", self.endpoint.method]
        for name, text in self.endpoint.headers.items():
            parts += ["-H", f"{name}: {text}"]
        shown = [f'"{part}"' if _VARIABLE.search(part) else shlex.quote(part) for part in parts]
        if self.endpoint.send == "query":
            pairs = [f"--data-urlencode {shlex.quote(f'{k}={_query(v)}')}" for k, v in sent.items()]
            return " ".join([*shown, "-G", *pairs, shlex.quote(self.endpoint.url)])
        body = _body(sent)
        if len(body) > _LONGEST or not body.isascii() or b"\0" in body:
            return f"send `problem.sent` of the report ({len(body):,} bytes)"
        data = ["-H", "content-type: application/json", "--data-binary", body.decode()]
        return " ".join([*shown, *map(shlex.quote, data), shlex.quote(self.endpoint.url)])

    def _wire(self, sent: Any) -> dict[str, Any]:
        if self.endpoint.send == "query":
            query = {name: _query(value) for name, value in sent.items()}
            return {"params": query, "headers": self._headers}
        headers = {"content-type": "application/json"} | self._headers
        return {"content": _body(sent), "headers": headers}

    def _clean(self, text: str) -> str:
        for value, name in self._secrets:
            text = text.replace(value, name)
        return text


class OfFunction:
    """Calls a function with one value, or an object's fields as its arguments."""

    def __init__(self, function: Callable[..., Any], *, spread: bool) -> None:
        self.name = getattr(function, "__qualname__", repr(function)[:80])
        self._function, self._spread = function, spread
        self._runner = asyncio.Runner()
        self._signature = inspect.signature(function)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def takes(self, sent: Any) -> bool:
        """Whether it can be passed at all."""
        return not isinstance(sent, Raw) and (not self._spread or isinstance(sent, dict))

    def ask(self, sent: Any) -> Answer:
        begun = time.perf_counter()
        value = json.loads(json.dumps(sent))
        try:
            got = self._called(value)
        except Exception as error:  # noqa: BLE001 (what it raises is what is asked)
            return Answer(_since(begun), text=f"{type(error).__name__}: {error}", error=error)
        taken = _since(begun)
        plain, is_json = _plain(got)
        return Answer(taken, value=plain, text=_shown(plain), is_json=is_json)

    def reproduce(self, sent: Any) -> str:
        """An expression that does it again."""
        if len(json.dumps(sent)) > _LONGEST:
            return "pass `problem.sent` of the report"
        return f"{self.name}({'**' * self._spread}{sent!r})"

    def _called(self, value: Any) -> Any:
        if self._spread:
            try:
                self._signature.bind(**value)
            except TypeError as error:
                raise _Refused(str(error)) from None
        got = self._function(**value) if self._spread else self._function(value)
        return self._runner.run(_awaited(got)) if inspect.isawaitable(got) else got


class _Refused(TracemillError):
    """A function has no such arguments: that is a refusal, where a TypeError within it is none."""


async def _awaited(value: Any) -> Any:
    return await value


def _plain(value: Any) -> tuple[Any, bool]:
    """As JSON has it."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    try:
        return json.loads(json.dumps(value, allow_nan=False)), True
    except (TypeError, ValueError, RecursionError):
        return value, False


def _shown(value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)


def _body(sent: Any) -> bytes:
    # Escapes only: half of a surrogate pair is JSON, but no UTF-8.
    return sent.body if isinstance(sent, Raw) else json.dumps(sent).encode()


def _in_address(value: Any) -> bool:
    if isinstance(value, str):
        return "\ud800" not in value and len(value) < _LONGEST
    return isinstance(value, bool | int | float)


def _query(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, str) else value


def _since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000
