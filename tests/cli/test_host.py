"""The command line towards its host in a checkout, and what `--help` costs and teaches."""

import re
import signal
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest

from tests.cli.running import TRACEMILL, Ran, Run, spawned

# The host


def test_demo_build_and_ui_reach_the_checkout_around_them(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "inner").mkdir()
    (tmp_path / "assets" / "definitions.py").touch()
    (tmp_path / "assets" / "run.py").write_text(
        "def demo(settings): print('demo', settings.warehouse.is_dir()); return 0\n"
        "def build(settings, selection=None): print('build', selection); return 1\n"
        "def ui(settings, port): raise RuntimeError(f'no port\\n{port}')\n"
    )

    def ran(*arguments: str, **environment: str) -> Ran:
        environment["TRACEMILL_WAREHOUSE"] = str(tmp_path / "warehouse")
        return spawned(str(TRACEMILL), *arguments, cwd=tmp_path / "inner", **environment)

    assert ran("demo") == Ran(0, "demo True\n", "")
    assert ran("build") == Ran(1, "build None\n", "")
    assert ran("build", "corpus") == Ran(1, "build corpus\n", "")
    surprise = "error: unexpected RuntimeError: no port 3111; TRACEMILL_TRACEBACK=1 shows where\n"
    assert ran("ui", "--port", "3111") == Ran(1, "", surprise)
    assert "Traceback" in ran("ui", TRACEMILL_TRACEBACK="1").err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_host_that_is_told_to_end_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "definitions.py").touch()
    (tmp_path / "assets" / "run.py").write_text(
        "import signal\n"
        "def ui(settings, port):\n"
        "    try:\n"
        "        print('running', flush=True)\n"
        "        signal.pause()\n"
        "    finally:\n"
        "        print('stopped')\n"
    )
    command = [TRACEMILL, "ui", "--warehouse", str(tmp_path / "warehouse")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "running\n"
        host.send_signal(number)
        assert host.communicate(timeout=20) == ("stopped\n", None)
    assert host.returncode == 128 + number


def test_the_host_takes_what_the_command_line_gives() -> None:
    from assets import run as host

    signature(host.demo).bind("settings")
    signature(host.build).bind("settings", None)
    signature(host.ui).bind("settings", 3000)


# Help


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, tracemill.cli\n"
        "try: tracemill.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = 'duckdb polars pyarrow numpy dagster pydantic apsw marimo'.split()\n"
        "print('heavy:', sorted(set(heavy) & sys.modules.keys()))\n"
    )
    ran = spawned(sys.executable, "-c", program)
    assert ran.out.endswith("heavy: []\n"), ran


@pytest.mark.parametrize("command", ["build", "ask", "init", "log tail", "log sql", "log export"])
def test_help_teaches_by_example(run: Run, command: str) -> None:
    ran = run(*command.split(), "--help")
    assert ran.code == 0
    assert re.search(rf"^ +tracemill {command} ", ran.out, re.MULTILINE)


def test_version_is_the_packages(run: Run) -> None:
    ran = run("--version")
    assert re.fullmatch(r"tracemill \d+\.\d+\.\d+\n", ran.out)
    assert spawned(sys.executable, "-m", "tracemill", "--version") == ran
