import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tracemill.corpus import quality, rules
from tracemill.corpus.refusals import LONGEST, REFUSAL
from tracemill.errors import InputError

PIECES = (
    *("the", "be", "to,", "(of)", "and", "that's", "with", "have.", "a", "bb", "é", "ß!", "中文"),
    *("#", "...", "…", "•", "-", "—", "。", "42", "3.5", '"end."', "!?", "'", "a.b...", "🎉"),
    *("\U0001d49c.", "\n", "\n\n", " \n", "\t", "\u00a0", "\u2028", "\x00", "x" * 31, "y" * 1001),
)
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join),
    st.lists(st.sampled_from(PIECES), max_size=60).map("".join),
)

PROSE = (
    "The river bends twice below the mill, and the path keeps to its left bank. "
    "In spring you have to wait for the ferry with the others; nobody is in a hurry to be gone.\n"
    "Later that year the bridge was built, and people began to walk across of an evening. "
    "It is a plain thing of oak and iron that does not ask to be looked at twice.\n\n"
    "Some of the old boats are still there, drawn up on the grass behind the inn.\n"
)


def numbers(text: str) -> dict[str, float]:
    return quality.statistics(pl.Series([text]), plain=True).row(0, named=True)


def judged(text: str, **rule: bool | float) -> str | None:
    named = {name.replace("__", "."): value for name, value in rule.items()}
    texts = pl.DataFrame({"answer": [text], "question": ["What is it?"]})
    return rules.reasons(texts, rules.chosen({"basic": False, **named})).item()


@settings(deadline=None)  # the first call compiles
@given(st.lists(TEXT, max_size=8))
def test_the_kernel_counts_what_plain_python_counts(texts: list[str]):
    column = pl.Series(texts, dtype=pl.String)
    plain = quality.statistics(column, plain=True)
    assert_frame_equal(quality.statistics(column, plain=False), plain, check_exact=True)


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.one_of(st.none(), TEXT), min_size=2, max_size=8))
def test_slices_chunks_and_nulls_are_texts_like_others(texts: list[str | None]):
    column = pl.concat([pl.Series(texts, dtype=pl.String), pl.Series(["and", None])]).slice(1)
    plain = quality.statistics(column.rechunk(), plain=True)
    assert_frame_equal(quality.statistics(column, plain=False), plain, check_exact=True)


def test_threads_share_many_texts_without_mixing_them_up():
    texts = pl.Series([f"{PROSE} {n} " * (n % 7) for n in range(10_000)])
    found = quality.statistics(texts, plain=False)
    assert_frame_equal(found[::97], quality.statistics(texts[::97], plain=True), check_exact=True)


def test_letters_and_white_space_end_where_the_tables_end():
    beyond = [chr(code) for code in range(quality.LETTERS_END, 0x110000)]
    assert not any(letter.isalnum() or letter.isspace() for letter in beyond)


def test_a_small_job_does_not_load_the_compiler():
    code = (
        "import sys, polars as pl; from tracemill.corpus import quality;"
        "quality.statistics(pl.Series(['a b'] * 4_999)); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"characters": 0, "words": 0, "mean_word_length": 0, "newlines_per_word": 0}),
        ("ab — cde", {"characters": 8, "words": 2, "mean_word_length": 2.5}),
        ("a # b ## c", {"words": 3, "hashes_per_word": 3 / 5, "alphabetic_words": 3 / 5}),
        ("so... on… ..", {"ellipses_per_word": 2 / 3}),
        ("- a\n  • b\nc\n\n", {"bullet_lines": 2 / 4}),
        ("a...\nb …\nc. ..\nd", {"ellipsis_lines": 2 / 4}),
        ('To "be", (and) That', {"stop_words": 2}),
        ("x\ny\nx\n\nx\ny\nx", {"duplicate_lines": 4 / 6, "duplicate_line_characters": 4 / 12,
                                "duplicate_line_share": 4 / 6, "duplicate_paragraphs": 1 / 2,
                                "duplicate_paragraph_characters": 5 / 12}),
        ("a b a b c", {"top_2_gram_characters": 6 / 9, "top_3_gram_characters": 0}),
        ("a b c", {"top_2_gram_characters": 0}),
        ("a b c d e a b c d e f", {"duplicate_5_gram_characters": 5 / 21,
                                   "duplicate_6_gram_characters": 0}),
        ("One two three four five. Six (seven!) eight? Ten\nIt is not so, is it?\nToo few.",
         {"sentences": 1, "terminal_lines": 2 / 3, "short_lines": 2 / 3}),
        ("A line of five words... \nand \"one, two, three, four.\" Five 'six'", {"sentences": 2}),
    ],
)  # fmt: skip
def test_what_is_counted(text: str, expected: dict[str, float]):
    found = numbers(text)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_prose_passes_every_set():
    assert judged(PROSE, gopher=True, c4=True, fineweb=True) is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (PROSE.split("\n")[0], "gopher.few_words: under 50 words"),
        ("a of to be " * 20, "gopher.short_words: words of under 3 characters on average"),
        ("the of " + "incomprehensibility " * 60, "gopher.long_words: words of over 10"),
        (PROSE.replace(" ", " # ", 12), "gopher.hashes: over 0.1 hashes for each word"),
        (PROSE.replace(" ", "... ", 12), "gopher.ellipses: over 0.1 ellipses for each word"),
        ("- " + PROSE.replace("\n\n", "\n").replace("\n", "\n- "), "gopher.bullet_lines: over 0.9"),
        (PROSE.replace(".\n", "...\n"), "gopher.ellipsis_lines: over 0.3 of lines end"),
        (PROSE + "12 " * 30, "gopher.alphabetic_words: under 0.8 of words have a letter"),
        ("Water boils sooner high above any sea level because pressure drops there. " * 9,
         "gopher.stop_words: fewer than 2 of the, be, to, of, and, that, have, with"),
        ((PROSE + "\n") * 3, "gopher.duplicate_paragraphs: over 0.3 of paragraphs"),
        (PROSE.split("\n")[0] + "\n" + PROSE + PROSE.split("\n")[0],
         "gopher.duplicate_line_characters: over 0.2 of characters"),
        ("so it was " * 40 + PROSE, "gopher.top_2_gram: over 0.2 of characters"),
        (" ".join(PROSE.split()[:40]) + " or " + PROSE, "gopher.duplicate_5_grams: over 0.15"),
    ],
)  # fmt: skip
def test_gopher_tells_what_is_wrong(text: str, rule: str):
    named = rule.split(":")[0]
    assert (judged(text, **{named.replace(".", "__"): True}) or "").startswith(rule)
    assert judged(text, gopher=True) is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Lorem  ipsum. " + PROSE, None),
        ("LOREM IPSUM dolor. " + PROSE, "c4.lorem_ipsum: lorem ipsum"),
        (PROSE + "if (x) { y }", "c4.curly_bracket: has a curly bracket"),
        ("Only one sentence is in this line.",
         "c4.sentences: fewer than 3 sentences in whole lines of 5 words or more"),
    ],
)  # fmt: skip
def test_c4_tells_what_is_wrong(text: str, reason: str | None):
    assert judged(text, c4=True) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("one line without an end that is long enough to count\n" * 9,
         "fineweb.terminal_lines: under 0.12 of lines end a sentence"),
        ("Short.\nLines.\nOnly.",
         "fineweb.short_lines: over 0.67 of lines have 30 characters or less"),
        (PROSE + PROSE.split("\n")[3], "fineweb.duplicate_lines: over 0.1 of characters"),
        ("This-line-is-one-word-and-counts-as-long.\nAnd-so-is-this-one-which-differs-a-bit.",
         "fineweb.newlines: over 0.3 line ends for each word"),
    ],
)  # fmt: skip
def test_fineweb_tells_what_is_wrong(text: str, reason: str):
    assert (judged(text, fineweb=True) or "").startswith(reason)


def test_a_threshold_can_be_set_and_a_rule_switched_off():
    text = PROSE.split("\n")[0]
    assert judged(text, gopher=True, gopher__few_words=20) is None
    assert judged(text, gopher=True, gopher__few_words=False) is None
    assert judged(text, gopher__few_words=40) == "gopher.few_words: under 40 words"
    assert judged(PROSE + "{", c4=True, c4__curly_bracket=False) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gopher.stopwords": True}, "called gopher.stopwords; did you mean gopher.stop_words"),
        ({"stop_words": 3}, "did you mean gopher.stop_words"),
        ({"gofer": True}, "did you mean gopher"),
        ({"zzz": True}, "there are basic, gopher, c4, fineweb"),
        ({"gopher": 3.0}, "gopher has no threshold: true or false, not 3"),
        ({"basic.refusal": 2.0}, "basic.refusal has no threshold"),
    ],
)  # fmt: skip
def test_a_wrong_name_or_number_is_told(settings: dict[str, bool | float], message: str):
    with pytest.raises(InputError, match=message):
        rules.chosen(settings)


def test_every_rule_has_one_line_a_source_and_something_to_measure():
    assert len({rule.name for rule in rules.RULES}) == len(rules.RULES)
    known = {*quality.COLUMNS, *rules.measures()}
    assert all(rule.source for rule in rules.RULES)
    assert {rule.measure for rule in rules.RULES if rule.drops != "lines"} <= known


REFUSED = """
I'm sorry, but I can't help with that.
I\u2019m sorry, but I cannot assist with that request.
Sorry, I can't do that.
I cannot fulfill this request.
I can't comply with your request.
As an AI language model, I cannot have personal opinions.
As an AI, I don't have feelings or emotions.
As a large language model, I do not have access to real-time data.
I'm just an AI, I can't browse the internet.
I am an AI assistant and cannot open links.
I'm not able to help with that.
I am unable to provide medical advice.
Unfortunately, I cannot provide legal advice.
I apologize, but I can't generate explicit content.
I must respectfully decline.
I won't be able to help you with that.
I'm sorry, I can't assist.
I'm afraid I can't help you with this.
I don't feel comfortable discussing that.
Sorry, but as an AI language model I cannot predict the future.
I'm sorry, but as an AI I am unable to write that.
I cannot in good conscience help with that.
We are unable to answer that question.
My apologies, but I can't provide instructions for that.
""".strip().split("\n")

ANSWERED = """
I'm sorry to hear that. Try turning it off and on again.
I cannot find any restaurants in San Jose. Shall I try Oakland?
Sorry, I couldn't find any flights on that day.
Unfortunately I can't book a table at 7 pm; would 8 pm suit you?
I can't recommend this book enough.
As an AI researcher, I spend my days with data.
A chatbot that says "I'm sorry, but I can't help with that" is refusing.
I apologize for the delay: your parcel leaves today.
I can help with that.
The phrase 'As an AI language model' is often found in scraped text.
I couldn't help laughing.
I can't do math, said Tom, but he could.
I'm afraid of spiders, and I can't say why.
We cannot share a bucket between regions; create one in each.
As an assistant professor, I teach two courses.
I have to decline nouns in Latin class.
I'm sorry, I cannot complete the transaction because your card was declined.
I can't answer the phone right now.
Sorry, I could not reserve it. Is there anything else?
""".strip().split("\n")


@pytest.mark.parametrize("text", REFUSED)
def test_a_refusal_is_seen(text: str):
    assert judged(text, basic__refusal=True) == "basic.refusal: answer declines"


@pytest.mark.parametrize("text", [*ANSWERED, REFUSED[0] + " Here is why. " + "x " * LONGEST])
def test_a_text_that_answers_is_no_refusal(text: str):
    assert judged(text, basic__refusal=True) is None
    assert REFUSAL


def test_a_loop_at_the_end_is_seen():
    looped = PROSE + "and then we went back to the house and slept, " * 20
    assert judged(looped, basic__loop=True) == "basic.loop: answer ends in a loop of over 7 rounds"
    assert judged(PROSE + "ha" * 300, basic__loop=True) is not None
    assert judged(PROSE + "| a | b |\n" * 5, basic__loop=True) is None
