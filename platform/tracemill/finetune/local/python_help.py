"""What a language model knows before it has seen an example: text that is on every machine.

The topics of Python's `help()`: half a megabyte of technical English and code, counted in a third of
a second and kept. Examples that are many leave little for it to say; few leave much.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

from tracemill.files import write_text_atomically
from tracemill.finetune.local import counts, mixing
from tracemill.llm.trained import artefact, ngram
from tracemill.llm.trained.artefact import Artefact
from tracemill.llm.trained.conversation import Conversation

NAME = "python-help"
"""What it is called among the models."""
_ORDER = 6
_MOST = 1_000_000
_VERSION = "1"
"""Of the way in which it is counted."""


def base(models: Path | None = None) -> Artefact:
    """The base model; it can be served as `ft:local:python-help:<digest>` where it is kept.

    Args:
        models: the folder of all models, where it is kept once it is made; None keeps nothing.
    """
    if models is None:
        with tempfile.TemporaryDirectory() as aside:
            return base(Path(aside))
    texts = _texts()
    named = hashlib.sha256("\0".join([_VERSION, *texts, *texts.values()]).encode()).hexdigest()[:16]
    known = models / NAME / f"of-{named}"
    if not known.exists():
        with tempfile.TemporaryDirectory() as aside:
            _make(texts, Path(aside))
            digest = artefact.publish(Path(aside), models, NAME)
        write_text_atomically(known, digest)
    digest = known.read_text(encoding="ascii")
    return artefact.load(artefact.folder_of(models, NAME, digest), digest)


def _make(texts: dict[str, str], folder: Path) -> None:
    said: list[Conversation] = [
        [{"role": "user", "content": topic}, {"role": "assistant", "content": text}]
        for topic, text in texts.items()
    ]
    counted = counts.count(counts.text_of(said), _ORDER, _MOST)
    levels = counts.levels(counted, _ORDER)
    about = {
        "kind": ngram.KIND,
        "name": NAME,
        "text": "pydoc_data.topics",
        "python": sys.version.split()[0],
        "order": _ORDER,
    }
    artefact.save(folder, about, ngram.packed(ngram.Model(levels, (), mixing.own_alone(_ORDER))))


def _texts() -> dict[str, str]:
    from pydoc_data.topics import topics

    return dict(sorted(topics.items()))
