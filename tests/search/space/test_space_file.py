"""Spaces by name and from files."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import search
from energy import Hardware, load_hardware
from energy.hardware import FAILURES
from energy.hardware_parts import Cell
from search.api.options import SearchOptions
from search.api.workplace import Workplace
from search.errors import UsageError
from search.multipliers.choice import MULTIPLIERS, choose
from search.space.built_in_tasks import BUILT_IN_TASKS
from search.space.search_space import SearchSpace
from search.space.space_file import KEYS, ChosenSpace, choose_space
from search.space.task import CustomNetwork, Task, find_task
from search.space.weight_memory import check_signs, lowest_supply_mv, weight_memory
from search.store.database import Store

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "search-space.md").read_text()
(EXAMPLE,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
TASK = find_task("digits")
HARDWARE = load_hardware("weight-stationary-45nm")
SIX = replace(HARDWARE, weight_memory=replace(HARDWARE.weight_memory, cell="6T"))


def read(folder: Path, text: str, *, of: Task = TASK, hardware: Hardware = HARDWARE) -> ChosenSpace:
    path = folder / "space.yaml"
    path.write_text(text)
    return choose_space(str(path), of, hardware)


def test_spaces_by_name() -> None:
    assert choose_space("default", TASK, HARDWARE) == ChosenSpace(space=TASK.space, multipliers=None)
    assert choose_space("layered", TASK, SIX).space == replace(TASK.space, layered=True)
    with pytest.raises(UsageError, match="unknown space 'layerd'; did you mean 'layered'"):
        choose_space("layerd", TASK, HARDWARE)
    with pytest.raises(UsageError, match=r"cannot read space file gone.yaml: No such file"):
        choose_space("gone.yaml", TASK, HARDWARE)


def test_the_example_of_the_document(tmp_path: Path) -> None:
    found = read(tmp_path, EXAMPLE)
    assert found.space == replace(
        TASK.space,
        baseline_family="mlp",
        families=("lenet",),
        depth=range(2, 4),
        width=range(2, 13, 2),
        sparsity_percent=range(0, 99, 7),
        weight_bits=(2, 4, 8),
        activation_bits=range(4, 9),
        supply_mv=range(660, 901, 20),
        robust_bits=(0, 2, 4, 8),
        layered=True,
    )
    assert found.multipliers == choose(["asm-1", "asm-1-3", "truncated-2"])
    assert found.space.baseline() == TASK.space.baseline()


def test_the_document_names_every_key_and_the_defaults() -> None:
    for key in KEYS:
        assert f"`{key}`" in DOCUMENT
    space = TASK.space
    for values, scale, words in (
        (space.sparsity_percent, 100, "0 to 0.95, step 0.05"),
        (space.supply_mv, 1000, "0.62 to 0.90, step 0.01"),
    ):
        assert isinstance(values, range)
        low, high, step = map(float, re.findall(r"[\d.]+", words))
        assert [values[0] / scale, values[-1] / scale, values.step / scale] == [low, high, step]
        assert words in DOCUMENT


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("width: {low: 1, high: 12}\nfamilies: [lenet]", {"families": ("lenet",), "width": range(1, 13)}),
        ("width: [64]\nfamilies: [mlp]", {"families": ("mlp",), "width": range(64, 65)}),
        ("sparsity: [0.99, 0, 0.5]", {"sparsity_percent": (0, 50, 99)}),
        ("sparsity: {low: 0.3, high: 0.6}", {"sparsity_percent": range(30, 61, 5)}),
        ("supply_v: {low: 0.615, high: 0.9, step: 0.013}", {"supply_mv": range(615, 901, 13)}),
        ("supply_v: [0.9]", {"supply_mv": range(900, 901)}),
        ("robust_bits: [8, 0, 0]", {"robust_bits": range(0, 9, 8)}),
        ("families: [mlp, lenet]", {}),
        ("layered: true", {"layered": True}),
    ],
)
def test_files_restrict_and_extend(text: str, change: dict[str, object], tmp_path: Path) -> None:
    found = read(tmp_path, text)
    assert found.space == replace(TASK.space, baseline_family="mlp", **change)  # type: ignore[arg-type]
    assert found.multipliers is None


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("# nothing", 0, "is empty; start from the example in docs/search-space.md"),
        ("[1]", 1, "the file must be a mapping of keys to values"),
        ("layered: true\nwieght_bits: [2]", 2, "unknown key 'wieght_bits'; did you mean 'weight_bits'? Keys here: lay"),
        ("colour: red", 1, "unknown key 'colour'. Keys here: families, depth"),
        ("width: [1]\nwidth: [2]", 2, "duplicate key 'width'"),
        ("width: 3", 1, "width: give a list of values, or a range {low: ..., high: ..., step: ...}"),
        ("\nwidth: []", 2, "width must be a list of at least one value"),
        ("width: [[1]]", 1, "width must be a single value"),
        ("width: [two]", 1, "width must be a whole number, got 'two'"),
        ("width: [2.5]", 1, "width must be a whole number, got 2.5"),
        ("width: [true]", 1, "width must be a whole number, got True"),
        ("width: [13]", 1, "width must be between 1 and 12, which lenet and mlp allow, got 13"),
        ("families: [mlp]\ndepth: [4]", 2, "depth must be between 1 and 3, which mlp allows, got 4"),
        ("depth:\n  low: 1\n  high: 5", 3, "depth.high must be between 1 and 3"),
        ("depth: {low: 3, high: 2}", 1, "depth: the range from 3 to 2 is empty"),
        ("depth: {low: 1}", 1, "the key 'depth.high' is missing"),
        ("depth: {low: 1, high: 2, by: 1}", 1, "unknown key 'depth.by'. Keys here: low, high, step"),
        ("depth: {low: 1, high: 3, step: 0}", 1, "depth.step must be above 0, got 0"),
        ("sparsity: [1]", 1, "sparsity must be between 0 and 0.99, got 1"),
        ("sparsity: [0.125]", 1, "sparsity must be a multiple of 0.01, got 0.125"),
        ("sparsity: [.inf]", 1, "sparsity must be a multiple of 0.01, got inf"),
        ("weight_bits: [9]", 1, "weight_bits must be between 2 and 8, got 9"),
        ("activation_bits: {low: 1, high: 8}", 1, "activation_bits.low must be between 2 and 8, got 1"),
        (
            "supply_v: [0.59]",
            1,
            "supply_v must be between 0.615 and 0.9, from where 8T cells begin to fail to where no cell does",
        ),
        ("supply_v: [900]", 1, "supply_v must be between 0.615 and 0.9"),
        ("robust_bits: [9]", 1, "robust_bits must be between 0 and 8, got 9"),
        ("families: [resnet]", 1, "families must be among lenet, mlp, got 'resnet'"),
        ("families: mlp", 1, "families must be a list of at least one value"),
        ("layered: maybe", 1, "layered must be true or false, got 'maybe'"),
        ("multipliers: [asm-1,\n  drumm-4]", 1, "multipliers: unknown multiplier 'drumm-4'; did you mean 'drum-4'"),
        ("multipliers: [3]", 1, "multipliers must be a list of names, got 3"),
        ("width: [1\n", 2, "not valid YAML"),
    ],
)
def test_mistakes_are_named_with_their_line(text: str, line: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "space.yaml") + (f":{line}: " if line else ""))


def test_all_mistakes_of_a_file_are_named(tmp_path: Path) -> None:
    text = """families: [mlp, resnet]
depth: [2, 40]
width: {low: 5, high: 2}
weight_bits: [9, 2, 1]
activation_bits: {low: 1, high: eight, step: 0}
multipliers: [drumm-4, asm-1, asmm-1]
robust_bits: [1]
supply_v: 0.8
layerd: true
"""
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text, hardware=SIX)
    lines = [line.removeprefix(f"{tmp_path}/space.yaml:") for line in str(caught.value).splitlines()]
    assert [re.sub(r"(unknown multiplier '\S+'|has 6T|layered'\?);?.*", r"\1", line) for line in lines] == [
        "1: families must be among lenet, mlp, got 'resnet'",
        "2: depth must be between 1 and 3, which lenet or mlp allows, got 40",
        "3: width: the range from 5 to 2 is empty",
        "4: weight_bits must be between 2 and 8, got 9",
        "4: weight_bits must be between 2 and 8, got 1",
        "5: activation_bits.low must be between 2 and 8, got 1",
        "5: activation_bits.high must be a whole number, got 'eight'",
        "5: activation_bits.step must be above 0, got 0.0",
        "6: multipliers: unknown multiplier 'drumm-4'",
        "6: multipliers: unknown multiplier 'asmm-1'",
        "7: robust_bits: the weight memory of weight-stationary-45nm has 6T",
        "8: supply_v: give a list of values, or a range {low: ..., high: ..., step: ...}",
        "9: unknown key 'layerd'; did you mean 'layered'?",
    ]


def test_robust_bits_need_a_hybrid_memory(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"space.yaml:1: robust_bits: the weight memory of .* has 6T cells only"):
        read(tmp_path, "robust_bits: [1]", hardware=SIX)
    assert read(tmp_path, "layered: true", hardware=SIX).space.layered


def test_widths_of_a_trained_network_are_those_at_which_it_differs(tmp_path: Path) -> None:
    network = CustomNetwork(
        path="nets:build", folder="", max_depth=1, max_width=8, min_width=8, fingerprint="0", weights_sha256="1"
    )
    with pytest.raises(UsageError, match="width must be between 8 and 8, which nets:build/8 allows, got 4"):
        read(tmp_path, "width: [4, 8]", of=TASK.with_network(network))


def test_custom_networks_have_their_own_limits(tmp_path: Path) -> None:
    network = CustomNetwork(path="nets:build", folder="", max_depth=1, max_width=8, fingerprint="0")
    custom = TASK.with_network(network)
    assert read(tmp_path, "width: [4, 8]", of=custom).space.width == range(4, 9, 4)
    with pytest.raises(UsageError, match="depth must be between 1 and 1, which nets:build allows, got 2"):
        read(tmp_path, "depth: [2]", of=custom)


@pytest.mark.parametrize(
    ("failures", "cell", "lowest_mv"),
    [
        ("silicon-14nm", "hybrid", 615),
        ("silicon-14nm", "8T", 615),
        ("silicon-14nm", "6T", 634),  # the mean of the cells' lowest working voltages, 0.7055 x 0.9 V
        ("silicon-14nm-weaker-8t", "hybrid", 750),
        ("silicon-14nm-stronger-8t", "hybrid", 410),
        ("silicon-14nm-stronger-8t", "6T", 634),
        ("hybrid-22nm", "hybrid", 616),  # 0.65 V of 0.95 V
        ("hybrid-22nm-weaker-8t", "hybrid", 711),
    ],
)
def test_voltages_reach_down_to_where_8t_cells_or_half_of_the_6t_cells_fail(
    failures: str, cell: Cell, lowest_mv: int
) -> None:
    assert lowest_supply_mv(failures, cell) == lowest_mv


def test_a_multiplier_that_a_failed_sign_would_mislead_is_refused() -> None:
    chosen = choose(["truncated-compensated-4"])
    space = TASK.space.restricted(chosen, "hybrid")
    with pytest.raises(UsageError, match="product of truncated-compensated-4 with a weight of zero is not zero"):
        check_signs(space, chosen)
    check_signs(replace(space, robust_bits=range(1, 9)), chosen)
    check_signs(replace(space, supply_mv=range(900, 901)), chosen)
    check_signs(TASK.space, choose(MULTIPLIERS))


def test_every_failure_model_that_hardware_can_name_is_known() -> None:
    baseline = TASK.space.baseline()
    for name in FAILURES:
        assert weight_memory(baseline, name).bit_error_rate == 0
        at_lowest = weight_memory(replace(baseline, supply_v=lowest_supply_mv(name, "hybrid") / 1000), name)
        assert at_lowest.robust_bit_error_rate == 0
        assert at_lowest.failed_cells == ("stuck" if name.endswith("-stuck") else "inverted")
        assert at_lowest.bit_error_rate > 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduces the work of an evaluation."""
    effort = replace(TASK.effort, train_epochs=2, prune_epochs=1, approximate_epochs=1, chips=2)
    monkeypatch.setitem(BUILT_IN_TASKS, TASK.name, replace(BUILT_IN_TASKS[TASK.name], effort=effort))


def space_of(storage: str, name: str) -> SearchSpace:
    with Store.open(f"sqlite:///{storage}", create=False) as store:
        content = store.searches.find(name).space
    return TASK.space.with_values(content)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_layered_search(tmp_path: Path) -> None:
    storage = str(tmp_path / "results.db")
    result = search.run(
        budget=12,
        options=SearchOptions(space="layered", confirm=False),
        workplace=Workplace(workers=0, storage=storage),
    )
    assert (result.finished, result.failed) == (12, 0)
    assert space_of(storage, "digits-1").layered
    with Store.open(f"sqlite:///{storage}", create=False) as store:
        found = [record.evaluation.candidate for record in store.evaluations.of_search(result.search)]
    assert result.baseline.evaluation.candidate == found[0] == TASK.space.baseline()
    assert any(len(candidate.multipliers) > 1 for candidate in found)
    with pytest.raises(UsageError, match="search 'digits-1' searches another space than `space` says now"):
        search.run(
            options=SearchOptions(space="default", name="digits-1", resume=True), workplace=Workplace(storage=storage)
        )
    with pytest.raises(UsageError, match="in this `space` to resume"):
        search.run(options=SearchOptions(space="default", resume=True), workplace=Workplace(storage=storage))
    assert (
        search.run(
            options=SearchOptions(space="layered", resume=True, confirm=False),
            workplace=Workplace(workers=0, storage=storage),
        ).finished
        == 12
    )


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_search_of_a_space_file_is_resumed_in_its_space(tmp_path: Path) -> None:
    storage, path = str(tmp_path / "results.db"), tmp_path / "space.yaml"
    path.write_text("families: [mlp]\ndepth: [1]\nwidth: [1, 2, 4]\nmultipliers: [asm-1]\nweight_bits: [4, 8]\n")
    with pytest.raises(UsageError, match="multipliers are chosen twice, by `multipliers` and in"):
        search.run(multipliers=["asm-1"], options=SearchOptions(space=path), workplace=Workplace(storage=storage))
    begun = search.run(
        budget=3, options=SearchOptions(space=path, confirm=False), workplace=Workplace(workers=0, storage=storage)
    )
    assert begun.search.multipliers == ("exact", "asm-1")
    path.unlink()
    more = search.run(
        budget=6,
        options=SearchOptions(confirm=False, name=begun.search.name, resume=True),
        workplace=Workplace(workers=0, storage=storage),
    )
    assert (more.finished, more.failed) == (6, 0)
    assert more.baseline.evaluation.candidate == TASK.space.baseline()
    with Store.open(f"sqlite:///{storage}", create=False) as store:
        found = [record.evaluation.candidate for record in store.evaluations.of_search(more.search)]
    assert {(c.family, c.depth) for c in found[1:]} == {("mlp", 1)}
    assert {c.width for c in found[1:]} <= {1, 2, 4}
    assert {c.weight_bits for c in found[1:]} <= {4, 8}
    path.write_text("families: [mlp]\n")
    with pytest.raises(UsageError, match="searches another space"):
        search.run(
            options=SearchOptions(space=path, name=begun.search.name, resume=True), workplace=Workplace(storage=storage)
        )
