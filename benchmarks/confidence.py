"""How far a confidence can be trusted: `python -m benchmarks.confidence` fits and measures it anew.

Every question is asked twice: of an index that holds its article, and of one that does not, so that
half of the cases have no answer. What is told of an answer was fitted without its article.
`--write` puts the fitted numbers into the package and the plot into docs/.
"""

import argparse
import gzip
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from benchmarks.report import Table, console, machine, quote, write
from tracemill.corpus.installed import harvest
from tracemill.corpus.records import answer, question
from tracemill.corpus.reference import reference_documents
from tracemill.log import EventLog
from tracemill.retrieval import collection as collections
from tracemill.retrieval.calibrate import Quality, fit, held_out, quality
from tracemill.retrieval.confidence import ANY, SHIPPED, SIGNS, Calibration
from tracemill.retrieval.frames import chunk_schema
from tracemill.retrieval.judge import judge
from tracemill.retrieval.questions import from_records, question_schema
from tracemill.retrieval.relevance import right_chunks
from tracemill.settings import Settings

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("TRACEMILL_TEST_DATA") or ROOT.parent / "shared" / "data")
SQUAD = DATA / "squad" / "dev-v1.1.json.gz"
PLOT = ROOT / "docs" / "confidence.svg"
PAGE = ROOT / "docs" / "confidence.md"
MODELS = ("local/wordllama", "local/minilm")
ANSWERS = "local/extract"
TOGETHER = (1, 4)
"""Chunks of one paragraph, and of four: a calibration must not know how long a chunk is."""
MODULES = 300
_AFTER = 1_000  # modules are counted from here, articles below


class Data(NamedTuple):
    """Chunks and questions in two halves; `half` and `group` are columns of both."""

    name: str
    chunks: pl.DataFrame
    questions: pl.DataFrame


class Cases(NamedTuple):
    """Answers, and what is known of them."""

    signs: np.ndarray
    right: np.ndarray
    groups: np.ndarray
    asked: int
    refused: tuple[float, float]
    """The share that was refused where there is an answer, and where there is none."""


def order(text: str) -> int:
    """A number that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest())


def squad(count: int, together: int) -> Data:
    """Articles of SQuAD 1.1, so many of their questions."""
    with gzip.open(SQUAD, "rt", encoding="utf-8") as file:
        articles = sorted(json.load(file)["data"], key=lambda each: order(each["title"]))
    chunks: list[dict[str, Any]] = []
    asked: list[dict[str, Any]] = []
    for group, article in enumerate(articles):
        title, place = article["title"].replace("_", " "), {"half": group % 2, "group": group}
        texts = [paragraph["context"] for paragraph in article["paragraphs"]]
        joined = ["\n\n".join(texts[n : n + together]) for n in range(0, len(texts), together)]
        starts = np.cumsum([0, *(len(text) + 2 for text in joined)]).tolist()
        chunks += [
            chunk(title, start, text) | place for start, text in zip(starts, joined, strict=False)
        ]
        for paragraph in article["paragraphs"]:
            asked += [labelled(title, each) | place for each in paragraph["qas"]]
    asked.sort(key=lambda each: order(each["question_id"]))
    return Data(f"SQuAD 1.1, {together} a chunk", framed(chunks), questions(asked[:count]))


def labelled(title: str, asked: dict[str, Any]) -> dict[str, Any]:
    """A question of SQuAD with all its answers."""
    texts = list(dict.fromkeys(each["text"] for each in asked["answers"]))
    return {
        "question_id": asked["id"],
        "question": asked["question"],
        "document_id": title,
        "places": texts,
        "answers": texts,
        "unanswerable": False,
    }


def chunk(document: str, start: int, text: str) -> dict[str, Any]:
    """A chunk of nothing but text, where it lies in its document."""
    return {
        "chunk_id": f"{document}:{start}",
        "document_id": document,
        "title": document,
        "headings": [],
        "source": document,
        "format": "text",
        "language": "en",
        "start": start,
        "end": start + len(text),
        "tokens": len(text) // 4,
        "metadata": "{}",
        "text": text,
    }


def installed(count: int) -> Data:
    """Docstrings that are installed here: what does a name do, and the entry that tells it.

    Another kind of text: identifiers instead of names, entries that resemble each other.
    """
    records = pl.concat([batch.kept for batch in harvest()])
    pages = reference_documents(records)
    pages = pages.with_columns(order=pl.col("title").map_elements(order, pl.Int64)).sort("order")
    pages = pages.filter(pl.col("text").str.len_chars().is_between(500, 40_000)).head(MODULES)
    groups = {title: _AFTER + number for number, title in enumerate(pages["title"])}
    chunks = [
        chunk(f"{title}/{number}", 0, entry) | {"half": groups[title] % 2, "group": groups[title]}
        for title, text in pages.select("title", "text").iter_rows()
        for number, entry in enumerate(text[at : at + 1_500] for at in range(0, len(text), 1_500))
    ]
    pairs = records.with_columns(
        question(), answer(), module=pl.col("messages").list.first().struct.field("content")
    )
    module = pl.col("module").str.extract(r"module (\S+)$")
    pairs = pairs.filter(module.is_in(pages["title"].implode())).with_columns(module)
    asked: list[dict[str, Any]] = []
    for (name,), part in pairs.partition_by("module", as_dict=True).items():
        place = {"half": groups[str(name)] % 2, "group": groups[str(name)]}
        asked += [row | place for row in from_records(part, 20).to_dicts()]
    asked.sort(key=lambda each: order(each["question_id"]))
    return Data("installed documentation", framed(chunks), questions(asked[:count]))


def framed(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Chunks with their halves and groups."""
    return pl.DataFrame(rows, schema=chunk_schema() | {"half": pl.Int64, "group": pl.Int64})


def questions(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Questions with their halves and groups."""
    return pl.DataFrame(rows, schema=question_schema() | {"half": pl.Int64, "group": pl.Int64})


def cases(data: Data, model: str, folder: Path) -> Cases:
    """Ask every question of both halves."""
    settings = Settings(warehouse=folder)
    group = dict(data.questions.select("question_id", "group").iter_rows())
    every = []
    with EventLog(settings.log, fold_after_events=10**9) as log:
        for half in (0, 1):
            chunks = data.chunks.filter(pl.col("half") == half).drop("half", "group")
            held = collections.create(settings.indexes, f"half-{half}", model=model).add(chunks)
            absent = pl.col("half") != half
            asked = data.questions.with_columns(unanswerable=absent)
            right = right_chunks(asked.drop("half", "group"), chunks)
            every += judge(held, asked, right, settings=settings, log=log, model=ANSWERS)
    said = [each for each in every if each.signs]
    refused = [
        np.mean([each.not_found for each in every if each.unanswerable == there]).item()
        for there in (False, True)
    ]
    return Cases(
        signs=np.array([(each.signs or ())[: len(SIGNS)] for each in said]),
        right=np.array([each.right for each in said]),
        groups=np.array([group[each.question_id] for each in said]),
        asked=len(every),
        refused=(refused[0], refused[1]),
    )


def pooled(parts: Sequence[Cases]) -> Cases:
    """Several sets as one."""
    return Cases(
        *(np.concatenate([part[n] for part in parts]) for n in range(3)),
        asked=sum(part.asked for part in parts),
        refused=tuple(
            np.average([part.refused for part in parts], axis=0, weights=[p.asked for p in parts])
        ),
    )


def fitted(model: str, made: Cases) -> Calibration:
    """What is shipped: fitted to everything; its error is that on articles held out in turn."""
    found = quality(held_out(made.signs, made.right, made.groups), made.right)
    return fit(
        made.signs,
        made.right,
        model=model,
        provenance={
            "data": "SQuAD 1.1 development set and docstrings of Python packages, every question "
            "with its article or module and without it",
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "answer_model": ANSWERS,
            "ece": round(found.ece, 4),
            "brier": round(found.brier, 4),
            "auroc": round(found.auroc, 4),
        },
    )


def by_chance(told: np.ndarray) -> float:
    """The mean ECE of answers that are right exactly as often as it was told."""
    random = np.random.default_rng(0)
    return float(np.mean([quality(told, random.random(len(told)) < told).ece for _ in range(100)]))


def line(name: str, made: Cases, told: np.ndarray) -> tuple[str, ...]:
    """A row of the table: the raw score, and the probabilities that were told instead."""
    before, after = quality(made.signs[:, 0], made.right), quality(told, made.right)
    pairs = [
        f"{b:.3f} -> {a:.3f}"
        for b, a in (
            (before.ece, after.ece),
            (before.brier, after.brier),
            (before.auroc, after.auroc),
        )
    ]
    answered, refused = f"{1 - made.refused[0]:.1%}", f"{made.refused[1]:.1%}"
    chance = f"{by_chance(told):.3f}"
    return name, f"{made.asked:,}", f"{len(made.right):,}", answered, refused, *pairs, chance


def plot(qualities: dict[str, tuple[Quality, Quality]], path: Path) -> None:
    """The reliability plot: what was said against what was right, before and after."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "tracemill", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(qualities), figsize=(4 * len(qualities), 4), squeeze=False)
    for axis, (name, both) in zip(axes[0], qualities.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
        marks = (("raw score", "#bbbbbb", "s"), ("calibrated", "#1f77b4", "o"))
        for found, (label, colour, mark) in zip(both, marks, strict=True):
            xs, ys = zip(*found.bins, strict=True)
            told = f"{label}, ECE {found.ece:.3f}"
            axis.plot(xs, ys, color=colour, marker=mark, markersize=4, label=told)
        axis.set(title=name, xlabel="confidence", ylabel="share of right answers")
        axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axis.legend(loc="upper left", frameon=False)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)


def _both(made: Cases, told: np.ndarray) -> tuple[Quality, Quality]:
    return quality(made.signs[:, 0], made.right), quality(told, made.right)


@cache
def models() -> tuple[str, ...]:
    """The offline models that are installed."""
    is_there = find_spec("onnxruntime") is not None
    return MODELS if is_there else MODELS[:1]


def measure(count: int) -> tuple[list[Table], list[Calibration], dict[str, Any]]:
    """Everything: tables, calibrations, and what the plot shows."""
    rows: list[tuple[str, ...]] = []
    shown: dict[str, tuple[Quality, Quality]] = {}
    found: dict[str, Cases] = {}
    learned: list[Calibration] = []
    everything = [*(squad(count, together) for together in TOGETHER), installed(count // 2)]
    # Most of the time is Python's own: a process for each set and model.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        made_of = {
            model: [pool.submit(asked, data, model) for data in everything] for model in models()
        }
    for model, futures in made_of.items():
        parts = [future.result() for future in futures]
        found[model] = everyone = pooled(parts)
        learned.append(fitted(model, everyone))
        told = held_out(everyone.signs, everyone.right, everyone.groups)
        shown[f"all, {model}"] = _both(everyone, told)
        rows.append(line(f"{model}: all, articles and modules held out", everyone, told))
        ends = np.cumsum([0, *(len(part.right) for part in parts)])
        for n, (data, part) in enumerate(zip(everything, parts, strict=True)):
            own = told[ends[n] : ends[n + 1]]
            rows.append(line(f"  of these, {data.name}", part, own))
        shown[f"installed, {model}"] = _both(parts[-1], told[ends[-2] :])
        prose = pooled(parts[:-1])
        other = fit(prose.signs, prose.right, model=model).probabilities(parts[-1].signs)
        rows.append(line("  installed documentation, by SQuAD alone", parts[-1], other))
    learned.append(fitted(ANY, pooled(list(found.values()))))
    weights = [
        (each.model, *(f"{w:.2f}" for w in each.weights), str(each.provenance["answers"]))
        for each in learned
    ]
    tables = [
        Table(
            "Confidence before and after calibration",
            ("", "asked", "answers", "answered", "refused", "ECE", "Brier", "AUROC", "by chance"),
            rows,
            "answered: of the questions whose article is there; refused: of those whose article "
            "is not. Before is BM25's share of the best cited passage. ECE over ten bins with as "
            "many answers each; goal at most 0.03 on articles that were held out. By chance: the ECE "
            "that so many answers would show if every probability were exact.",
        ),
        Table("Weights, in standard deviations", ("", *SIGNS, "answers"), weights),
    ]
    return tables, learned, shown


def asked(data: Data, model: str) -> Cases:
    """`cases` in a folder of its own."""
    console.print(f"{data.name}: {data.questions.height:,} questions, twice, {model}")
    with tempfile.TemporaryDirectory(prefix="tracemill-confidence-") as folder:
        return cases(data, model, Path(folder))


def main() -> None:
    """Fit, measure, show, and with --write ship."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=1_500, help="of SQuAD, per chunk size")
    parser.add_argument("--write", action="store_true", help="ship the numbers and the plot")
    options = parser.parse_args()
    if not SQUAD.is_file():
        raise SystemExit(f"no {SQUAD}: SQuAD's development set (v1.1, gzip) is needed")
    tables, learned, shown = measure(options.questions)
    publish(tables, learned, shown, ship=options.write)


def publish(
    tables: list[Table], learned: list[Calibration], shown: dict[str, Any], *, ship: bool
) -> None:
    """Show the figures and write them to results/; with `ship` to the package and its page too."""
    for table in tables:
        table.show()
    write("confidence", f"# Confidence\n\n{machine()}", tables)
    if ship:
        told = "\n\n".join([f"Measured on {machine()}", *(table.markdown() for table in tables)])
        quote("confidence", told, PAGE)
        texts = ",\n".join(each.model_dump_json(indent=1) for each in learned)
        SHIPPED.write_text(f"[\n{texts}\n]\n", encoding="utf-8")
        plot(shown, PLOT)
        console.print(f"written: {SHIPPED.name}, {PLOT.name}")


if __name__ == "__main__":
    main()
