"""The providers' published request schemas, where they lie beside the repository."""

import importlib.util
from functools import cache
from typing import Any

from tests.llm.recorded import DATA


def request_errors(provider: str, schema: str, body: object) -> list[str]:
    """What the strict schema says against a request; empty where it is valid."""
    return _schemas().errors(provider, schema, body)


@cache
def _schemas() -> Any:
    spec = importlib.util.spec_from_file_location("schemas", DATA / "specs" / "request_schemas.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
