"""Custom networks, in files as users write them."""

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from search.engine import run_search
from search.errors import UsageError
from search.evaluation import datasets
from search.evaluation.cache.cache import TrainingCache
from search.evaluation.evaluation import Evaluation, evaluation_key
from search.evaluation.evaluator import Evaluator
from search.evaluation.work import Evaluate, Failed
from search.images.places import ImagePlaces
from search.observer import Observer
from search.space import custom_network
from search.space.candidate import Candidate
from search.space.custom_network import build_custom_network, find_network
from search.space.task import CustomNetwork, Task, find_task
from search.store.database import Store
from search.store.setup import Setup
from tests.search.evaluation.test_evaluator import CANDIDATE, HARDWARE, QUICK
from tests.support.fakes import FakeExecutor, FakeGenomeModel, new_search

SHAPE = (1, 8, 8)
NETS = """
from torch import nn

CLASSES = 10

def build(image_shape, classes, depth, width):
    channels, height, pixels = image_shape
    hidden = [layer for _ in range(depth) for layer in (nn.LazyLinear(4 * width), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Dropout(0.1), nn.Linear(4 * width, classes))
"""
PLAIN = """
from torch import nn

def build(image_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(image_shape[1] * image_shape[2], classes))
"""

NewProcess = Callable[[], None]


@pytest.fixture(autouse=True)
def new_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewProcess]:
    """Forgets imports from a test's files, like a new process."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two edits within a second would look the same

    def forget() -> None:
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
                del sys.modules[name]
        sys.path[:] = [folder for folder in sys.path if not folder.startswith(str(tmp_path))]
        custom_network._sources.clear()
        custom_network._unchanged.cache_clear()

    yield forget
    forget()


def write(folder: Path, source: str, name: str = "nets.py") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(source)
    return folder


def find(folder: Path, path: str = "nets:build") -> CustomNetwork:
    return find_network(path, folder=str(folder), image_shape=SHAPE, classes=10)


def build(network: CustomNetwork, *, depth: int = 1, width: int = 1, seed: int = 0) -> nn.Module:
    return build_custom_network(network, depth=depth, width=width, image_shape=SHAPE, classes=10, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "largest"),
    [
        ("image_shape, classes", (1, 1)),
        ("image_shape, classes, depth=2", (3, 1)),
        ("*, classes, width, image_shape", (1, 8)),
        ("image_shape, classes, depth, width, dropout=0.1", (3, 8)),
        ("**options", (1, 1)),
    ],
)
def test_the_sizes_that_a_function_takes_are_searched(tmp_path: Path, arguments: str, largest: tuple[int, int]) -> None:
    write(
        tmp_path,
        f"from torch import nn\ndef build({arguments}):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))",
    )
    network = find(tmp_path)
    assert (network.max_depth, network.max_width) == largest
    space = find_task("digits").with_network(network).space
    assert (space.baseline().depth, space.baseline().width) == largest


def test_networks_are_built_from_sizes_and_seed_alone(tmp_path: Path) -> None:
    network = find(write(tmp_path, NETS))
    before = torch.get_rng_state()
    one, same, other = (build(network, depth=2, width=3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    shapes = [tuple(layer.weight.shape) for layer in one.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(12, 64), (12, 12), (10, 12)]
    assert all(map(torch.equal, one.parameters(), same.parameters()))
    assert not all(map(torch.equal, one.parameters(), other.parameters()))


@pytest.mark.process
def test_a_network_of_torchvision_is_built_in_a_fresh_process(tmp_path: Path) -> None:
    """A worker builds it, where torch may be a CPU build and torchvision one for CUDA."""
    source = (
        "from torch import nn\n"
        "from torchvision.models import resnet18\n"
        "def build(image_shape, classes):\n"
        "    network = resnet18(num_classes=classes)\n"
        "    network.conv1 = nn.Conv2d(image_shape[0], 64, 3, padding=1)\n"
        "    return network\n"
    )
    found = find(write(tmp_path, source))
    code = (
        "from search.space.custom_network import build_custom_network\n"
        "from search.space.task import CustomNetwork\n"
        f"build_custom_network({found}, depth=1, width=1, image_shape={SHAPE}, classes=10, seed=0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_a_class_or_a_package_may_be_named(tmp_path: Path) -> None:
    source = (
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, image_shape, classes):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(image_shape[1] * image_shape[2], classes)\n"
        "    def forward(self, images): return self.layer(images.flatten(1))\n"
    )
    write(tmp_path, source, "package/inner/nets.py")
    network = find(tmp_path, "package.inner.nets:Net")
    assert type(build(network)).__name__ == "Net"


def test_a_network_is_distinguished_from_an_edited_one(tmp_path: Path, new_process: NewProcess) -> None:
    helper = "from torch import nn\nclass Scores(nn.Linear):\n    pass"
    uses_helper = PLAIN.replace("nn.Linear", "Scores").replace("\n\n", "\nfrom helper import Scores\n", 1)
    folders = [
        write(tmp_path / "original", uses_helper),
        write(tmp_path / "edited", uses_helper + "# a remark"),
        write(tmp_path / "edited helper", uses_helper),
        write(tmp_path / "copied", uses_helper),
    ]
    for folder in folders:
        write(folder, helper + "\n\n" * (folder.name == "edited helper"), "helper.py")
    found = []
    for folder in folders:
        found.append(find(folder).fingerprint)
        new_process()
    assert len(set(found[:3])) == 3
    assert found[3] == found[0]
    write(folders[0], "from nets import build", "other.py")
    assert find(folders[0], "other:build").fingerprint not in found


def test_an_edit_within_a_process_is_not_missed(tmp_path: Path) -> None:
    find(write(tmp_path, PLAIN))
    write(tmp_path, PLAIN.replace("nn.Flatten()", "nn.Flatten(), nn.Dropout()"))
    with pytest.raises(UsageError, match=r"nets\.py was edited after this process imported it; start a new one"):
        find(tmp_path)


def test_an_edit_during_a_search_is_not_missed(tmp_path: Path, new_process: NewProcess) -> None:
    network: CustomNetwork = pickle.loads(pickle.dumps(find(write(tmp_path, PLAIN))))  # noqa: S301
    new_process()  # a worker
    assert isinstance(build(network), nn.Sequential)
    write(tmp_path, PLAIN + "# a remark")
    assert isinstance(build(network), nn.Sequential)  # this process keeps using the module that it imported
    new_process()
    with pytest.raises(UsageError, match="nets:build was edited after the search began; start the search again"):
        build(network)


RETURNING = "from torch import nn\ndef build(image_shape, classes):\n    return "


@pytest.mark.parametrize(
    ("path", "source", "message"),
    [
        ("nets", "", r"must be package\.module:function, such as nets:build for build\(\) in nets\.py, got 'nets'"),
        ("nets.py:build", "", "must be package.module:function"),
        ("nets:build()", "", "must be package.module:function"),
        (":build", "", "must be package.module:function"),
        (f"{'n' * 300}:build", "", "must be package.module:function"),
        ("gone:build", "", "there is no module 'gone' in {folder}, nor is one installed"),
        ("nets.gone:build", "", "there is no module 'nets.gone' in {folder}"),
        (
            "nets:build",
            "import gone",
            "'nets' cannot be imported from {folder}: ModuleNotFoundError: No module named 'gone'",
        ),
        ("nets:build", "def build(:", "'nets' cannot be imported from {folder}: SyntaxError"),
        ("nets:build", "raise SystemExit(2)", "'nets' cannot be imported from {folder}: SystemExit: 2"),
        ("nets:biuld", NETS, "nets.py has no 'biuld'; did you mean 'build'?"),
        ("nets:CLASSES", NETS, "'CLASSES' in {folder}/nets.py is of type int; name a function that builds a network"),
        (
            "nets:build",
            "def build(shape, classes): pass",
            r"nets:build takes \(shape, classes\); it must take image_shape",
        ),
        ("nets:build", "def build(image_shape, classes, rate): pass", "and must not need anything else"),
        ("nets:build", "build = dict", "Python does not know its arguments; it must take image_shape and classes"),
        (
            "nets:build",
            f"{RETURNING}1 / 0",
            r"nets:build\(image_shape=\(1, 8, 8\), classes=10\) failed: ZeroDivisionError",
        ),
        ("nets:build", f"{RETURNING}[nn.Flatten()]", "must return a torch.nn.Module, got list"),
        ("nets:build", f"{RETURNING}nn.Linear(7, classes)", "returned a network that fails on an image: RuntimeError"),
        (
            "nets:build",
            f"{RETURNING}nn.Sequential(nn.Flatten(), nn.Linear(64, 7))",
            r"output for one image must be a tensor of shape \(1, 10\), got shape \(1, 7\)",
        ),
        ("nets:build", f"{RETURNING}nn.LSTM(8, 10)", "returned a network that fails on an image"),
        ("nets:build", f"{RETURNING}nn.Sequential(nn.Flatten(), nn.LSTM(64, 10))", r"shape \(1, 10\), got tuple"),
        (
            "nets:build",
            f"{RETURNING}nn.Sequential(nn.AdaptiveAvgPool2d((1, 10)), nn.Flatten())",
            "builds a network that cannot be approximated: the model has no Conv2d",
        ),
        (
            "nets:build",
            "from torch import nn\nmodel = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
            "def build(image_shape, classes): return model",
            "returns the same network at each call; have it build a new one",
        ),
        (
            "nets:build",
            "import random\nfrom torch import nn\ndef build(image_shape, classes):\n"
            "    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
            "    nn.init.constant_(model[1].weight, random.random())\n"
            "    return model",
            "gives its network different weights at each call; draw random numbers only from torch",
        ),
    ],
)
def test_errors_say_what_is_wrong_with_a_network(tmp_path: Path, path: str, source: str, message: str) -> None:
    write(tmp_path, source)
    with pytest.raises(UsageError, match=message.replace("{folder}", str(tmp_path))) as caught:
        find(tmp_path, path)
    assert str(caught.value).startswith("`network`")
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> datasets.TaskData:
    return datasets.load(find_task("digits"), ImagePlaces.at(tmp_path_factory.mktemp("data")))


def task_of(network: CustomNetwork) -> Task:
    return replace(find_task("digits"), effort=QUICK).with_network(network)


def candidate_of(network: CustomNetwork) -> Candidate:
    return replace(CANDIDATE, family=network.path, depth=network.max_depth, width=network.max_width)


def test_an_edited_network_is_retrained_and_reevaluated(
    data: datasets.TaskData, tmp_path: Path, new_process: NewProcess
) -> None:
    cache = tmp_path / "stages"
    keys, counts = [], []
    for source in (PLAIN, PLAIN, PLAIN + "# a remark"):
        new_process()
        network = find(write(tmp_path, source))
        task, candidate = task_of(network), candidate_of(network)
        found = Evaluator(task, data, HARDWARE, seed=0, cache=TrainingCache(cache)).evaluate(candidate, "validation")
        assert Evaluation.from_dict(found.to_dict()) == found
        assert found.candidate.family == "nets:build"
        assert found.macs == 64 * 10
        keys.append(evaluation_key(candidate, task, fingerprint=data.fingerprint, hardware=HARDWARE, seed=0))
        counts.append(len(list(cache.glob("*/*.pt"))))
    assert counts == [3, 3, 6]  # train, prune and approximate
    assert keys[0] == keys[1] != keys[2]


def test_an_evaluation_of_dropout_depends_on_its_seed_alone(data: datasets.TaskData, tmp_path: Path) -> None:
    network = find(write(tmp_path, NETS))
    found = []
    for folder in ("a", "b"):
        torch.rand(7)
        evaluator = Evaluator(task_of(network), data, HARDWARE, seed=0, cache=TrainingCache(tmp_path / folder))
        evaluation = evaluator.evaluate(candidate_of(network), "validation")
        found.append(replace(evaluation, seconds=0.0, cpu_seconds=0.0, joules=None))
    assert found[0] == found[1]
    assert found[0].accuracy > 0.5


def test_a_network_that_cannot_be_built_small_is_an_outcome(data: datasets.TaskData, tmp_path: Path) -> None:
    network = find(write(tmp_path, NETS.replace("    hidden =", "    assert depth == 3\n    hidden =")))
    evaluator = Evaluator(task_of(network), data, HARDWARE, seed=0, cache=TrainingCache(tmp_path))
    outcome = evaluator.run(Evaluate(key="k", candidate=replace(candidate_of(network), depth=1), split="validation"))
    assert isinstance(outcome, Failed)
    assert "classes=10, depth=1, width=8) failed: AssertionError" in outcome.error


@pytest.mark.slow
@pytest.mark.parametrize("source", [PLAIN, NETS])
def test_a_space_of_one_family_is_searched(tmp_path: Path, source: str) -> None:
    task = task_of(find(write(tmp_path, source)))
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=True) as store:
        setup = Setup(task=task.identity, hardware="any", effort="standard")
        search = new_search(store, setup=setup)
        result = run_search(
            search,
            task.space,
            store,
            FakeExecutor(),
            genome_model=FakeGenomeModel(task.space),
            key_of=lambda candidate: candidate.key,
            observer=Observer(),
        )
        assert result.finished == 40
        assert result.baseline.evaluation.candidate == task.space.baseline()
        assert len(store.evaluations.all(setup)) == result.distinct
