"""A PostgreSQL server for tests."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


class Server:
    """A server that listens at a socket in its folder, run by a user other than root, whom PostgreSQL rejects."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if not os.getuid() else []
        folder.mkdir()
        if self._user:
            shutil.chown(folder, "postgres", "postgres")
        self.url = f"postgresql://postgres@/postgres?host={folder}"
        self._call("initdb", "-A", "trust", "-U", "postgres", "-D", str(folder / "data"))

    def start(self) -> None:
        options = f"-k {self._folder} -c listen_addresses="
        self._call(
            "pg_ctl", "-D", str(self._folder / "data"), "-w", "-o", options, "-l", str(self._folder / "log"), "start"
        )

    def stop(self) -> None:
        self._call("pg_ctl", "-D", str(self._folder / "data"), "-w", "-m", "fast", "stop")

    def kill(self) -> None:
        """Kill all processes of the server at once."""
        process = int((self._folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        killed = [process, *map(int, children)]
        for one in killed:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        while any(Path(f"/proc/{one}").exists() for one in killed):  # the server does not start while they exist
            time.sleep(0.02)

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._user, str(self._programs / program), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )


@contextmanager
def running_server() -> Iterator[Server]:
    """Run a server; skip the test if PostgreSQL is not installed."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("needs PostgreSQL's programs in /usr/lib/postgresql")
    pytest.importorskip("psycopg", reason="needs the extra crosslayer[postgresql]")
    # The socket's path has to be short, and its folder accessible to another user.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        server = Server(programs[-1].parent, Path(folder) / "pg")
        server.start()
        try:
            yield server
        finally:
            server.stop()
