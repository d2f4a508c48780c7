"""What the callers share: how a call is timed, and how the figures are told.

SCRIPT URL PROMPT_FILE CALLS
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

WARM_UP = 50


def main(prepare: Callable[[str], Callable[[str], str]]) -> None:
    """`prepare` is given the base URL and returns how a prompt is answered."""
    began = time.perf_counter()
    url, prompt_file, calls = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    answer = prepare(url)
    imported_s = time.perf_counter() - began
    prompt = prompt_file.read_text(encoding="utf-8")
    for _ in range(WARM_UP):
        assert answer(prompt).startswith("The log seals")
    took: list[float] = []
    for _ in range(calls):
        before = time.perf_counter()
        answer(prompt)
        took.append(time.perf_counter() - before)
    print(json.dumps({"took_s": took, "imported_s": imported_s}))
