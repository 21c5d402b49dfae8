import json
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given

from approx import (
    SILICON_14NM,
    Architecture,
    build_network,
    family_names,
    find_multiplier,
    layer_order,
    multiplier_names,
    network_family,
)
from energy import load_hardware
from search.errors import UsageError
from search.multipliers.identity import multiplier_identity, multiplier_name
from search.space.candidate import NOMINAL_V, Candidate, LayerChoice
from tests.support.strategies import candidates

EXAMPLE = Candidate(
    family="lenet",
    depth=2,
    width=4,
    sparsity=0.5,
    weight_bits=4,
    activation_bits=6,
    multiplier="asm-1",
    supply_v=0.8,
    robust_bits=2,
)


@given(candidates)
def test_json_and_back_is_identity(candidate: Candidate) -> None:
    assert Candidate.from_dict(json.loads(json.dumps(candidate.to_dict()))) == candidate


@given(candidates)
def test_canonical_form_is_idempotent_and_shares_its_key(candidate: Candidate) -> None:
    canonical = candidate.canonical()
    assert canonical.canonical() == canonical
    assert canonical.key == candidate.key


@given(candidates, candidates)
def test_keys_are_equal_exactly_for_equal_canonical_forms(one: Candidate, other: Candidate) -> None:
    assert (one.key == other.key) == (one.canonical() == other.canonical())


def test_robust_bits_do_not_matter_if_no_cell_fails() -> None:
    assert replace(EXAMPLE, supply_v=0.9, robust_bits=3).key == replace(EXAMPLE, supply_v=0.9, robust_bits=0).key
    assert replace(EXAMPLE, supply_v=0.95).key == replace(EXAMPLE, supply_v=0.9).key
    assert replace(EXAMPLE, robust_bits=6).canonical().robust_bits == 4
    assert load_hardware("weight-stationary-45nm").technology.nominal_v == NOMINAL_V
    assert SILICON_14NM.bit_error_rate(NOMINAL_V) == 0
    assert SILICON_14NM.bit_error_rate(NOMINAL_V - 1e-6) > 0


@pytest.mark.parametrize("name", [*multiplier_names(), "asm-1-3-5", "drum-7", "ssm-2"])
def test_multipliers_that_are_exact_at_a_width_are_exact(name: str) -> None:
    for bits, activation_bits in product(range(2, 9), (2, 3, 4, 5, 8)):
        if name == "momeni" or (name == "ssm-2" and max(bits, activation_bits) > 4):
            continue  # it does not support such operands
        multiplier, exact = (
            find_multiplier(n, weight_bits=bits, activation_bits=activation_bits, activation_signed=False)
            for n in (name, "exact")
        )
        # Codes from quantisation; the most negative one only comes from faulty memory.
        storable = [code for code in range(2**bits) if code != 2 ** (bits - 1)]
        same = torch.equal(multiplier.table()[:, storable], exact.table()[:, storable])
        candidate = replace(EXAMPLE, multiplier=name, weight_bits=bits, activation_bits=activation_bits)
        is_exact = candidate.canonical().multiplier == "exact"
        # A few others are exact by chance for operands as narrow as 2 bits; they keep their names.
        by_chance = min(bits, activation_bits) == 2 and not name.startswith(("asm", "exact"))
        assert is_exact == same or (same and by_chance), (name, bits, activation_bits)


def test_an_imported_multiplier_is_identified_by_its_products() -> None:
    one, other = (multiplier_identity("mine", digit * 64) for digit in "ab")
    assert (one, other) == ("mine@aaaaaaaa", "mine@bbbbbbbb")
    assert multiplier_name(one) == multiplier_name(other) == "mine"
    assert multiplier_name("asm-1-3") == "asm-1-3"
    assert replace(EXAMPLE, multiplier=one).key != replace(EXAMPLE, multiplier=other).key


def test_the_key_is_stable_across_releases() -> None:
    # Stored results are found by it: a change here restarts every stored search.
    assert EXAMPLE.key == "d07cfa69ea04f7b58b5841a8692103261e821cddb5be23f5c23bac30a911babd"


def test_fields_of_layers_that_equal_the_shared_ones_are_not_written() -> None:
    assert list(EXAMPLE.to_dict()) == [
        "family",
        "depth",
        "width",
        "sparsity",
        "weight_bits",
        "activation_bits",
        "multiplier",
        "supply_v",
        "robust_bits",
    ]
    layered = replace(EXAMPLE, multiplier_last="exact", robust_bits_first=0)
    assert layered.to_dict() == {**EXAMPLE.to_dict(), "multiplier_last": "exact", "robust_bits_first": 0}
    assert layered.key != EXAMPLE.key


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"multiplier_first": "asm-1", "robust_bits_last": 2}, {}),
        ({"robust_bits": 6, "robust_bits_first": 8, "robust_bits_last": 4}, {"robust_bits": 4}),
        ({"supply_v": 0.9, "robust_bits_first": 3}, {"supply_v": 0.9}),
        ({"weight_bits": 2, "multiplier_last": "exact"}, {"weight_bits": 2, "multiplier": "exact"}),
        # with a single hidden layer, or a single convolution, there is no middle
        (
            {"depth": 1, "multiplier_first": "ssm-4", "multiplier_last": "exact", "robust_bits_first": 1},
            {"depth": 1, "multiplier": "ssm-4", "multiplier_last": "exact", "robust_bits": 1, "robust_bits_last": 2},
        ),
        (
            {"depth": 1, "multiplier_first": "ssm-4", "multiplier_last": "ssm-4"},
            {"depth": 1, "multiplier": "ssm-4"},
        ),
    ],
)
def test_canonical_forms_of_layers(change: dict[str, Any], same: dict[str, Any]) -> None:
    assert replace(EXAMPLE, **change).canonical() == replace(EXAMPLE, **same).canonical()


@given(candidates)
def test_layers_keep_their_choices_in_canonical_form(candidate: Candidate) -> None:
    canonical = candidate.canonical()
    for layers in (["a", "b"], ["a", "b", "c", "d"]):
        if len(layers) > 2 and (candidate.family, candidate.depth) in (("mlp", 1), ("lenet", 1)):
            continue
        names = dict(zip(layers, canonical.layer_choices(layers).values(), strict=True))
        for layer, choice in candidate.layer_choices(layers).items():
            alone = replace(
                candidate,
                multiplier=choice.multiplier,
                robust_bits=choice.robust_bits,
                multiplier_first=None,
                multiplier_last=None,
                robust_bits_first=None,
                robust_bits_last=None,
            )
            assert names[layer] == LayerChoice(alone.canonical().multiplier, alone.canonical().robust_bits)


def test_a_single_layer_is_the_last() -> None:
    layered = replace(EXAMPLE, multiplier_first="exact", multiplier_last="ssm-4", robust_bits_first=0)
    assert layered.layer_choices(["only"]) == {"only": LayerChoice("ssm-4", 2)}
    assert layered.multipliers == ("exact", "asm-1", "ssm-4")


@pytest.mark.parametrize("name", family_names())
def test_networks_without_a_middle_are_known(name: str) -> None:
    for depth in range(1, network_family(name).max_depth + 1):
        size = 8 if name in ("mlp", "lenet") else 32
        network = build_network(
            Architecture(family=name, depth=depth, width=1), image_shape=(1, size, size), classes=10, seed=0
        )
        has_middle = len(layer_order(network, torch.zeros(2, 1, size, size))) > 2
        candidate = replace(EXAMPLE, family=name, depth=depth, multiplier_first="exact", multiplier_last="exact")
        assert (candidate.canonical().multiplier == "asm-1") == has_middle


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"multiplier_last": 3}, "'multiplier_last' must be of type str, got 3"),
        ({"robust_bits_first": 1.0}, "'robust_bits_first' must be of type int, got 1.0"),
        ({"robust_bits_last": 9}, "robust_bits_last must be between 0 and 8, got 9"),
        ({"sparsity": 1.0}, "sparsity must be between 0 and 0.999, got 1.0"),
        ({"weight_bits": 9}, "weight_bits must be between 2 and 8, got 9"),
        ({"weight_bits": 4.0}, "'weight_bits' must be of type int, got 4.0"),
        ({"depth": True}, "'depth' must be of type int, got True"),
        ({"family": 3}, "'family' must be of type str, got 3"),
        ({"supply_v": float("nan")}, "supply_v must be between"),
        ({"colour": "red"}, "unknown candidate key 'colour'"),
    ],
)
def test_invalid_json_is_rejected(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Candidate.from_dict({**EXAMPLE.to_dict(), **change})


def test_a_missing_key_is_named() -> None:
    content = EXAMPLE.to_dict()
    del content["multiplier"]
    with pytest.raises(UsageError, match="lacks the key 'multiplier'"):
        Candidate.from_dict(content)
