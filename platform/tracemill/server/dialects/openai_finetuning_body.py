"""Requests for fine-tunes in OpenAI's form: which trainer, which method, in whose words."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from tracemill.events.finetunes import Setting
from tracemill.finetune.uploads import Wanted
from tracemill.server.dialects.forms import Form, Loose
from tracemill.server.trouble import Trouble, invalid

_WORDS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("local", "classify"): {
        "n_epochs": "epochs",
        "batch_size": "batch_size",
        # Of the usual rate, which is 1.
        "learning_rate_multiplier": "learning_rate",
    },
    ("local", "lm"): {"n_epochs": "passes"},
    ("fireworks", ""): {"n_epochs": "epochs", "batch_size": "batchSize"},
    ("together", ""): {"n_epochs": "n_epochs", "batch_size": "batch_size", "beta": "dpo_beta"},
}
"""OpenAI's hyperparameters by the trainer's names; a trainer that is not here has OpenAI's own."""
_OPENAI = frozenset({"n_epochs", "batch_size", "learning_rate_multiplier", "beta"})
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


class Hyperparameters(Form):
    """Those that are named; a trainer's own may be among them."""

    n_epochs: Annotated[int, Field(ge=1, le=1000)] | Literal["auto"] | None = None
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None

    def named(self) -> dict[str, Setting]:
        """What is not left to the trainer."""
        given = {name: value for name, value in self if value is not None and value != "auto"}
        for name, value in given.items():
            if not isinstance(value, bool | int | float | str):
                raise invalid(f"hyperparameters.{name}: it is a number or a word", name)
        return given


class Way(Loose):
    hyperparameters: Hyperparameters | None = None


class How(Loose):
    """How it is trained."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Way | None = None
    dpo: Way | None = None


class Body(Loose):
    """A request for a fine-tune."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    training_file: Annotated[str, Field(min_length=1, max_length=100)]
    validation_file: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    hyperparameters: Hyperparameters | None = None
    method: How | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    metadata: (
        Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16)] | None
    ) = None
    integrations: list[Any] | None = None


BODY: TypeAdapter[Body] = TypeAdapter(Body)


def wanted(body: Body, provider: str, base: str, key_id: str | None) -> Wanted:
    """What is asked of a trainer; of `local`, `base` is its method.

    Raises `Trouble` (400) for what no trainer here does.
    """
    if body.integrations:
        raise invalid("integrations: nobody is told elsewhere: leave it out", "integrations")
    kind = body.method.type if body.method else "supervised"
    if kind == "reinforcement" or (kind == "dpo" and provider == "local"):
        raise invalid(f"method.type: {provider} trains no {kind}: use supervised", "method.type")
    method: Any = base if provider == "local" else kind
    return Wanted(
        name=_name(body.suffix or base),
        provider=provider,
        base_model=base,
        method=method,
        hyperparameters=_translated(provider, base, hyperparameters(body)),
        seed=body.seed or 0,
        suffix=_suffix(body.suffix),
        metadata=body.metadata or {},
        key_id=key_id,
    )


def hyperparameters(body: Body) -> dict[str, Setting]:
    """Those that are named, in OpenAI's words, wherever they stand."""
    way = body.method and (body.method.dpo if body.method.type == "dpo" else body.method.supervised)
    given = (way and way.hyperparameters) or body.hyperparameters
    return given.named() if given else {}


def _translated(provider: str, base: str, given: dict[str, Setting]) -> dict[str, Setting]:
    words = _WORDS.get((provider, base if provider == "local" else ""))
    if words is None:
        words = {name: name for name in _OPENAI} if provider != "local" else {}
    made: dict[str, Setting] = {}
    for name, value in given.items():
        if name in _OPENAI and name not in words:
            where = f"hyperparameters.{name}"
            raise Trouble(
                400, "invalid_request", f"{where}: {provider}/{base} has none", param=where
            )
        made[words.get(name, name)] = value
    return made


def _name(given: str) -> str:
    """A name that a model can have here."""
    made = _NOT_IN_NAMES.sub("-", given).strip("-._")[:60].rstrip("-._")
    return made or "model"


def _suffix(given: str | None) -> str | None:
    made = re.sub(r"[^a-z0-9-]+", "-", (given or "").lower()).strip("-")[:40]
    return made or None
