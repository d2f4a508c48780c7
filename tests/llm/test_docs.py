"""The page on calling models names everything there is, and nothing else."""

import re
from pathlib import Path

from tracemill.events import KINDS
from tracemill.llm.client import Options
from tracemill.llm.providers import PROVIDERS, base_url_variable

PAGE = (Path(__file__).parents[2] / "docs" / "calls.md").read_text(encoding="utf-8")


def test_every_provider_is_named():
    # `together-completions/` and the like are `together/` in another of its languages.
    named = set(re.findall(r"`([\w-]+)/`", PAGE))
    assert named <= PROVIDERS.keys()
    assert {prefix for prefix in PROVIDERS if "-" not in prefix} <= named
    variables = {base_url_variable(prefix) for prefix in PROVIDERS}
    assert set(re.findall(r"\b[A-Z]+_BASE_URL\b", PAGE)) <= variables


def test_every_option_and_every_event_of_a_call_is_named():
    for option in Options.__annotations__:
        assert f"`{option}" in PAGE, option
    for kind in KINDS:
        if kind.startswith("llm.call."):
            assert f"`{kind}`" in PAGE, kind
