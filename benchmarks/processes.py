"""A measurement in a process alone, by this Python or in an environment that uv makes for it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.report import ROOT, console

PYTHON = (sys.executable, "-m")
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
"""For libraries that would take all cores."""


def uv(*requirements: str) -> tuple[str, ...] | None:
    """The command before a script: uv with what it requires; None where there is no uv."""
    places = [os.environ.get("PATH", ""), *map(str, (ROOT / ".uv", ROOT / ".uv" / "bin"))]
    found = shutil.which("uv", path=os.pathsep.join(places))
    if found is None:
        return None
    if not requirements:
        return found, "run", "--quiet", "--no-project", "--script"
    asked = [part for each in requirements for part in ("--with", each)]
    return found, "run", "--quiet", "--no-project", *asked, "python"


def told(name: str, command: Sequence[str] | None, **environment: str) -> dict[str, Any] | None:
    """The last line that the process prints, as JSON; None, with the reason on the screen."""
    if command is None:
        console.print(f"{name} is left out: no uv on the PATH or in .uv/")
        return None
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "DO_NOT_TRACK": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        console.print(f"{name} is left out: {done.stderr.strip().splitlines()[-1:]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])
