"""Which multipliers a search chooses among: found by name, with what they cost and the widths that they take.

Torch is imported only for multipliers that are not built in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import energy
from energy.cost_table import EXACT, CostKey, CostTable, shipped_rows
from search.errors import UnknownNameError, UsageError
from search.multipliers.folder import MultiplierFolder, claimed_costs
from search.multipliers.identity import multiplier_identity, multiplier_name

if TYPE_CHECKING:
    from approx import Multiplier

_MIN_BITS, _MAX_BITS = 2, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenMultiplier:
    """A multiplier that a search may choose, with all that another process needs in order to evaluate it.

    Attributes:
        identity: What candidates call it: its name; of an imported one, `NAME@` and the beginning of its digest.
        imported: What it computes, if it is imported.
        costs: What it costs, unless that comes with the package.
        max_weight_bits: The widest weights that it takes and whose cost is known.
        max_activation_bits: The widest activations, likewise.
    """

    identity: str
    imported: Multiplier | None = None
    costs: dict[CostKey, energy.MultiplierCost] | None = None
    max_weight_bits: int = _MAX_BITS
    max_activation_bits: int = _MAX_BITS

    @property
    def limits(self) -> str | None:
        """What a person has to know of the widths that it takes; None if it takes all."""
        if self.max_weight_bits == self.max_activation_bits == _MAX_BITS:
            return None
        return (
            f"multiplier {multiplier_name(self.identity)} is searched with at most {self.max_weight_bits}-bit weights "
            f"and {self.max_activation_bits}-bit activations, the widest that it takes and whose energy is known"
        )


def choose(names: Iterable[str], folder: MultiplierFolder | None = None) -> tuple[ChosenMultiplier, ...]:
    """Return the multipliers of these names and the exact one, in a fixed order, without duplicates.

    Args:
        names: Names of built-in multipliers, listed or not, or of imported ones, with or without the beginning of the
            digest.
        folder: Where imported multipliers and their costs are; by default the user's folder.

    Raises:
        UsageError: If there is no such name, what is imported under it computes something else than what is asked for,
            or its energy is not known.
        energy.WorkloadError: If the folder's table of costs is damaged.
    """
    wanted = [EXACT, *names]
    folder = folder or MultiplierFolder.default()
    costs = CostTable() if all(map(_is_built_in, wanted)) else folder.costs()
    found = {chosen.identity: chosen for chosen in (_chosen(name, costs, folder) for name in wanted)}
    return tuple(found[identity] for identity in sorted(found, key=lambda identity: (identity != EXACT, identity)))


def multiplier_of_table(name: str, table: Sequence[Sequence[int]], *, signed: bool, source: str) -> Multiplier:
    """A multiplier that computes what a table says.

    Args:
        name: Of the multiplier.
        table: Its products, indexed [activation code, weight code].
        signed: Whether both operands are signed.
        source: Where it is from.

    Raises:
        UsageError: If it is no table of a multiplier, or the name is none for one.
    """
    import numpy as np

    import approx
    from approx.multipliers.catalog import check_name

    try:
        check_name(name)
        products = np.array(table)  # of object type where rows differ in length, which the next refuses
        return approx.multiplier_from_table(name, products, signed=signed, source=source)
    except (approx.ArgumentError, ValueError) as error:
        raise UsageError(str(error)) from None


def keep_multiplier(
    multiplier: Multiplier, folder: MultiplierFolder, *, relative_energy: float, relative_area: float
) -> None:
    """Keep a multiplier among the imported ones of a folder, with what it costs; see `claimed_costs`.

    Raises:
        StorageError: If it cannot be written.
    """
    folder.add(multiplier)
    folder.keep_costs(claimed_costs(multiplier.name, relative_energy=relative_energy, relative_area=relative_area))


def _chosen(name: str, costs: CostTable, folder: MultiplierFolder) -> ChosenMultiplier:
    if _is_built_in(name):
        return _within(name, name, lambda weight_bits, activation_bits: True, costs=costs, imported=None)
    import approx

    if not _could_be_imported(name):
        try:
            approx.find_multiplier(name, weight_bits=2, activation_bits=2, activation_signed=False, multipliers={})
        except approx.UnknownNameError as error:
            raise UnknownNameError(f"{error}") from None
        return _within(name, name, partial(_can_be_built, name), costs=costs, imported=None)
    multiplier = find_imported(name, folder)
    identity = multiplier_identity(multiplier.name, multiplier.digest)
    return _within(identity, multiplier.name, partial(_can_hold, multiplier), costs=costs, imported=multiplier)


def _within(
    identity: str, name: str, takes: Callable[[int, int], bool], *, costs: CostTable, imported: Multiplier | None
) -> ChosenMultiplier:
    """A multiplier with the widest weights and activations below which it can be used at every width."""
    known = known_layer_costs(name, costs)
    subject = name if imported is None else f"FILE.v --name {name}"
    characterise = f"characterise it with: search multipliers characterise {subject}"
    if not known:
        raise UsageError(f"no energy is known for {name!r}; {characterise}")
    usable = {(w, a) for _, w, a in known if takes(w, a)}
    widths = range(_MIN_BITS, _MAX_BITS + 1)
    whole = [
        (weight_bits, activation_bits)
        for weight_bits, activation_bits in product(widths, widths)
        if usable.issuperset(product(range(_MIN_BITS, weight_bits + 1), range(_MIN_BITS, activation_bits + 1)))
    ]
    if not whole:
        listed = ", ".join(f"{w} x {a}" for _, w, a in sorted(known))
        raise UsageError(
            f"the energy of {name!r} must be known from {_MIN_BITS} x {_MIN_BITS} bits on, weights x "
            f"activations; it is for {listed}; {characterise}"
        )
    weight_bits, activation_bits = max(whole, key=lambda bits: (bits[0] * bits[1], bits))
    return ChosenMultiplier(
        identity=identity,
        imported=imported,
        costs=None if _is_built_in(identity) else known,
        max_weight_bits=weight_bits,
        max_activation_bits=activation_bits,
    )


def _is_built_in(name: str) -> bool:
    """Whether the cost of a multiplier is built in."""
    return name == EXACT or any(row.name == name for row in shipped_rows())


def known_layer_costs(name: str, costs: CostTable) -> dict[CostKey, energy.MultiplierCost]:
    """Return what a multiplier costs in layers, at all widths at which that is known."""
    found: dict[CostKey, energy.MultiplierCost] = {}
    widths = range(_MIN_BITS, _MAX_BITS + 1)
    for weight_bits, activation_bits in product(widths, widths):
        try:
            cost = costs.cost(name, weight_bits=weight_bits, activation_bits=activation_bits)
        except energy.WorkloadError:
            continue
        found["layer", weight_bits, activation_bits] = cost
    return found


def _could_be_imported(name: str) -> bool:
    """Whether an imported multiplier can have the name, with or without a digest behind it."""
    import approx
    from approx.multipliers.catalog import check_name

    try:
        check_name(multiplier_name(name))
    except approx.ArgumentError:
        return False
    return True


def _can_be_built(name: str, weight_bits: int, activation_bits: int) -> bool:
    import approx

    try:
        approx.find_multiplier(
            name, weight_bits=weight_bits, activation_bits=activation_bits, activation_signed=False, multipliers={}
        )
    except approx.ArgumentError:
        return False
    return True


def _can_hold(multiplier: Multiplier, weight_bits: int, activation_bits: int) -> bool:
    """Whether layers can multiply operands of these widths; a signed circuit may hold activations with a sign only."""
    import approx

    for activation_signed in (False, True):
        try:
            multiplier.adapted(
                weight_bits=weight_bits,
                activation_bits=activation_bits,
                weight_signed=True,
                activation_signed=activation_signed,
            )
        except approx.ArgumentError:
            continue
        return True
    return False


def find_imported(name: str, folder: MultiplierFolder) -> Multiplier:
    """Return the imported multiplier of a name, or of an identity.

    Raises:
        UnknownNameError: If there is none.
        UsageError: If the one of an identity was replaced by one that computes something else.
    """
    import approx

    damaged: list[str] = []
    kept = {one.name: one for one in folder.multipliers(on_damage=lambda error: damaged.append(str(error)))}
    plain = multiplier_name(name)
    problems = "".join(f"; {problem}" for problem in damaged)
    if plain not in kept:
        if "@" in name:
            raise UnknownNameError(
                f"multiplier {name!r} is no longer kept in {folder.path}; import it again as {plain!r}{problems}"
            )
        near = get_close_matches(name, [*approx.multiplier_names(), *kept], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise UnknownNameError(f"unknown multiplier {name!r}; {hint}List them with: search multipliers{problems}")
    found = kept[plain]
    identity = multiplier_identity(found.name, found.digest)
    if name not in (plain, identity):
        raise UsageError(
            f"multiplier {name!r} is no longer kept in {folder.path}: {plain!r} is {identity!r} now, which computes "
            "something else"
        )
    return found
