"""What the batches of all providers have in common: how far one is, and what became of its calls.

The modules `*_batch.py` turn these values into the wire's and back, as pure as the chat adapters;
`llm/batches.py` is the flow.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from io import BytesIO
from typing import Any, Literal, NamedTuple, Protocol, cast

from tracemill.errors import CallFailed
from tracemill.llm.providers import Adapter, Provider, Reply, Wire
from tracemill.llm.providers.fields import decoded, malformed, obj, objects
from tracemill.messages import Json

State = Literal["created", "running", "cancelling", "ended", "failed", "unknown"]
"""`ended`: there are results, be it of some calls only; `failed`: there are none."""

_MODULES: Mapping[str, str] = {
    "openai_chat": "openai_batch",
    "openai_responses": "openai_batch",
    "anthropic": "anthropic_batch",
    "gemini": "gemini_batch",
}
"""Adapter to the module that knows its batches."""


class Limits(NamedTuple):
    """The most that one batch may hold."""

    calls: int
    size_bytes: int


class Progress(NamedTuple):
    """What a provider tells of a batch."""

    remote_id: str
    state: State
    raw_state: str
    """The provider's word."""
    counts: dict[str, int]
    """Calls by what became of them, in the provider's words."""
    error_message: str | None = None
    """Why it failed."""
    downloads: tuple[Wire, ...] = ()
    """What to fetch for the results, once there are any."""
    batch_id: str | None = None
    """Our id, where the provider keeps it."""
    created_at: datetime | None = None
    endpoint: str | None = None
    """Where its calls go, where the provider tells it."""


class Page(NamedTuple):
    """Some of the batches that a provider holds."""

    batches: tuple[Progress, ...]
    after: str | None
    """The cursor of the next page; None on the last."""


def page_of(body: Any, read: Callable[[Any], Progress]) -> Page:
    """A page in the form that OpenAI and Anthropic share: `data`, `has_more`, the last id."""
    page = obj(body)
    batches = tuple(read(batch) for batch in objects(page.get("data")))
    more = bool(batches) and page.get("has_more") is True
    return Page(batches, batches[-1].remote_id if more else None)


class Outcome(NamedTuple):
    """What became of one call, or a line that is no outcome."""

    custom_id: str | None
    """None where it cannot be told."""
    end: Reply | CallFailed
    raw: bytes
    """The provider's own words."""


class BatchAdapter(Protocol):
    """What a module offers; `upload` only where the calls go into a file."""

    LIMITS: Limits
    KEEPS_OUR_ID: bool
    """Whether `Progress.batch_id` says which batch of ours it is."""

    def item(self, custom_id: str, wire: Wire) -> bytes:
        """One call, from the request that would be sent for it alone."""
        ...

    def upload(self, batch_id: str, items: Sequence[bytes]) -> Wire:
        """The file of calls."""
        ...

    def read_upload(self, body: Any) -> str:
        """The file's id."""
        ...

    def create(
        self, batch_id: str, items: Sequence[bytes], sample: Wire, file_id: str | None
    ) -> Wire:
        """The request that makes the batch: to be sent once. `sample` is the wire of one call."""
        ...

    def read(self, body: Any) -> Progress:
        """What a provider says of a batch. Raises `CallFailed` (`malformed_response`)."""
        ...

    def get(self, remote_id: str) -> Wire:
        """Ask how far it is."""
        ...

    def cancel(self, remote_id: str) -> Wire:
        """Ask to stop it."""
        ...

    def listing(self, after: str | None) -> Wire:
        """Ask for the batches that there are."""
        ...

    def read_listing(self, body: Any) -> Page:
        """A page of them."""
        ...

    def outcomes(
        self, body: bytes, adapter: Adapter, provider: Provider, custom_ids: Sequence[str]
    ) -> Iterator[Outcome]:
        """The results in what was downloaded, in any order."""
        ...


def batch_adapter(prefix: str, provider: Provider) -> BatchAdapter:
    """The module that knows the provider's batches. Raises `CallFailed` where it has none."""
    if provider.adapter not in _MODULES:
        raise CallFailed(
            "invalid_request",
            f"{prefix} has no batches here: openai, openai-responses, anthropic and gemini have; "
            "`generate` answers one request at a time",
        )
    module = import_module(f"tracemill.llm.providers.{_MODULES[provider.adapter]}")
    return cast(BatchAdapter, module)


# Reading what may be anything


def name_of(value: Any) -> str:
    """The provider's id of a batch; empty where it is none that the log can hold."""
    return value if isinstance(value, str) and value.isprintable() and len(value) <= 200 else ""


def label(text: str) -> str:
    """What of a provider's word fits into a label of the log."""
    return "".join(letter for letter in text if letter.isprintable())[:200]


def counts(value: Any, names: Mapping[str, str] | None = None) -> dict[str, int]:
    """The whole numbers of an object, also those written as text; renamed where `names` says so."""
    found = obj(value).items()
    numbers = {name: int(n) for name, n in found if str(n).isdecimal() and len(str(n)) < 16}
    if names is None:
        return numbers
    return {ours: numbers[theirs] for theirs, ours in names.items() if theirs in numbers}


def moment(value: Any) -> datetime | None:
    """A time of RFC 3339; None where it is something else."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else None


def lines(body: bytes) -> Iterator[bytes]:
    """The lines of a JSONL text that are not blank. U+2028 within one is a letter like any other."""
    for line in BytesIO(body):
        if line.strip():
            yield line.strip()


def parsed(line: bytes) -> Json | None:
    """The JSON object in a line; None where there is none."""
    try:
        value = decoded(line)
    except ValueError:
        return None
    return cast(Json, value) if isinstance(value, dict) else None


def no_outcome(line: bytes) -> Outcome:
    """A line that says nothing of any call."""
    return Outcome(None, malformed("a line of the results is not a JSON object"), line)


def read_reply(body: Any, adapter: Adapter, provider: Provider) -> Reply | CallFailed:
    """The answer in a parsed JSON body, or the error that it is."""
    try:
        return adapter.read(body, provider)
    except CallFailed as error:
        return error
