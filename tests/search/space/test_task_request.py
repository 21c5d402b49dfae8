"""Networks of requests and of stored tasks."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from search.content_hash import content_hash
from search.errors import DatasetInvalidError, UsageError
from search.images.places import ImagePlaces
from search.space import code_digests
from search.space.effort import Recipe
from search.space.task import Task, find_task
from search.space.task_request import TaskRequest, rebuilt_task, searched_task, task_with_model

NETS = """
from torch import nn

def build(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))
"""


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder with a function and weights."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(code_digests, "_files", {})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requested_nets.py").write_text(NETS)
    torch.save(network().state_dict(), tmp_path / "net.pt")
    yield
    sys.modules.pop("requested_nets", None)


def found(folder: Path, **values: Any) -> Task:
    return searched_task(TaskRequest(**values), ImagePlaces.at(folder))


PATH = "requested_nets:build"


@pytest.mark.parametrize(
    ("values", "train"),
    [
        ({}, "scratch"),
        ({"network": PATH}, "scratch"),
        ({"network": PATH, "train": "scratch"}, "scratch"),
        ({"network": PATH, "train": "none"}, "none"),
        ({"network": PATH, "train": "finetune"}, "finetune"),
        ({"network": PATH, "checkpoint": "net.pt"}, "finetune"),
        ({"network": PATH, "checkpoint": Path("net.pt"), "train": "none"}, "none"),
        ({"model": network()}, "finetune"),
        ({"model": network(), "train": "none"}, "none"),
    ],
)
def test_a_network_with_weights_is_finetuned_unless_asked_otherwise(
    tmp_path: Path, values: dict[str, Any], train: str
) -> None:
    task = found(tmp_path, **values)
    assert task.train == train
    assert (task.network is not None and task.network.trained) == (train != "scratch")
    given = task.network is not None and "checkpoint" in values
    assert (task.network.checkpoint if task.network else None) == (str(tmp_path / "net.pt") if given else None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"network": PATH, "checkpoint": "net.pt", "train": "scratch"},
            "`checkpoint` has weights, which `train` scratch would not use; leave it out, or choose finetune or none",
        ),
        (
            {"model": network(), "train": "scratch"},
            "`model` has weights, which `train` scratch would not use; choose finetune or none, or give the import",
        ),
        ({"train": "finetune"}, "`train` finetune needs a network that comes trained: give a function as `network`"),
        ({"train": "none"}, "`train` none needs a network that comes trained: give a function as `network` with the"),
        (
            {"network": PATH, "train": "none", "epochs": 3, "learning_rate": 0.5, "augment": "crop-flip"},
            "`train` none trains nothing, so leave out `epochs`, `learning_rate`, `augment`, or choose finetune",
        ),
        ({"model": network(), "train": "none", "batch_size": 8}, "nothing, so leave out `batch_size`, or"),
        ({"checkpoint": "net.pt"}, "`checkpoint` needs `network`, the function that builds the network of these"),
        ({"checkpoint": 3, "network": PATH}, "`checkpoint` must be the path of a file, got 3"),
        ({"checkpoint": "gone.pt", "network": PATH}, r"`checkpoint` \S+/gone\.pt does not exist; give the file"),
        ({"checkpoint": "net.pt", "model": network()}, "`checkpoint` and `model` exclude each other"),
        ({"model": "net.pt"}, "`model` must be a torch.nn.Module, got a value of type str"),
    ],
)
def test_requests_that_contradict_themselves(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        found(tmp_path, **values)


def test_a_recipe_is_given_by_its_names_or_by_shortcuts(tmp_path: Path) -> None:
    task = found(tmp_path, epochs=3, recipe={"pruning": "uniform"})
    assert task.recipe == Recipe(epochs=3, pruning="uniform")
    assert found(tmp_path, recipe={"epochs": 3, "pruning": "uniform"}) == task
    with pytest.raises(UsageError, match="`epochs` is given twice, beside `recipe` and in it; give it once"):
        found(tmp_path, epochs=3, recipe={"epochs": 4})
    with pytest.raises(UsageError, match="`recipe` has the unknown key 'epoch'; did you mean 'epochs'"):
        found(tmp_path, recipe={"epoch": 3})
    with pytest.raises(UsageError, match="trains nothing, so leave out `pruning`"):
        found(tmp_path, model=network(), train="none", recipe={"pruning": "uniform"})


def test_a_baseline_that_comes_along_can_be_left_out(tmp_path: Path) -> None:
    assert found(tmp_path).shipped_baseline is not None
    task = found(tmp_path, from_scratch=True)
    assert (task.from_scratch, task.shipped_baseline) == (True, None)
    again = searched_task(TaskRequest(), ImagePlaces.at(tmp_path), begun=task)
    assert again == task
    images = (np.zeros((8, 8, 8), np.uint8), np.arange(8) % 2)
    assert not found(tmp_path, data=images, from_scratch=True).from_scratch  # as there is none
    with pytest.raises(UsageError, match="`from_scratch` must be True or False, got 1"):
        found(tmp_path, from_scratch=1)


def test_images_that_are_too_large_for_the_networks_need_a_size_or_another_network(tmp_path: Path) -> None:
    images = (np.zeros((8, 300, 300), np.uint8), np.arange(8) % 2)
    with pytest.raises(UsageError, match="resize them to at most 256x256 with `image_size`"):
        found(tmp_path, data=images)
    assert found(tmp_path, data=images, image_size=(256, 256)).space.families == ("mlp",)
    pooled = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    assert found(tmp_path, data=images, model=pooled).image_shape == (1, 300, 300)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"mean": 124},
            "`mean` must be from 0 to 1, one number or one for each channel, got 124; pixels are scaled to",
        ),
        ({"mean": (0.5, -0.1)}, r"`mean` must be from 0 to 1, one number or one for each channel, got 0\.5, -0\.1$"),
        ({"mean": float("nan")}, "`mean` must be from 0 to 1, one number or one for each channel, got nan$"),
        ({"mean": True}, "one number or one for each channel, got True"),
        ({"mean": ()}, r"one number or one for each channel, got \(\)"),
        ({"mean": "0.5"}, "one number or one for each channel, got '0.5'"),
        ({"std": 0}, "`std` must be above 0 and at most 1, one number or one for each channel, got 0$"),
        ({"std": [0.2, 58]}, "got 0.2, 58; pixels are scaled to .0, 1., so divide statistics of bytes by 255"),
        ({"mean": (0.5, 0.5)}, "`mean` must be one number, or one for each of 1 channels, got 2"),
    ],
)
def test_statistics_of_pixels_are_of_pixels_from_0_to_1(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        found(tmp_path, **values)


def test_one_number_is_that_of_all_channels(tmp_path: Path) -> None:
    images = (np.zeros((8, 9, 9, 3), np.uint8), np.arange(8) % 2)
    task = found(tmp_path, data=images, mean=0.5, std=1)
    assert (task.mean, task.std) == ((0.5,) * 3, (1.0,) * 3)
    assert found(tmp_path, data=images, mean=(0.5,), std=[1]) == task


def test_a_message_that_names_a_parameter_of_a_request_says_in_python_whose_it_is(tmp_path: Path) -> None:
    def part(side: int) -> Any:
        return (np.zeros((8, side, side), np.uint8), np.arange(8) % 2)

    with pytest.raises(DatasetInvalidError, match="give `image_size` to resize all to one") as caught:
        found(tmp_path, data=(part(8), part(9)))
    assert caught.value.__notes__ == [
        "In Python, `image_size` is a parameter of a search.TaskRequest, which is given as `task`."
    ]
    with pytest.raises(UsageError, match="`dataset`") as unknown:
        found(tmp_path, dataset=3)
    assert not hasattr(unknown.value, "__notes__")  # it is a parameter of the function that was called


def stored(task: Task) -> Task:
    """Return a task as another process reads it."""
    return Task.from_dict(task.to_dict())


def test_a_stored_network_is_found_again_with_its_weights(tmp_path: Path) -> None:
    for values in ({"network": PATH}, {"network": PATH, "checkpoint": "net.pt"}, {"network": PATH, "train": "none"}):
        task = found(tmp_path, **values)
        assert rebuilt_task(stored(task)) == task
        assert rebuilt_task(task) is task


def test_weights_that_changed_since_are_refused(tmp_path: Path) -> None:
    task = found(tmp_path, network=PATH, checkpoint="net.pt")
    torch.save(network(1).state_dict(), tmp_path / "net.pt")
    with pytest.raises(
        UsageError,
        match=r"`checkpoint` \S+/net\.pt has other weights since, so it is another network and its results cannot be",
    ):
        rebuilt_task(stored(task))


def test_weights_that_are_gone_are_told_with_where_they_were_and_what_to_do(tmp_path: Path) -> None:
    task = found(tmp_path, network=PATH, checkpoint="net.pt", train="none")
    (tmp_path / "net.pt").rename(tmp_path / "moved.pt")
    with pytest.raises(UsageError) as caught:
        rebuilt_task(stored(task), name="digits-1")
    assert str(caught.value) == (
        f"the weights of `network` {PATH} were read from {tmp_path}/net.pt, which is gone; put them back, or say where "
        f"they are: search run --dataset digits --network {PATH} --checkpoint FILE --train none --resume --name "
        "digits-1"
    )
    moved = found(tmp_path, network=PATH, checkpoint="moved.pt", train="none")
    assert moved.identity == task.identity


def test_a_function_that_builds_other_weights_since_is_refused(tmp_path: Path) -> None:
    task = found(tmp_path, network=PATH, train="none")
    assert task.network is not None
    other = replace(task, network=replace(task.network, fingerprint="0", weights_sha256="0"))
    with pytest.raises(UsageError, match=f"`network` {PATH} was edited since, so it is another network"):
        rebuilt_task(stored(other))


def test_a_network_that_was_given_has_to_be_given_again(tmp_path: Path) -> None:
    task = found(tmp_path, model=network())
    assert rebuilt_task(task) is task
    with pytest.raises(UsageError) as caught:
        rebuilt_task(stored(task), name="digits-1")
    assert str(caught.value) == (
        "the network torch.nn.modules.container.Sequential was given as a Python object, which is not stored; give it "
        "again: search.resume('digits-1', model=...) in Python"
    )
    assert task_with_model(stored(task), network(), name="digits-1") == task
    for other, has in ((find_task("digits"), "the built-in networks"), (found(tmp_path, network=PATH), PATH)):
        with pytest.raises(UsageError, match=f"search 'digits-1' has .*{has}; resume it without `model`"):
            task_with_model(other, network(), name="digits-1")
    assert found(tmp_path, model=network()).identity == task.identity
    assert found(tmp_path, model=network(1)).identity != task.identity


def test_a_request_to_resume_trains_and_measures_as_before_where_it_does_not_say_otherwise(tmp_path: Path) -> None:
    def again(begun: Task, **values: Any) -> Task:
        return searched_task(TaskRequest(**values), ImagePlaces.at(tmp_path), begun=begun)

    measured = {"metric": "balanced-accuracy", "mean": [0.5], "std": [0.25]}
    untrained = found(tmp_path, model=network(), train="none", **measured)
    assert again(untrained, model=network()) == untrained
    tuned = found(tmp_path, network=PATH, train="finetune", epochs=2, augment="crop-flip", **measured)
    assert again(tuned, network=PATH) == tuned
    assert again(tuned, network=PATH, epochs=3, mean=[0.25]) == found(
        tmp_path, network=PATH, train="finetune", epochs=3, augment="crop-flip", **measured | {"mean": [0.25]}
    )
    assert again(tuned, network=PATH, train="none") == found(tmp_path, network=PATH, train="none", **measured)
    assert again(tuned).train == "scratch"  # the built-in networks do not come trained
    assert again(find_task("digits"), model=network()).train == "finetune"


def test_a_request_of_nothing_is_the_default_task_exactly_so_that_what_is_stored_of_it_is_found(tmp_path: Path) -> None:
    task, known = found(tmp_path), find_task("digits")
    assert task == known
    assert content_hash(task.effort.to_dict()) == content_hash(known.effort.to_dict())  # 40 and 40.0 differ in it
