"""How a source is read and a data set is made: settings in YAML, checked before anything runs.

One file for each source, beside it (`raw/records/support.yaml` for `support.jsonl` or `support/`),
and one for the data set (`raw/dataset.yaml`). Both may be missing: every field has a default.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tracemill.errors import InputError

Format = Literal["auto", "chat", "sharegpt", "alpaca", "pairs"]
Column = Literal[
    "messages", "tools", "system", "user_query", "assistant_response", "context",
    "timestamp", "conversation_id", "user_id", "label", "rating", "licence",
]  # fmt: skip
Share = Annotated[float, Field(ge=0, le=1)]
Model = TypeVar("Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """What is particular about one source."""

    format: Format = "auto"
    """How its rows are laid out; `auto` looks at the fields of each row."""
    columns: dict[Column, str] = {}
    """Our column -> the field of the file; a dotted path reaches into objects: `meta.user.id`."""
    licence: str | None = None
    """For every row that names none."""
    rules: dict[str, bool | float] = {}
    """Quality rule or set of rules -> on, off, or another threshold."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes; records in another language are dropped. Empty: all are welcome."""
    pii: Literal["redact", "pseudonym", "drop", "keep"] = "redact"
    """Placeholders, stable stand-ins, or no such record at all."""
    names: bool = False
    """Whether names of people count as personal data too; needs the extra `names`."""
    min_rating: float | None = None
    """Records that were rated lower are dropped."""


class Dedup(_Strict):
    """Which records count as the same."""

    fields: Literal["both", "prompt", "answer"] = "both"
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Least Jaccard similarity of word 5-grams."""
    policy: Literal["star", "component"] = "star"
    """`star`: each dropped record is that similar to the one that stays. `component`: to any."""
    semantic: Annotated[float, Field(gt=0, le=1)] | None = None
    """Least cosine similarity of offline embeddings that counts as well; None: not looked at."""


class Tokens(_Strict):
    """How long a record may be."""

    tokenizer: str = "default"
    """A name that `tracemill.corpus.tokens.TOKENIZERS` knows."""
    max_tokens: Annotated[int, Field(ge=16)] | None = None
    """None: no limit."""
    over: Literal["drop", "split"] = "drop"
    """A record beyond it is dropped, or cut between its turns into several."""


class Split(_Strict):
    """Which records train, validate and test."""

    ratios: dict[str, Share] = {"train": 0.9, "validation": 0.05, "test": 0.05}
    salt: str = "0"
    """Another salt is another, independent split."""
    by: tuple[Literal["duplicates", "conversation_id", "user_id", "source"], ...] = (
        "duplicates",
        "conversation_id",
    )
    """Records that share one of these are on the same side. `duplicates`: a near-equal question."""
    stratify: Literal["label", "origin"] | None = None

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Split":
        if abs(sum(self.ratios.values()) - 1) > 1e-9:
            raise ValueError(f"ratios sum to {sum(self.ratios.values()):g}, not to 1")
        return self


class Dataset(_Strict):
    """How the records of all sources become one data set."""

    name: str = "records"
    dedup: Dedup = Dedup()
    evaluations: dict[str, str] = {}
    """Name -> file of questions, relative to `raw/`, that training must not have seen."""
    tokens: Tokens = Tokens()
    split: Split = Split()
    formats: tuple[Literal["openai", "anthropic", "sharegpt", "hf"], ...] = ("openai",)
    """JSONL that is written beside the Parquet."""


def source_recipe(path: Path) -> Source:
    """The settings in a YAML file; the defaults when there is no such file.

    Raises `InputError`, with file, field and mend, when it is not YAML or not a recipe.
    """
    return _read(path, Source)


def dataset_recipe(path: Path) -> Dataset:
    """As `source_recipe`, for the whole data set."""
    return _read(path, Dataset)


def _read(path: Path, model: type[Model]) -> Model:
    import yaml

    if not path.is_file():
        return model()
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    try:
        return model.model_validate({} if fields is None else fields)
    except ValidationError as error:
        raise InputError(f"{path}: {'; '.join(map(_said, error.errors()))}") from None


def _said(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "the whole file"
    return f"{where}: {error['msg']}"
