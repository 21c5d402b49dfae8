"""A folder of imported multipliers, each in a file named by the hash of what it computes."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from approx.checks import check_type
from approx.errors import ArgumentError, ImportFileError
from approx.multipliers.catalog import check_name
from approx.multipliers.multiplier import MAX_TABLE_BITS, Figure, Multiplier, check_multiplier


class MultiplierLibrary:
    """Multipliers kept in a folder.

    Args:
        folder: The folder; it need not exist yet.
    """

    def __init__(self, folder: Path | str) -> None:
        check_type("folder", folder, (str, Path), "a path")
        self.folder = Path(folder)

    def multipliers(self, *, on_damage: Callable[[ImportFileError], None] | None = None) -> list[Multiplier]:
        """All multipliers in the folder, sorted by name.

        Args:
            on_damage: Called for each damaged file, which is then skipped.

        Raises:
            ImportFileError: If a file is damaged, unless `on_damage` is given.
        """
        found: list[Multiplier] = []
        for path in sorted(self.folder.glob("*.npz")):
            try:
                found += _load(path)
            except ImportFileError as error:
                if on_damage is None:
                    raise
                on_damage(error)
        return sorted(found, key=lambda multiplier: multiplier.name)

    def add(self, multiplier: Multiplier) -> Path:
        """Keep a multiplier and return its file. Multipliers that compute the same share a file, whatever their names.

        Raises:
            ArgumentError: If its name is not allowed or belongs to the catalogue or to another multiplier in this
                folder; or if it is not a truth table of at most 8 bits.
            ImportFileError: If the folder cannot be written.
        """
        check_multiplier("multiplier", multiplier)
        check_name(multiplier.name)
        if multiplier.constrains_weights or max(multiplier.weight_bits, multiplier.activation_bits) > MAX_TABLE_BITS:
            raise ArgumentError(
                f"multiplier {multiplier.name!r} cannot be kept: only truth tables of at most {MAX_TABLE_BITS} bits "
                "can, and none that constrain weights"
            )
        same = [multiplier]
        for known in self.multipliers(on_damage=lambda _: None):
            if known.digest == multiplier.digest and known.name != multiplier.name:
                same.append(known)
            elif known.name == multiplier.name and known.digest != multiplier.digest:
                raise ArgumentError(
                    f"{self.folder} has another multiplier named {multiplier.name!r}; choose another `name`"
                )
        path = self.folder / f"{multiplier.digest}.npz"
        self._write(path, same)
        return path

    def remove(self, name: str) -> bool:
        """Remove a multiplier and return whether it was there. Others that compute the same and damaged files stay.

        Raises:
            ImportFileError: If the folder cannot be written.
        """
        found = False
        for path in sorted(self.folder.glob("*.npz")):
            try:
                known = _load(path)
            except ImportFileError:
                continue
            others = [multiplier for multiplier in known if multiplier.name != name]
            if len(others) == len(known):
                continue
            found = True
            if others:
                self._write(path, others)
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise ImportFileError(f"{path} cannot be removed: {error.strerror or error}") from None
        return found

    def _write(self, path: Path, same: Sequence[Multiplier]) -> None:
        """Keep multipliers that compute the same in one file."""
        multiplier = same[0]
        described = {"weight_signed": multiplier.weight_signed, "activation_signed": multiplier.activation_signed}
        names = {
            known.name: {
                "provenance": known.provenance,
                "relative_energy": known.relative_energy and asdict(known.relative_energy),
                "relative_area": known.relative_area and asdict(known.relative_area),
            }
            for known in same
        }
        text = json.dumps({**described, "names": names})
        # The process id keeps two writers of one multiplier apart.
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.savez_compressed(file, table=multiplier.table().numpy(), described=np.array(text))
            os.replace(partial, path)
        except OSError as error:
            raise ImportFileError(f"multipliers cannot be kept in {self.folder}: {error.strerror or error}") from None


def _load(path: Path) -> list[Multiplier]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            table = torch.from_numpy(archive["table"])
            described = json.loads(str(archive["described"]))
        multipliers = [
            Multiplier(
                name=name,
                activation_bits=table.shape[0].bit_length() - 1,
                weight_bits=table.shape[1].bit_length() - 1,
                weight_signed=described["weight_signed"],
                activation_signed=described["activation_signed"],
                lut=table,
                provenance=known["provenance"],
                relative_energy=Figure(**known["relative_energy"]) if known["relative_energy"] else None,
                relative_area=Figure(**known["relative_area"]) if known["relative_area"] else None,
            )
            for name, known in described["names"].items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile, zlib.error):
        raise ImportFileError(f"{path} is damaged; delete it and import the multiplier again") from None
    if any(multiplier.digest != path.stem for multiplier in multipliers):
        raise ImportFileError(
            f"{path} is damaged: its content does not match its name; delete it and import the multiplier again"
        )
    return multipliers
