"""Hardware files as their readers see them: shipped ones with their comments, and copies to start from."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from energy.errors import HardwareError
from energy.hardware import hardware_names, load_hardware
from energy.records import read_mapping, read_text

_NAME = re.compile(r"^name:[^#\n]*?(?=\s*(#|$))", re.MULTILINE)


def hardware_text(name: str) -> str:
    """Return the text of a hardware file.

    Args:
        name: A name from `energy.hardware_names()`, or the path of a YAML file (it ends in .yaml).

    Raises:
        HardwareError: If the file does not exist or is malformed.
    """
    if load_hardware(name).alternatives:
        raise HardwareError(f"{name} are several; show one at a time")
    if name not in hardware_names():
        return read_text(Path(name), "hardware")
    return (resources.files("energy") / "hardware" / f"{name}.yaml").read_text(encoding="utf-8")


def hardware_content(name: str) -> dict[str, Any]:
    """Return the keys of a hardware file with their values.

    Args:
        name: As for `hardware_text`.

    Raises:
        HardwareError: If the file does not exist or is malformed.
    """
    return read_mapping(hardware_text(name), name).to_dict()


def copy_hardware(source: str, path: Path, *, overwrite: bool) -> str:
    """Write a copy of a shipped hardware file with its comments, named after the new file, and return that name.

    Args:
        source: A name from `energy.hardware_names()`.
        path: Where to write it.
        overwrite: Whether to replace an existing file.

    Raises:
        HardwareError: If there is no such hardware, the path is not one of a hardware file or cannot be written, or
            there is a file already.
    """
    if source not in hardware_names():
        raise HardwareError(
            f"unknown hardware {source!r}; copy one of {', '.join(hardware_names())}; list them with: search hardware"
        )
    if path.suffix != ".yaml":
        raise HardwareError(f"the name of a hardware file ends in .yaml, got {path}")
    name = path.stem
    if "," in name:
        raise HardwareError(f"the name of hardware has no commas, which separate several, got {path}")
    text = _NAME.sub(lambda _: f"name: {_as_yaml(name)}", hardware_text(source), count=1)
    try:
        with path.open("w" if overwrite else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise HardwareError(f"{path} exists; choose another file, or replace it with `overwrite`") from None
    except OSError as error:
        raise HardwareError(f"cannot write hardware file {path}: {error.strerror}") from None
    return name


def _as_yaml(name: str) -> str:
    """Return a string as YAML: in quotes if it would be taken for something else without them."""
    try:
        plain = yaml.safe_load(f"name: {name}") == {"name": name}
    except (yaml.YAMLError, ValueError):
        plain = False
    return name if plain else json.dumps(name)
