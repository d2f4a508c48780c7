"""A real PostgreSQL for a test, in a folder of its own; None where its programs are not installed."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """The folder with `initdb` and `pg_ctl`: the newest of those that Debian installs, or the path's."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    named = shutil.which("initdb")
    return found[-1].parent if found else Path(named).parent if named else None


@contextmanager
def served() -> Generator[str]:
    """Serve an empty database over loopback; yields its address."""
    bin_ = programs()
    assert bin_ is not None
    with tempfile.TemporaryDirectory() as folder:
        as_user: list[str] = []
        if (user := _user()) is not None:
            # It refuses to run as root.
            ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
            as_user = ["setpriv", *ids]
            os.chown(folder, user.pw_uid, user.pw_gid)

        def run(program: str, *arguments: str) -> None:
            command = [*as_user, f"{bin_}/{program}", "-D", f"{folder}/data", *arguments]
            quiet = subprocess.DEVNULL
            subprocess.run(command, check=True, cwd=folder, stdout=quiet, stderr=quiet)

        run("initdb", "-U", "tests", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        told = f"-p {port} -h 127.0.0.1 -k {folder} -F -c max_connections=5"
        run("pg_ctl", "-w", "-o", told, "-l", f"{folder}/log", "start")
        try:
            yield f"postgresql://tests:unused@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


def _user() -> pwd.struct_passwd | None:
    """Who runs it, where we are root."""
    if os.getuid() != 0:
        return None
    names = {one.pw_name: one for one in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]
