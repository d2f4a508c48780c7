"""What proves a thought, as clients of another API carry it.

A signature of the API's own goes as it is. Another provider's is sealed together with whose it is,
so that a conversation that comes back through any SDK keeps each thought for whom it belongs to.
"""

import base64
import binascii

from pydantic import ValidationError
from pydantic_core import to_json

from tracemill.messages import Reasoning

_MARK = b"tracemill:"


def seal(thought: Reasoning, own: str) -> str:
    """The signature as a client of the provider `own` gets it: base64, or empty where there is none."""
    if thought.provider in {None, own} and thought.id is None:
        return thought.signature or ""
    told = thought.model_dump(include={"id", "signature", "redacted", "provider"})
    return base64.b64encode(_MARK + to_json(told)).decode()


def opened(content: str, signature: str | None, own: str) -> Reasoning:
    """The thought that a client of the provider `own` sends back."""
    if not signature:
        return Reasoning(content=content)
    try:
        # Google's SDK sends back the same bytes in letters that are safe in addresses.
        told = base64.b64decode(signature.replace("-", "+").replace("_", "/"), validate=True)
        if told.startswith(_MARK):
            sealed = Reasoning.model_validate_json(told.removeprefix(_MARK))
            return sealed.model_copy(update={"content": content})
    except (binascii.Error, ValidationError, ValueError):
        pass  # not ours
    return Reasoning(content=content, signature=signature, provider=own)
