"""tracemill: everything that happens is an event in one log; everything else is derived from it.

The map, from the top down; each layer imports only what stands below it:

    cli          the command line, thin          pytest_plugin   tests of what models answer
    analysis     what notebooks ask of a warehouse    operations    alerts, copies, forgetting a person
    quality      evaluations, baselines, contracts, snapshots
    retrieval    documents to an index; questions to answers that cite
    finetune     a split to a model, and which version of it is in production
    llm          calls to models, every one recorded       corpus   records to training splits, pure
    log          EventLog: append, read, sql, frame, fold, verify
    prices       a dated table of what tokens cost
    events       everything that can happen, one class each
    messages     what goes to a model and what comes back
    settings     where things are          files   whole or absent          pii   what must not be kept
    intervals    how sure a figure is      detection   what stands out from its past
    errors       every exception we raise

Names are loaded when they are first used, so that importing tracemill costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracemill.analysis.opened import open
    from tracemill.llm.client import Client
    from tracemill.log import EventLog
    from tracemill.messages import Message, Request, Response, Usage
    from tracemill.settings import Settings

_HOMES = {
    "Client": "tracemill.llm.client",
    "EventLog": "tracemill.log",
    "Message": "tracemill.messages",
    "Request": "tracemill.messages",
    "Response": "tracemill.messages",
    "Settings": "tracemill.settings",
    "Usage": "tracemill.messages",
    "open": "tracemill.analysis.opened",
}

__all__ = ["Client", "EventLog", "Message", "Request", "Response", "Settings", "Usage", "open"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tracemill' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
