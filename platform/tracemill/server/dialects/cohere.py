"""How Cohere's clients want to be spoken to, whatever they ask for."""

from collections.abc import Mapping
from typing import Any

from tracemill.server.routes import Dialect
from tracemill.server.trouble import Trouble


def error(trouble: Trouble, request_id: str) -> Mapping[str, Any]:
    """The body of an error."""
    return {"id": request_id, "message": trouble.message}


COHERE = Dialect("cohere", "cohere", error, "x-debug-trace-id")
