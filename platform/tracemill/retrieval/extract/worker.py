"""A process that reads files, one after the other, for the process that started it.

Requests and replies are JSON, length first, over one socket; a text follows its reply as bytes. When
the other end is gone the socket says so; a worker that is busy then is ended by its own alarm, which
no library can hold up.
"""

import json
import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

GRACE_S = 2
HEADROOM_BYTES = 1 << 30


def main(descriptor: int) -> None:
    """Answer until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    os.dup2(2, 1)  # Whatever a library prints is no answer.
    from tracemill.retrieval.extract import files

    connection.send_bytes(b"{}")
    _limit_memory(int(sys.argv[2]))
    while True:
        try:
            request: dict[str, Any] = json.loads(connection.recv_bytes())
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, request["timeout_s"] + GRACE_S)
        answer = _answer(files, request)
        text = answer["extracted"].pop("text").encode() if answer.get("extracted") else b""
        try:
            connection.send_bytes(json.dumps(answer, ensure_ascii=False).encode())
            connection.send_bytes(text)
        except (BrokenPipeError, ConnectionResetError):
            return
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(files: Any, request: dict[str, Any]) -> dict[str, Any]:
    from tracemill.errors import InputError

    try:
        return files.reply(files.read_file(Path(request["path"]), request["max_bytes"]))
    except InputError as error:
        return {"unopened": str(error)}
    except MemoryError:
        raise  # It ends the process: what is left of its memory is no use to the next file.
    except BaseException as error:  # noqa: BLE001 - a panic of Rust is no Exception
        said = " ".join(str(error).split())[:150]
        reason = f"broken: reading it failed with {type(error).__name__}: {said}"
        return files.reply(files.refused(Path(request["path"]), reason))


def _limit_memory(most_bytes: int) -> None:
    """A wall behind the parent's watch, of memory that can be written to: address space that is
    only reserved, as by Polars, says nothing."""
    if sys.platform != "linux":
        return
    import resource

    most = most_bytes + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(int(sys.argv[1]))
