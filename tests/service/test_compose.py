"""docker-compose.yml: what it says, and its processes started by hand, which takes no Docker engine."""

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.cli import cli
from service.client import Client
from tests.postgresql import Server
from tests.service.test_cli import free_port

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
SECRETS = {"POSTGRES_PASSWORD": "secret", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name in SERVICES if name != "postgres"]


def test_compose_accepts_the_file_and_asks_for_its_secrets() -> None:
    for program in (["docker-compose"], ["docker", "compose"]):
        if shutil.which(program[0]) and not subprocess.run([*program, "version"], capture_output=True).returncode:
            break
    else:
        pytest.skip("needs Docker Compose, the program alone: docker compose version")
    command = [*program, "-f", str(FILE), "config"]
    environment = {**os.environ, **SECRETS}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert set(yaml.safe_load(found.stdout)["services"]) == set(SERVICES)
    for name in SECRETS:
        without = {key: value for key, value in environment.items() if key != name}
        refused = subprocess.run(command, env=without, capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert "set it" in refused.stderr


def test_only_two_ports_are_published_and_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"api", "dashboard"}
    for ports in published.values():
        for port in ports:
            assert port.startswith("${CROSSLAYER_BIND:-127.0.0.1}:")
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "outside" in service["networks"]} == {
        "api",
        "dashboard",
        "worker",
    }


@pytest.mark.parametrize("name", OURS)
def test_our_services_can_do_little_to_their_host(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["environment"]["RAY_AUTH_MODE"] == "token"
    assert "user" not in service
    assert "healthcheck" in service or service["restart"] == "no"
    assert re.search(r"^USER crosslayer$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", OURS)
def test_commands_exist(name: str) -> None:
    for words in search_commands(SERVICES[name]["command"]):
        command: Any = cli
        context = None
        while words and not words[0].startswith("-"):
            context = command.make_context(words[0], [], resilient_parsing=True)
            command = command.get_command(context, words.pop(0)) if hasattr(command, "get_command") else command
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def search_commands(command: list[str]) -> list[list[str]]:
    """The commands of ours in a service's command, which may be one of a shell."""
    words = shlex.split(command[-1]) if command[0] == "sh" else list(command)
    starts = [place for place, word in enumerate(words) if word == "search"]
    return [words[start + 1 :] for start in starts]


class Host:
    """Starts services of the file as processes of this machine, whose names and folders stand for theirs."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self.port = free_port()
        self._names = {
            "ray-head:6379": f"127.0.0.1:{free_port()}",
            "http://api:8000": f"http://127.0.0.1:{self.port}",
            "127.0.0.1:8000": f"127.0.0.1:{self.port}",
            "postgresql://crosslayer:secret@postgres/crosslayer": url,
            "/datasets": str(folder / "datasets"),
            "/stages": str(folder / "stages"),
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def _here(self, text: str) -> str:
        text = re.sub(r"\$\{(\w+)(?::[-?][^}]*)?\}", lambda match: SECRETS[match[1]], text)
        for theirs, ours in self._names.items():
            text = text.replace(theirs, ours)
        return text

    def _command(self, words: list[str]) -> list[str]:
        here = [self._here(word) for word in words]
        for option, name in (("--port", "127.0.0.1:8000"), ("--port", "ray-head:6379")):
            theirs, ours = name.rpartition(":")[2], self._names[name].rpartition(":")[2]
            here = [
                ours if before == option and word == theirs else word
                for before, word in zip(["", *here[:-1]], here, strict=True)
            ]
        return here

    def environment(self, name: str) -> Mapping[str, str]:
        values = {key: self._here(value) for key, value in SERVICES[name]["environment"].items()}
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, **values, "HOME": str(self._folder), "RAY_TMPDIR": str(self._folder), "PATH": programs}

    def run(self, name: str, *words: str) -> str:
        """Run a command in a service, to its end."""
        command = self._command(list(words) or SERVICES[name]["command"])
        done = subprocess.run(
            command, env=self.environment(name), capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, name: str, *, says: str = "") -> None:
        """Start a service, and wait until its health check is content, and it has said something."""
        command = self._command(SERVICES[name]["command"])
        path = self._folder / f"{name}.log"
        with path.open("wb") as log:
            self.running[name] = subprocess.Popen(
                command, env=self.environment(name), stdout=log, stderr=log, start_new_session=True
            )
        kind, *check = SERVICES[name]["healthcheck"]["test"]
        check = self._command(["sh", "-c", *check] if kind == "CMD-SHELL" else check)
        deadline = time.monotonic() + 90
        while (
            subprocess.run(check, env=self.environment(name), capture_output=True, check=False).returncode
            or says not in path.read_text()
        ):
            assert self.running[name].poll() is None, path.read_text()
            assert time.monotonic() < deadline, path.read_text()
            time.sleep(0.3)

    def stop(self) -> None:
        """Kill what was started, and what that has started in sessions of its own: all has the folder in its words."""
        for process in self.running.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for words in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if str(self._folder).encode() in words.read_bytes() and int(words.parent.name) != os.getpid():
                    os.kill(int(words.parent.name), signal.SIGKILL)
            except OSError:
                continue


@pytest.fixture
def host(postgresql: Server) -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="cl-", ignore_cleanup_errors=True) as folder:  # short: sockets lie in it
        found = Host(Path(folder), postgresql.url)
        try:
            yield found
        finally:
            found.stop()


@pytest.mark.slow
def test_the_services_answer_a_job(host: Host) -> None:
    host.run("schema")
    host.start("api")
    key = host.run("api", "search", "keys", "create", "anna").strip()
    host.start("ray-head")
    host.start("ray-worker", says="Ray runtime started")  # here its check finds the head's
    host.start("worker")
    with Client(f"http://127.0.0.1:{host.port}", key=key) as client:
        kinds: list[str] = []
        answer = client.optimize(
            "digits", max_accuracy_drop=0.5, effort="quick", budget=10, told=lambda event: kinds.append(event.kind)
        )
        assert answer.confirmed
        assert answer.configurations[0].saving > 1
        assert kinds.count("evaluated") == 10
        (job,) = client.jobs().jobs
        assert job.search == f"job-{job.id}"
    assert json.loads(host.run("api", "search", "show", "--json"))
