"""A trainer of your own, to copy: `provider: subprocess`, `command: [python, docs/trainer.py, "{folder}"]`.

It learns a perceptron over words with nothing but the standard library; put torch, peft or axolotl in
the place of `Perceptron`. What the files mean is told in tracemill/finetune/providers/folder.py.
"""

import json
import os
import random
import sys
from pathlib import Path
from typing import Any


def main(folder: Path) -> None:
    """Train the job in a folder; goes on from its last checkpoint where it was stopped."""
    job = json.loads((folder / "job.json").read_text())
    epochs = int(job["hyperparameters"].get("epochs", 3))
    examples = read(folder / job["training"]["file"])
    watched = read(folder / job["validation"]["file"]) if job["validation"] else []
    model, done = last_checkpoint(folder)
    state: dict[str, Any] = {"state": "running", "step": done, "total_steps": epochs}
    tell(folder, state)
    for epoch in range(done + 1, epochs + 1):
        order = random.Random(f"{job['seed']} {epoch}").sample(examples, len(examples))
        loss = sum(model.learn(text, label) for text, label in order) / len(order)
        metrics = {"validation_accuracy": model.accuracy(watched)} if watched else {}
        event = {"step": epoch, "loss": loss, "metrics": metrics}
        # In this order a stop anywhere loses no epoch; it may be told twice, and is recorded once.
        tell_event(folder, event)
        save(folder, model, event)
        state |= {**event, "epoch": epoch}
        for mark, word in (("cancel", "cancelled"), ("pause", "paused")):
            if (folder / mark).exists():
                tell(folder, state | {"state": word})
                return
        tell(folder, state)
    (folder / "artefact").mkdir(exist_ok=True)
    write(folder / "artefact" / "weights.json", json.dumps(model.weights, sort_keys=True))
    tell(folder, state | {"state": "succeeded", "trained_tokens": model.seen})


class Perceptron:
    """Counts for words and labels."""

    def __init__(self, weights: dict[str, dict[str, int]], seen: int) -> None:
        self.weights, self.seen = weights, seen

    def guess(self, text: str) -> str:
        found = [self.weights.get(word, {}) for word in text.split()]
        labels = sorted({label for each in found for label in each})
        return max(labels, key=lambda one: sum(each.get(one, 0) for each in found), default="")

    def learn(self, text: str, label: str) -> bool:
        """Correct the weights of the words where the guess is wrong; whether it was."""
        guess = self.guess(text)
        self.seen += len(text.split())
        if guess == label:
            return False
        for word in text.split():
            weights = self.weights.setdefault(word, {})
            weights[label] = weights.get(label, 0) + 1
            if guess:
                weights[guess] = weights.get(guess, 0) - 1
        return True

    def accuracy(self, examples: list[tuple[str, str]]) -> float:
        return sum(self.guess(text) == label for text, label in examples) / len(examples)


def read(path: Path) -> list[tuple[str, str]]:
    """The last question of each example, and its answer."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line)["messages"] for line in file]
    return [(row[-2]["content"], row[-1]["content"]) for row in rows]


def last_checkpoint(folder: Path) -> tuple[Perceptron, int]:
    """The model as it was kept last, and after which epoch."""
    about = [json.loads(path.read_text()) for path in (folder / "checkpoints").glob("*.json")]
    if not about:
        return Perceptron({}, 0), 0
    step = max(each["step"] for each in about)
    kept = json.loads((folder / "checkpoints" / f"epoch-{step}").read_text())
    return Perceptron(kept["weights"], kept["seen"]), step


def save(folder: Path, model: Perceptron, event: dict[str, Any]) -> None:
    """The checkpoint first, then its description: one that is not whole is never seen."""
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    name = f"epoch-{event['step']}"
    write(checkpoints / name, json.dumps({"weights": model.weights, "seen": model.seen}))
    write(checkpoints / f"{name}.json", json.dumps(event))


def tell(folder: Path, state: dict[str, Any]) -> None:
    write(folder / "state.json", json.dumps(state))


def tell_event(folder: Path, event: dict[str, Any]) -> None:
    """A line, unless it was told before. A line without an end was cut by a stop: it is removed."""
    path = folder / "events.jsonl"
    path.touch()
    with path.open("r+b") as file:
        whole = file.read().rpartition(b"\n")[0]
        file.truncate(len(whole) + bool(whole))
        file.seek(0, os.SEEK_END)
        if all(json.loads(line)["step"] != event["step"] for line in whole.splitlines()):
            file.write(json.dumps(event).encode() + b"\n")


def write(path: Path, text: str) -> None:
    """Whole or not at all."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(text)
    aside.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
