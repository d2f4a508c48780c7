"""How well the local language model predicts text, and how fast: `python -m benchmarks.finetuning_lm`.

Task dialogues (SGD: other dialogues, some of services that were never seen) and answers to sums
(GSM8K); only what the assistant says counts. It is data beside the repository: without it nothing
runs.
"""

import argparse
import gzip
import json
import lzma
import math
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks.report import ROOT, Table, machine, quote, write
from tracemill.finetune.local import lm
from tracemill.finetune.local.python_help import base
from tracemill.llm.trained import artefact, ngram
from tracemill.llm.trained.conversation import rendered
from tracemill.llm.trained.ngram import Model

PAGE = ROOT / "docs" / "quality.md"
DATA = Path(os.environ.get("TRACEMILL_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
ORDER_PLAIN = 8
FIRST_ANSWER = """
import sys; from pathlib import Path
from tracemill.llm.trained import artefact, ngram
model = ngram.model(artefact.load(Path(sys.argv[1])))
print("".join(piece.text for piece in ngram.write(model, [{"role": "user", "content": "Hi"}])))
"""

Talk = list[dict[str, str]]


class Data(NamedTuple):
    """Conversations to learn from and conversations to predict."""

    name: str
    training: list[Talk]
    held_out: list[Talk]


def read(quick: bool) -> Iterator[Data]:
    """The data sets that are there."""
    size = 600_000 if quick else 3_300_000
    rows = list(_lines(DATA / "sgd" / "records.jsonl.gz"))
    training = [row["messages"] for row in rows if row["split"] == "train"]
    held_out = [row["messages"] for row in rows if row["split"] == "test"]
    yield Data("dialogues (SGD)", _up_to(training, size), _up_to(held_out, 400_000))
    rows = list(_lines(DATA / "gsm8k" / "records.jsonl.gz"))
    talks = {
        split: [
            [
                {"role": "user", "content": row["question"]},
                {"role": "assistant", "content": row["answer"]},
            ]
            for row in rows
            if row["split"] == split
        ]
        for split in ("train", "test")
    }
    yield Data("sums (GSM8K)", _up_to(talks["train"], size), _up_to(talks["test"], 400_000))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _up_to(talks: list[Talk], size: int) -> list[Talk]:
    sizes = np.cumsum([len(rendered(talk).data) for talk in talks])
    return talks[: int(np.searchsorted(sizes, size)) + 1]


def train(data: Data, folder: Path, **hyperparameters: float | bool) -> float:
    """Train a model; returns the seconds."""
    rows = folder / "training.jsonl"
    lines = (json.dumps({"messages": talk}) for talk in data.training)
    rows.write_text("\n".join(lines), encoding="utf-8")
    start = time.perf_counter()
    lm.train(rows, None, folder, hyperparameters=hyperparameters, seed=0, report=lambda epoch: None)
    return time.perf_counter() - start


def bits(model: Model, data: Data) -> float:
    """For each byte that the assistant says in what was held out."""
    talks = [rendered(talk) for talk in data.held_out]
    return float(-np.log2(ngram.mixed(model, ngram.parts(model.own, model.base, talks))).mean())


def without(model: Model, *columns: int) -> Model:
    """The model without its base (1) or copies (2)."""
    mixture = model.mixture.copy()
    mixture[:, :, columns] = 0.0
    return model._replace(mixture=mixture / mixture.sum(axis=2, keepdims=True))


def plain_witten_bell(data: Data) -> tuple[float, float]:
    """An n-gram model as one would write it with dictionaries; bits per byte and seconds to train."""
    start = time.perf_counter()
    counts: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
    for talk in data.training:
        text = rendered(talk).data
        for at, byte in enumerate(text):
            for length in range(ORDER_PLAIN):
                if length <= at:
                    counts[text[at - length : at]][byte] += 1
    seconds = time.perf_counter() - start
    totals = {context: following.total() for context, following in counts.items()}
    spent, said = 0.0, 0
    for talk in data.held_out:
        text, spans = rendered(talk)
        for begin, end in spans:
            for at in range(begin, end):
                likely = 1 / 256
                for length in range(min(ORDER_PLAIN, at + 1)):
                    context = text[at - length : at]
                    if context not in totals:
                        break
                    following, kinds = counts[context], len(counts[context])
                    likely = (following[text[at]] + kinds * likely) / (totals[context] + kinds)
                spent -= math.log2(likely)
            said += end - begin
    return spent / said, seconds


COMPRESSORS: dict[str, Callable[[bytes], int]] = {
    "gzip -9": lambda data: len(zlib.compress(data, 9)),
    "zstd -19": lambda data: len(pa.Codec("zstd", 19).compress(data, asbytes=True)),
    "xz -9": lambda data: len(lzma.compress(data, preset=9)),
}


def compressed(size: Callable[[bytes], int], data: Data) -> float:
    """Bits per byte that what was held out adds to a file that holds the examples already."""
    known, new = (_said(talks) for talks in (data.training, data.held_out))
    return 8 * (size(known + new) - size(known)) / len(new)


def _said(talks: list[Talk]) -> bytes:
    said = (turn["content"] for talk in talks for turn in talk if turn["role"] == "assistant")
    return "\n".join(said).encode()


def predictions(data: Data, folder: Path) -> Table:
    """Beside compressors and plain Python."""
    seconds = train(data, folder)
    model = ngram.model(artefact.load(folder / "model"))
    untrained = ngram.model(base())
    plain, plain_seconds = plain_witten_bell(data)
    megabytes = artefact.size_bytes(folder / "model") / 1e6
    rows = [(name, f"{compressed(size, data):.3f}", "", "") for name, size in COMPRESSORS.items()]
    rows += [
        (f"plain Python, Witten-Bell, order {ORDER_PLAIN}", f"{plain:.3f}", f"{plain_seconds:.1f}", ""),
        ("the base alone", f"{bits(untrained, data):.3f}", "", ""),
        ("ours without base and copies", f"{bits(without(model, 1, 2), data):.3f}", "", ""),
        ("ours without copies", f"{bits(without(model, 2), data):.3f}", "", ""),
        ("ours", f"{bits(model, data):.3f}", f"{seconds:.1f}", f"{megabytes:.1f}"),
    ]  # fmt: skip
    size = sum(len(rendered(talk).data) for talk in data.training) / 1e6
    return Table(
        f"Bits per byte: {data.name}, {size:.1f} MB to learn from",
        ("", "bits per byte", "train, s", "MB"),
        rows,
        "Without base or copies the others take over their weight. For compressors: what the text "
        "adds to a file that holds the examples.",
    )


def sizes(data: Data, folder: Path) -> Table:
    """What it costs to leave out what is rare."""
    rows: list[tuple[str, ...]] = []
    for megabytes in (2, 4, 8, 12):
        train(data, folder, megabytes=megabytes)
        model = ngram.model(artefact.load(folder / "model"))
        grams = sum(len(level.labels) for level in model.own)
        written = artefact.size_bytes(folder / "model") / 1e6
        rows.append((f"{megabytes}", f"{written:.1f}", f"{grams:,}", f"{bits(model, data):.3f}"))
    columns = ("megabytes allowed", "MB", "n-grams", "bits per byte")
    return Table(f"What is rare goes first: {data.name}", columns, rows)


def speeds(data: Data, folder: Path) -> Table:
    """Of a model of the size that is usual."""
    train(data, folder)
    model = ngram.model(artefact.load(folder / "model"))
    start = time.perf_counter()
    bits(model, data)
    scored = sum(len(rendered(talk).data) for talk in data.held_out) / (time.perf_counter() - start)

    def written(prompts: list[Talk]) -> float:
        begin = time.perf_counter()
        said = sum(
            len(piece.text.encode())
            for seed, prompt in enumerate(prompts)
            for piece in ngram.write(model, prompt, temperature=1, seed=seed)
        )
        return said / (time.perf_counter() - begin)

    usual = [talk[:1] for talk in data.held_out[:300]]
    long: Talk = [
        {"role": "user", "content": _said(data.training)[:100_000].decode(errors="ignore")}
    ]
    begin = time.perf_counter()
    next(iter(ngram.write(model, long)))
    after_long_ms = 1000 * (time.perf_counter() - begin)
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", FIRST_ANSWER, folder / "model"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    fresh_s = time.perf_counter() - begin
    rows = [
        ("conversations scored, kB/s", f"{scored / 1e3:,.0f}"),
        ("answers written, kB/s", f"{written(usual) / 1e3:,.0f}"),
        ("first character after a prompt of 100 kB, ms", f"{after_long_ms:,.0f}"),
        ("first answer in a fresh process, s", f"{fresh_s:.2f}"),
    ]
    return Table(f"Speed: {data.name}", ("", ""), rows)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the text, writes nothing")
    quick = parser.parse_args().quick
    if not (DATA / "sgd").is_dir():
        sys.exit(f"no data in {DATA}: TRACEMILL_TEST_DATA names the folder that has it")
    tables: list[Table] = []
    with tempfile.TemporaryDirectory() as aside:
        for number, data in enumerate(read(quick)):
            folder = Path(aside) / str(number)
            folder.mkdir()
            tables.append(predictions(data, folder))
            if number == 0:
                tables += [sizes(data, folder), speeds(data, folder)]
    for table in tables:
        table.show()
    if not quick:
        write("finetuning_lm", f"# Local language models\n\n{machine()}", tables)
        quote("finetuning_lm", "\n\n".join(each.markdown() for each in tables), PAGE)


if __name__ == "__main__":
    main()
