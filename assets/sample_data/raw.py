"""The files of the sample as somebody would drop them into raw/: records, recipes, documents."""

import json
import shutil
from pathlib import Path

from assets.sample_data import phrases
from assets.sample_data.records import Sample, as_csv, as_jsonl
from tracemill.settings import Settings

HERE = Path(__file__).parent.parent.parent / "notebooks" / "sample"
COLLECTION = "rill-handbook"
SOURCES = {
    "support.yaml": "licence: written for this sample\nlanguages: [en]\n",
    "forum.yaml": "licence: written for this sample\nlanguages: [en, de, fr]\n",
    "partner.yaml": (
        "licence: written for this sample\n"
        "columns:\n  user_query: Question\n  assistant_response: Reply\n"
        "  label: Topic\n  conversation_id: Ticket\n  timestamp: Opened\n"
    ),
}
DATASET = """\
name: rill-support
evaluations:
  held-out: evaluations/held-out.jsonl
tokens:
  max_tokens: 400
split:
  ratios: {train: 0.7, validation: 0.1, test: 0.2}
"""
ROUTER = """\
method: classify
examples: {target: label}
hyperparameters: {features: words}
"""


def write(settings: Settings, sample: Sample) -> None:
    """Records as JSON lines and CSV, how they are read, an evaluation, documents and questions."""
    raw = settings.raw_records
    for origin in ("support", "forum"):
        text = as_jsonl(sample.rows[origin], sample.broken[origin])
        _write(raw / f"{origin}.jsonl", text)
    _write(raw / "partner.csv", as_csv(sample.rows["partner"], sample.broken["partner"]))
    for name, text in SOURCES.items():
        _write(raw / name, text)
    _write(settings.raw_dataset, DATASET)
    held = "".join(json.dumps({"question": f"{each}?"}) + "\n" for each in phrases.HELD_OUT)
    _write(settings.raw_dataset.parent / "evaluations" / "held-out.jsonl", held)
    shutil.copytree(HERE / "documents", settings.raw_documents / COLLECTION)
    asked = (HERE / "questions.jsonl").read_text(encoding="utf-8")
    _write(settings.raw_questions / f"{COLLECTION}.jsonl", asked)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
