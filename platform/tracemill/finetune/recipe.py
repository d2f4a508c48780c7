"""What model is wanted of a data set: settings in YAML, checked before anything is sent.

One file for each model in raw/models, named after it; every field has a default.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tracemill.corpus.recipe import Name, Strict, read_recipe
from tracemill.errors import InputError
from tracemill.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
Method = Literal["auto", "classify", "lm", "supervised", "dpo"]
Trainer = Literal["local", "subprocess", "openai", "azure", "together", "fireworks"]


class Examples(Strict):
    """Which records of a split are learned from, and what of them."""

    origins: tuple[Name, ...] = ()
    """Only records of these sources; empty: of all."""
    target: Literal["answer", "label"] = "answer"
    """What is learned: the assistant's last turn, or the record's label in its place."""
    shown: Literal["conversation", "answer"] = "conversation"
    """With target `label`, what the label is of: what was asked, or the answer alone."""
    system: bool = True
    """Whether system messages are shown to the model."""
    instructions: str | None = None
    """A system message for every example; goes before those of the records."""
    min_per_label: Annotated[int, Field(ge=1)] = 1
    """With target `label`: rarer labels are left out."""


class Evaluated(Strict):
    """What a version has to show before it is promoted."""

    sets: tuple[Name, ...] = ()
    """Files in evals/, without `.jsonl`; empty: the split `test`, made into cases as the examples."""
    metric: Literal["accuracy", "bits_per_byte", "exact_match", "similarity"] | None = None
    """What decides; None: accuracy for a classifier, bits per byte for a language model, else
    similarity."""
    at_least: float | None = None
    """What it has to reach, for bits per byte what it must stay below; None: it must beat the
    majority's label, or the base model."""
    tolerance: Annotated[float, Field(ge=0)] = 0.02
    """How far it may fall behind the model in production."""
    max_cases: Annotated[int, Field(ge=1)] | None = 2_000
    """Of a larger set so many, chosen by hash; None: all."""


class FineTune(Strict):
    """A model that is wanted."""

    provider: Trainer = "local"
    base_model: str | None = None
    """In the provider's words; None: the provider's own default, where it has one."""
    method: Method = "auto"
    """`auto`: for a local model a classifier where there are few labels, else a language model;
    `supervised` elsewhere."""
    examples: Examples = Examples()
    train: Name = "train"
    """The split that is learned from."""
    validation: Name | None = "validation"
    """The split that the loss is watched on; None: none."""
    hyperparameters: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """In the provider's words."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    suffix: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")] | None = None
    """Becomes a part of the model's name at the provider; None: our name for it."""
    command: tuple[str, ...] = ()
    """For `subprocess`: the trainer's program and its arguments; `{folder}` is the job's folder."""
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    """When a job is given up; None: an hour for models that are trained here, else two days."""
    evaluation: Evaluated = Evaluated()
    promote: Literal["automatic", "manual"] = "automatic"
    """Whether a build promotes a version that has shown what it must."""

    @model_validator(mode="after")
    def _label_shown(self) -> "FineTune":
        if self.examples.shown == "answer" and self.examples.target != "label":
            raise ValueError("`shown: answer` goes with `target: label`: else it would be both")
        return self

    @model_validator(mode="after")
    def _command_given(self) -> "FineTune":
        if (self.provider == "subprocess") != bool(self.command):
            raise ValueError("`command` goes with `provider: subprocess`, and only with it")
        return self


BUILT_IN = "api-questions"
"""The model that is wanted where what is installed here is harvested: which package does this?"""
_OF_PACKAGES = FineTune(
    method="classify",
    # Questions name what they ask about, and the package with it: what it does is told in words.
    examples=Examples(origins=("installed",), target="label", shown="answer", min_per_label=50),
)


def recipes(settings: Settings) -> dict[str, FineTune]:
    """The models that are wanted: those with a file in raw/models, and the built-in one.

    A file of its name goes before the built-in. Raises `InputError` for a file that is no recipe, or
    whose name cannot be a model's.
    """
    found: dict[str, FineTune] = {}
    if settings.harvest_installed:
        found[BUILT_IN] = _OF_PACKAGES
    seen: dict[str, Path] = {}
    for path in sorted(settings.raw_models.glob("[!.]*")):
        name = path.stem
        if path.suffix not in (".yaml", ".yml"):
            raise InputError(f"{path} is no recipe of a model: its name has to end in .yaml")
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{path} cannot name a model: take letters, digits, `_`, `.` and `-`, up to 60"
            )
        if name in seen:
            raise InputError(f"{path} and {seen[name]} are of one model: keep one of them")
        found[name], seen[name] = finetune_recipe(path), path
    return found


def finetune_recipe(path: Path) -> FineTune:
    """The settings in a YAML file; the defaults when there is no such file.

    Raises `InputError`, with file, field and mend, when it is not YAML or not a recipe.
    """
    return read_recipe(path, FineTune)
