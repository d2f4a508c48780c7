"""The installed docstrings once more, as documents to search in: one reference page a module.

What a record says of one name, a page says of all names that are defined together, under headings.
"""

from typing import TYPE_CHECKING

from tracemill.corpus.records import answer, document, document_frame

if TYPE_CHECKING:
    import polars as pl


def reference_documents(records: "pl.DataFrame") -> "pl.DataFrame":
    """Pages in reStructuredText, in the order in which their modules first occur.

    Args:
        records: as `installed.harvest` makes them: `source` is "package version: name", and the
            system message ends with the module.
    """
    pages = (
        records.with_columns(_package(), _module(), _entry())
        .group_by("package", "module", maintain_order=True)
        .agg("entry")
    )
    return document_frame(
        [
            document(module, f"{package}: {module}", "rst", "\n\n".join(entries))
            for package, module, entries in pages.iter_rows()
        ]
    )


def _package() -> "pl.Expr":
    import polars as pl

    return pl.col("source").str.extract(r"^([^:]+): ").alias("package")


def _module() -> "pl.Expr":
    return _written().str.extract(r"module (\S+)$").alias("module")


def _entry() -> "pl.Expr":
    """A name as a heading, its signature, its docstring."""
    import polars as pl

    name = pl.col("source").str.extract(r"^[^:]+: (.+)$")
    rule = pl.lit("=").repeat_by(name.str.len_chars()).list.join("")
    signature = _written().str.replace(r"module \S+$", "").str.strip_chars()
    parts = pl.concat_list(pl.concat_str(name, pl.lit("\n"), rule), signature, answer())
    return parts.list.filter(pl.element() != "").list.join("\n\n").alias("entry")


def _written() -> "pl.Expr":
    import polars as pl

    return pl.col("messages").list.first().struct.field("content")
