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
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.cli.main import cli
from service.client import Client, ServiceError
from tests.support.postgresql import Server
from tests.support.serving import free_port
from tests.support.uploads import archive

ROOT = Path(__file__).parents[3]
FILE = ROOT / "docker-compose.yml"
SECRETS = {"POSTGRES_PASSWORD": "secret", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default="")  # PostgreSQL's, where Debian has them
OURS = [name for name in SERVICES if name != "postgres"]


@pytest.mark.process
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


def test_without_an_engine_the_image_is_what_the_project_says() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (torch,) = [line for line in lines if "TORCH_INDEX" in line and line.startswith("RUN")]
    asked = re.findall(r'"(torch\S*)"', torch)
    assert [re.split("[<>=]", one)[0] for one in asked] == ["torch", "torchvision"]
    assert set(asked) <= set(project["dependencies"])
    copied = {
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    }
    assert all((ROOT / name).exists() for name in copied)
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in sent if line.startswith("!")} == copied
    assert sent[sent.index("*") + 1].startswith("!")
    images = [line.split()[1] for line in lines if line.startswith("FROM ")] + [SERVICES["postgres"]["image"]]
    assert all(re.search(r":\d", image) for image in images)
    assert [line for line in lines if line.startswith("USER ")] == ["USER crosslayer"]


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


@pytest.mark.parametrize("name", SERVICES)
def test_services_can_do_little_to_their_host(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user") == (None if name in OURS else "postgres")
    assert "healthcheck" in service or service["restart"] == "no"
    assert not service.get("privileged")


@pytest.mark.parametrize("name", OURS)
def test_services_have_the_secrets_they_need_and_no_others(name: str) -> None:
    environment = SERVICES[name]["environment"]
    of_ray = name in ("ray-head", "ray-worker", "worker")
    assert environment.get("RAY_AUTH_MODE") == ("token" if of_ray else None)
    assert environment.get("RAY_AUTH_TOKEN", "").startswith("${RAY_AUTH_TOKEN:?" if of_ray else "")
    assert ("RAY_AUTH_TOKEN" in environment) == of_ray
    assert ("CROSSLAYER_STORAGE" in environment) == (not name.startswith("ray-"))


@pytest.mark.parametrize("name", ["ray-head", "ray-worker", "worker"])
def test_ray_keeps_images_in_shared_memory(name: str) -> None:
    words = shlex.split(" ".join(SERVICES[name]["command"]))
    assert int(words[words.index("--object-store-memory") + 1]) <= 2**30
    assert SERVICES[name]["shm_size"] == "1gb"
    assert SERVICES[name]["volumes"] == ["datasets:/datasets", "stages:/stages", "images:/images"]
    assert SERVICES["api"]["volumes"] == ["images:/images"]


def test_postgresql_is_asked_by_tcp_which_it_answers_when_the_database_is_made() -> None:
    # https://github.com/docker-library/postgres/issues/146
    check = SERVICES["postgres"]["healthcheck"]["test"]
    assert check[check.index("--host") + 1] == "127.0.0.1"


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


def unescaped(text: str) -> str:
    """A text of the file with what Compose puts in for variables."""
    return re.sub(r"\$(?:\$|\{(\w+)(?::[-?][^}]*)?\})", lambda match: SECRETS[match[1]] if match[1] else "$", text)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Programs in the place of those that the worker's container starts; the file `node` is its node of the cluster."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, does in {
        "ray": "touch $FOLDER/node; exit ${RAY_CODE:-0}",
        "grep": "test -e $FOLDER/node",
        "search": "touch $FOLDER/searching; trap 'touch $FOLDER/ended; exit' TERM; while :; do sleep 0.1; done",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    return folder


def begin_worker(programs: Path, **variables: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "FOLDER": str(programs), **variables}
    command = [unescaped(word) for word in SERVICES["worker"]["command"]]
    return subprocess.Popen(command, env=environment, start_new_session=True)


@pytest.mark.process
def test_a_worker_ends_when_its_node_does_so_that_its_container_is_started_again(programs: Path) -> None:
    with begin_worker(programs) as process:
        try:
            while not (programs / "searching").exists():
                time.sleep(0.05)
            time.sleep(1.5)
            assert process.poll() is None
            (programs / "node").unlink()
            process.wait(timeout=30)
            assert (programs / "ended").exists()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert SERVICES["worker"]["restart"] == "unless-stopped"


@pytest.mark.process
def test_a_worker_without_a_cluster_does_not_begin(programs: Path) -> None:
    with begin_worker(programs, RAY_CODE="3") as process:
        assert process.wait(timeout=30) == 3
    assert not (programs / "searching").exists()


class Host:
    """Starts services of the file as processes of this machine, whose names and folders stand for theirs."""

    def __init__(self, folder: Path, sockets: str) -> None:
        self._folder = folder
        self._sockets = sockets  # PostgreSQL's folder of them, in the place of its port
        self.port = free_port()
        self._ports = {"8000": str(self.port), "8080": str(free_port()), "6379": str(free_port())}
        self._names = {
            "ray-head:6379": f"127.0.0.1:{self._ports['6379']}",
            "http://api:8000": f"http://127.0.0.1:{self.port}",
            "127.0.0.1:8000": f"127.0.0.1:{self.port}",
            "'127.0.0.1', 8080": f"'127.0.0.1', {self._ports['8080']}",
            "@postgres/crosslayer": f"@/crosslayer?host={sockets}",
            "/datasets": str(folder / "datasets"),
            "/stages": str(folder / "stages"),
            "/images": str(folder / "images"),
        }
        (folder / "images").mkdir()
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def _here(self, text: str) -> str:
        text = unescaped(text)
        for theirs, ours in self._names.items():
            text = text.replace(theirs, ours)
        return text

    def _command(self, words: list[str]) -> list[str]:
        here = [self._here(word) for word in words]
        for place, option in enumerate(here[:-1]):
            if option == "--port":
                here[place + 1] = self._ports[here[place + 1]]
            elif option == "--host" and here[0] == "pg_isready":
                here[place + 1] = self._sockets
        return here

    def environment(self, name: str) -> Mapping[str, str]:
        values = {key: self._here(value) for key, value in SERVICES[name]["environment"].items()}
        programs = f"{Path(sys.executable).parent}:{PROGRAMS}:{os.environ['PATH']}"
        return {**os.environ, **values, "HOME": str(self._folder), "RAY_TMPDIR": str(self._folder), "PATH": programs}

    def run(self, name: str, *words: str) -> str:
        """Run a command in a service, to its end."""
        command = self._command(list(words) or SERVICES[name]["command"])
        done = subprocess.run(
            command, env=self.environment(name), capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def healthy(self, name: str) -> bool:
        """Whether a service's health check is content."""
        kind, *check = SERVICES[name]["healthcheck"]["test"]
        check = self._command(["sh", "-c", *check] if kind == "CMD-SHELL" else check)
        return not subprocess.run(check, env=self.environment(name), capture_output=True, check=False).returncode

    def start(self, name: str, *, says: str = "") -> None:
        """Start a service, and wait until its health check is content, and it has said something."""
        command = self._command(SERVICES[name]["command"])
        path = self._folder / f"{name}.log"
        with path.open("wb") as log:
            self.running[name] = subprocess.Popen(
                command, env=self.environment(name), stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 90
        while not self.healthy(name) or says not in path.read_text():
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
def database(postgresql: Server) -> str:
    """The folder of the sockets of a PostgreSQL server that has the file's database, user and password."""
    import psycopg

    given = {name: unescaped(value) for name, value in SERVICES["postgres"]["environment"].items()}
    user, name, password = (given[f"POSTGRES_{what}"] for what in ("USER", "DB", "PASSWORD"))
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'".encode())
        connection.execute(f"CREATE DATABASE {name} OWNER {user}".encode())
        (rules,) = connection.execute("SHOW hba_file").fetchone() or [""]
        Path(rules).write_text(f"local all {user} scram-sha-256\n{Path(rules).read_text()}")
    postgresql.stop()
    postgresql.start()
    sockets = postgresql.url.partition("?host=")[2]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://{user}:wrong@/{name}?host={sockets}")
    return sockets


@pytest.fixture
def host(database: str) -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="cl-", ignore_cleanup_errors=True) as folder:  # short: sockets lie in it
        found = Host(Path(folder), database)
        try:
            yield found
        finally:
            found.stop()


@pytest.mark.process
@pytest.mark.slow
def test_the_services_answer_a_job(host: Host) -> None:
    assert host.healthy("postgres")
    host.run("schema")
    host.start("api")
    host.start("dashboard")
    with Client(f"http://127.0.0.1:{host.port}") as stranger, pytest.raises(ServiceError, match="key"):
        stranger.jobs()
    key = host.run("api", "search", "keys", "create", "anna").strip()
    host.start("ray-head")
    host.start("ray-worker", says="Ray runtime started")  # here its check finds the head's
    host.start("worker")
    with Client(f"http://127.0.0.1:{host.port}", key=key) as client:
        kinds: list[str] = []
        answer = client.optimize(
            "digits", max_accuracy_drop=0.05, effort="quick", budget=20, on_event=lambda event: kinds.append(event.kind)
        )
        assert answer.confirmed
        assert answer.configurations[0].saving > 1
        assert kinds.count("evaluated") == 20
        (job,) = client.jobs().jobs
        assert job.search == f"job-{job.id}"
        flowers = client.upload_dataset(archive(), name="flowers")
        answer = client.optimize("flowers", max_accuracy_drop=0.5, effort="quick", budget=2)
        assert (answer.dataset, answer.confirmed) == (flowers.identity, True)
    assert json.loads(host.run("api", "search", "show", "--json"))
