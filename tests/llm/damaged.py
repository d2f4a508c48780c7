"""Answers that are wrong in one place: a law that must hold for all of them finds every slip."""

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
Path = tuple[str | int, ...]


def damaged(*good: Any) -> st.SearchStrategy[Any]:
    """A good answer with any one of its values replaced by any JSON, half a character included."""
    places = [(answer, path) for answer in good for path in _paths(answer)]
    wrong = JSON | st.just("\ud83d")
    return st.builds(lambda at, value: _with(at[0], at[1], value), st.sampled_from(places), wrong)


def _paths(value: Any) -> Iterator[Path]:
    yield ()
    inside = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        inside = enumerate(value)
    for key, inner in inside:
        yield from ((key, *rest) for rest in _paths(inner))


def _with(value: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _with(value[path[0]], path[1:], new)
    return copy
