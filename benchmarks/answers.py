"""How well the offline model answers, and how well citations are checked: `python -m benchmarks.answers`.

SQuAD 1.1's dev set. Thresholds and weights were chosen on the first half of its articles (even
numbers); what is told is of the second. It is data beside the repository: without it nothing runs.
"""

import argparse
import gzip
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import Table, machine, write
from tracemill.errors import CallFailed
from tracemill.llm import bm25, passages
from tracemill.llm.passages import Passage
from tracemill.llm.providers import local
from tracemill.llm.sentences import sentences
from tracemill.retrieval.citations import ENOUGH, support

DATA = Path(os.environ.get("TRACEMILL_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
SQUAD = DATA / "squad" / "dev-v1.1.json.gz"
PASSAGES = 5
_NUMBER = re.compile(r"\d+")
_ASKING = re.compile(r"^(?:what|who|which|when|where|how many|how much)\b", re.IGNORECASE)


class Paragraph(NamedTuple):
    """Where answers lie."""

    article: int
    title: str
    text: str


class Question(NamedTuple):
    """A question and its right answers."""

    text: str
    answers: list[str]
    paragraph: int
    article: int


class Claim(NamedTuple):
    """A sentence that cites a paragraph."""

    kind: str
    is_right: bool
    sentence: str
    paragraph: str


def read() -> tuple[list[Paragraph], list[Question]]:
    """All paragraphs; all questions, shuffled."""
    with gzip.open(SQUAD, "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    paragraphs: list[Paragraph] = []
    questions: list[Question] = []
    for number, article in enumerate(articles):
        for each in article["paragraphs"]:
            for asked in each["qas"]:
                answers = sorted({answer["text"] for answer in asked["answers"]})
                questions.append(Question(asked["question"], answers, len(paragraphs), number))
            title = article["title"].replace("_", " ")
            paragraphs.append(Paragraph(number, title, each["context"]))
    random.Random(7).shuffle(questions)
    return paragraphs, questions


def found(
    paragraphs: list[Paragraph], questions: Sequence[Question]
) -> Iterator[tuple[list[int], list[int]]]:
    """For each question: five paragraphs with the right one, and five of other articles."""
    import numpy as np

    model = bm25.build([f"{each.title}\n{each.text}" for each in paragraphs])
    for question in questions:
        order = np.argsort(-bm25.scores(model, question.text), kind="stable").tolist()
        best = order[:PASSAGES]
        if question.paragraph not in best:
            best[-1] = question.paragraph
        others = (at for at in order if paragraphs[at].article != question.article)
        yield best, [next(others) for _ in range(PASSAGES)]


def extraction(paragraphs: list[Paragraph], questions: Sequence[Question]) -> Table:
    """What the offline model makes of paragraphs that hold the answer, and of others."""
    answered = right = refused = 0
    began = time.perf_counter()
    for question, (given, others) in zip(questions, found(paragraphs, questions), strict=True):
        text = _extracted(question.text, [paragraphs[at] for at in given]).lower()
        answered += bool(text)
        right += bool(text) and any(answer.lower() in text for answer in question.answers)
        refused += not _extracted(question.text, [paragraphs[at] for at in others])
    took_ms = (time.perf_counter() - began) * 1000 / (2 * len(questions))
    rows = [
        ["answered, the right paragraph among five", f"{answered / len(questions):.1%}"],
        ["of these, hold a right answer's words", f"{right / answered:.1%}"],
        ["refused, the right article missing", f"{refused / len(questions):.1%}"],
        ["ms an answer, search included", f"{took_ms:.0f}"],
    ]
    return Table("local/extract", ("what", f"of {len(questions):,} questions"), rows)


def _extracted(question: str, given: list[Paragraph]) -> str:
    shown = [Passage(n, each.title, each.text) for n, each in enumerate(given, start=1)]
    try:
        return local.extract(passages.write(question, shown))
    except CallFailed:
        return ""


def claims(paragraphs: list[Paragraph], questions: Sequence[Question]) -> Iterator[Claim]:
    """Sentences that hold answers, and questions put as statements, with what they may cite."""
    dice = random.Random(3)
    for question in questions:
        right, answer = paragraphs[question.paragraph], question.answers[0]
        quoted = next((each for each in _sentences(right.text) if answer in each), None)
        others = [p for p in paragraphs if p.article == question.article and p is not right]
        if quoted is None:
            continue
        other = dice.choice(others).text
        stated = _stated(question.text, answer)
        for kind, sentence in (("quoted", quoted), ("stated", stated)):
            yield Claim(f"{kind}, its paragraph", True, sentence, right.text)
            yield Claim(f"{kind}, another of the article", False, sentence, other)
        for kind, sentence, part in (("quoted", quoted, quoted), ("stated", stated, answer)):
            if _NUMBER.search(part):
                changed = sentence.replace(part, _NUMBER.sub(lambda n: f"{int(n[0]) + 3}", part, 1))
                yield Claim(f"{kind}, another number", False, changed, right.text)
        name = dice.choice(questions).answers[0]
        if answer[0].isupper() and name[0].isupper() and name not in right.text:
            yield Claim("stated, another name", False, _stated(question.text, name), right.text)


def _sentences(text: str) -> list[str]:
    return [text[each.start : each.end] for each in sentences(text)]


def _stated(question: str, answer: str) -> str:
    rest = _ASKING.sub("", question.rstrip("? "))
    return f"{answer}{rest if rest != question.rstrip('? ') else ': ' + rest}."


def checking(paragraphs: list[Paragraph], questions: Sequence[Question]) -> Table:
    """Precision and recall of `citations.support`, and what it says of each kind of claim."""
    judged = [
        (claim, support(claim.sentence, claim.paragraph).score >= ENOUGH)
        for claim in claims(paragraphs, questions)
    ]
    hits = sum(claim.is_right for claim, said in judged if said)
    rows = [
        ["precision", str(sum(said for _, said in judged)), f"{hits / _count(judged, _said):.1%}"],
        ["recall", str(_count(judged, _right)), f"{hits / _count(judged, _right):.1%}"],
    ]
    for kind in sorted({claim.kind for claim, _ in judged}):
        of_kind = [said for claim, said in judged if claim.kind == kind]
        rows.append([f"supported: {kind}", str(len(of_kind)), f"{sum(of_kind) / len(of_kind):.1%}"])
    return Table("Citations", ("what", "claims", "share"), rows, f"from a score of {ENOUGH} on")


def _count(judged: list[tuple[Claim, bool]], what: Callable[[tuple[Claim, bool]], bool]) -> int:
    return sum(map(what, judged))


def _said(judged: tuple[Claim, bool]) -> bool:
    return judged[1]


def _right(judged: tuple[Claim, bool]) -> bool:
    return judged[0].is_right


def main() -> None:
    """Measure, show and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=1_000)
    parser.add_argument("--half", type=int, choices=(0, 1), default=1)
    asked = parser.parse_args()
    if not SQUAD.is_file():
        raise SystemExit(f"there is no {SQUAD}: it is measured on SQuAD 1.1's dev set")
    paragraphs, questions = read()
    chosen = [each for each in questions if each.article % 2 == asked.half][: asked.questions]
    tables = [extraction(paragraphs, chosen), checking(paragraphs, chosen)]
    for table in tables:
        table.show()
    if asked.half == 1:
        write("answers", f"# Answers\n\nSQuAD 1.1 dev, its odd articles. {machine()}.", tables)


if __name__ == "__main__":
    main()
