"""The documents name what the code has."""

import dataclasses
import inspect
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import torch
import yaml
from torch import nn
from torch.utils.data import TensorDataset

import approx
import energy
import search
from approx.arithmetic.native import NATIVE_VARIABLE
from approx.multipliers import catalog
from search.cli.main import cli
from search.locations import (
    CACHE_LIMIT_VARIABLE,
    CACHE_VARIABLE,
    DATA_DIR_VARIABLE,
    IMAGE_VARIABLE,
    MULTIPLIER_VARIABLE,
    STORAGE_VARIABLE,
)
from search.space.task import task_names
from tests.support.images import patterns
from tests.support.pictures import channels_last

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCS = README + "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))


def all_commands() -> dict[str, click.Command]:
    """Every command by the words that call it."""
    commands: dict[str, click.Command] = {}
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        commands[name] = command
        if isinstance(command, click.Group):
            commands |= {f"{name} {inner}": found for inner, found in command.commands.items()}
    return commands


def test_every_command_and_option_is_documented() -> None:
    for name, command in all_commands().items():
        assert f"search {name}" in README
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[0] in DOCS, f"search {name} {parameter.opts[0]}"


def test_every_dataset_and_variable_is_documented() -> None:
    for word in (*task_names(), DATA_DIR_VARIABLE, STORAGE_VARIABLE):
        assert word in README
    for word in (MULTIPLIER_VARIABLE, NATIVE_VARIABLE, CACHE_VARIABLE, CACHE_LIMIT_VARIABLE):
        assert word in DOCS


def test_commands_in_the_readme_exist() -> None:
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", README, re.DOTALL)
    commands = re.findall(r"^(?:\$ )?(?:\.venv/bin/)?search (.*)$", "".join(blocks), re.MULTILINE)
    assert len(commands) >= 5
    for line in commands:
        words = line.split()
        known_commands = all_commands()
        command = known_commands.get(" ".join(words[:2])) or known_commands[words[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        for word in words[1:]:
            if word.startswith("--"):
                assert word in known, line


def test_the_two_commands_are_on_the_first_screen() -> None:
    first_screen = "\n".join(README.splitlines()[:40])
    assert "make run" in first_screen
    assert "make test" in first_screen


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/arithmetic.md",
        "docs/approximation.md",
        "docs/data-sets.md",
        "docs/energy-model.md",
        "docs/images.md",
        "docs/multiplier-energy.md",
        "docs/replications.md",
        "docs/search-space.md",
        "docs/search.md",
        "docs/service.md",
        "docs/your-network.md",
    ],
)
def test_links_between_documents_lead_somewhere(path: str) -> None:
    document = ROOT / path
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), f"{path} -> {target}"


def test_every_dependency_says_what_needs_it() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    assert len(wanted) > 20
    for requirement in wanted:
        line = next(line for line in text.splitlines() if f'"{requirement}"' in line)
        assert re.search(r"#\s*\S+", line), line


def test_every_family_of_multipliers_is_documented() -> None:
    for family in approx.families():
        if family.pattern != "exact":
            assert f"`{family.pattern.split('[')[0]}" in DOCS, family.pattern


def test_the_python_in_the_documents_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_registered", {})
    network, images = nn.Sequential(nn.Conv2d(1, 2, 3)), torch.rand(4, 1, 8, 8)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "arithmetic.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    names = {"approx": approx, "network": network, "images": images, "folder": tmp_path}
    for block in blocks:
        exec(block, names)  # noqa: S102
    assert isinstance(names["own"], approx.Multiplier)
    assert names["own"].table()[7, 3] == 12


def test_the_code_in_the_document_of_the_energy_model_runs() -> None:
    text = (ROOT / "docs" / "energy-model.md").read_text()
    (python,), (workload,) = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("python", "json"))
    names: dict[str, Any] = {}
    exec(python, names)  # noqa: S102
    assert names["report"].energy_pj > 0
    read = energy.Workload.from_dict(json.loads(workload))
    assert energy.estimate(read, energy.load_hardware("weight-stationary-45nm")).energy_pj > 0


def test_every_hardware_and_every_key_of_its_files_is_documented() -> None:
    text = (ROOT / "docs" / "energy-model.md").read_text()
    for path in sorted((ROOT / "energy" / "hardware").glob("*.yaml")):
        assert f"`{path.stem}`" in text
        for key, value in yaml.safe_load(path.read_text()).items():
            for word in (key, *(value if isinstance(value, dict) else ())):
                assert f"`{word}`" in text, word


@pytest.mark.parametrize("document", ["data-sets", "your-network"])
def test_the_python_about_images_and_networks_of_ones_own_runs(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(IMAGE_VARIABLE, str(tmp_path / "images"))
    monkeypatch.setenv(STORAGE_VARIABLE, str(tmp_path / "results.db"))
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{document}.md").read_text(), re.DOTALL)
    pixels, labels = patterns(48, shape=(3, 12, 12))
    more_pixels, more_labels = patterns(24, shape=(3, 12, 12), seed=1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 3))
    images, more_images = channels_last(pixels), channels_last(more_pixels)
    names: dict[str, Any] = {"images": images, "labels": labels, "net": net}
    names |= {"more_images": more_images, "more_labels": more_labels}
    quick = (
        "budget=1, effort='quick', options=search.SearchOptions(confirm=False), workplace=search.Workplace(workers=0)"
    )
    assert "budget=40" in block
    exec(block.replace("budget=40", quick), names)  # noqa: S102
    task, request = names["result"].search.task, names["task"]
    assert task.image_shape == (3, *(request.image_size or (12, 12)))
    assert (len(task.mean), len(task.std)) == (3, 3)
    assert task.metric == (request.metric or "accuracy")


def test_what_python_is_told_to_put_into_values_is_what_they_take() -> None:
    text = (ROOT / "docs" / "search.md").read_text()
    lines = re.findall(r"^\w+ = search\.(?:TaskRequest|SearchOptions|Workplace)\(.*", text, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        exec(line, {"search": search})  # noqa: S102
    for value in (search.TaskRequest, search.SearchOptions, search.Workplace):
        assert f"- `search.{value.__name__}`, given as" in text
    for field in dataclasses.fields(search.TaskRequest):
        assert f"`{field.name}`" in text or field.name in inspect.signature(search.run).parameters, field.name


@pytest.mark.slow
def test_the_python_in_the_document_of_approximation_runs(tmp_path: Path) -> None:
    images = torch.rand(4, 1, 8, 8)
    labelled = approx.LabelledImages((images * 255).to(torch.uint8), torch.arange(4), 255)
    network = approx.build_named_network(family="mlp", depth=1, width=1, image_shape=(1, 8, 8), classes=10)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "approximation.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {
        "network": network,
        "images": images,
        "training_images": labelled,
        "test_images": labelled,
        "torch": torch,
        "torch_dataset": TensorDataset(images, torch.arange(4)),
        "folder": tmp_path,
        "print": lambda *found: None,
    }
    for block in blocks:
        exec(block, names)  # noqa: S102
    assert names["memory"].bit_error_rate == pytest.approx(8e-4)
    with torch.no_grad():
        assert torch.equal(names["same"](images), names["converted"](images))
