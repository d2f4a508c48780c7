"""Pictures, documents and recordings as providers want them: of what kind, and in base64."""

import base64
from collections.abc import Mapping
from mimetypes import guess_type
from urllib.parse import unquote_to_bytes

from tracemill.messages import Attached, Image

RECORDINGS: Mapping[str, str] = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
"""Media types of sound, as OpenAI names them."""
_PICTURE, _DOCUMENT = "image/png", "application/pdf"


def kind_of(part: Attached) -> str:
    """The media type: as it is told, as the data says, as the address or the name ends; what says
    nothing of it is a PNG or a PDF."""
    head, comma, _ = part.uri.partition(",")
    if comma and head.startswith("data:"):
        told = head.removeprefix("data:").partition(";")[0]
        address = ""
    else:
        told, address = "", part.uri.partition("?")[0]
    name = None if isinstance(part, Image) else part.name
    guesses = (guess_type(each)[0] for each in (address, name) if each)
    usual = _PICTURE if isinstance(part, Image) else _DOCUMENT
    return part.mime_type or told or next(filter(None, guesses), usual)


def base64_of(part: Attached) -> str | None:
    """The bytes that a `data:` address carries; None where the part is somewhere else."""
    head, comma, data = part.uri.partition(",")
    if not comma or not head.startswith("data:"):
        return None
    if head.endswith(";base64"):
        return data
    return base64.b64encode(unquote_to_bytes(data)).decode()
