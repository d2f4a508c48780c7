"""What other tools kept of calls, read out of their exports and databases: a module for each tool.

Each turns sources into items (`load.Item`): calls and judgements, or the reason why a row is none. What
is done with these is the same for all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tracemill.errors import UsageError
from tracemill.telemetry.importers import databases, langfuse, litellm, llm_tool, phoenix
from tracemill.telemetry.importers.load import Imported, Item, load

__all__ = ["TOOLS", "Imported", "Tool", "items", "load"]


class Tool(NamedTuple):
    """A tool whose calls can be imported."""

    items: Callable[[Sequence[str]], Iterator[Item]]
    takes: str
    """What may be named as a source, in words."""


TOOLS: Mapping[str, Tool] = {
    "langfuse": Tool(
        langfuse.items, "exports of traces, observations and scores: JSON, JSONL, CSV, Parquet"
    ),
    "phoenix": Tool(phoenix.items, "spans as JSON, JSONL or Parquet; phoenix.db; postgresql://..."),
    "llm": Tool(llm_tool.items, "logs.db, as `llm logs path` says"),
    "litellm": Tool(litellm.items, "LiteLLM_SpendLogs as JSON, JSONL or CSV; postgresql://..."),
}
"""Tools by the name that the command line has for them."""


def items(tool: str, sources: Sequence[str]) -> Iterator[Item]:
    """What the sources hold. Raises `UsageError`: nobody knows the tool, or there is no source."""
    if tool not in TOOLS:
        raise UsageError(f"{tool} cannot be imported: {', '.join(TOOLS)} can")
    if not sources:
        raise UsageError(f"name what to import: {TOOLS[tool].takes}")
    return TOOLS[tool].items(sources)


shown = databases.shown
"""A source as it may be told: without the password in an address."""
