"""The fixture `snapshot`: where a test's snapshots are, what they are called, which were used.

They lie beside the test, in `__snapshots__/<file>/`, and begin with its name, so that each belongs to
one test only, whichever process runs it.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from tracemill.errors import TracemillError
from tracemill.quality.snapshots import THRESHOLD, How, check

FOLDER = "__snapshots__"
_STRANGE = re.compile(r"[^\w.\[\]=+,@ -]|-{2,}|^[. ]|[. ]$")
_MOST_BYTES = 80


class Snapshot:
    """Holds values of one test against those that were kept."""

    def __init__(self, file: Path, test: str, *, update: bool) -> None:
        self.folder = folder_of(file)
        self.states: dict[str, str] = {}
        """Files that were used -> what became of them."""
        self._owner, self._update = owner_of(test), update
        self._unnamed = 0

    def __call__(
        self,
        value: Any,
        name: str | None = None,
        *,
        how: How = "exact",
        threshold: float = THRESHOLD,
    ) -> None:
        """Fail unless a value is the one that was kept.

        Args:
            value: text, or what JSON can say.
            name: needed only to tell several snapshots of a test apart; else they are numbered.
            how: `exact`, `normalised` (white space and Unicode forms do not count), or `semantic`.
            threshold: of `semantic`: the least cosine of the offline embeddings.
        """
        __tracebackhide__ = True
        if name is None:
            self._unnamed += 1
            name = str(self._unnamed) if self._unnamed > 1 else None
        whole = self._owner if name is None else f"{self._owner}--{name}"
        try:
            verdict = check(
                self.folder, whole, value, how=how, threshold=threshold, update=self._update
            )
        except TracemillError as error:
            raise AssertionError(str(error)) from None
        if self.states.get(str(verdict.path)) not in {"written", "updated"}:
            self.states[str(verdict.path)] = verdict.state
        if not verdict.ok:
            raise AssertionError(verdict.reason)

    def begin_again(self) -> None:
        """For the next sample: it has the same snapshots."""
        self._unnamed = 0


def folder_of(file: Path) -> Path:
    """Where the snapshots of a test file are."""
    return file.parent / FOLDER / file.stem


def owner_of(test: str) -> str:
    """What the snapshots of a test begin with: its name, with a digest where a file cannot bear it."""
    name = test.split("::", 1)[-1].replace("::", ".")
    plain = _STRANGE.sub("_", name)
    # Of two values that differ by case alone, some systems would make one file.
    cased = any(letter.isupper() for letter in name.partition("[")[2])
    if plain == name and not cased and len(name.encode()) <= _MOST_BYTES:
        return name
    cut = plain.encode()[: _MOST_BYTES - 9].decode(errors="ignore").rstrip(". -")
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return f"{cut}-{digest}"
