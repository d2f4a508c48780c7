"""How many tokens records have by a named tokenizer, offline, and what becomes of the long ones.

Counting is the slowest step of the chain, so a limit is first held against the bytes: no tokenizer
here makes more tokens of a text than `Tokenizer.most` says, and few records are near a limit.
"""

import os
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from tracemill import tokenizer as bundled
from tracemill.corpus.records import Judged
from tracemill.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray


class Tokenizer(NamedTuple):
    """How texts and the seams between messages are counted."""

    about: str
    lengths: "Callable[[Sequence[str]], NDArray[np.int64]]"
    """Texts -> how many tokens each has."""
    per_byte: int
    """A text has no more tokens than this times its UTF-8 bytes,"""
    per_text: int
    """plus this."""
    per_message: int
    """What a message costs beside its texts, its role included."""
    per_record: int
    """What a record costs once."""
    package: str | None = None
    """What has to be installed for it beside tracemill."""


@cache
def _quicktok(encoding: str) -> Any:
    import quicktok  # pyright: ignore[reportMissingTypeStubs]

    return cast(Any, quicktok).Tokenizer(encoding, "")


def _byte_pairs(encoding: str) -> "Callable[[Sequence[str]], NDArray[np.int64]]":
    def lengths(texts: Sequence[str]) -> "NDArray[np.int64]":
        import numpy as np

        _, offsets = _quicktok(encoding).encode_batch(list(texts), os.cpu_count() or 1)
        return np.diff(offsets)

    return lengths


TOKENIZERS: dict[str, Tokenizer] = {
    # OpenAI's overheads: cookbook, "How to count tokens with tiktoken": 3 for each message and 1
    # for its role, 1 for a name, 3 for the reply.
    "default": Tokenizer("wordllama's, 32,000 pieces; always there", bundled.lengths, 1, 1, 4, 3),
    "o200k_base": Tokenizer(
        "OpenAI's since GPT-4o", _byte_pairs("o200k_base"), 1, 0, 4, 3, "quicktok"
    ),
    "cl100k_base": Tokenizer(
        "OpenAI's of GPT-3.5 and GPT-4", _byte_pairs("cl100k_base"), 1, 0, 4, 3, "quicktok"
    ),
    # ChatML: <|im_start|>, role, newline, text, <|im_end|>, newline. It brings texts into NFC, which
    # makes at most three bytes of one (Unicode Standard Annex 15, table 9).
    "qwen": Tokenizer("Qwen 2.5 and 3", _byte_pairs("qwen3"), 3, 0, 5, 0, "quicktok"),
}
"""Name -> tokenizer. A name costs one token more; calls and tools count as the JSON they are
written as in the record, for how a provider shows them to its model is not published."""

_TEXTS = ("content", "name", "tool_calls")


def tokenizer(name: str) -> Tokenizer:
    """A tokenizer that can be used. Raises `UsageError` when there is none of this name, or what
    it needs is not installed."""
    if name not in TOKENIZERS:
        raise UsageError(f"no tokenizer is called {name!r}: there are {', '.join(TOKENIZERS)}")
    found = TOKENIZERS[name]
    if found.package and find_spec(found.package) is None:
        raise UsageError(
            f"the tokenizer {name} needs the extra `tokens`: "
            "`uv pip install 'tracemill[tokens]'`, or take the tokenizer `default`"
        )
    return found


def lengths(texts: Sequence[str], name: str = "default") -> "NDArray[np.int64]":
    """How many tokens each text has. Raises `UsageError` as `tokenizer`."""
    return tokenizer(name).lengths(texts)


def decoded(ids: Sequence[Sequence[int]], name: str) -> list[str]:
    """The texts that token ids stand for; of a character that was cut in two, U+FFFD is left.

    Args:
        name: an encoding of OpenAI's.

    Raises `UsageError` as `tokenizer`, and `InputError` for an id that stands for nothing.
    """
    tokenizer(name)
    try:
        return _quicktok(name).decode_batch([list(each) for each in ids])
    except KeyError as error:
        raise InputError(f"{error.args[0]}, which is {name}") from None


def count(frame: "pl.DataFrame", name: str = "default") -> "pl.Series":
    """The tokens of each record of a frame, chat overhead and tools included, as `tokens`.

    Equal texts, as the system messages that many records share, are counted once.
    """
    import polars as pl

    used = tokenizer(name)
    texts = _flat(frame).group_by("text", maintain_order=True).agg("row")
    counted = texts.with_columns(tokens=pl.Series(used.lengths(texts["text"].to_list())))
    sums = counted.explode("row").group_by("row").agg(pl.col("tokens").sum())
    rows = pl.DataFrame({"row": pl.int_range(frame.height, eager=True, dtype=pl.UInt32)})
    said = rows.join(sums, on="row", how="left", maintain_order="left")["tokens"].fill_null(0)
    return (said + frame.select(_overhead(used)).to_series()).alias("tokens").cast(pl.Int64)


def most(name: str = "default") -> "pl.Expr":
    """An upper bound of `count`, from bytes alone."""
    import polars as pl

    used = tokenizer(name)
    texts = [_texts_of(field) for field in _TEXTS]
    size = pl.sum_horizontal(
        *(each.list.eval(pl.element().str.len_bytes()).list.sum() for each in texts),
        pl.col("tools").str.len_bytes(),
    )
    number = pl.sum_horizontal(*(each.list.drop_nulls().list.len() for each in texts)) + 1
    return (size * used.per_byte + number * used.per_text + _overhead(used)).cast(pl.Int64)


def limit(
    frame: "pl.DataFrame",
    max_tokens: int,
    name: str = "default",
    over: Literal["drop", "split"] = "drop",
) -> Judged:
    """Records of at most `max_tokens` tokens each.

    A longer one is dropped or, with `over="split"`, cut between its turns into records that begin
    with its system message and end with an answer; `part_of` is then the id of the whole, null in
    records that were left whole. One that cannot be cut so is dropped. Each record of the frame
    is therefore in one place: kept, dropped, or the `part_of` of some that are kept.
    """
    import polars as pl

    near = frame.select(near=most(name) > max_tokens).to_series()
    close = frame.filter(near)
    tokens = count(close, name)
    counted = close.with_columns(tokens)
    fitting = frame.with_row_index("_row").filter(~near)
    order = frame.with_row_index("_row").filter(near)["_row"]
    fits = tokens <= max_tokens
    within = close.with_columns(order).filter(fits).select(fitting.columns)
    kept = pl.concat([fitting, within]).sort("_row").drop("_row")
    kept = kept.with_columns(part_of=pl.lit(None, pl.String))
    too_long = counted.filter(~fits)
    if over == "drop" or too_long.is_empty():
        return Judged(kept, _dropped(too_long, f"over {max_tokens:,} tokens"))
    from tracemill.corpus.parts import parts

    cut = parts(too_long.drop("tokens"), max_tokens, name)
    rest = too_long.join(cut, left_on="record_id", right_on="part_of", how="anti")
    reason = f"over {max_tokens:,} tokens, in turns that cannot be cut"
    return Judged(pl.concat([kept, cut.select(kept.columns)]), _dropped(rest, reason))


def _dropped(frame: "pl.DataFrame", reason: str) -> "pl.DataFrame":
    import polars as pl

    return frame.with_columns(reason=pl.lit(reason))


def _flat(frame: "pl.DataFrame") -> "pl.DataFrame":
    """One line for each text: row, text."""
    import polars as pl

    rows = frame.select("tools", "messages").with_row_index("row")
    said = rows.select("row", *(_texts_of(field).alias(field) for field in _TEXTS))
    texts = [said.select("row", text=field).explode("text") for field in _TEXTS]
    return pl.concat([*texts, rows.select("row", text="tools")]).drop_nulls("text")


def _texts_of(field: str) -> "pl.Expr":
    import polars as pl

    return pl.col("messages").list.eval(pl.element().struct.field(field))


def _overhead(used: Tokenizer) -> "pl.Expr":
    import polars as pl

    messages = pl.col("messages").list.len().cast(pl.Int64)
    names = _texts_of("name").list.drop_nulls().list.len().cast(pl.Int64)
    return messages * used.per_message + names + used.per_record
