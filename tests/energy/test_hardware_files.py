"""Hardware files as text, and copies to start from."""

import json
from pathlib import Path

import pytest

from energy import HardwareError, hardware_names, load_hardware
from energy.hardware_files import copy_hardware, hardware_content, hardware_text


@pytest.mark.parametrize("name", hardware_names())
def test_a_copy_differs_in_its_name_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert copy_hardware(name, path, overwrite=False) == "mine"
    changed = [
        (old, new)
        for old, new in zip(hardware_text(name).splitlines(), path.read_text().splitlines(), strict=True)
        if old != new
    ]
    assert changed == [(f"name: {name}", "name: mine")]
    made, shipped = load_hardware(str(path)), load_hardware(name)
    assert made.identity.startswith("mine@")
    assert {**made.to_dict(), "name": name} == shipped.to_dict()


def test_names_that_yaml_takes_for_something_else_are_quoted(tmp_path: Path) -> None:
    for name in ("no", "1e3", "45", "a: b", "2024-01-01", "#1"):
        path = tmp_path / f"{name}.yaml"
        copy_hardware("hybrid-22nm", path, overwrite=False)
        assert load_hardware(str(path)).name == name


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    copy_hardware("hybrid-22nm", path, overwrite=False)
    with pytest.raises(HardwareError, match=r"mine.yaml exists; choose another file, or replace it with `overwrite`"):
        copy_hardware("row-stationary-65nm", path, overwrite=False)
    assert load_hardware(str(path)).technology.node_nm == 22
    copy_hardware("row-stationary-65nm", path, overwrite=True)
    assert load_hardware(str(path)).technology.node_nm == 65
    with pytest.raises(HardwareError, match=r"unknown hardware 'tpu'; copy one of .*; list them with: search hardware"):
        copy_hardware("tpu", path, overwrite=True)
    with pytest.raises(HardwareError, match=r"the name of a hardware file ends in \.yaml, got .*mine\.txt"):
        copy_hardware("hybrid-22nm", tmp_path / "mine.txt", overwrite=False)
    with pytest.raises(HardwareError, match=r"cannot write hardware file .*: No such file or directory"):
        copy_hardware("hybrid-22nm", tmp_path / "gone" / "mine.yaml", overwrite=False)


def test_content() -> None:
    content = hardware_content("row-stationary-65nm")
    assert content["name"] == "row-stationary-65nm"
    assert content["scratchpads"] == {"weights": 224, "inputs": 12, "sums": 24}
    assert json.loads(json.dumps(content)) == content


def test_files_with_mistakes_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(hardware_text("hybrid-22nm").replace("rows: 16", "rows: 0"))
    with pytest.raises(HardwareError, match=r"array\.rows must be"):
        hardware_content(str(path))
