"""OpenAI's files: handed over as a form, listed, fetched, deleted."""

import asyncio
from datetime import UTC, datetime, timedelta

from starlette.responses import FileResponse
from starlette.responses import Response as HttpResponse

from tracemill.events import FileStored, new_id
from tracemill.messages import Json
from tracemill.server import files
from tracemill.server.dialects.openai import OPENAI
from tracemill.server.dialects.openai_pages import ordered, page
from tracemill.server.events import answer
from tracemill.server.files import Stored
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import MAX_FILE_BYTES, Incoming
from tracemill.server.multipart import Form, read_form
from tracemill.server.routes import Route
from tracemill.server.trouble import invalid

PURPOSES = ("fine-tune", "batch", "user_data", "evals", "assistants", "vision")
_LINES = ("fine-tune", "batch")
_EXPIRES_S = (3_600, 2_592_000)


async def create(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Take a file: it is on the disk when this is answered."""
    file_id = new_id()
    lies = await asyncio.to_thread(files.aside, gateway.settings, file_id)
    try:
        form = await read_form(asked, lies, MAX_FILE_BYTES)
        key_id = asked.key.key_id if asked.key else None
        event = _event(file_id, form, key_id, asked.request_id)
        made = await asyncio.to_thread(files.placed, gateway.log, gateway.settings, event)
    finally:
        lies.unlink(missing_ok=True)
    return answer(told(made))


def _event(file_id: str, form: Form, key_id: str | None, request_id: str) -> FileStored:
    if form.filename is None:
        raise invalid("file: there is none in the form", "file")
    purpose = form.fields.get("purpose", "")
    if purpose not in PURPOSES:
        known = ", ".join(PURPOSES)
        raise invalid(f"purpose: it is one of {known}, not {purpose[:40]!r}", "purpose")
    if purpose in _LINES and not form.size_bytes:
        raise invalid(f"file: it is empty, and {purpose} needs JSON lines", "file")
    return FileStored(
        file_id=file_id,
        filename=_plain(form.filename),
        purpose=purpose,
        size_bytes=form.size_bytes,
        sha256=form.sha256,
        key_id=key_id,
        expires_at=_expires(form.fields),
        correlation_id=request_id,
    )


def _plain(filename: str) -> str:
    """A name without folders and control characters, of bearable length."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter >= " ")[:200] or "file"


def _expires(fields: dict[str, str]) -> datetime | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    least, most = _EXPIRES_S
    if anchor not in {None, "created_at"}:
        raise invalid("expires_after.anchor: it is created_at", "expires_after.anchor")
    if not seconds or not seconds.isdecimal() or not least <= int(seconds[:10]) <= most:
        raise invalid(
            f"expires_after.seconds: it is a number from {least} to {most}", "expires_after.seconds"
        )
    return datetime.now(UTC) + timedelta(seconds=int(seconds))


async def listed(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """The files of the key."""
    found = await asyncio.to_thread(files.listed, gateway.log, gateway.settings, asked.key)
    if purpose := asked.query.get("purpose"):
        found = [each for each in found if each.purpose == purpose]
    found = ordered(found, asked)
    return answer(page(found, asked, lambda each: each.name, told, usual=10_000, most=10_000))


async def retrieve(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """What is known of a file."""
    return answer(told(await _found(gateway, asked)))


async def content(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """The bytes of a file."""
    found = await _found(gateway, asked)
    path = await asyncio.to_thread(files.bytes_of, gateway.settings, found)
    return FileResponse(path, media_type="application/octet-stream", filename=found.filename)


async def delete(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Delete a file."""
    found = await _found(gateway, asked)
    actor = asked.key.name if asked.key else None
    await asyncio.to_thread(files.delete, gateway.log, gateway.settings, found, actor)
    return answer({"id": found.name, "object": "file", "deleted": True})


async def _found(gateway: Gateway, asked: Incoming) -> Stored:
    return await asyncio.to_thread(
        files.find, gateway.log, gateway.settings, asked.path["file_id"], asked.key
    )


def told(stored: Stored) -> Json:
    """A file as clients have it."""
    return {
        "id": stored.name,
        "object": "file",
        "bytes": stored.size_bytes,
        "created_at": int(stored.created_at.timestamp()),
        "expires_at": int(stored.expires_at.timestamp()) if stored.expires_at else None,
        "filename": stored.filename,
        "purpose": stored.purpose,
        "status": "processed",
        "status_details": None,
    }


_ONE = "/v1/files/{file_id}"
ROUTES = (
    Route("POST", "/v1/files", create, OPENAI, "files", "Hand over a file, as a form."),
    Route("GET", "/v1/files", listed, OPENAI, "files", "The files of the key."),
    Route("GET", _ONE, retrieve, OPENAI, "files", "What is known of a file."),
    Route("GET", f"{_ONE}/content", content, OPENAI, "files", "The bytes of a file."),
    Route("DELETE", _ONE, delete, OPENAI, "files", "Delete a file."),
)
