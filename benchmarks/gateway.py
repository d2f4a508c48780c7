"""The server beside LiteLLM's proxy and a bare pass-through: requests a second, latency, memory, start.

    python -m benchmarks.gateway [--quick] [--only tracemill]

All are one process before the same upstream, which answers at once; load and servers share the cores.
Ours has everything on: a key, a budget, the durable log, prices. Prints tables and writes
`results/gateway.md`, which docs/server.md quotes. Nothing here passes or fails.
"""

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks import report
from benchmarks.processes import uv
from benchmarks.report import Table, console, number, quantile

PEERS = Path(__file__).parent / "peers"
IN_FLIGHT = (1, 16, 64)
WAYS = ("plain", "stream")
READY_S = 120


class Server(NamedTuple):
    """One that is measured."""

    name: str
    url: str
    key: str
    model: str
    ready_s: float
    process: psutil.Process


def main() -> None:
    """Run everything and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    parser.add_argument("--only", help="one server: tracemill, pass-through or LiteLLM")
    options = parser.parse_args()
    # A shell may have it set; to compile every module anew would be measured as the start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix=".benchmark-", dir=report.ROOT / "warehouse"))
    rows: list[tuple[str, ...]] = []
    starts: list[tuple[str, ...]] = []
    try:
        with _upstream() as upstream:
            for name, started in _SERVERS.items():
                if options.only not in (None, name):
                    continue
                with started(upstream, scratch) as server:
                    if server is None:
                        continue
                    measured, memory = _measured(server, 200 if options.quick else 4_000)
                    rows += measured
                    starts.append((server.name, f"{server.ready_s:.1f} s", f"{memory:,.0f} MB"))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    tables = [
        Table(
            "Requests through a gateway",
            ("server", "answers", "in flight", "requests/s", "p50", "p99"),
            rows,
            "Load generator, upstream and server share the cores. tracemill: a key is checked, a "
            "budget reserved and settled, two events are durable for each request, its price is "
            "known. LiteLLM checks its key; it and the pass-through log nothing.",
        ),
        Table(
            "Start and memory",
            ("server", "ready after", "memory after the load"),
            starts,
            "Sealing the log takes another 330 MB for three seconds each 10,000 requests, in a process "
            "of its own, which is over before memory is looked at.",
        ),
    ]
    heading = (
        f"`python -m benchmarks.gateway` on {report.machine()}; {time.monotonic() - began:,.0f} s."
    )
    for table in tables:
        table.show()
    console.print(heading)
    if not options.quick and not options.only:
        path = report.write("gateway", heading, tables)
        text = path.read_text(encoding="utf-8")
        report.quote("gateway", text, report.ROOT / "docs" / "server.md")


def _measured(server: Server, requests: int) -> tuple[list[tuple[str, ...]], float]:
    rows: list[tuple[str, ...]] = []
    for way in WAYS:
        _load(server, max(IN_FLIGHT), requests // 4, way)  # warm
        for in_flight in IN_FLIGHT:
            told = _load(server, in_flight, requests if in_flight > 1 else requests // 2, way)
            took = sorted(told["took_s"])
            rate = len(took) / told["seconds"]
            p50, p99 = (f"{quantile(took, q) * 1000:,.2f} ms" for q in (0.5, 0.99))
            rows.append((server.name, way, str(in_flight), number(rate), p50, p99))
            console.print("  ".join(rows[-1]))
    family = [server.process, *server.process.children(recursive=True)]
    sealing = [each for each in family if "tracemill.log" in each.cmdline()]
    psutil.wait_procs(sealing, timeout=60)
    return rows, sum(each.memory_info().rss for each in family if each not in sealing) / 1e6


def _load(server: Server, in_flight: int, requests: int, way: str) -> dict[str, Any]:
    arguments = [server.url, server.key, server.model, str(in_flight), str(requests), way]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gateway_load", *arguments],
        cwd=report.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{server.name}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)


@contextmanager
def _upstream() -> Generator[str]:
    command = [sys.executable, "-m", "benchmarks.model_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=report.ROOT) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        finally:
            server.terminate()


@contextmanager
def _ours(upstream: str, scratch: Path) -> Generator[Server]:
    environment = {
        "TRACEMILL_WAREHOUSE": str(scratch / "warehouse"),
        "OPENAI_BASE_URL": upstream,
        # Like no word of the upstream's answers, which would be taken out of them.
        "OPENAI_API_KEY": f"sk-{secrets.token_hex(24)}",
    }
    tracemill = Path(sys.executable).parent / "tracemill"

    def told(*command: str) -> str:
        done = subprocess.run(
            [tracemill, *command], env=os.environ | environment, capture_output=True, check=True
        )
        return done.stdout.decode()

    told("init")
    key = json.loads(told("keys", "create", "benchmark", "--json"))["secret"]
    told("budgets", "set", "all", "--key", "*", "--usd", "1000000", "--per", "day")
    port = free_port()
    command = [str(tracemill), "serve", "--port", str(port), "--quiet"]
    with _running("**tracemill**", command, port, environment, key, "gpt-5.4-mini") as server:
        yield server


@contextmanager
def _pass_through(upstream: str, scratch: Path) -> Generator[Server]:
    port = free_port()
    command = [sys.executable, str(PEERS / "gateway_passthrough.py"), upstream, str(port)]
    with _running("pass-through: starlette and aiohttp", command, port, {}, "none", "m") as server:
        yield server


@contextmanager
def _litellm(upstream: str, scratch: Path) -> Generator[Server | None]:
    command = uv("litellm[proxy]")
    if command is None:
        console.print("LiteLLM is left out: no uv on the PATH or in .uv/")
        yield None
        return
    config = scratch / "litellm.yaml"
    model = {"model": "openai/gpt-5.4-mini", "api_base": upstream, "api_key": "benchmark"}
    listed = [{"model_name": "gpt-5.4-mini", "litellm_params": model}]
    config.write_text(json.dumps({"model_list": listed}), encoding="utf-8")
    port = free_port()
    # Prepared first, so that its start is not that of a download.
    subprocess.run([*command, "-c", "import litellm"], capture_output=True, check=False)
    arguments = ["--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    started = [*command[:-1], "litellm", *arguments]
    # It starts with a master key alone, and its prices are those that came with it.
    key = f"sk-{secrets.token_hex(32)}"
    environment = {"LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with _running("LiteLLM proxy", started, port, environment, key, "gpt-5.4-mini") as server:
        yield server


_SERVERS: dict[str, Callable[[str, Path], Any]] = {
    "tracemill": _ours,
    "pass-through": _pass_through,
    "LiteLLM": _litellm,
}


@contextmanager
def _running(
    name: str, command: list[str], port: int, environment: dict[str, str], key: str, model: str
) -> Generator[Server]:
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        env=os.environ | environment | {"DO_NOT_TRACK": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            alive = "health/liveliness" if name.startswith("LiteLLM") else "healthz"
            wait(f"http://127.0.0.1:{port}/{alive}", process)
            ready_s = time.perf_counter() - began
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            yield Server(name, url, key, model, ready_s, psutil.Process(process.pid))
        finally:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.terminate()
                process.terminate()


def wait(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until it answers."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.02)
    raise SystemExit(f"{process.args} did not answer")


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
