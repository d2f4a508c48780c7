"""What the command line asks of Dagster: `build`, `demo` and `ui`; each returns its exit code."""

from assets.build import build
from assets.demo import demo
from assets.service import ui

__all__ = ["build", "demo", "ui"]
