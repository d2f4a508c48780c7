"""Documents that are texts already, such as the documentation installed here, as `frames` has them.

Files go through `folder`; both end as the same columns.
"""

from typing import TYPE_CHECKING, NamedTuple

from tracemill.errors import InputError

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("document_id", "title", "source", "format", "text")
FORMATS = ("markdown", "rst", "text")
_CONTROL = r"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\x{feff}]"


class Made(NamedTuple):
    """Documents that can be used, and those that cannot, with the reason."""

    kept: "pl.DataFrame"
    """Of `document_schema`."""
    dropped: "pl.DataFrame"
    """The columns that were given, cleaned, and `reason`."""


def from_frame(frame: "pl.DataFrame") -> Made:
    """Documents with one newline character, composed Unicode, a title, a language and a digest.

    Args:
        frame: columns document_id, title, source, format (markdown, rst or text), text.

    An empty text, a text seen before and an id seen before are dropped, with a `reason`.
    Raises `InputError` when a column is missing.
    """
    import polars as pl

    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise InputError(f"documents lack the column {', '.join(missing)}: has {frame.columns}")
    text = pl.col("text").str.replace_all("\r\n?", "\n").str.replace_all(_CONTROL, "")
    title = pl.col("title").str.strip_chars()
    cleaned = frame.select(
        "document_id",
        pl.when(title != "").then(title).otherwise("document_id").alias("title"),
        "source",
        pl.when(pl.col("format").is_in(FORMATS)).then("format").otherwise(pl.lit("text")),
        text.str.normalize("NFC"),
    ).with_columns(_reason().alias("reason"))
    refused = pl.col("reason").is_not_null()
    return Made(_documents(cleaned.filter(~refused)), cleaned.filter(refused))


def _documents(cleaned: "pl.DataFrame") -> "pl.DataFrame":
    import hashlib

    import polars as pl

    from tracemill.corpus import languages
    from tracemill.retrieval.frames import document_schema

    schema = document_schema()
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in cleaned["text"]]
    known = cleaned.with_columns(
        pl.col("format").alias("syntax"),
        languages.identify(cleaned["text"]).alias("language"),
        pl.lit(False).alias("by_line"),
        pl.lit("{}").alias("metadata"),
        pl.col("text").str.len_bytes().cast(pl.Int64).alias("bytes"),
        pl.Series("sha256", digests, dtype=pl.String),
    )
    empty = [pl.lit(None, schema[name]).alias(name) for name in schema if name not in known.columns]
    return known.with_columns(empty).select(list(schema))


def _reason() -> "pl.Expr":
    import polars as pl

    empty = pl.col("text").is_null() | (pl.col("text").str.strip_chars() == "")
    same_text = pl.col("document_id").first().over("text")
    return (
        pl.when(pl.col("document_id").is_null())
        .then(pl.lit("no document_id"))
        .when(empty)
        .then(pl.lit("empty"))
        .when(~pl.col("document_id").is_first_distinct())
        .then(pl.lit("an earlier document has this document_id"))
        .when(~pl.col("text").is_first_distinct())
        .then(pl.lit("same text as ") + same_text)
    )
