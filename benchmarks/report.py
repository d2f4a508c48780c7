"""Figures as tables: on the screen, in `results/`, and between the README's markers."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import apsw
from rich.console import Console
from rich.table import Table as RichTable

ROOT = Path(__file__).parents[1]
console = Console(width=None if os.isatty(1) else 140)


@dataclass(frozen=True)
class Table:
    """One question and its figures, each cell as it is shown."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def show(self) -> None:
        """Print it."""
        shown = RichTable(title=self.title, title_justify="left", caption=self.note or None)
        for i, column in enumerate(self.columns):
            shown.add_column(column, justify="left" if i == 0 else "right")
        for row in self.rows:
            shown.add_row(*row)
        console.print(shown)

    def markdown(self) -> str:
        """It as Markdown."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.columns, rule, *self.rows)]
        return "\n".join([f"### {self.title}", "", *lines, *(["", self.note] if self.note else [])])


def machine() -> str:
    """What the figures were measured on."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "polars", "pyarrow"))
    return (
        f"{os.cpu_count()} cores ({platform.machine()}, {platform.system()} {platform.release()}), "
        f"Python {platform.python_version()}, SQLite {apsw.sqlitelibversion()} in apsw, {libraries}; "
        f"{datetime.now(UTC):%Y-%m-%d}"
    )


def write(name: str, heading: str, tables: Sequence[Table]) -> Path:
    """Write `results/NAME.md`."""
    text = "\n\n".join([heading, *(table.markdown() for table in tables)]) + "\n"
    path = ROOT / "benchmarks" / "results" / f"{name}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def quote(name: str, text: str, readme: Path = ROOT / "README.md") -> bool:
    """Put `text` between `<!-- benchmarks:NAME -->` and its end; False where there is no such place."""
    begin, end = f"<!-- benchmarks:{name} -->", f"<!-- /benchmarks:{name} -->"
    page = readme.read_text(encoding="utf-8") if readme.exists() else ""
    if begin not in page or end not in page:
        return False
    before, rest = page.split(begin, 1)
    after = rest.split(end, 1)[1]
    readme.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8")
    return True


def number(value: float) -> str:
    """12,345 or 1.23: three digits that matter, at least."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def quantile(sorted_values: Sequence[float], q: float) -> float:
    """The value below which a share `q` of them lies."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * q))]


def microseconds(seconds: float) -> str:
    """As microseconds or milliseconds, with the unit."""
    return f"{seconds * 1e6:,.0f} us" if seconds < 0.001 else f"{seconds * 1e3:,.1f} ms"
