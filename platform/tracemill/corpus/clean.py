"""Repair what can be repaired, drop what teaches nothing, and say why.

Repairs change how a text is written, never what it says, and touch the contents of messages alone:
no role, name or tool call. Rules (`corpus/rules.py`) then judge the answer.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, cast

from tracemill.corpus import languages, rules
from tracemill.corpus.recipe import Source
from tracemill.corpus.records import Judged

if TYPE_CHECKING:
    import ftfy
    import polars as pl

DEFAULTS = Source()

CONTROL = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F\x{FEFF}\x{FFFE}\x{FFFF}]"
"""Control and non-characters, but for tab, line feed and carriage return."""

LINE_END = r"\r\n?|[\x{2028}\x{2029}]"

UNTIDY = r"[\x00-\x08\x0B-\x1F\x7F]|[ \t]\n|\n{4}"
"""What needs repair inside a text of ASCII alone."""


def clean(frame: "pl.DataFrame", recipe: Source = DEFAULTS) -> Judged:
    """Repair the messages of records, then drop those that break a rule of their source.

    Each row stands alone, so batches give the same rows as the whole. Cleaning twice is cleaning
    once. `record_id` stays that of the content as it was read.

    Raises:
        InputError: if the recipe names a rule or a language that is unknown.
    """
    import polars as pl

    chosen = rules.chosen(recipe.rules)
    repaired = frame.with_columns(_repaired(rules.unwanted_lines(chosen)))
    texts = repaired.select(_answer(), _question())
    found = _foreign(texts["answer"], rules.reasons(texts, chosen), recipe.languages)
    judged = repaired.with_columns(pl.coalesce(_rated(recipe), pl.lit(found)).alias("reason"))
    return Judged(
        judged.filter(pl.col("reason").is_null()).drop("reason"),
        judged.filter(pl.col("reason").is_not_null()),
    )


def repair(texts: "pl.Series") -> "pl.Series":
    """Texts without mojibake or control characters, in NFC, with plain line ends and no idle space.

    Idle are blanks at the end of a line, blank lines around a text and more than two within it. The
    indentation of code stays, that of a first line if it is a tab or four spaces.
    """
    return _until_settled(texts, _repair)


def _answer() -> "pl.Expr":
    """What the last message says; null if it only calls tools."""
    import polars as pl

    last = pl.col("messages").list.last().struct
    said = last.field("content").fill_null("")
    calls = (said == "") & last.field("tool_calls").is_not_null()
    return pl.when(~calls).then(said).alias("answer")


def _question() -> "pl.Expr":
    """What a user said last; null where none did."""
    import polars as pl

    turn = pl.element().struct
    asked = turn.field("content").fill_null("").filter(turn.field("role") == "user")
    return pl.col("messages").list.eval(asked).list.last().alias("question")


def _rated(recipe: Source) -> "pl.Expr":
    import polars as pl

    if recipe.min_rating is None:
        return pl.lit(None, pl.String)
    why = pl.lit(f"rated under {recipe.min_rating:g}")
    return pl.when(pl.col("rating") < recipe.min_rating).then(why)


def _foreign(answers: "pl.Series", reason: "pl.Series", wanted: Sequence[str]) -> "pl.Series":
    """The reasons, and one for each answer so far kept that is in none of these languages."""
    import polars as pl

    if not wanted:
        return reason
    languages.check(wanted)
    undecided = reason.is_null().arg_true()
    found = languages.identify(answers.gather(undecided)).to_frame("language")
    why = pl.format("language: {} is not {}", "language", pl.lit(" or ".join(wanted)))
    foreign = pl.when(~pl.col("language").is_in(wanted)).then(why)
    return reason.clone().scatter(undecided, found.select(foreign).to_series())


def _repaired(unwanted: str | None) -> "pl.Expr":
    """The column of messages with its contents repaired; answers without unwanted lines too."""
    import polars as pl

    def repaired(turns: pl.Series) -> pl.Series:
        contents = repair(turns.struct.field("content"))
        if unwanted is None:
            return contents
        answers = (turns.struct.field("role") == "assistant").arg_true()
        kept = _until_settled(contents.gather(answers), partial(_without, unwanted))
        return contents.clone().scatter(answers, kept)

    turn = pl.element().struct
    content = pl.element().map_batches(repaired, return_dtype=pl.String, is_elementwise=True)
    return pl.col("messages").list.eval(turn.with_fields(content.alias("content")))


def _without(unwanted: str, texts: "pl.Series") -> "pl.Series":
    marked = rf"(?im)^.*(?:{unwanted.removeprefix('(?i)')}).*$\n?"
    return _repair(texts.str.replace_all(marked, ""))


def _until_settled(texts: "pl.Series", step: "Callable[[pl.Series], pl.Series]") -> "pl.Series":
    """`step` again and again for the texts that it still changes: a repair may reveal another."""
    import polars as pl

    found, rows = texts, pl.arange(len(texts), eager=True)
    while rows.len():
        before = found.gather(rows)
        after = step(before)
        changed = before.ne_missing(after).arg_true()
        rows = rows.gather(changed)
        found = found.clone().scatter(rows, after.gather(changed))  # it writes in place
    return found


def _repair(texts: "pl.Series") -> "pl.Series":
    """One round of repair, of those texts that may need one."""
    import polars as pl

    text = pl.col("text")
    bare = text.str.strip_chars().str.len_bytes() == text.str.len_bytes()
    ascii_only = text.str.len_bytes() == text.str.len_chars()
    need = ~(bare & ascii_only) | text.str.contains(UNTIDY)
    rows = texts.to_frame("text").select(need.fill_null(False)).to_series().arg_true()
    if not rows.len():
        return texts
    decoded = _decoded(texts.gather(rows)).to_frame("text")
    return texts.clone().scatter(rows, decoded.select(_tidy(text)).to_series())


def _tidy(text: "pl.Expr") -> "pl.Expr":
    return (
        text.str.replace_all(LINE_END, "\n")
        .str.replace_all(CONTROL, "")
        .str.normalize("NFC")
        .str.replace_all(r"(?m)[ \t]+$", "")
        .str.replace_all(r"\n{4,}", "\n\n\n")
        .str.replace(r"\A\s*\n", "")
        .str.replace(r"\A {1,3}([^ \t])", "$1")
        .str.strip_chars_end()
    )


def _decoded(texts: "pl.Series") -> "pl.Series":
    """Without mojibake: text whose bytes were once read in another encoding (ftfy)."""
    import polars as pl

    rows = texts.str.contains(_mojibake()).fill_null(False).arg_true()
    if not rows.len():
        return texts
    import ftfy

    written = cast("Sequence[str]", texts.gather(rows).to_list())
    fixed = [ftfy.fix_text(text, _encoding_only()) for text in written]
    return texts.clone().scatter(rows, pl.Series(fixed, dtype=pl.String))


@cache
def _encoding_only() -> "ftfy.TextFixerConfig":
    """No quote is uncurled, no entity resolved, no ligature or width changed."""
    import ftfy

    return ftfy.TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )


@cache
def _mojibake() -> str:
    """ftfy's own sign of mojibake as a regular expression for columns: without it, it does nothing.

    Rust's dialect takes neither comments with brackets nor a bare space within brackets.
    """
    from ftfy.badness import BADNESS_RE

    bare = re.sub(r"(?m)(?<!\[)#.*$", "", BADNESS_RE.pattern)
    return "(?x)" + re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", r"\x20"), bare)
