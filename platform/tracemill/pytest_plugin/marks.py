"""What `@pytest.mark.llm` says of a test."""

from typing import Any, NamedTuple

import pytest

from tracemill.errors import UsageError

_MOST_SAMPLES = 100_000


class Sampling(NamedTuple):
    """How often a test is run, and what it has to reach."""

    samples: int = 1
    min_accuracy: float | None = None
    """The least share of samples that pass; None: all of them have to."""
    model: str | None = None
    """Whom `llm` asks; None: that of --llm-model."""
    prompt: str | None = None
    """The registered prompt that `llm` renders values with: a name, or name@version."""


def sampling_of(item: pytest.Item) -> Sampling:
    """What the nearest mark says; without one, the defaults. Raises `UsageError`."""
    mark = item.get_closest_marker("llm")
    if mark is None:
        return Sampling()
    given = dict(mark.kwargs)
    if mark.args or given.keys() - set(Sampling._fields):
        strange = [*map(repr, mark.args), *(given.keys() - set(Sampling._fields))]
        raise UsageError(
            f"the mark llm takes {', '.join(Sampling._fields)}, by name: not {strange[0]}"
        )
    sampling = Sampling(**given)
    if wrong := _wrong(sampling):
        raise UsageError(f"the mark llm of {item.nodeid}: {wrong}")
    return sampling


def _wrong(sampling: Sampling) -> str | None:
    samples: Any = sampling.samples
    least: Any = sampling.min_accuracy
    if isinstance(samples, bool) or not isinstance(samples, int):
        return f"samples is a whole number, not {samples!r}"
    if not 1 <= samples <= _MOST_SAMPLES:
        return f"samples is from 1 to {_MOST_SAMPLES:,}, not {samples}"
    if least is not None and (
        isinstance(least, bool) or not isinstance(least, int | float) or not 0 < least < 1
    ):
        return f"min_accuracy is a share between 0 and 1, not {least!r}; leave it out for all"
    for name in ("model", "prompt"):
        value: Any = getattr(sampling, name)
        if value is not None and not (isinstance(value, str) and value):
            return f"{name} is a name, not {value!r}"
    return None
