"""Classifiers trained here, beside scikit-learn: `python -m benchmarks.finetuning [--quick]`.

Conversations of the Schema-Guided Dialogue set to the domain they are about, by their first turn and
by several, and opening turns to the data set they are from; a fifth is held out by hash. Needs the
folder that TRACEMILL_TEST_DATA names, else `../shared/data`. Writes `results/finetuning.md`.
"""

import argparse
import gzip
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# As the worker has it; before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from benchmarks.near_ways import PEERS
from benchmarks.processes import ONE_THREAD, told, uv
from benchmarks.report import ROOT, Table, console, machine, number, quote, write
from tracemill.finetune.local import classify
from tracemill.finetune.local.labelled import examples
from tracemill.finetune.local.softmax import calibration_error
from tracemill.intervals import wilson
from tracemill.llm.trained import artefact
from tracemill.llm.trained.classifier import Classifier

PAGE = ROOT / "docs" / "quality.md"
DATA = Path(os.environ.get("TRACEMILL_TEST_DATA", ROOT.parent / "shared" / "data"))
Turns = list[dict[str, str]]
COLUMNS = ("", "right of 100", "trained, s", "an answer, ms", "artefact, MB", "ECE", "peak, MB")


class Labelled(NamedTuple):
    """A set, as two files."""

    name: str
    training: Path
    test: Path


def talks(name: str) -> Iterator[dict[str, Any]]:
    """The records of a set."""
    with gzip.open(DATA / name / "records.jsonl.gz", "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def domain(talk: dict[str, Any]) -> str:
    """What a dialogue is about, at its beginning."""
    return talk["services"][0].split("_")[0]


def first_turns() -> Iterator[tuple[Turns, str]]:
    """The first turn of each dialogue, to its domain."""
    yield from ((talk["messages"][:1], domain(talk)) for talk in talks("sgd"))


def several_turns() -> Iterator[tuple[Turns, str]]:
    """Dialogues of one domain up to a turn of the user's, chosen by hash, to the domain."""
    for talk in talks("sgd"):
        if len({service.split("_")[0] for service in talk["services"]}) == 1:
            users = [at for at, turn in enumerate(talk["messages"]) if turn["role"] == "user"]
            last = users[int(share(talk["id"]) * len(users))]
            yield talk["messages"][: last + 1], domain(talk)


def sources() -> Iterator[tuple[Turns, str]]:
    """Opening turns, to the data set that they are from."""
    yield from (([{"role": "user", "content": row["question"]}], "gsm8k") for row in talks("gsm8k"))
    for name in ("taskmaster4", "sgd"):
        yield from ((talk["messages"][:1], name) for talk in talks(name))


SETS = {
    "first turn to one of 19 domains": first_turns,
    "several turns to one of 19 domains": several_turns,
    "opening turn to one of 3 sources": sources,
}


def share(text: str) -> float:
    """From 0 to 1, by hash: equal texts fall on the same side."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def files(name: str, folder: Path, *, quick: bool) -> Labelled:
    """A set as files."""
    made = Labelled(name, folder / "training.jsonl", folder / "test.jsonl")
    folder.mkdir()
    with made.training.open("w") as training, made.test.open("w") as test:
        for turns, label in SETS[name]():
            place = share(turns[-1]["content"])
            if quick and share(turns[-1]["content"] + "?") > 0.2:
                continue
            said = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
            row = json.dumps({"messages": [*said, {"role": "assistant", "content": label}]})
            (test if place < 0.2 else training).write(row + "\n")
    return made


def ours(data: Labelled, folder: Path) -> tuple[str, ...]:
    """Trained and asked here."""
    begun = time.perf_counter()
    done = classify.train(
        data.training, None, folder, hyperparameters={}, seed=0, report=lambda _: None
    )
    trained_s = time.perf_counter() - begun
    model = Classifier(artefact.load(folder / "model"))
    cases = list(examples(data.test))
    begun = time.perf_counter()
    logs = model.log_probs([case.shown for case in cases])
    answer_ms = (time.perf_counter() - begun) / len(cases) * 1000
    places = {label: at for at, label in enumerate(model.labels)}
    right = np.array([places.get(case.label, -1) for case in cases])
    correct = int((logs.argmax(axis=1) == right).sum())
    sees = artefact.load(folder / "model").about["sees"]
    return (
        f"**tracemill** ({sees}, {done.metrics['epochs']:.0f} epochs)",
        shown(correct, len(cases)),
        number(trained_s),
        number(answer_ms),
        number(artefact.size_bytes(folder / "model") / 1e6),
        number(calibration_error(logs, right.tolist())),
        number(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    )


def majority(data: Labelled) -> tuple[str, ...]:
    """The commonest label for all."""
    labels = Counter(case.label for case in examples(data.training))
    common = labels.most_common(1)[0][0]
    cases = [case.label == common for case in examples(data.test)]
    return ("the commonest label", shown(sum(cases), len(cases)), *[""] * 5)


def sklearn(data: Labelled) -> tuple[str, ...] | None:
    """By the library, in an environment of uv's."""
    peer = uv("scikit-learn")
    script = (str(PEERS / "classify_sklearn.py"), str(data.training), str(data.test))
    got = told("scikit-learn", (*peer, *script) if peer else None, **ONE_THREAD)
    if got is None:
        return None
    return (
        "scikit-learn: TF-IDF, logistic regression",
        shown(got["correct"], got["cases"]),
        number(got["trained_s"]),
        number(got["answer_ms"]),
        "",
        "",
        number(got["memory_mb"]),
    )


def shown(correct: int, cases: int) -> str:
    """A share with its interval."""
    found = wilson(correct / cases, cases)
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def table(name: str, folder: Path, *, quick: bool) -> Table:
    """One set."""
    data = files(name, folder, quick=quick)
    rows = [majority(data), ours(data, folder / "job"), sklearn(data)]
    count = sum(1 for _ in examples(data.training)), sum(1 for _ in examples(data.test))
    note = f"{count[0]:,} examples learned from, {count[1]:,} held out."
    return Table(f"Classifiers: {name}", COLUMNS, [row for row in rows if row], note)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the text, writes nothing")
    quick = parser.parse_args().quick
    if not (DATA / "sgd").is_dir():
        sys.exit(f"no data in {DATA}: TRACEMILL_TEST_DATA names the folder that has it")
    with tempfile.TemporaryDirectory() as aside:
        tables = [table(name, Path(aside) / str(at), quick=quick) for at, name in enumerate(SETS)]
    for one in tables:
        one.show()
    if not quick:
        write("finetuning", f"# Classifiers that are trained here\n\n{machine()}", tables)
        quote("finetuning", "\n\n".join(each.markdown() for each in tables), PAGE)
        console.print("written to benchmarks/results/finetuning.md")


if __name__ == "__main__":
    main()
