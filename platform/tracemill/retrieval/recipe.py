"""How a collection is read, cut, embedded and searched: settings in YAML, checked before they run.

One file beside the folder of documents (`raw/documents/handbook.yaml` for `handbook/`); it may be
missing, for every field has a default.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tracemill.corpus.recipe import Share, Strict, read_recipe

Strategy = Literal["structure", "semantic", "fixed"]


class Extraction(Strict):
    """Which files are read, and what each may take."""

    include: tuple[str, ...] = ()
    """Globs relative to the folder, as `guides/**/*.md`; empty: every file that can be read."""
    exclude: tuple[str, ...] = ()
    max_bytes: Annotated[int, Field(ge=1)] = 100_000_000
    """A larger file goes to the quarantine."""
    timeout_s: Annotated[float, Field(gt=0)] = 30
    """For one file."""
    memory_bytes: Annotated[int, Field(ge=256_000_000)] = 1_000_000_000
    """What the process that reads may take."""


class Chunking(Strict):
    """Where documents are cut."""

    strategy: Strategy = "structure"
    """By headings and blocks; where the meaning changes; or at every so many tokens."""
    tokens: Annotated[int, Field(ge=16, le=8192)] = 512
    """The most tokens in a chunk, as the embedding model counts them."""
    overlap: Annotated[int, Field(ge=0)] = 50
    """Tokens that a chunk repeats from the one before it in the same section."""

    @model_validator(mode="after")
    def _leaves_room(self) -> "Chunking":
        if self.overlap > self.tokens // 2:
            raise ValueError(f"an overlap of {self.overlap} is more than half of {self.tokens}")
        return self


class Collection(Strict):
    """How the documents of one folder become a collection."""

    extraction: Extraction = Extraction()
    chunking: Chunking = Chunking()
    model: str = "local/wordllama"
    """Who embeds, as provider/model; `local/wordllama` and `local/minilm` need no key."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Fewer numbers than the model gives, where it can; None: all of them."""
    vectors: Literal["float32", "int8"] = "float32"
    """How they lie on the disk; int8 takes a quarter of the room."""
    lexical_share: Share | None = None
    """The weight of BM25 beside the vectors; None: what was measured for the model."""
    min_recall: Share = 0.95
    """A version whose graph finds a smaller share of the exact ten nearest is not served."""


def collection_recipe(path: Path) -> Collection:
    """The settings in a YAML file; the defaults when there is no such file.

    Raises `InputError`, with file, field and mend, when it is not YAML or not a recipe.
    """
    return read_recipe(path, Collection)
