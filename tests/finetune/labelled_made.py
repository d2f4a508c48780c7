"""Labelled examples of our own words: orders to a workshop, each with its department."""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

WORDS = {
    "joinery": "oak plank chisel plane dovetail glue varnish cabinet shelf drawer",
    "smithy": "anvil hammer forge iron steel rivet bellows quench hinge blade",
    "weaving": "loom thread wool warp weft shuttle linen dye pattern cloth",
}
ASKING = (
    "could you repair the",
    "we need a new",
    "when is the",
    "please send us a",
    "who made the",
)


def orders(count: int, seed: int, words: dict[str, str] = WORDS) -> list[tuple[str, str]]:
    """Sentences and their departments, in turn."""
    draw = random.Random(seed)
    labels = list(words)
    made: list[tuple[str, str]] = []
    for number in range(count):
        label = labels[number % len(labels)]
        some = " and the ".join(draw.sample(words[label].split(), 2))
        made.append((f"{draw.choice(ASKING)} {some} {draw.randint(1, 999)}", label))
    return made


def write(path: Path, examples: Iterable[tuple[str | Sequence[dict[str, str]], str]]) -> Path:
    """As JSON lines; an example is a sentence of the user's, or its turns."""
    with path.open("w", encoding="utf-8") as file:
        for shown, label in examples:
            turns = [{"role": "user", "content": shown}] if isinstance(shown, str) else [*shown]
            turns.append({"role": "assistant", "content": label})
            file.write(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
    return path
