"""How a source is read and a data set is made: settings in YAML, checked before anything runs.

One file for each source, beside it (`raw/records/support.yaml` for `support.jsonl` or `support/`),
and one for the data set (`raw/dataset.yaml`). Both may be missing: every field has a default.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from tracemill.errors import InputError, TracemillError

Format = Literal["auto", "chat", "sharegpt", "alpaca", "pairs"]
Column = Literal[
    "messages", "tools", "system", "user_query", "assistant_response", "context",
    "timestamp", "conversation_id", "user_id", "label", "rating", "licence",
]  # fmt: skip
Name = Annotated[str, StringConstraints(pattern=r"^\w[\w .-]*$", max_length=100)]
"""What becomes the name of a file."""
Share = Annotated[float, Field(ge=0, le=1)]
Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _rules_known(rules: dict[str, bool | float]) -> dict[str, bool | float]:
    from tracemill.corpus.rules import chosen

    try:
        chosen(rules)
    except TracemillError as error:
        raise ValueError(str(error).removeprefix("rules: ")) from None
    return rules


def _languages_known(codes: tuple[str, ...]) -> tuple[str, ...]:
    from tracemill.corpus.languages import check

    try:
        check(codes)
    except TracemillError as error:
        raise ValueError(str(error).removeprefix("languages: ")) from None
    return codes


def _tokenizer_known(name: str) -> str:
    from tracemill.corpus.tokens import TOKENIZERS

    if name not in TOKENIZERS:
        raise ValueError(f"no tokenizer is called {name!r}: there are {', '.join(TOKENIZERS)}")
    return name


class Source(Strict):
    """What is particular about one source."""

    format: Format = "auto"
    """How its rows are laid out; `auto` looks at the fields of each row."""
    columns: dict[Column, str] = {}
    """Our column -> the field of the file; a dotted path reaches into objects: `meta.user.id`."""
    licence: str | None = None
    """For every row that names none."""
    rules: Annotated[dict[str, bool | float], AfterValidator(_rules_known)] = {}
    """Quality rule or set of rules -> on, off, or another threshold."""
    languages: Annotated[tuple[str, ...], AfterValidator(_languages_known)] = ()
    """ISO 639-1 codes; records in another language are dropped. Empty: all are welcome."""
    pii: Literal["redact", "pseudonym", "drop", "keep"] = "redact"
    """Placeholders, stable stand-ins, or no such record at all."""
    names: bool = False
    """Whether names of people count as personal data too; needs the extra `names`."""
    min_rating: float | None = None
    """Records that were rated lower are dropped."""


class Dedup(Strict):
    """Which records count as the same."""

    fields: Literal["both", "prompt", "answer"] = "both"
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Least Jaccard similarity of word 5-grams."""
    policy: Literal["star", "component"] = "star"
    """`star`: each dropped record is that similar to the one that stays. `component`: to any."""
    semantic: Annotated[float, Field(gt=0, le=1)] | None = None
    """Least cosine similarity of offline embeddings that counts as well; None: not looked at."""


class Tokens(Strict):
    """How long a record may be."""

    tokenizer: Annotated[str, AfterValidator(_tokenizer_known)] = "default"
    """A name that `tracemill.corpus.tokens.TOKENIZERS` knows."""
    max_tokens: Annotated[int, Field(ge=16)] | None = None
    """None: no limit."""
    over: Literal["drop", "split"] = "drop"
    """A record beyond it is dropped, or cut between its turns into several."""


class Split(Strict):
    """Which records train, validate and test."""

    ratios: dict[Name, Share] = {"train": 0.9, "validation": 0.05, "test": 0.05}
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


class Dataset(Strict):
    """How the records of all sources become one data set."""

    name: Name = "records"
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
    return read_recipe(path, Source)


def dataset_recipe(path: Path) -> Dataset:
    """As `source_recipe`, for the whole data set."""
    return read_recipe(path, Dataset)


def read_recipe(path: Path, model: type[Model]) -> Model:
    """The settings of any strict model in a YAML file; its defaults when there is no such file.

    Raises `InputError` as `source_recipe` does.
    """
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
        said = [_said(each, model) for each in error.errors()]
        raise InputError(f"{path}: {'; '.join(dict.fromkeys(said))}") from None


MENDS = {
    "tuple_type": "give a list, as [a, b]",
    "dict_type": "give names and values, as {a: b}",
    "model_type": "give names and values, as {a: b}",
    "string_type": "give a text; in quotes where it looks like a number or a yes or no",
    "string_pattern_mismatch": "it names a file: letters, digits, blanks, . _ - and none of these first",
    "union": "give true, false or a number",
}
"""What kind of mistake pydantic found -> what to do about it, where its own words do not say."""


def _said(error: Any, model: type[BaseModel]) -> str:
    """A field that is wrong, and how to mend it."""
    path = [str(part) for part in error["loc"] if part != "[key]"]
    kind = error["type"]
    if "rules" in path[:1] and kind != "value_error":
        path, kind = path[:2], "union"
    where = ".".join(path) or "the whole file"
    if kind == "extra_forbidden":
        return f"{where}: there is no such field{_like(path, model)}"
    said = error["msg"].removeprefix("Value error, ").replace("Input should be", "it should be")
    return f"{where}: {MENDS.get(kind, said)}"


def _like(path: list[str], model: type[BaseModel]) -> str:
    for part in path[:-1]:
        inner = model.model_fields[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ""
        model = inner
    near = difflib.get_close_matches(path[-1], model.model_fields, n=1)
    return f": did you mean {near[0]}?" if near else f": there are {', '.join(model.model_fields)}"
