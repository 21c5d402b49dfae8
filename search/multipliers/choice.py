"""The multipliers that a search chooses among: found by name, with their costs and the widths that they support.

Torch is imported only for multipliers that are not built in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import energy
from energy.cost_table import (
    BUILT_WIDTHS,
    EXACT,
    LAYER,
    CostKey,
    CostTable,
    built_form,
    how_to_know_costs,
    shipped_rows,
)
from search.errors import UnknownNameError, UsageError, in_words_of
from search.multipliers.folder import MultiplierFolder
from search.multipliers.identity import multiplier_identity, multiplier_name

if TYPE_CHECKING:
    from approx import Multiplier

_MIN_BITS, _MAX_BITS = 2, 8

# The default choice: the exact one; those of the catalogue that no other beats in both mean absolute error and energy
# (with weights held), unless they give a nonzero product for a zero operand, which hardware skips; and the alphabet
# sets, whose error says little because networks are trained for them. A test recomputes the list.
MULTIPLIERS = (
    "exact",
    "asm-1",
    "asm-1-3",
    "asm-1-3-5-7",
    "broken-array-1-4",
    "broken-array-2-6",
    "ssm-4",
    "truncated-2",
    "truncated-4",
    "truncated-6",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenMultiplier:
    """A multiplier that a search may choose, with everything that another process needs to evaluate it.

    Attributes:
        identity: Its name in candidates; for an imported one, see `multiplier_identity`.
        imported: The multiplier itself, if it is imported.
        costs: Its costs, unless they are built in.
        max_weight_bits: Width of the widest weights that it supports and for which its cost is known.
        max_activation_bits: Width of the widest activations that it supports and for which its cost is known.
    """

    identity: str
    imported: Multiplier | None = None
    costs: dict[CostKey, energy.MultiplierCost] | None = None
    max_weight_bits: int = _MAX_BITS
    max_activation_bits: int = _MAX_BITS

    @property
    def limits(self) -> str | None:
        """The message about the widths that it supports; None if it supports all."""
        if self.max_weight_bits == self.max_activation_bits == _MAX_BITS:
            return None
        return (
            f"multiplier {multiplier_name(self.identity)} is searched with at most {self.max_weight_bits}-bit weights "
            f"and {self.max_activation_bits}-bit activations, the widest that it supports with known energy"
        )


def choose(names: Iterable[str], folder: MultiplierFolder | None = None) -> tuple[ChosenMultiplier, ...]:
    """Return the multipliers of these names and the exact one, in a fixed order, without duplicates.

    Args:
        names: Names of built-in multipliers, listed or not, or names or identities of imported ones.
        folder: Folder of imported multipliers and their costs; by default the user's folder.

    Raises:
        UsageError: If there is no such name, the multiplier imported under it does not match the identity, or its
            energy is not known.
        energy.WorkloadError: If the folder's table of costs is damaged.
    """
    wanted = [EXACT, *names]
    folder = folder or MultiplierFolder.default()
    costs = CostTable() if all(map(_is_built_in, wanted)) else folder.costs()
    found = {chosen.identity: chosen for chosen in (_chosen(name, costs, folder) for name in wanted)}
    return tuple(found[identity] for identity in sorted(found, key=lambda identity: (identity != EXACT, identity)))


def why_not_on(identity: str, costs: CostTable, hardware: energy.Hardware) -> str | None:
    """Say why a multiplier cannot be in the array of some hardware; None if it can.

    Any can be in an array that is built for the widths of each candidate; in one of given widths, those that were
    measured with narrower operands.
    """
    if hardware.widths is None or identity == EXACT:
        return None
    weight_bits, activation_bits = hardware.widths.weights, hardware.widths.activations
    built = f"an array built for {weight_bits}-bit weights and {activation_bits}-bit activations"
    try:
        costs.cost(multiplier_name(identity), weight_bits=2, activation_bits=2, form=hardware.multiplier_form)
    except energy.WorkloadError:
        return f"no energy is known for {multiplier_name(identity)!r} in {built}"
    return None


def choose_for(hardware: energy.Hardware, given: Sequence[ChosenMultiplier] | None) -> tuple[ChosenMultiplier, ...]:
    """Return the multipliers to choose among on some hardware: the given ones, or those of the default that fit it.

    Raises:
        UsageError: If a given one cannot be in its array.
    """
    wanted = choose(MULTIPLIERS) if given is None else tuple(given)
    refused = {
        one.identity: reason
        for one in wanted
        if (reason := why_not_on(one.identity, _costs_of(one), hardware)) is not None
    }
    if given is not None and refused:
        raise UsageError(f"{next(iter(refused.values()))}, as in {hardware.name}; leave it out of `multipliers`")
    return tuple(one for one in wanted if one.identity not in refused)


def _costs_of(chosen: ChosenMultiplier) -> CostTable:
    return CostTable() if chosen.costs is None else CostTable({multiplier_name(chosen.identity): chosen.costs})


def multiplier_of_table(name: str, table: Sequence[Sequence[int]], *, signed: bool, source: str) -> Multiplier:
    """Return the multiplier of a truth table.

    Args:
        name: Name of the multiplier.
        table: Products, indexed [activation code, weight code].
        signed: Whether both operands are signed.
        source: Origin of the table, for its provenance.

    Raises:
        UsageError: If the table is not that of a multiplier, or the name is invalid.
    """
    import numpy as np

    import approx
    from approx.multipliers.catalog import check_name

    if len({len(row) for row in table}) > 1:
        raise UsageError(f"the rows of table {name!r} differ in length")
    if any(not -(2**31) <= entry < 2**32 for row in table for entry in row):
        raise UsageError(f"table {name!r} has entries that do not fit 32 bits")
    try:
        check_name(name)
        products = np.array(table)
        return approx.multiplier_from_table(name, products, signed=signed, source=source)
    except (approx.ArgumentError, ValueError) as error:
        raise UsageError(str(error)) from None


def doubts_of(multiplier: Multiplier) -> list[str]:
    """Return what looks wrong in the table of a multiplier, without naming an interface's parameters."""
    import approx

    return [in_words_of(doubt, lambda parameter: parameter) for doubt in approx.doubts(multiplier)]


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
    """Return a multiplier with the widest operands up to which it can be used at all widths."""
    known = known_layer_costs(name, costs)
    way_on = how_to_know_costs(name, imported=imported is not None)
    if not known:
        raise UsageError(f"no energy is known for {name!r}; {way_on}")
    usable = {(w, a) for form, w, a in known if form == LAYER and takes(w, a)}
    widths = range(_MIN_BITS, _MAX_BITS + 1)
    whole = [
        (weight_bits, activation_bits)
        for weight_bits, activation_bits in product(widths, widths)
        if usable.issuperset(product(range(_MIN_BITS, weight_bits + 1), range(_MIN_BITS, activation_bits + 1)))
    ]
    if not whole:
        listed = ", ".join(f"{w} x {a}" for form, w, a in sorted(known) if form == LAYER)
        raise UsageError(
            f"the energy of {name!r} must be known from {_MIN_BITS} x {_MIN_BITS} bits (weights x activations) up; it "
            f"is known for {listed}; {way_on}"
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
    """Return the costs of a multiplier in layers, in all forms and at all widths for which they are known."""
    found: dict[CostKey, energy.MultiplierCost] = {}
    widths = range(_MIN_BITS, _MAX_BITS + 1)
    forms = (LAYER, *(built_form(*built) for built in BUILT_WIDTHS))
    for form, weight_bits, activation_bits in product(forms, widths, widths):
        with suppress(energy.WorkloadError):
            found[form, weight_bits, activation_bits] = costs.cost(
                name, weight_bits=weight_bits, activation_bits=activation_bits, form=form
            )
    return found


def _could_be_imported(name: str) -> bool:
    """Whether an imported multiplier can have the name, with or without a digest after it."""
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
    """Whether layers can use it for operands of these widths; a signed circuit may need signed activations."""
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
    """Return the imported multiplier with a name or identity.

    Raises:
        UnknownNameError: If there is none.
        UsageError: If the multiplier of an identity was replaced by a different one.
    """
    import approx

    damaged: list[str] = []
    kept = {one.name: one for one in folder.multipliers(on_damage=lambda error: damaged.append(str(error)))}
    plain = multiplier_name(name)
    problems = "".join(f"; {problem}" for problem in damaged)
    if plain not in kept:
        if "@" in name:
            raise UnknownNameError(
                f"multiplier {name!r} is no longer in {folder.path}; import it again as {plain!r}{problems}"
            )
        near = get_close_matches(name, [*approx.multiplier_names(), *kept], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? List" if near else "list"
        raise UnknownNameError(f"unknown multiplier {name!r}; {hint} them with: search multipliers{problems}")
    found = kept[plain]
    identity = multiplier_identity(found.name, found.digest)
    if name not in (plain, identity):
        raise UsageError(
            f"multiplier {name!r} is no longer in {folder.path}: {plain!r} is now {identity!r}, a different multiplier"
        )
    return found
