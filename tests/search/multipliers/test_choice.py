import itertools
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import approx
import energy
from energy import CostTable
from search.errors import UnknownNameError, UsageError
from search.evaluation.workload import circuit_bits
from search.locations import multiplier_dir
from search.multipliers.choice import MULTIPLIERS, choose, choose_for
from search.multipliers.folder import MultiplierFolder
from search.multipliers.identity import name_in_layers
from search.multipliers.known import KnownMultipliers, stored_costs, stored_tables
from tests.support.fakes import custom_rows, imported, keep

ALL = range(2, 9)


def test_the_exact_one_is_always_there_and_the_order_is_fixed() -> None:
    one, other = choose(["drum-4", "asm-1", "drum-4"]), choose(["asm-1", "exact", "drum-4"])
    assert one == other
    assert [chosen.identity for chosen in one] == ["exact", "asm-1", "drum-4"]
    assert [chosen.identity for chosen in choose([])] == ["exact"]


def test_an_imported_one_is_found_with_all_that_another_process_needs() -> None:
    multiplier = imported()
    identity = keep(multiplier)
    chosen = choose(["mine"])
    assert [one.identity for one in chosen] == ["exact", identity]
    assert identity == f"mine@{multiplier.digest[:8]}"
    assert chosen[1].limits is None
    assert [one.identity for one in choose([identity])] == ["exact", identity]

    known = pickle.loads(pickle.dumps(KnownMultipliers.of(chosen)))  # noqa: S301
    widths: dict[str, Any] = {"weight_bits": 6, "activation_bits": 5}
    assert known.costs.cost(identity, **widths).relative_energy == pytest.approx(
        known.costs.cost("truncated-4", **widths).relative_energy
    )
    name = name_in_layers(identity)
    found = approx.find_multiplier(name, activation_signed=False, multipliers=known.tables, **widths)
    wanted = multiplier.adapted(weight_signed=True, activation_signed=False, **widths)
    assert torch.equal(found.table(), wanted.table())


def test_known_multipliers_stay_within_their_value() -> None:
    identity = keep(imported())
    known = KnownMultipliers.of(choose(["mine"]))
    assert known.costs.names[-1] == identity
    assert name_in_layers(identity) not in approx.multiplier_names()
    with pytest.raises(energy.WorkloadError, match="no energy is known"):
        energy.multiplier_cost(identity, weight_bits=8, activation_bits=8)


def test_two_multipliers_of_one_name_live_in_one_process() -> None:
    for dropped_bits in (2, 3):
        multiplier = imported("n" * 64, dropped_bits=dropped_bits)
        identity = keep(multiplier)
        known = KnownMultipliers.of(choose([multiplier.name]))
        widths: dict[str, Any] = {"weight_bits": 8, "activation_bits": 8, "weight_signed": False}
        name = name_in_layers(identity)
        found = approx.find_multiplier(name, activation_signed=False, multipliers=known.tables, **widths)
        assert found.digest == multiplier.digest
        (multiplier_dir() / f"{multiplier.digest}.npz").unlink()


def test_the_limits_of_a_circuit_are_known_at_the_start() -> None:
    keep(imported("signed", signed=True), activation_bits=7)
    keep(imported("narrow", bits=4), weight_bits=5, activation_bits=4)
    keep(imported("partly", bits=8), weight_bits=3, activation_bits=8)
    found = {chosen.identity.partition("@")[0]: chosen for chosen in choose(["signed", "narrow", "partly"])}
    assert (found["signed"].max_weight_bits, found["signed"].max_activation_bits) == (8, 7)
    assert (found["narrow"].max_weight_bits, found["narrow"].max_activation_bits) == (4, 4)
    assert (found["partly"].max_weight_bits, found["partly"].max_activation_bits) == (3, 8)
    assert found["signed"].limits == (
        "multiplier signed is searched with at most 8-bit weights and 7-bit activations, the widest that it "
        "supports with known energy"
    )


def test_unlisted_members_of_the_catalogue_are_accepted_once_their_energy_is_known() -> None:
    with pytest.raises(
        UsageError, match=r"no energy is known for 'drum-7'; .*: search multipliers characterise drum-7$"
    ):
        choose(["drum-7"])
    MultiplierFolder.default().keep_costs(custom_rows("drum-7", weight_bits=ALL, activation_bits=ALL))
    MultiplierFolder.default().keep_costs(custom_rows("ssm-3", weight_bits=ALL, activation_bits=ALL))
    _, drum, ssm = choose(["drum-7", "ssm-3"])
    assert (drum.identity, drum.imported, drum.limits) == ("drum-7", None, None)
    assert drum.costs is not None
    assert len(drum.costs) == 49
    assert (ssm.max_weight_bits, ssm.max_activation_bits) == (6, 6)  # static segments are at least half of an operand


def test_a_multiplier_without_known_energy_is_rejected() -> None:
    approx.MultiplierLibrary(multiplier_dir()).add(imported())
    with pytest.raises(UsageError, match=r"known for 'mine'; .* characterise FILE.v --name mine, .* --energy R"):
        choose(["mine"])
    MultiplierFolder.default().keep_costs(custom_rows("mine", weight_bits=[8], activation_bits=[7, 8]))
    with pytest.raises(UsageError, match=r"must be known from 2 x 2 bits .* up; it is known for 8 x 7, 8"):
        choose(["mine"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("drumm-4", "unknown multiplier 'drumm-4'; did you mean 'drum-4'"),
        ("mul8u_1KVX", "unknown multiplier 'mul8u_1KVX'; did you mean 'mul8u_1KVL'"),
        ("qqqq", "unknown multiplier 'qqqq'; list them with: search multipliers"),
        ("asm-7", r"names are asm-1\[-3\[-5\[-7\]\]\]"),
        ("no name", "unknown multiplier 'no name'"),
        ("gone@01234567", "multiplier 'gone@01234567' is no longer in .*; import it again as 'gone'"),
        ("drum-4@01234567", "multiplier 'drum-4@01234567'"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    keep(imported("mul8u_1KVL"))
    with pytest.raises(UnknownNameError, match=message):
        choose([name])


def test_a_damaged_file_is_named_if_a_multiplier_is_missing() -> None:
    keep(imported("other"))
    (multiplier_dir() / "abc.npz").write_text("junk")
    assert len(choose(["other"])) == 2
    with pytest.raises(UnknownNameError, match=r"unknown multiplier 'mine'.*abc.npz is damaged"):
        choose(["mine"])


def test_a_name_given_to_another_multiplier_since_is_rejected() -> None:
    former, latter = imported(), imported(dropped_bits=5)
    identity = keep(former)
    folder = MultiplierFolder.default()
    assert list(stored_tables([identity, "exact", "drum-4"], folder)) == [name_in_layers(identity)]
    (multiplier_dir() / f"{former.digest}.npz").unlink()
    with pytest.raises(UsageError, match=f"multiplier '{identity}' is no longer in .*; import it again"):
        stored_tables([identity], folder)
    other = keep(latter)
    for ask in (lambda name: stored_tables([name], folder), lambda name: choose([name])):
        with pytest.raises(UsageError, match=f"'mine' is now '{other}', a different multiplier"):
            ask(identity)
    assert list(stored_tables([other], folder)) == [name_in_layers(other)]


def test_the_cost_of_a_stored_multiplier_is_found() -> None:
    identity = keep(imported())
    costs = stored_costs([identity, "exact", "gone@01234567"], MultiplierFolder.default())
    assert costs.cost(identity, weight_bits=8, activation_bits=8).relative_energy > 0
    with pytest.raises(energy.WorkloadError):
        costs.cost("gone@01234567", weight_bits=8, activation_bits=8)


def test_a_damaged_table_of_costs_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSLAYER_MULTIPLIER_DIR", str(tmp_path))
    (tmp_path / "costs.csv").write_text("name,form\nmine,layer\n")
    with pytest.raises(energy.WorkloadError, match=r"costs.csv is not a table of multiplier costs"):
        choose(["drum-7"])
    assert len(choose(["drum-4"])) == 2  # which does not need it


GIVEN = energy.load_hardware("given-8bit-45nm")


def test_a_given_array_multiplies_narrow_codes_as_wide_ones() -> None:
    width_dependent = set()
    for name in CostTable().names:
        wide = approx.find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False)
        for weight_bits, activation_bits in itertools.product(range(2, 9), repeat=2):
            operands = {"weight_bits": weight_bits, "activation_bits": activation_bits, "activation_signed": False}
            given = approx.find_multiplier(name, **operands, circuit_bits=(8, 8))  # type: ignore[arg-type]
            inside = wide.table()[: 2**activation_bits][:, given.weight_values.long() & 255]
            assert torch.equal(given.table(), inside)
            try:
                own = approx.find_multiplier(name, **operands)  # type: ignore[arg-type]
            except approx.ArgumentError:
                continue
            in_sign_and_magnitude = own.weight_values > own.weight_values.min()
            if not torch.equal(inside[:, in_sign_and_magnitude], own.table()[:, in_sign_and_magnitude]):
                width_dependent.add(name)
    assert width_dependent == {"ssm-4", "ssm-5", "ssm-6"}


def test_the_default_choice_is_what_a_given_array_can_have() -> None:
    every = sorted(MULTIPLIERS, key=lambda name: (name != "exact", name))
    for hardware in (GIVEN, energy.load_hardware("flexible-45nm")):
        assert [one.identity for one in choose_for(hardware, None)] == every
    assert circuit_bits(GIVEN) == (8, 8)
    assert circuit_bits(energy.load_hardware("flexible-45nm")) is None
    sixteen = replace(GIVEN, name="sixteen", widths=energy.Widths(weights=16, activations=16))
    assert circuit_bits(sixteen) == (12, 12)
    assert [one.identity for one in choose_for(sixteen, None)] == ["exact"]
    with pytest.raises(UsageError, match="no energy is known for 'asm-1' in an array built for 16-bit weights"):
        choose_for(sixteen, choose(["asm-1"]))
