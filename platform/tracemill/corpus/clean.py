"""Repair what can be repaired, drop what cannot, and say why: one rule, one reason.

Repairs change how a text is written, never what it says. Rules are Polars expressions over columns,
so a rule is one line in `rules` and costs no Python loop.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import polars as pl

TEXTS = ("user_query", "assistant_response", "context")

CONTROL = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F\x{FEFF}\x{FFFE}\x{FFFF}]"
"""Control and non-characters, but for tab, line feed and carriage return."""

SHORTEST_QUERY, SHORTEST_RESPONSE = 3, 10
"""Characters. Less is no question, and as an answer nothing to learn from."""

LONGEST = 32_000
"""Characters of question and answer together: about 8,000 tokens, a usual fine-tuning limit."""

BOILERPLATE = (
    r"(?i)^\W*(see (the )?(base|parent|super) ?class|see (also|docs?|documentation)\b|"
    r"inherit(s|ed)? (doc|from)|todo\b|tbd\b|fixme\b|undocumented|not (yet )?implemented|"
    r"(for )?internal use|deprecated\W*$|missing doc)[^\n]{0,60}$"
)
"""A whole answer that only points elsewhere, or says that there is none."""


class Cleaned(NamedTuple):
    """Rows in = rows kept + rows dropped."""

    kept: "pl.DataFrame"
    dropped: "pl.DataFrame"
    """The same columns and `reason`."""


def clean(frame: "pl.DataFrame") -> Cleaned:
    """Repair the texts of records, then drop those that break a rule.

    Each row stands alone, so batches give the same rows as the whole. Cleaning twice is cleaning
    once.
    """
    import polars as pl

    repaired = frame.with_columns(_repaired(pl.col(column)) for column in TEXTS)
    reason = pl.coalesce(
        *(pl.when(broken).then(pl.lit(why)) for why, broken in rules().items()), pl.lit(None)
    )
    judged = repaired.with_columns(reason.cast(pl.String).alias("reason"))
    return Cleaned(
        judged.filter(pl.col("reason").is_null()).drop("reason"),
        judged.filter(pl.col("reason").is_not_null()),
    )


def rules() -> "dict[str, pl.Expr]":
    """Reason -> the expression that is true for a row to drop; the first that is true is told."""
    import polars as pl

    query, response = pl.col("user_query"), pl.col("assistant_response")
    return {
        f"question under {SHORTEST_QUERY} characters": query.str.len_chars() < SHORTEST_QUERY,
        f"answer under {SHORTEST_RESPONSE} characters": response.str.len_chars()
        < SHORTEST_RESPONSE,
        f"question and answer over {LONGEST:,} characters": query.str.len_chars()
        + response.str.len_chars()
        > LONGEST,
        "answer without a letter": ~response.str.contains(r"\p{L}"),
        "answer repeats the question": query == response,
        "boilerplate: the answer only points elsewhere": response.str.contains(BOILERPLATE),
    }


def _repaired(text: "pl.Expr") -> "pl.Expr":
    """Without control characters, in NFC, with plain line ends and no trailing blanks."""
    return (
        text.str.replace_all(CONTROL, "")
        .str.normalize("NFC")
        .str.replace_all(r"\r\n?", "\n")
        .str.replace_all(r"(?m)[ \t]+$", "")
        .str.strip_chars()
    )
