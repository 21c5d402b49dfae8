from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import search
from search.api.checks import check_losses, check_names, check_numbers, target_of
from search.errors import UsageError
from search.space.target import Target


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": "5"}, r"`budget` must be a whole number of at least 1, got '5'"),
        ({"budget": True}, r"`budget` must be a whole number"),
        ({"seed": 0.5}, r"`seed` must be a 32-bit whole number, got 0.5"),
        (
            {"network": torch.nn.Linear(2, 2)},
            r"`network` must be the import path .* got a value of type Linear; give a network itself as `model`",
        ),
        ({"multipliers": "drum-4"}, r"`multipliers` must be a list of names, such as \['drum-4'\], got 'drum-4'"),
        ({"multipliers": [4]}, r"`multipliers` must be names, such as drum-4"),
        ({"dataset": 3}, r"`dataset` must be a name or a path, got 3"),
        ({"hardware": 3}, r"`hardware` must be a name or the path of a YAML file, got 3"),
        ({"effort": "much"}, r"`effort` must be one of quick, standard, thorough, got 'much'"),
        ({"min_accuracy": "0.9"}, r"`min_accuracy` must be above 0 and at most 1, such as 0.95 for 95 %, got '0.9'"),
        ({"min_accuracy": 0.9, "max_accuracy_drop": 0.1}, r"`min_accuracy` and `max_accuracy_drop` exclude each other"),
        ({"max_area": 0}, r"`max_area` must be a number above 0, such as 0.5 for half of the baseline's area, got 0"),
        ({"max_area": -1.5}, r"`max_area` must be a number above 0, .* got -1.5"),
        ({"max_area": float("nan")}, r"`max_area` must be a number above 0, .* got nan"),
        ({"max_area": float("inf")}, r"`max_area` must be a number above 0, .* got inf"),
        ({"max_area": "0.5"}, r"`max_area` must be a number above 0, .* got '0.5'"),
        (
            {"max_area": 0.5, "options": search.SearchOptions(sampler="greedy")},
            r"the greedy strategy begins at the largest, most exact candidate; leave out `max_area`",
        ),
        ({"options": {"name": "x"}}, r"`options` must be a search.SearchOptions, got {'name': 'x'}"),
        ({"workplace": {"workers": 0}}, r"`workplace` must be a search.Workplace, got {'workers': 0}"),
    ],
)
def test_what_is_wrong_with_an_argument_is_a_sentence(
    arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSLAYER_STORAGE", str(tmp_path / "results.db"))
    with pytest.raises(UsageError, match=message):
        search.run(**arguments)
    assert not (tmp_path / "results.db").exists()


def test_values_refuse_what_they_cannot_be() -> None:
    wrong: list[tuple[type, dict[str, Any], str]] = [
        (search.SearchOptions, {"sampler": "x"}, "`sampler` must be one of nsga2, .*greedy, got 'x'"),
        (search.SearchOptions, {"third_objective": "x"}, "`third_objective` must be one of area, latency"),
        (search.SearchOptions, {"techniques": "pruning"}, "`techniques` must be a list of names"),
        (search.SearchOptions, {"techniques": ["x"]}, "`techniques` must be among network, pruning, .* got 'x'"),
        (search.SearchOptions, {"name": 3}, "`name` must be text"),
        (search.SearchOptions, {"space": 3}, "`space` must be a name or the path of a YAML file"),
        (search.SearchOptions, {"starts": [{}]}, "`starts` must be a list of values of search.Candidate"),
        (search.SearchOptions, {"starts": 5}, "`starts` must be a list of values of search.Candidate, got 5"),
        (search.SearchOptions, {"resume": "digits-1"}, "`resume` must be True or False, got 'digits-1'"),
        (search.Workplace, {"workers": True}, "`workers` must be a whole number"),
        (search.Workplace, {"ray_address": 5}, "`ray_address` must be text"),
        (search.SearchOptions, {"sampler": "greedy", "asynchronous": True}, "leave out `asynchronous`"),
        (search.Workplace, {"workers": "two"}, "`workers` must be a whole number of at least 0, got 'two'"),
        (search.Workplace, {"workers": -1}, "`workers` must be a whole number of at least 0, got -1"),
        (search.Workplace, {"timeout_s": 0}, "`timeout_s` must be above 0 seconds, got 0"),
        (search.Workplace, {"workers": 0, "ray_address": "auto"}, "`ray_address` has no effect where `workers` is 0"),
        (search.Workplace, {"cache_limit": {}}, "`cache_limit` must be bytes or a size such as '10GB', got {}"),
        (search.Workplace, {"timeout_s": True}, "`timeout_s` must be above 0 seconds, got True"),
        (search.Workplace, {"storage": 3}, "`storage` must be a path or a URL, got 3"),
    ]
    for kind, arguments, message in wrong:
        with pytest.raises(UsageError, match=message):
            kind(**arguments)


def test_flags_and_observers_of_wrong_types_are_refused_before_anything_is_read() -> None:
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (search.best, {"knee": "no"}, "`knee` must be True or False, got 'no'"),
        (search.best, {"confirm": 1}, "`confirm` must be True or False, got 1"),
        (search.best, {"observer": "5"}, "`observer` must be a search.Observer, got '5'"),
        (search.compare, {"confirm": "no"}, "`confirm` must be True or False, got 'no'"),
        (search.compare, {"observer": "5"}, "`observer` must be a search.Observer, got '5'"),
    ]
    for function, arguments, message in wrong:
        with pytest.raises(UsageError, match=message):
            function(**arguments)


def test_values_show_what_was_given() -> None:
    assert repr(search.Workplace()) == "Workplace()"
    assert repr(search.Workplace(workers=0)) == "Workplace(workers=0)"
    assert repr(search.SearchOptions(name="x", confirm=False)) == "SearchOptions(name='x', confirm=False)"


def test_numbers_of_numpy_are_numbers() -> None:
    check_numbers(budget=np.int64(3), seed=np.int32(1))  # type: ignore[arg-type]
    assert target_of(np.float64(0.5), None) == Target(min_accuracy=0.5)
    assert check_losses(np.array([0.02, 0.01, 0.02])) == (0.01, 0.02)  # type: ignore[arg-type]


def test_names_are_listed_once_without_blanks() -> None:
    assert check_names("multipliers", [" drum-4", "asm-1", "drum-4 "], example="drum-4") == ["drum-4", "asm-1"]
