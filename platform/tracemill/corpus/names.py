"""Names of people, by a model for recognising names that is installed beside us.

The extra `names` brings spaCy; the model is the user's choice: `python -m spacy download NAME`.
"""

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from tracemill.corpus.stand_ins import keyed
from tracemill.errors import InputError
from tracemill.pii import Found

MODEL_VARIABLE = "TRACEMILL_NAMES_MODEL"
PREFERRED = ("en_core_web_sm", "en_core_web_md", "en_core_web_lg", "xx_ent_wiki_sm")
PEOPLE = ("PERSON", "PER")
"""What models call a person."""
FIRST = (
    *("Alex", "Robin", "Jamie", "Casey", "Morgan", "Taylor", "Jordan", "Avery", "Riley", "Quinn"),
    *(
        "Rowan",
        "Sasha",
        "Emery",
        "Finley",
        "Harper",
        "Skyler",
        "Reese",
        "Dakota",
        "Marlow",
        "Ellis",
    ),
)
LAST = (
    *("Alderwick", "Brannock", "Calloway", "Dunmere", "Eastlake", "Fenwright", "Garrowby"),
    *("Hollins", "Inverley", "Jessamy", "Kestrel", "Larkham", "Merrow", "Northam", "Oakhurst"),
    *("Penhallow", "Quillan", "Ravensby", "Selwick", "Thornby", "Underhay", "Vantress"),
    *("Westerley", "Yarrow"),
)
_OURS = frozenset(FIRST + LAST)


def find_names(texts: Sequence[str]) -> Iterator[tuple[Found, ...]]:
    """For each text the places of people's names, of kind `name`, in order.

    Our stand-ins and placeholders are none. Raises `InputError` where no model is installed.
    """
    for text, document in zip(texts, _model().pipe(texts, batch_size=256), strict=True):
        yield tuple(
            Found("name", entity.start_char, entity.end_char)
            for entity in document.ents
            if entity.label_ in PEOPLE and _is_name(text[entity.start_char : entity.end_char])
        )


def name_stand_in(name: str, salt: str) -> str:
    """As many words: `Anna Smith` -> `Robin Larkham`, `Anna` -> `Robin`, `Smith` after a title,
    or alone, by its own first name. The same for the same word and salt."""
    words = name.split()
    first = _drawn(FIRST, words[0], salt)
    return first if len(words) == 1 else f"{first} {_drawn(LAST, words[-1], salt)}"


def _drawn(names: Sequence[str], word: str, salt: str) -> str:
    return names[int(keyed("name", word.casefold(), salt), 16) % len(names)]


def _is_name(text: str) -> bool:
    return not any(char in text for char in "[]@_<>{}\n") and not _OURS.issuperset(text.split())


@lru_cache(maxsize=1)
def _model() -> Any:
    try:
        spacy: Any = import_module("spacy")
    except ImportError:
        raise InputError(
            "names of people need spaCy and a model: pip install 'tracemill[names]', "
            "then python -m spacy download en_core_web_sm"
        ) from None
    wanted = os.environ.get(MODEL_VARIABLE)
    installed: list[str] = sorted(spacy.util.get_installed_models())
    found = [
        name for name in ((wanted,) if wanted else (*PREFERRED, *installed)) if name in installed
    ]
    if not found:
        raise InputError(
            f"spaCy has no model {wanted or 'for names'}: python -m spacy download "
            f"{wanted or PREFERRED[0]}, or name an installed one in {MODEL_VARIABLE}"
        )
    return spacy.load(found[0], exclude=["parser", "lemmatizer", "attribute_ruler", "tagger"])
