"""Questions of four departments, made of parts: enough to learn from, no two nearly the same."""

import json
from itertools import product
from pathlib import Path
from random import Random

PARTS = {
    "billing": (
        ("Why was I charged twice for", "Can I get the invoice of", "Please refund", "What did we pay for"),
        ("the annual plan", "the extra seats", "last month's storage", "the premium support", "the setup fee"),
        ("on my Visa card", "by bank transfer", "in euros", "without the discount", "before the trial ended"),
    ),
    "access": (
        ("I cannot log in to", "My password is refused by", "The second factor fails at", "Who may open"),
        ("the admin console", "the shared folder", "the test account", "the mobile app", "the staging server"),
        ("since this morning", "from the new laptop", "after my holiday", "with the spare key", "from abroad"),
    ),
    "shipping": (
        ("Where is the parcel with", "When will you deliver", "The courier has lost", "Can you resend"),
        ("the blue lamp", "the replacement battery", "our three chairs", "the printed manual", "the keyboard"),
        ("to the back door", "before the weekend", "to Lisbon", "with a tracking number", "to my neighbour"),
    ),
    "bugs": (
        ("The page crashes when I sort", "I see an empty screen after exporting", "Search ignores", "The chart draws twice"),
        ("the report of sales", "a list of tags", "the archived notes", "rows with umlauts", "the weekly totals"),
        ("in Firefox", "with dark mode on", "on a slow connection", "in the Polish version", "since the update"),
    ),
}  # fmt: skip
ANSWERS = {
    "billing": "Our accounting team looks at the payment and writes to you within two working days.",
    "access": "Please ask the administrator of your workspace to check which rights you have there.",
    "shipping": "The carrier tells us where it is, and we forward the message to you the same day.",
    "bugs": "Thank you for telling us; the developers try to see the same thing and mend it soon.",
}


def questions(*, held_out: bool = False) -> list[dict[str, str]]:
    """Rows with question, answer and label. Those that are held out speak of other things."""
    return [
        {"question": f"{' '.join(parts)}?", "answer": f"{ANSWERS[label]} ({n})", "label": label}
        for label, (starts, things, ends) in PARTS.items()
        for n, parts in enumerate(product(starts, things[4:] if held_out else things[:4], ends))
    ]


def write_questions(file: Path, *, wrong: float = 0.0, seed: int = 0) -> None:
    """JSON lines of the questions that are not held out, a share of their labels wrong."""
    random, rows = Random(seed), questions()
    random.shuffle(rows)
    for row in rows[: round(len(rows) * wrong)]:
        row["label"] = random.choice([label for label in PARTS if label != row["label"]])
    _write(file, rows)


def write_cases(file: Path, rows: list[dict[str, str]]) -> None:
    """The same as cases of an evaluation."""
    cases = [
        {"id": f"case-{n}", "input": row["question"], "expected": row["label"]}
        for n, row in enumerate(rows)
    ]
    _write(file, cases)


def _write(file: Path, rows: list[dict[str, str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
