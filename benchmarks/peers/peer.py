"""What every peer's script shares: measure calls, or make calls and die, or count what is stored.

    SCRIPT measure|kill|count FOLDER CALLS_FILE NUMBER

`kill` says on its output that all calls have returned, and then sends itself SIGKILL at once: a
tight loop and no grace, which is the worst that can happen to a sender with a queue.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

WARM_UP = 20


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


def main(
    prepare: Callable[[Path], tuple[Callable[[dict], None], Callable[[], None]]],
    count: Callable[[Path], int],
) -> None:
    """`prepare` returns how to log one call, and how to wait until all of them are stored."""
    what, folder, calls_file, number = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    if what == "count":
        print(json.dumps({"stored": count(folder) - WARM_UP}))
        return
    with open(calls_file, encoding="utf-8") as file:
        calls = list(islice(cycle([json.loads(line) for line in file]), number + WARM_UP))
    log, finish = prepare(folder)
    for call in calls[:WARM_UP]:
        log(call)
    finish()
    took, bytes_before = [], size(folder)
    began = time.perf_counter()
    for call in calls[WARM_UP:]:
        before = time.perf_counter()
        log(call)
        took.append(time.perf_counter() - before)
    returned = time.perf_counter()
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    finish()
    stored = time.perf_counter()
    took.sort()
    print(
        json.dumps(
            {
                "p50_s": took[len(took) // 2],
                "p99_s": took[int(len(took) * 0.99)],
                "returned_s": returned - began,
                "stored_s": stored - began,
                "bytes": size(folder) - bytes_before,
            }
        )
    )
