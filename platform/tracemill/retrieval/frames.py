"""What a document and a chunk are: the columns that every step of retrieval agrees on.

A document's text is what was read out of its file, once; a chunk is a stretch of that text and
knows where it lies. What people say about a document stands in `metadata`, a column of its own, so
that it can never take the place of the text.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

Schema = dict[str, Any]


def document_schema() -> Schema:
    """The columns of a document.

    document_id   the path below the folder of its collection, with slashes
    title         never empty
    source        where people find it: a URL, the name of a module, a path below the warehouse
    format        what it was: markdown, rst, html, pdf, docx, pptx, xlsx, csv, notebook, code,
                  text, epub, odt, ods, rtf, doc, ppt, xls, eml, msg
    syntax        how the text shows its structure: markdown, rst, text, or a language of code
    language      ISO 639-1, or null
    created_at, modified_at   when the document says so (its file's time else), or null
    pages         where each page, slide or sheet begins: `start` (character), `number`; null
                  where there are none
    by_line       whether lines of the text are lines of the file
    metadata      a JSON object of what the document says about itself
    bytes, sha256, modified_ns   of the file; they tell whether it must be read again
    text          one newline character, NFC
    """
    import polars as pl

    return {
        "document_id": pl.String,
        "title": pl.String,
        "source": pl.String,
        "format": pl.String,
        "syntax": pl.String,
        "language": pl.String,
        "created_at": pl.Datetime("us", "UTC"),
        "modified_at": pl.Datetime("us", "UTC"),
        "pages": pl.List(pl.Struct({"start": pl.Int64, "number": pl.Int64})),
        "by_line": pl.Boolean,
        "metadata": pl.String,
        "bytes": pl.Int64,
        "sha256": pl.String,
        "modified_ns": pl.Int64,
        "text": pl.String,
    }


def chunk_schema() -> Schema:
    """The columns of a chunk.

    chunk_id      the hash of its document, its place, and what is searched (title, headings, text)
    headings      from the outermost
    start, end    characters: the document's text[start:end] is the chunk's text
    first_page, last_page, first_line, last_line   from 1; null where there are none
    tokens        of its text, as the collection's model counts
    document_hash   of all that the chunks of its document follow from: the same, not cut again
    the others    as those of its document
    """
    import polars as pl

    return {
        "chunk_id": pl.String,
        "document_id": pl.String,
        "title": pl.String,
        "headings": pl.List(pl.String),
        "source": pl.String,
        "format": pl.String,
        "language": pl.String,
        "modified_at": pl.Datetime("us", "UTC"),
        "start": pl.Int64,
        "end": pl.Int64,
        "first_page": pl.Int64,
        "last_page": pl.Int64,
        "first_line": pl.Int64,
        "last_line": pl.Int64,
        "tokens": pl.Int64,
        "document_hash": pl.String,
        "metadata": pl.String,
        "text": pl.String,
    }


def document_frame(rows: "list[dict[str, Any]]") -> "pl.DataFrame":
    """Documents as a frame; fields that a row lacks are null, `metadata` then is `{}`."""
    import polars as pl

    empty = pl.DataFrame(rows, schema=document_schema())
    return empty.with_columns(
        pl.col("metadata").fill_null("{}"), pl.col("by_line").fill_null(False)
    )


def searchable(chunks: "pl.DataFrame") -> "pl.Series":
    """What is embedded and indexed for each chunk: its title and headings, then its text."""
    import polars as pl

    headings = pl.col("headings").list.join(" > ")
    return chunks.select(pl.concat_str("title", headings, "text", separator="\n")).to_series()
