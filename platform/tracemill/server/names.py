"""What clients may call a model, and what is meant: names of your own, and names without a provider.

`raw/gateway.yaml` gives a name its model, its fallbacks and its use of the response cache, so that
all of that changes without touching a client. It is read again when it has changed.
"""

import re
import threading
import time
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from tracemill.llm.options import Options
from tracemill.llm.providers import PROVIDERS
from tracemill.llm.trained import is_trained
from tracemill.operations.yaml_file import Duration, Strict, checked, loaded

_LOOK_S = 1.0
_MAKERS = (
    (re.compile(r"(gpt-|o\d|chatgpt-|text-embedding-|davinci|babbage|omni-|ft:gpt-)"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"(gemini-|gemma-|embedding-001)"), "gemini"),
    (re.compile(r"(command|c4ai-|embed-|rerank-)"), "cohere"),
)
"""Whose a model is, by how its name begins."""


class Target(NamedTuple):
    """What a name stands for."""

    model: str
    """Provider and model."""
    options: Options
    """What the file says of calls by this name."""


class Named(Strict):
    """A name of your own for a model."""

    model: str = Field(min_length=1, max_length=200)
    """Provider and model, as `openai/gpt-5.4-mini`."""
    fallback: tuple[str, ...] = ()
    """Models that are asked in turn where it has no answer."""
    cache: Literal["off", "read", "write", "both"] = "off"
    """Whether the response cache may answer, and keeps answers."""
    cache_ttl: Duration | None = None
    """How long it keeps them; a day where nothing is said."""
    timeout: Duration | None = None
    """How long the provider may be silent."""


class Gateway(Strict):
    """The whole file."""

    models: dict[str, Named] = Field(default_factory=dict)


class Names:
    """The names of `raw/gateway.yaml`, as it is now."""

    def __init__(self, path: Path) -> None:
        """Raises `InputError`, which names file, line and field, where the file cannot be read."""
        self._path = path
        self._lock = threading.Lock()
        self._looked = 0.0
        self._stamp: tuple[int, int] | None = None
        self.known: dict[str, Target] = {}
        """Names of your own."""
        self._refresh()

    def target(self, name: str, provider: str) -> Target:
        """What `name` stands for; `provider` is whose it is where nothing else tells.

        Raises `InputError` where the file has been changed to something that cannot be read.
        """
        found = self.all().get(name)
        return found or Target(_whole(name, provider), {})

    def all(self) -> dict[str, Target]:
        """The names of your own, as the file has them now. Raises as `target`."""
        if time.monotonic() - self._looked > _LOOK_S:
            self._refresh()
        return self.known

    def _refresh(self) -> None:
        with self._lock:
            self._looked = time.monotonic()
            try:
                status = self._path.stat()
                stamp = status.st_mtime_ns, status.st_size
            except FileNotFoundError:
                stamp = None
            if stamp == self._stamp:
                return
            fields, lines = loaded(self._path)
            file = checked(self._path, fields, Gateway, lines)
            self.known = {name: _target(named) for name, named in file.models.items()}
            # Only now: a file that cannot be read is told of at every request, until it is mended.
            self._stamp = stamp


def _target(named: Named) -> Target:
    options: Options = {"fallback": named.fallback, "cache": named.cache}
    if named.cache_ttl:
        options["cache_ttl_s"] = named.cache_ttl.total_seconds()
    if named.timeout:
        options["timeout_s"] = named.timeout.total_seconds()
    return Target(_whole(named.model, "openai"), options)


def _whole(name: str, provider: str) -> str:
    """Provider and model: `claude-sonnet-5-5` is Anthropic's, whoever's SDK asks for it."""
    if is_trained(name) or name.partition("/")[0] in PROVIDERS:
        return name
    maker = next((maker for form, maker in _MAKERS if form.match(name)), provider)
    return f"{maker}/{name}"
