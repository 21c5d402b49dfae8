from dataclasses import replace
from pathlib import Path

import pytest
import torch

from approx import Figure, Multiplier, MultiplierLibrary, find_multiplier, multiplier_from_function
from approx.errors import ArgumentError, ImportFileError


def own(name: str = "own", more: int = 0) -> Multiplier:
    return multiplier_from_function(name, lambda a, w: a * w + more, signed=True, activation_bits=3, weight_bits=4)


def test_what_is_added_comes_back(tmp_path: Path) -> None:
    library = MultiplierLibrary(tmp_path / "not there yet")
    assert library.multipliers() == []
    given = replace(own(), relative_energy=Figure(0.5, "measured, 2026"), provenance="a test")
    path = library.add(given)
    assert path.name == f"{given.digest}.npz"
    (found,) = library.multipliers()
    assert torch.equal(found.table(), given.table())
    for attribute in ("name", "digest", "weight_signed", "activation_signed", "provenance", "relative_energy"):
        assert getattr(found, attribute) == getattr(given, attribute)


def test_equal_behaviour_is_kept_once_under_all_its_names(tmp_path: Path) -> None:
    library = MultiplierLibrary(str(tmp_path))
    assert library.add(own()) == library.add(own("other")) == library.add(own())
    assert len(list(tmp_path.iterdir())) == 1
    assert [multiplier.name for multiplier in library.multipliers()] == ["other", "own"]


@pytest.mark.parametrize("name", ["", " ", ".", "../evil", "a/b", "new\nline", "-x", "x" * 65, "[red]"])
def test_odd_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArgumentError, match="name is 1 to 64 letters"):
        MultiplierLibrary(tmp_path).add(own(name))


@pytest.mark.parametrize("name", ["drum-5", "drum-13", "DRUM-4", "Exact", "truncated-99", "broken-array-1"])
def test_names_in_the_catalogues_form_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArgumentError, match=f"{name}' is taken by the catalogue; choose another `name`"):
        MultiplierLibrary(tmp_path).add(own(name))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImportFileError, match=r"multipliers cannot be kept in .*file"):
        MultiplierLibrary(tmp_path / "file").add(own())


def test_names_are_taken_once(tmp_path: Path) -> None:
    library = MultiplierLibrary(tmp_path)
    library.add(own())
    with pytest.raises(ArgumentError, match="another multiplier named 'own'; choose another `name`"):
        library.add(own(more=1))


def test_damage_is_noticed(tmp_path: Path) -> None:
    library = MultiplierLibrary(tmp_path)
    path = library.add(own())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImportFileError, match="is damaged; delete it and import the multiplier again"):
        library.multipliers()
    library.add(own("good", more=2))
    noted: list[ImportFileError] = []
    assert [multiplier.name for multiplier in library.multipliers(on_damage=noted.append)] == ["good"]
    assert len(noted) == 1
    path.write_bytes(whole)
    other = MultiplierLibrary(tmp_path / "other").add(own(more=1))
    path.write_bytes(other.read_bytes())
    with pytest.raises(ImportFileError, match="its content does not match its name"):
        library.multipliers()


def test_what_cannot_come_back_is_refused(tmp_path: Path) -> None:
    library = MultiplierLibrary(tmp_path)
    for bits in (8, 12):
        asm = find_multiplier("asm-1", weight_bits=bits, activation_bits=8, activation_signed=False)
        with pytest.raises(ArgumentError, match="'mine' cannot be kept: only truth tables of at most 8 bits"):
            library.add(replace(asm, name="mine"))
    assert library.multipliers() == []
