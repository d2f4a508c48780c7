"""The providers of models, one module each, and what a module has to offer.

A provider is a function `reply(model, request) -> Reply`: values in, values out. It raises
`CallFailed` with an `error_type` and a sentence, and knows neither the log nor the prices. To add
one: write its module, put a line into `PROVIDERS`.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import NamedTuple

from tracemill.errors import CallFailed
from tracemill.messages import FinishReason, Request, Usage

PROVIDERS: Mapping[str, str] = {
    "local": "tracemill.llm.providers.local",
}
"""`gen_ai.provider.name` to module."""


class Reply(NamedTuple):
    """What a provider gives back."""

    text: str
    finish_reasons: tuple[FinishReason, ...]
    response_model: str
    """The model that answered, as the provider names it."""
    usage: Usage


def find(provider: str) -> Callable[[str, Request], Reply]:
    """The provider's `reply`; its module is loaded when it is first used.

    Raises `CallFailed` with the error type `unknown_provider`.
    """
    if provider not in PROVIDERS:
        known = ", ".join(sorted(PROVIDERS))
        raise CallFailed(
            "unknown_provider",
            f"there is no provider {provider!r}: a model is named as provider/model, "
            f"and the providers are {known}",
        )
    return import_module(PROVIDERS[provider]).reply
