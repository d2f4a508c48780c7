"""A call that is handed over to be made later, as an item of a job: in whatever language it came."""

from collections.abc import Mapping
from typing import Any

from tracemill.jobs.files import Item
from tracemill.messages import Request
from tracemill.server import attached
from tracemill.server.gateway import Going
from tracemill.server.trouble import invalid

_SAYABLE = ("fallback", "cache", "cache_ttl_s", "timeout_s")


def item_of(going: Going, request: Request, tags: Mapping[str, str] | None = None) -> Item:
    """A request with these tags too, and what is said of its call; ids of a call are made with it.

    Raises `Trouble` (400) for one that names files: a job would hold each as often as it is named.
    """
    if attached.named(request):
        raise invalid(
            "what is made later carries its files within it, as data:...;base64, and names none",
            "file_id",
        )
    options: Any = {name: each for name, each in going.options.items() if name in _SAYABLE}
    if tags:
        request = request.model_copy(update={"metadata": {**request.metadata, **tags}})
    return Item(request, options)
