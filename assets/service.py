"""The Dagster UI as one thing: it starts, says where it is, and stops whole.

`dagster dev` runs five processes. They share a home in the warehouse, so only one may run there:
two would take each other's queued runs.
"""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from dagster_shared.ipc import send_ipc_shutdown_message
from rich.console import Console

from tracemill.errors import TracemillError, UsageError
from tracemill.files import write_text_atomically
from tracemill.settings import Settings

ROOT = Path(__file__).parent.parent
START_WITHIN_S = 120
STOP_WITHIN_S = 20

# A shell's background job ignores SIGINT, and so would all that it starts: nothing would stop.
STARTER = """
import signal
from dagster._cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
COMMAND = [
    sys.executable,
    # `dg dev`, which Dagster would rather have us use, needs another layout and the network.
    *("-W", "ignore:Function `dev_command` is superseded"),
    *("-c", STARTER, "dev", "--host", "127.0.0.1"),
    *("--log-level", "warning", "--code-server-log-level", "warning"),
]


def ui(settings: Settings, port: int = 3000, console: Console | None = None) -> int:
    """Open the Dagster UI on this warehouse until ctrl-C; returns the exit code."""
    console = console or Console()
    settings.create()
    with (
        console.status("Starting the Dagster UI") as waiting,
        running(settings, port) as opened,
    ):
        waiting.stop()
        console.print(f"The Dagster UI is at {opened.url}  (ctrl-C stops it)", highlight=False)
        try:
            code = opened.process.wait()
        except KeyboardInterrupt:
            console.print("Stopping")
            return 0
    console.print(f"[red]Dagster stopped by itself with exit code {code}: its words stand above[/]")
    return 1


@dataclass(frozen=True)
class Service:
    """A running UI."""

    url: str
    process: subprocess.Popen[bytes]


def home(settings: Settings) -> Path:
    """DAGSTER_HOME, made and configured if it is not there; a changed dagster.yaml is kept."""
    folder = settings.dagster_home
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dagster.yaml").exists():
        shutil.copyfile(ROOT / "assets" / "dagster.yaml", folder / "dagster.yaml")
    return folder


@contextmanager
def running(settings: Settings, port: int) -> Iterator[Service]:
    """The web server and the daemon, until the block ends; then none of their processes is left.

    Args:
        port: of the UI on 127.0.0.1; 0 takes a free one.

    Raises `UsageError` when a UI runs on this warehouse already or the port is taken, and
    `TracemillError` when the UI does not come up.
    """
    folder = home(settings)
    with (folder / "ui.lock").open("a+") as lock:
        _claim(lock.fileno(), folder / "ui.lock")
        url = f"http://127.0.0.1:{_free(port)}"
        process, stop_pipe = _start(settings, url, lock.fileno())
        try:
            _note(lock.fileno(), f"{url} (process {process.pid})")
            _wait_until_up(url, process)
            yield Service(url, process)
        finally:
            _stop(process, stop_pipe)
            _note(lock.fileno(), "")


def _claim(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        where = path.read_text(encoding="utf-8") or "an address it has not told yet"
        raise UsageError(
            f"the UI of this warehouse runs already at {where}: open that, or stop it first"
        ) from None


def _note(lock: int, text: str) -> None:
    os.ftruncate(lock, 0)
    os.write(lock, text.encode())


def _free(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise UsageError(
                f"port {port} is taken: stop what uses it, or run `tracemill ui --port {port + 1}`"
            ) from None
        return probe.getsockname()[1]


def _start(settings: Settings, url: str, lock: int) -> tuple[subprocess.Popen[bytes], int]:
    """Start in a session of its own, so that ctrl-C reaches us alone and we stop it in order.

    It holds the lock as well: should we be killed, its orphans still keep a second UI away.
    """
    stop_read, stop_write = os.pipe()
    workspace = write_text_atomically(settings.dagster_home / "workspace.yaml", _workspace())
    process = subprocess.Popen(
        [
            *COMMAND,
            "-p",
            url.rpartition(":")[2],
            "-w",
            str(workspace),
            "--shutdown-pipe",
            str(stop_read),
        ],
        # The code server shows notebooks only from below the folder that it runs in.
        cwd=settings.warehouse,
        env=_environment(settings),
        pass_fds=[stop_read, lock],
        start_new_session=True,
    )
    os.close(stop_read)
    return process, stop_write


def _workspace() -> str:
    module = {
        "module_name": "assets.definitions",
        "working_directory": str(ROOT),
        "location_name": "tracemill",
    }
    return json.dumps({"load_from": [{"python_module": module}]})


def _environment(settings: Settings) -> dict[str, str]:
    changed = settings.model_dump(mode="json", exclude_none=True)
    ours = {f"TRACEMILL_{name.upper()}": str(value) for name, value in changed.items()}
    return {
        **os.environ,
        **ours,
        "DAGSTER_HOME": str(settings.dagster_home),
        # Without it warehouse/dagster and warehouse/log would stand first on the import path.
        "PYTHONSAFEPATH": "1",
    }


def _wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{url}/server_info", timeout=2).close()
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
    raise TracemillError(
        f"the Dagster UI did not come up at {url}: its own words stand above; "
        "`tracemill doctor` checks what it needs"
    )


def _stop(process: subprocess.Popen[bytes], stop_pipe: int) -> None:
    """Ask through the pipe, as Dagster does with its own children; then end what is left."""
    family = _family(process)
    with suppress(BrokenPipeError):
        send_ipc_shutdown_message(stop_pipe)
    _, left = psutil.wait_procs(family, timeout=STOP_WITHIN_S)
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left)
    process.wait()


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
