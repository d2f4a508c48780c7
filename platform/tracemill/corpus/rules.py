"""Which answers are not worth learning from: one table of rules, their thresholds and sources.

What is judged is the answer, since that is what is learned; a turn that only calls tools is not. The
set `basic` suits instruction data and is on; the others were made for pages of the web and are off
until a recipe asks for them: `rules: {gopher: true, gopher.few_words: 20, basic.refusal: false}`.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from tracemill.corpus import quality, refusals
from tracemill.errors import InputError

if TYPE_CHECKING:
    import polars as pl

GOPHER = "Rae et al. 2021, arXiv 2112.11446, A.1.1"
REPETITION = "Rae et al. 2021, arXiv 2112.11446, table A1"
C4 = "Raffel et al. 2020, JMLR 21(140), 2.2, and its code (tensorflow_datasets, c4_utils.py)"
FINEWEB = "Penedo et al. 2024, arXiv 2406.17557, 3.6"
OURS = "ours"

BOILERPLATE = (
    r"(?i)^\W*(see (the )?(base|parent|super) ?class|see (also|docs?|documentation)\b|"
    r"inherit(s|ed)? (doc|from)|todo\b|tbd\b|fixme\b|undocumented|not (yet )?implemented|"
    r"(for )?internal use|deprecated\W*$|missing doc)[^\n]{0,60}$"
)
"""A whole answer that only points elsewhere, or says that there is none."""

POLICY = r"terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies"
LOOP = 32
"""Characters at the end of an answer that are looked for in all of it."""

Drops = Literal["under", "over", "true", "lines"]


class Rule(NamedTuple):
    """One line of the table."""

    name: str
    """`set.rule`, as recipes call it."""
    measure: str
    """A column of `quality.COLUMNS` or of `measures`; for `lines`, what they say."""
    drops: Drops
    """What is dropped: answers under or over the threshold, or for which the measure is true;
    `lines`: only the lines of answers that match, not the answer."""
    threshold: float | None
    reason: str
    """With `{}` where the threshold goes."""
    source: str


RULES = (
    Rule("basic.no_answer", "characters_said", "under", 1, "no answer", OURS),
    Rule("basic.short_question", "asked", "under", 3, "question under {} characters", OURS),
    Rule("basic.short_answer", "characters_said", "under", 10, "answer under {} characters", OURS),
    Rule("basic.long", "both", "over", 32_000, "question and answer over {} characters", OURS),
    Rule("basic.no_letter", "letterless", "true", None, "answer without a letter", OURS),
    Rule("basic.repeats", "repeats", "true", None, "answer repeats the question", OURS),
    Rule("basic.boilerplate", "boilerplate", "true", None, "answer only points elsewhere", OURS),
    Rule("basic.refusal", "refusal", "true", None, "answer declines", OURS),
    Rule("basic.loop", "loop", "over", 7, "answer ends in a loop of over {} rounds", OURS),
    Rule("gopher.duplicate_paragraphs", "duplicate_paragraphs", "over", 0.30,
         "over {} of paragraphs are duplicates", REPETITION),
    Rule("gopher.duplicate_paragraph_characters", "duplicate_paragraph_characters", "over", 0.20,
         "over {} of characters are in duplicate paragraphs", REPETITION),
    Rule("gopher.duplicate_lines", "duplicate_lines", "over", 0.30,
         "over {} of lines are duplicates", REPETITION),
    Rule("gopher.duplicate_line_characters", "duplicate_line_characters", "over", 0.20,
         "over {} of characters are in duplicate lines", REPETITION),
    *(Rule(f"gopher.top_{n}_gram", f"top_{n}_gram_characters", "over", share,
           f"over {{}} of characters are in the commonest {n}-gram", REPETITION)
      for n, share in ((2, 0.20), (3, 0.18), (4, 0.16))),
    *(Rule(f"gopher.duplicate_{n}_grams", f"duplicate_{n}_gram_characters", "over", share,
           f"over {{}} of characters are in duplicate {n}-grams", REPETITION)
      for n, share in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))),
    Rule("gopher.few_words", "words", "under", 50, "under {} words", GOPHER),
    Rule("gopher.many_words", "words", "over", 100_000, "over {} words", GOPHER),
    Rule("gopher.short_words", "mean_word_length", "under", 3,
         "words of under {} characters on average", GOPHER),
    Rule("gopher.long_words", "mean_word_length", "over", 10,
         "words of over {} characters on average", GOPHER),
    Rule("gopher.hashes", "hashes_per_word", "over", 0.1, "over {} hashes for each word", GOPHER),
    Rule("gopher.ellipses", "ellipses_per_word", "over", 0.1,
         "over {} ellipses for each word", GOPHER),
    Rule("gopher.bullet_lines", "bullet_lines", "over", 0.9,
         "over {} of lines begin with a bullet", GOPHER),
    Rule("gopher.ellipsis_lines", "ellipsis_lines", "over", 0.3,
         "over {} of lines end in an ellipsis", GOPHER),
    Rule("gopher.alphabetic_words", "alphabetic_words", "under", 0.8,
         "under {} of words have a letter", GOPHER),
    Rule("gopher.stop_words", "stop_words", "under", 2,
         "fewer than {} of " + ", ".join(quality.STOP_WORDS), GOPHER),
    Rule("c4.policy_lines", POLICY, "lines", None, "", C4),
    Rule("c4.javascript_lines", "javascript", "lines", None, "", C4),
    Rule("c4.lorem_ipsum", "lorem_ipsum", "true", None, "lorem ipsum", C4),
    Rule("c4.curly_bracket", "curly_bracket", "true", None, "has a curly bracket", C4),
    Rule("c4.sentences", "sentences", "under", 3,
         f"fewer than {{}} sentences in whole lines of {quality.C4_LINE_WORDS} words or more", C4),
    Rule("fineweb.terminal_lines", "terminal_lines", "under", 0.12,
         "under {} of lines end a sentence", FINEWEB),
    Rule("fineweb.short_lines", "short_lines", "over", 0.67,
         f"over {{}} of lines have {quality.SHORT_LINE} characters or less", FINEWEB),
    Rule("fineweb.duplicate_lines", "duplicate_line_share", "over", 0.1,
         "over {} of characters are in duplicate lines", FINEWEB + "; 0.01 in datatrove"),
    Rule("fineweb.newlines", "newlines_per_word", "over", 0.3,
         "over {} line ends for each word", "datatrove, FineWebQualityFilter"),
)  # fmt: skip
"""In the order in which they are told: an answer has the first reason that applies."""

SETS = tuple(dict.fromkeys(rule.name.split(".")[0] for rule in RULES))


def chosen(settings: Mapping[str, bool | float]) -> tuple[Rule, ...]:
    """The rules that a recipe leaves on, with its thresholds.

    Args:
        settings: name of a set or of a rule -> on or off; of a rule -> another threshold.

    Raises:
        InputError: if a name is unknown, or a number stands where there is no threshold.
    """
    names = {rule.name: rule for rule in RULES}
    for name, value in settings.items():
        if name not in names and name not in SETS:
            raise InputError(_unknown(name, names))
        if not isinstance(value, bool) and (name in SETS or names[name].threshold is None):
            raise InputError(f"rules: {name} has no threshold: true or false, not {value:g}")
    return tuple(_set(rule, settings) for rule in RULES if _is_on(rule, settings))


def reasons(texts: "pl.DataFrame", rules: Sequence[Rule]) -> "pl.Series":
    """Why each answer is to be dropped: name, threshold; null for one that is kept.

    Args:
        texts: columns `answer` (null: not judged) and `question` (null: there is none).
    """
    import polars as pl

    plain = [rule for rule in rules if rule.measure not in quality.COLUMNS]
    counted = [rule for rule in rules if rule.measure in quality.COLUMNS]
    found = texts.with_columns(_reason(plain, measures()))["reason"]
    undecided = (found.is_null() & texts["answer"].is_not_null()).arg_true()
    if not counted or not undecided.len():
        return found
    numbers = quality.statistics(texts["answer"].gather(undecided))
    columns = {name: pl.col(name) for name in quality.COLUMNS}
    return found.clone().scatter(
        undecided, numbers.with_columns(_reason(counted, columns))["reason"]
    )


def measures() -> "dict[str, pl.Expr]":
    """What rules look at beside `quality.COLUMNS`, each computed from columns alone."""
    import polars as pl

    answer, question = pl.col("answer"), pl.col("question")
    said, asked = answer.str.len_chars(), question.str.len_chars()
    end = answer.str.tail(LOOP)
    rounds = answer.str.count_matches(end, literal=True)
    return {
        "characters_said": said,
        "asked": asked,
        "both": said + asked.fill_null(0),
        "letterless": ~answer.str.contains(r"\p{L}"),
        "repeats": answer == question,
        "boilerplate": answer.str.contains(BOILERPLATE),
        "refusal": answer.str.contains(refusals.REFUSAL) & (said <= refusals.LONGEST),
        "loop": pl.when(said > LOOP).then(rounds).otherwise(0),
        "lorem_ipsum": answer.str.contains("(?i)lorem ipsum"),
        "curly_bracket": answer.str.contains("{", literal=True),
    }


def unwanted_lines(rules: Sequence[Rule]) -> str | None:
    """A regular expression of what marks a line to remove, if a rule does that."""
    found = [rule.measure for rule in rules if rule.drops == "lines"]
    return f"(?i){'|'.join(found)}" if found else None


def _reason(rules: Sequence[Rule], measured: "Mapping[str, pl.Expr]") -> "pl.Expr":
    import polars as pl

    each = [
        pl.when(_broken(rule, measured[rule.measure])).then(pl.lit(_said(rule)))
        for rule in rules
        if rule.drops != "lines"
    ]
    return pl.coalesce(*each, pl.lit(None, pl.String)).alias("reason")


def _broken(rule: Rule, measured: "pl.Expr") -> "pl.Expr":
    if rule.threshold is None:
        return measured
    return measured < rule.threshold if rule.drops == "under" else measured > rule.threshold


def _said(rule: Rule) -> str:
    return f"{rule.name}: {rule.reason.format(f'{rule.threshold or 0:,.10g}')}"


def _is_on(rule: Rule, settings: Mapping[str, bool | float]) -> bool:
    group = rule.name.split(".")[0]
    return settings.get(rule.name, settings.get(group, group == "basic")) is not False


def _set(rule: Rule, settings: Mapping[str, bool | float]) -> Rule:
    value = settings.get(rule.name, True)
    return rule if isinstance(value, bool) else rule._replace(threshold=value)


def _unknown(name: str, names: Iterable[str]) -> str:
    ends = [each for each in names if each.split(".")[1] == name.split(".")[-1]]
    near = dict.fromkeys([*ends, *difflib.get_close_matches(name, [*names, *SETS], cutoff=0.5)])
    meant = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(SETS)}"
    return f"rules: no rule or set is called {name}; {meant}"
