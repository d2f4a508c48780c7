"""What was asked of a model beside the messages, by the names that tools have for it."""

from collections.abc import Mapping
from typing import Any

from tracemill.messages import Asked
from tracemill.telemetry.names import label

_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (0, 10**9),
    "max_output_tokens": (1, 10**12),
    "seed": (-(2**63), 2**63),
}
_WHOLE = {"top_k", "max_output_tokens", "seed"}
PARAMETERS: Mapping[str, str] = {
    **{name: name for name in _RANGES},
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "maxOutputTokens": "max_output_tokens",
    "num_predict": "max_output_tokens",
    "topP": "top_p",
    "topK": "top_k",
    "stop": "stop",
    "stop_sequences": "stop",
    "reasoning_effort": "reasoning_effort",
    "tool_choice": "tool_choice",
}
"""Names that tools have for parameters, to those of `Asked`."""
_EFFORTS = {"none", "minimal", "low", "medium", "high", "xhigh"}


def parameters(told: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `Asked`; what does not fit into one goes to `extra`, as it was told."""
    fields: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in told.items():
        known = PARAMETERS.get(name)
        fits = None if known is None or value is None else _fitting(known, value)
        if fits is not None and known is not None:
            fields[known] = fits
        elif value is not None and (known or name not in Asked.model_fields):
            extra[name] = value
    return {**fields, "extra": extra} if extra else fields


def _fitting(name: str, value: Any) -> Any:
    """The value as the field takes it; None where it cannot."""
    if name in _RANGES:
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        low, high = _RANGES[name]
        if not low <= number <= high or (name in _WHOLE and number != int(number)):
            return None
        return int(value) if name in _WHOLE else number
    if name == "stop":
        texts = [value] if isinstance(value, str) else value
        whole = isinstance(texts, list | tuple) and all(isinstance(each, str) for each in texts)  # pyright: ignore[reportUnknownVariableType]
        return tuple(texts) if whole else None  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if name == "reasoning_effort":
        return value if value in _EFFORTS else None
    return label(value) if isinstance(value, str) else None
