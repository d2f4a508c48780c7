"""Files that a request names by the id under which they were handed over: their bytes take its place.

Nobody reaches a file of somebody else by it: an id is looked up here, for the key that asks, and none
goes on to a provider.
"""

import base64
from mimetypes import guess_type

from tracemill.access.keys import Key
from tracemill.log import EventLog
from tracemill.messages import Attached, Part, Request
from tracemill.server import files
from tracemill.server.dialects.forms import attached
from tracemill.server.trouble import invalid
from tracemill.settings import Settings

MOST_BYTES = 50 * 1024 * 1024
"""Of one file: no provider takes more in a request."""


def named(request: Request) -> bool:
    """Whether it names a file by its id."""
    contents = (message.content for message in request.messages)
    return any(
        map(_name, (part for each in contents if not isinstance(each, str) for part in each))
    )


def filled(log: EventLog, settings: Settings, key: Key | None, request: Request) -> Request:
    """The request with every file that it names within it.

    Raises `Trouble`: 404 where there is none, or not of this key; 400 for one that is too large.
    """

    def fill(part: Part) -> Part:
        name = _name(part)
        return _read(log, settings, key, name) if name else part

    messages = tuple(
        message
        if isinstance(message.content, str)
        else message.model_copy(update={"content": tuple(map(fill, message.content))})
        for message in request.messages
    )
    return request.model_copy(update={"messages": messages})


def _name(part: Part) -> str | None:
    if isinstance(part, Attached) and part.uri.startswith(files.PREFIX):
        return part.uri
    return None


def _read(log: EventLog, settings: Settings, key: Key | None, name: str) -> Part:
    stored = files.find(log, settings, name, key)
    if stored.size_bytes > MOST_BYTES:
        raise invalid(
            f"{name} has {stored.size_bytes:,} bytes, and a request carries {MOST_BYTES:,} a file",
            "file_id",
        )
    data = base64.b64encode(files.bytes_of(settings, stored).read_bytes()).decode()
    kind = guess_type(stored.filename)[0] or "application/pdf"
    return attached(f"data:{kind};base64,{data}", kind, stored.filename)
