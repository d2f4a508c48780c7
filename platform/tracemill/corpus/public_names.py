"""What a package offers, under the names that its users type.

`polars/dataframe/frame.py` defines `DataFrame`; users write `polars.DataFrame`. The imports in the
packages' `__init__` files say so, and they also say which private modules matter at all.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tracemill.corpus import records, sources
from tracemill.corpus.records import Refusal
from tracemill.corpus.sources import Definition, Module

MAX_HOPS = 12


class Public(NamedTuple):
    """A documented object under its public name."""

    name: str
    module: Module
    definition: Definition


class Home(NamedTuple):
    """Where a top-level name is defined."""

    module: str
    top: str


def public_definitions(
    files: dict[str, Path], refused: list[Refusal], *, whole: bool
) -> Iterator[Public]:
    """The documented public objects of one package: its modules' own and the re-exported ones.

    Args:
        files: dotted module name -> source file.
        refused: takes a line for every file that could not be read.
        whole: take every public module; else only what `import package` offers.
    """
    package = _Package(files, refused)
    names = package.names([name for name in files if whole or "." not in name])
    for home in sorted({each.module for each in names}):
        module = package.load(home)
        assert module is not None
        for definition in module.definitions:
            top, dot, rest = definition.qualname.partition(".")
            if name := names.get(Home(home, top)):
                yield Public(name + dot + rest, module, definition)


class _Package:
    """The modules of one package, read when they are first needed."""

    def __init__(self, files: dict[str, Path], refused: list[Refusal]) -> None:
        self.files, self.refused = files, refused
        self.modules: dict[str, Module | None] = {}

    def load(self, name: str) -> Module | None:
        """The module, or None when it is not of this package or cannot be read."""
        if name not in self.modules:
            self.modules[name] = self._parse(name) if name in self.files else None
        return self.modules[name]

    def _parse(self, name: str) -> Module | None:
        try:
            return sources.parse(name, self.files[name])
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = f"{type(error).__name__}: {error}"
            self.refused.append(records.refusal(str(self.files[name]), None, reason))
            return None

    def names(self, modules: list[str]) -> dict[Home, str]:
        """Home -> its shortest public name in these modules."""
        found: dict[Home, str] = {}
        for name in modules:
            module = None if sources.is_private(name) else self.load(name)
            if module is None:
                continue
            found[Home(name, "")] = name
            for alias, home in self._offered(module).items():
                if not alias.startswith("_"):
                    mine = f"{name}.{alias}"
                    found[home] = min(found.get(home, mine), mine, key=_rank(home))
        return found

    def _offered(self, module: Module) -> dict[str, Home]:
        """Name -> home, for all that is defined here, or meant to be imported from here."""
        offered = {top: Home(module.name, top) for top in module.tops}
        targets = dict(module.exports) if module.is_package else {}
        for star in module.stars:
            targets |= {name: f"{star}.{name}" for name in self._starred(star)}
        for alias, target in targets.items():
            home = self._find(target)
            if home is not None and alias not in offered:
                offered[alias] = home
        return offered

    def _starred(self, name: str, depth: int = 0) -> set[str]:
        module = self.load(name)
        if module is None or depth > MAX_HOPS:
            return set()
        further = (self._starred(star, depth + 1) for star in module.stars)
        return module.tops.union(module.exports if module.is_package else (), *further)

    def _find(self, target: str, depth: int = 0) -> Home | None:
        """Follow imports from a dotted name to the module that defines it."""
        name, _, top = target.rpartition(".")
        module = self.load(name)
        if module is None or depth > MAX_HOPS:
            return None
        if top in module.tops:
            return Home(name, top)
        if top in module.exports:
            return self._find(module.exports[top], depth + 1)
        homes = (self._find(f"{star}.{top}", depth + 1) for star in module.stars)
        return next((home for home in homes if home is not None), None)


def _rank(home: Home) -> Callable[[str], tuple[int, bool]]:
    """Shorter names first; of two as short, the one where the object is defined."""
    return lambda name: (name.count("."), name != f"{home.module}.{home.top}")
