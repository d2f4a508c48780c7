"""Tokens as other tools count them, as the log does: the input includes what came from and went to the
provider's cache, the output includes the reasoning.

Some tools count so too (OpenTelemetry, OpenInference, LiteLLM), some keep buckets that do not overlap
(Langfuse). Mixing them up is how costs come out several times too high.
"""

from collections.abc import Mapping
from typing import Any

from tracemill.errors import InputError
from tracemill.messages import Usage


def count(value: Any, name: str = "a count of tokens") -> int:
    """A count, of a number or its text; nothing is 0. Raises `InputError`."""
    if value is None or value == "":
        return 0
    try:
        number = int(value) if type(value) is not str else int(float(value))
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} is no number: {str(value)[:60]!r}") from None
    if not 0 <= number <= 10**15:
        raise InputError(f"{name} cannot be {number}")
    return number


def inclusive(counts: Mapping[str, Any], raw: Mapping[str, Any], **more: Any) -> Usage:
    """Usage whose input includes the cache's tokens.

    Args:
        counts: by the names of `Usage`.
        raw: as the tool names them.
        more: further fields of `Usage`.
    """
    fields = {name: count(value, name) for name, value in counts.items()}
    cached = fields.get("cache_read_input_tokens", 0) + fields.get("cache_write_input_tokens", 0)
    if cached > fields.get("input_tokens", 0):
        # More from the cache than was read: the tool passed on the numbers of a provider that
        # counts them apart, as Anthropic does.
        fields["input_tokens"] = fields.get("input_tokens", 0) + cached
    return Usage(**fields, raw=dict(raw) or None, **more)


def disjoint(details: Mapping[str, Any]) -> Usage:
    """Usage of buckets that do not overlap, by Langfuse's names for them.

    Source: langfuse.com/docs/observability/features/token-and-cost-tracking: keys are free, and a
    cost is the sum over them; those with `input` or `output` in their name count towards these.
    """
    told = {name: count(value, name) for name, value in details.items() if name != "total"}
    read = {name: n for name, n in told.items() if _is_input(name)}
    written = {name: n for name, n in told.items() if name not in read}
    total = count(details.get("total"), "total")
    if total and not told:
        read = {"total": total}
    return Usage(
        input_tokens=sum(read.values()),
        output_tokens=sum(written.values()),
        cache_read_input_tokens=_sum(read, "cached", "cache_read"),
        cache_write_input_tokens=_sum(read, "cache_creation", "cache_write"),
        reasoning_output_tokens=_sum(written, "reasoning", "thoughts"),
        input_audio_tokens=_sum(read, "audio"),
        output_audio_tokens=_sum(written, "audio"),
        raw=dict(details) or None,
    )


def _is_input(name: str) -> bool:
    return "input" in name or "prompt" in name or name.startswith("cache")


def _sum(counts: Mapping[str, int], *words: str) -> int:
    return sum(n for name, n in counts.items() if any(word in name for word in words))
