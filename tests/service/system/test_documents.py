"""The examples of README.md and docs/service.md work as written, except for the port."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.client import Client
from service.schemas import OptimizeRequest
from tests.service.test_uploads import MINE
from tests.support.serving import serving
from tests.support.stored import candidate, store_results
from tests.support.uploads import archive

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text().partition("**Over HTTP**")[2].partition("**From Python**")[0]
DOCUMENT = (ROOT / "docs" / "service.md").read_text()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a service that can answer what the examples ask, and has a job that ended."""
    database = tmp_path_factory.mktemp("service") / "results.db"
    store_results(database, more=(candidate(sparsity=0.5),))
    with serving("--storage", database, "--no-worker") as (address, _):
        with Client(address) as client:
            client.cancel(client.search(OptimizeRequest(dataset="digits", min_accuracy=0.9)).id)
        yield address


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def typed(block: str) -> list[str]:
    """The commands of a block, without comments, each in one line."""
    lines = re.sub(r"\\\n\s*", " ", block).splitlines()
    return [re.sub(r"\s{2,}#.*$", "", line) for line in lines if line.strip()]


@pytest.mark.process
@pytest.mark.parametrize("text", [README, DOCUMENT], ids=["README.md", "docs/service.md"])
def test_the_commands_answer(text: str, address: str, tmp_path: Path) -> None:
    for program in ("curl", "jq"):
        if f"{program} " in text and shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    (tmp_path / "mine.yaml").write_text(MINE)
    (tmp_path / "flowers.npz").write_bytes(archive())
    with Client(address) as client:
        (job,) = client.jobs().jobs
    commands = [line for block in blocks(text, "sh") for line in typed(block) if "curl" in line]
    assert commands
    for command in commands:
        here = command.replace("http://", "").replace("localhost:8000", address).replace("/ID/", f"/{job.id}/")
        done = subprocess.run(
            ["bash", "-c", here], capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60
        )
        if "events" in command:
            assert done.stdout.count("event: state") == 2
        else:
            answer = json.loads(done.stdout)
            assert "detail" not in answer, answer
            if "optimize" in command:
                assert answer["confirmed"] is True


@pytest.mark.parametrize("text", [README, DOCUMENT], ids=["README.md", "docs/service.md"])
def test_the_python_answers(text: str, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks(text, "python")
    exec(block.replace("http://127.0.0.1:8000", address), {})  # noqa: S102
    assert float(capsys.readouterr().out.split()[-1]) >= 1
