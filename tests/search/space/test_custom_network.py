"""Custom networks, in files as users write them, and as objects."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
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
from search.space import code_digests, custom_network
from search.space.candidate import Candidate
from search.space.custom_network import build_custom_network, find_model, find_network
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
        code_digests._files.clear()
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
            r"nets:build takes \(shape, classes\); it may take image_shape, classes or num_classes",
        ),
        ("nets:build", "def build(image_shape, classes, rate): pass", "and must not need anything else"),
        ("nets:build", "build = dict", "Python does not know its arguments; it may take image_shape"),
        (
            "nets:build",
            f"{RETURNING}1 / 0",
            r"nets:build\(image_shape=\(1, 8, 8\), classes=10\) failed: ZeroDivisionError",
        ),
        ("nets:build", f"{RETURNING}[nn.Flatten()]", "must return a torch.nn.Module, got list"),
        (
            "nets:build",
            f"{RETURNING}nn.Sequential(nn.Flatten(), nn.Unflatten(1, (7, 7)))",
            r"classes=10\) fails on images of 1x8x8 \(channels, height, width\): RuntimeError",
        ),
        (
            "nets:build",
            f"{RETURNING}nn.Sequential(nn.Flatten(), nn.Linear(64, 7))",
            r"output for one image must be a tensor of shape \(1, 10\), a score for each .*, got shape \(1, 7\)",
        ),
        ("nets:build", f"{RETURNING}nn.LSTM(8, 10)", "fails on images of 1x8x8"),
        (
            "nets:build",
            f"{RETURNING}nn.Sequential(nn.Flatten(), nn.LSTM(64, 10))",
            "cannot be approximated: .*weight_hh_l0",
        ),
        (
            "nets:build",
            f"{RETURNING}nn.Sequential(nn.AdaptiveAvgPool2d((1, 10)), nn.Flatten())",
            "nets:build cannot be approximated: the model has no Conv1d, Conv2d",
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
    return replace(CANDIDATE, family=network.family, depth=network.max_depth, width=network.max_width)


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
        search = new_search(store, setup=setup, task=task)
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


# Networks that come trained

HIDDEN = """
from torch import nn

def build(num_classes, depth=1):
    assert depth == 1
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, num_classes))
"""


def hidden(seed: int = 0, units: int = 16) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, units), nn.ReLU(), nn.Linear(units, 10))


def find_trained(folder: Path, model: nn.Module, *, file: str = "net.pt", source: str = HIDDEN) -> CustomNetwork:
    """Write a function and weights, and find the network."""
    write(folder, source)
    if file.endswith(".safetensors"):
        save_file(model.state_dict(), folder / file)
    else:
        torch.save(model.state_dict(), folder / file)
    return find_network(
        "nets:build", folder=str(folder), image_shape=SHAPE, classes=10, checkpoint=str(folder / file), trained=True
    )


def scores(model: nn.Module) -> torch.Tensor:
    images = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: torch.Tensor = model.eval()(images)
    return found


def test_a_trained_network_is_built_with_its_weights_whatever_the_seed(tmp_path: Path) -> None:
    model = hidden()
    network = find_trained(tmp_path, model)
    before = torch.get_rng_state()
    first = build(network, width=8, seed=1)
    assert torch.equal(scores(first), scores(model))
    with torch.no_grad():
        first.get_parameter("1.weight").zero_()
    assert torch.equal(scores(build(network, width=8, seed=2)), scores(model))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_width_of_a_trained_network_is_the_share_of_channels_that_it_keeps(tmp_path: Path) -> None:
    model = hidden()
    network = find_trained(tmp_path, model)
    assert (network.trained, network.max_depth, network.min_width, network.max_width) == (True, 1, 1, 8)
    space = find_task("digits").with_network(network).space
    baseline = space.baseline()
    assert (baseline.depth, baseline.width, baseline.weight_bits, baseline.multiplier) == (1, 8, 8, "exact")
    assert {candidate.width for candidate in space.networks()} == set(range(1, 9))
    into, out = model.get_parameter("1.weight"), model.get_parameter("3.weight")
    parameters = torch.cat([into, model.get_parameter("1.bias")[:, None], out.T], dim=1)
    order = parameters.norm(dim=1).argsort()
    for width in range(1, 9):
        narrow = build(network, width=width)
        assert narrow.get_parameter("1.weight").shape == (2 * width, 64)
        without = copy.deepcopy(model)
        with torch.no_grad():
            without.get_parameter("3.weight")[:, order[: 16 - 2 * width]] = 0
        torch.testing.assert_close(scores(narrow), scores(without))


def test_a_network_without_removable_channels_has_one_width(tmp_path: Path) -> None:
    source = PLAIN.replace("image_shape, classes", "classes").replace("image_shape[1] * image_shape[2]", "64")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    network = find_trained(tmp_path, model, source=source)
    assert (network.min_width, network.max_width) == (8, 8)
    space = find_task("digits").with_network(network).space
    assert {candidate.width for candidate in space.networks()} == {8}


def test_a_share_that_no_layer_can_lose_is_kept(tmp_path: Path) -> None:
    network = find_trained(tmp_path, hidden(units=3), source=HIDDEN.replace("16", "3"))
    found = [build(network, width=width).get_parameter("1.weight").shape[0] for width in range(1, 9)]
    assert found == [1, 1, 1, 1, 2, 2, 3, 3]  # 3 - min(round(3 (1 - width / 8)), 2)


def test_the_sizes_of_a_trained_network_are_the_functions_own(tmp_path: Path) -> None:
    assert find_trained(tmp_path, hidden()).max_depth == 1  # or its assertion about depth would fail


def test_the_same_weights_in_another_file_are_the_same_network(tmp_path: Path) -> None:
    first = find_trained(tmp_path, hidden())
    others = [
        find_trained(tmp_path, hidden(), file="other.safetensors"),
        find_trained(tmp_path, hidden().double(), file="double.pt"),
    ]
    for other in others:
        assert (other.fingerprint, other.weights_sha256) == (first.fingerprint, first.weights_sha256)
        assert other.checkpoint != first.checkpoint
        assert task_of(other).identity == task_of(first).identity


def test_other_weights_in_the_same_file_are_another_network(tmp_path: Path) -> None:
    first, second = (find_trained(tmp_path, hidden(seed)) for seed in (0, 1))
    assert first.checkpoint == second.checkpoint
    assert first.weights_sha256 != second.weights_sha256
    assert task_of(first).identity != task_of(second).identity
    candidate = candidate_of(first)
    keys = [
        evaluation_key(candidate, task_of(one), fingerprint="0", hardware=HARDWARE, seed=0) for one in (first, second)
    ]
    assert keys[0] != keys[1]
    assert torch.equal(scores(build(second, width=8)), scores(hidden(1)))


def test_a_network_with_a_checkpoint_is_another_than_the_same_from_scratch(tmp_path: Path) -> None:
    source = HIDDEN.replace(", depth=1", "").replace("    assert depth == 1\n", "")
    trained = find_trained(tmp_path, hidden(), source=source)
    scratch = find(tmp_path)
    assert scratch.fingerprint != trained.fingerprint
    assert scratch.family == "nets:build"
    assert trained.family == "nets:build/8"


def test_a_checkpoint_that_changes_during_a_search_is_not_missed(tmp_path: Path, new_process: NewProcess) -> None:
    network: CustomNetwork = pickle.loads(pickle.dumps(find_trained(tmp_path, hidden())))  # noqa: S301
    new_process()  # a worker
    assert torch.equal(scores(build(network, width=8)), scores(hidden()))
    torch.save(hidden(1).state_dict(), tmp_path / "net.pt")
    assert torch.equal(scores(build(network, width=8)), scores(hidden()))  # this process has read it already
    new_process()
    with pytest.raises(
        UsageError, match=r"`checkpoint` \S+net\.pt has other weights than when the search began; put those back, or"
    ):
        build(network, width=8)
    torch.save(hidden(units=15).state_dict(), tmp_path / "net.pt")
    with pytest.raises(UsageError, match=r"1\.weight has shape \(15, 64\) in the file and \(16, 64\) in the network"):
        build(network, width=8)


def test_weights_that_a_function_builds_are_part_of_the_network(tmp_path: Path, new_process: NewProcess) -> None:
    reading = HIDDEN.replace("    return ", "    model = ") + (
        f"    import torch\n    model.load_state_dict(torch.load({str(tmp_path / 'own.pt')!r}))\n    return model\n"
    )
    found = []
    for seed in (0, 1, 0):
        torch.save(hidden(seed).state_dict(), tmp_path / "own.pt")
        write(tmp_path, reading)
        network = find_network("nets:build", folder=str(tmp_path), image_shape=SHAPE, classes=10, trained=True)
        assert network.checkpoint is None
        assert torch.equal(scores(build(network, width=8)), scores(hidden(seed)))
        found.append(network)
    assert found[0].fingerprint == found[2].fingerprint != found[1].fingerprint
    new_process()
    with pytest.raises(UsageError, match="nets:build was edited after the search began"):
        build(found[1], width=8)


def test_weights_of_a_function_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    filled = "    nn.init.constant_(model[1].weight, float('nan'))\n    return model\n"
    write(tmp_path, HIDDEN.replace("    return ", "    model = ") + filled)
    with pytest.raises(UsageError, match=r"`network` nets:build has values that are no finite numbers in 1\.weight"):
        find_network("nets:build", folder=str(tmp_path), image_shape=SHAPE, classes=10, trained=True)


class Given(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = hidden()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.body(images)
        return found


def not_finite() -> nn.Module:
    model = hidden()
    nn.init.constant_(model.get_parameter("1.weight"), torch.inf)
    return model


def find_given(model: object) -> CustomNetwork:
    return find_model(model, image_shape=SHAPE, classes=10)


def test_a_network_that_is_given_is_built_as_it_was_when_it_was_found() -> None:
    model = Given().train()
    expected = scores(copy.deepcopy(model))
    network = find_given(model)
    assert network.path == network.family.removesuffix("/8") == f"{__name__}.Given"
    assert network.is_object
    assert find_given(nn.DataParallel(copy.deepcopy(model))) == network
    assert (network.min_width, network.max_width) == (1, 8)
    assert model.training
    with torch.no_grad():
        model.get_parameter("body.1.weight").zero_()
    assert torch.equal(scores(build(network, width=8)), expected)
    assert build(network, width=3).get_parameter("body.1.weight").shape == (6, 64)
    assert find_given(model).fingerprint != network.fingerprint
    assert find_given(Given()).fingerprint == network.fingerprint


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Conv2d(3, 10, 8),
            "^`model` does not fit images of 1x8x8 .*: it takes 3 channels and gets 1; give images of",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), r"^`model`: its output .* \(1, 10\), .* got shape \(1, 3\)"),
        (nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(10)), "^`model` cannot be approximated: the model has no"),
        (not_finite(), r"^`model` has values that are no finite numbers in 1\.weight; give weights of a good run"),
        ("nets:build", "^`model` must be a torch.nn.Module"),
    ],
)
def test_errors_say_what_is_wrong_with_a_network_that_is_given(model: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_given(model)


@pytest.mark.process
def test_a_network_that_is_given_travels_with_the_places_of_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "from torch import nn\nclass Net(nn.Sequential):\n    pass\n", "elsewhere.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    from elsewhere import Net  # type: ignore[import-not-found]

    network = find_given(Net(*hidden()))
    (tmp_path / "network.pickle").write_bytes(pickle.dumps(network))
    code = (
        "import pickle, sys\n"
        "network = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert network.fingerprint == sys.argv[2]\n"
        "assert type(network.model).__name__ == 'Net'"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "network.pickle"), network.fingerprint]
    subprocess.run(command, check=True, cwd=Path(__file__).parent)
