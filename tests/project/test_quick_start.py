"""The lines of the README about people's own images and networks, typed as they stand there.

Only the budget and the effort are smaller here, and evaluations are made in this process.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import approx
import search
from search.cli.main import cli
from tests.support.images import patterns
from tests.support.pictures import as_png, channels_last, write_folder, write_parquet
from tests.support.serving import served

pytestmark = [pytest.mark.slow, pytest.mark.process]

README = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = README[README.index("## Your images, your network") : README.index("## Use")]
(SHELL,), (PYTHON,) = (re.findall(rf"```{kind}\n(.*?)```", SECTION, re.DOTALL) for kind in ("sh", "python"))
LINES = [line.partition(" #")[0].strip() for line in SHELL.splitlines()]
FORMS = [line for line in LINES if line.startswith("search run") and "--network" not in line]
NETWORKS = [line for line in LINES if line.startswith("search run") and "--network" in line]

NETS = """
from torch import nn


def build(image_shape, classes):
    channels, height, width = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8 * (height // 2) * (width // 2), classes),
    )
"""
MYDATA = """
import numpy as np


def load():
    with np.load("photos.npz") as content:
        return content["images"], content["labels"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three classes in every form, and a network that was trained on them."""
    place = tmp_path_factory.mktemp("quick-start")
    pixels, labels = patterns(120, shape=(3, 12, 12))
    write_folder(place / "photos", pixels, labels)
    np.savez(place / "photos.npz", images=channels_last(pixels), labels=labels)
    (place / "shards").mkdir()
    for number, rows in enumerate(np.split(np.arange(120), 2)):
        shard = place / "shards" / f"train-{number:05}-of-00002.parquet"
        write_parquet(shard, [as_png(pixels[row]) for row in rows], labels[rows])
    (place / "mydata.py").write_text(MYDATA)
    (place / "nets.py").write_text(NETS)
    images = approx.LabelledImages(torch.tensor(pixels), torch.tensor(labels), 255)
    schedule = approx.Schedule(epochs=20, batch_size=16, learning_rate=0.01)
    model = network()
    approx.fit(model, images, schedule, seed=0)
    torch.save(model.state_dict(), place / "weights.pt")
    return place


def network() -> nn.Module:
    names: dict[str, Any] = {}
    exec(NETS, names)  # noqa: S102
    model = names["build"](image_shape=(3, 12, 12), classes=3)
    assert isinstance(model, nn.Module)
    return model


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; results and images are stored in a new one."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("CROSSLAYER_STORAGE", str(tmp_path / "results.db"))
    monkeypatch.setenv("CROSSLAYER_IMAGE_DIR", str(tmp_path / "images"))
    return tmp_path


def typed(line: str, *more: str) -> dict[str, Any]:
    """Type a line, and return the JSON that it prints."""
    words = shlex.split(line.replace("--budget 40", "--budget 3"))
    assert words[0] == "search"
    ran = CliRunner().invoke(cli, [*words[1:], "--json", *more], catch_exceptions=False)
    assert ran.exit_code == 0, ran.stderr
    content: dict[str, Any] = json.loads(ran.stdout)
    return content


QUICK = ("--effort", "quick", "--workers", "0")


def test_the_same_images_give_the_same_answer_in_whatever_form(here: Path) -> None:
    assert len(FORMS) == 4
    found = [typed(line, *QUICK, "--no-confirm") for line in FORMS]
    digests = {one["dataset"].partition("@")[2] for one in found}
    assert len(digests) == 1
    assert digests != {""}
    figures = [
        [(row["candidate"], row["accuracy"], row["energy_pj"]) for row in (one["baseline"], *one["front"])]
        for one in found
    ]
    assert all(one == figures[0] for one in figures)
    assert figures[0][0][1] > 0.9  # it learned what they show


@pytest.mark.parametrize("line", [line for line in NETWORKS if "--checkpoint" in line])
def test_a_network_with_its_weights_keeps_their_accuracy(line: str, here: Path) -> None:
    found = typed(line, *QUICK)
    assert found["network"] == "nets:build"
    assert found["train"] == ("none" if "--train none" in line else "finetune")
    assert found["baseline"]["accuracy"] > 0.9
    assert found["answer"]["confirmed"]
    assert found["answer"]["confirmation"]["test_accuracy"] > 0.9


def test_a_network_of_torchvision_as_it_is(here: Path) -> None:
    (line,) = [line for line in NETWORKS if "torchvision" in line]
    quick = ("--epochs", "0.1", "--workers", "0", "--no-confirm")
    found = typed(line.replace("--image-size 64", "--image-size 32"), *quick)
    assert found["evaluations"] == 1
    assert found["network"] == "torchvision.models:resnet18"


def test_images_get_a_name(here: Path) -> None:
    (line,) = [line for line in LINES if line.startswith("search datasets add")]
    added = typed(line)
    assert added["name"] == "photos"
    assert typed("search datasets show photos --picture photos.png")["image_shape"] == [3, 32, 32]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_images_are_uploaded_and_are_the_same_data_set(here: Path) -> None:
    (line,) = [line for line in LINES if line.startswith("curl")]
    with served(here / "results.db") as address:
        command = shlex.split(line.replace("localhost:8000", address.removeprefix("http://")))
        uploaded = json.loads(subprocess.run([*command, "--silent"], check=True, capture_output=True).stdout)
    found = typed(FORMS[0].replace("--budget 40", "--budget 1"), *QUICK, "--no-confirm")
    assert uploaded["identity"].partition("@")[2] == found["dataset"].partition("@")[2]


def test_the_python_of_the_quick_start_runs(here: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = patterns(120, shape=(3, 12, 12))
    net = network()
    net.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    monkeypatch.chdir(here)
    names: dict[str, Any] = {"pixels": pixels, "labels": labels, "net": net}
    names["search"] = search
    exec(PYTHON.replace("budget=40", "budget=3, workplace=search.Workplace(workers=0)"), names)  # noqa: S102
    assert names["result"].baseline.evaluation.accuracy > 0.9
    assert (here / "front.png").stat().st_size > 10_000
