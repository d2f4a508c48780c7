"""Records of the sample, written by templates, and what is planted among them, told as a truth.

The same seed gives the same files. Everything that a step of the corpus is to find is planted here
on purpose and counted: near-duplicates, personal data, refusals, lines that are no records.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeAlias

from assets.sample_data import phrases

Row: TypeAlias = dict[str, Any]
ORIGINS = {"support": 900, "forum": 380, "partner": 160}
"""Origin -> how many records of it are written before anything is planted."""
UNCERTAIN, MISLABELLED = 0.2, 0.04
FIRST_DAY = datetime(2026, 3, 2, 8, tzinfo=UTC)


@dataclass
class Planted:
    """What was put among the records on purpose."""

    families: dict[str, int] = field(default_factory=dict)
    """The question of records that are nearly the same as a whole -> how many they are."""
    twins: list[tuple[str, str]] = field(default_factory=list)
    """Questions that are nearly the same with answers that are not: no duplicates, yet a leak."""
    exact: int = 0
    personal: dict[str, int] = field(default_factory=dict)
    """Kind -> how many."""
    refusals: int = 0
    short: int = 0
    contaminated: list[str] = field(default_factory=list)
    """Records that quote a question of the evaluation."""
    long: int = 0
    unreadable: dict[str, int] = field(default_factory=dict)
    """Origin -> lines that are no records."""


@dataclass
class Sample:
    """The files of the sample, as rows and lines."""

    rows: dict[str, list[Row]]
    broken: dict[str, list[str]]
    planted: Planted


def sample(seed: int = 7) -> Sample:
    """All rows, in the order in which they are written."""
    random = Random(seed)
    rows = {
        origin: [_row(random, origin, number) for number in range(count)]
        for origin, count in ORIGINS.items()
    }
    planted = Planted()
    rows["forum"] += list(_foreign(random))
    _plant_families(random, rows["support"], planted)
    _plant_twins(random, rows["support"], planted)
    _plant_exact(random, rows["forum"], planted)
    _plant_personal(random, rows, planted)
    _plant_unwanted(random, rows, planted)
    for each in rows.values():
        random.shuffle(each)
    broken = _broken()
    planted.unreadable = {origin: len(lines) for origin, lines in broken.items()}
    return Sample(rows, broken, planted)


def question(random: Random, problem: str) -> str:
    thing, when = random.choice(phrases.THINGS), random.choice(phrases.TIMES)
    opening, ask = random.choice(phrases.OPENINGS), random.choice(phrases.ASKS)
    return f"{opening} {problem} {thing}, {when}. {ask}"


def answer(random: Random, label: str) -> str:
    first, second = random.sample(phrases.FIRST[label], 2)
    then, last = random.sample(phrases.THEN, 2), random.choice(phrases.LAST)
    return " ".join((first, then[0], second, then[1], last))


def as_jsonl(rows: list[Row], broken: list[str]) -> str:
    """One object a line; the lines that are none lie in between."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    for place, line in enumerate(broken, 1):
        lines.insert(place * len(lines) // (len(broken) + 1), line)
    return "\n".join(lines) + "\n"


def as_csv(rows: list[Row], broken: list[str]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue() + "".join(f"{line}\n" for line in broken)


def _row(random: Random, origin: str, number: int) -> Row:
    if random.random() < UNCERTAIN:
        one, other, problem = random.choice(phrases.EITHER)
        label = one if random.random() < 0.7 else other
    else:
        label = random.choice(list(phrases.PROBLEMS))
        problem = random.choice(phrases.PROBLEMS[label])
    said = answer(random, label)
    if random.random() < MISLABELLED:
        label = random.choice([each for each in phrases.PROBLEMS if each != label])
    return _as(origin, number, question(random, problem), said, label, random)


def _as(origin: str, number: int, asked: str, said: str, label: str, random: Random) -> Row:
    """A row with the columns that files of this origin have."""
    when = FIRST_DAY + timedelta(minutes=37 * number)
    if origin == "partner":
        row = {"Question": asked, "Reply": said, "Topic": label, "Ticket": f"P-{number:04}"}
        return row | {"Opened": when.isoformat()}
    row = {"question": asked, "answer": said, "label": label, "timestamp": when.isoformat()}
    if origin == "support":
        row |= {"user_id": f"garden-{random.randrange(700)}", "rating": random.choice([3, 4, 4, 5])}
    return row


def _foreign(random: Random) -> Iterator[Row]:
    """Questions in German, French and Spanish; each sentence once."""
    number = 0
    for told in phrases.FOREIGN.values():
        for label, what in told["what"].items():
            for tried in told["tried"]:
                asked = random.choice(told["ask"]).format(what=what, tried=tried)
                said = f"{random.choice(told['answer'])} ({label} {number})"
                yield _as("forum", number, asked, said, label, random)
                number += 1


def _plant_families(random: Random, rows: list[Row], planted: Planted) -> None:
    """Families of two to six whose answers differ by a word or two in one place."""
    sizes = (*[2] * 16, *[3] * 8, 4, 4, 4, 5, 5, 6)
    for first, size in zip(random.sample(rows, len(sizes)), sizes, strict=True):
        words = str(first["answer"]).split()
        place = random.randrange(4, len(words) - 4)
        for number in range(1, size):
            changed = [*words]
            changed[place] = f"certainly{number}"
            if number % 2 == 0:
                changed[place + 2] = f"indeed{number}"
            rows.append(first | {"answer": " ".join(changed)})
        planted.families[str(first["question"])] = size


def _plant_twins(random: Random, rows: list[Row], planted: Planted) -> None:
    """The question again but for its last words, with another answer: a leak between splits."""
    alone = [row for row in rows if row["question"] not in planted.families]
    for first in random.sample(alone, 60):
        asked = f"{first['question']} Thanks!"
        rows.append(first | {"question": asked, "answer": answer(random, str(first["label"]))})
        planted.twins.append((first["question"], asked))


def _plant_exact(random: Random, rows: list[Row], planted: Planted) -> None:
    copies = random.sample([row for row in rows if row["answer"].endswith((".", "!"))], 24)
    rows += [dict(row) for row in copies]
    planted.exact = len(copies)


def _plant_personal(random: Random, rows: dict[str, list[Row]], planted: Planted) -> None:
    """A sentence with something personal at the end of questions that stand alone."""
    known = {*planted.families, *(asked for pair in planted.twins for asked in pair)}
    for kind, sentence in phrases.PERSONAL.items():
        free = [row for row in rows["support"] if row["question"] not in known]
        for number, row in enumerate(random.sample(free, 22), 10):
            told = sentence.format(name=f"gardener{number}", number=number)
            row["question"] = f"{row['question']} {told}"
            known.add(row["question"])
        planted.personal[kind] = 22


def _plant_unwanted(random: Random, rows: dict[str, list[Row]], planted: Planted) -> None:
    """Refusals, answers of a word, answers of a book, and questions of the evaluation."""
    forum = rows["forum"]
    problems = [each for some in phrases.PROBLEMS.values() for each in some]
    for number in range(18):
        asked = question(random, random.choice(problems))
        said = phrases.REFUSALS[number % len(phrases.REFUSALS)]
        forum.append(_as("forum", number, asked, said, "setup", random))
    for number in range(9):
        asked = question(random, random.choice(problems))
        forum.append(_as("forum", number, asked, "Yes.", "setup", random))
    for number in range(5):
        asked = question(random, random.choice(problems))
        said = " ".join(f"Step {step}: {answer(random, 'setup')}" for step in range(1, 14))
        forum.append(_as("forum", number, asked, said, "setup", random))
    for number, held in enumerate(phrases.HELD_OUT[:7]):
        row = _as("forum", number, f"{held}?", answer(random, "fault"), "fault", random)
        forum.append(row)
        planted.contaminated.append(row["question"])
    planted.refusals, planted.short, planted.long = 18, 9, 5


def _broken() -> dict[str, list[str]]:
    whole = {"question": "Where is the key of the shed?", "answer": ["under", "the pot"]}
    return {
        "support": ['{"question": "Who waters the', json.dumps(whole), "[1, 2, 3]"],
        "forum": ['{"question": "Is this all?"}', "not a row at all", '{"answer": "Only this."}'],
        "partner": [",,,P-9001,"],
    }
