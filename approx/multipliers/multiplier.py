"""A multiplier, defined by what it computes: a product for every pair of operand codes.

The convention of the whole project: `lut[activation_code, weight_code]`, both codes read as unsigned indices (a signed
code c of b bits has index c mod 2**b), entries int32.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import torch
from torch import Tensor

from approx.checks import check_integer, check_tensor, check_type
from approx.errors import ArgumentError
from approx.multipliers.methods import Factors, RowTable, factorize, row_tables

MIN_BITS = 2
MAX_TABLE_BITS = 8  # a truth table of two 12-bit operands would have 16 million entries
MAX_BITS = 12
WEIGHT_FORMATS = ("twos-complement", "sign-magnitude")


def code_values(bits: int, signed: bool) -> Tensor:
    """The integer that each code index stands for: int32, shape (2**bits,)."""
    index = torch.arange(2**bits, dtype=torch.int32, device="cpu")
    return torch.where(index >= 2 ** (bits - 1), index - 2**bits, index) if signed else index


@dataclass(frozen=True, slots=True)
class Figure:
    """A published number.

    Attributes:
        value: The number.
        source: Where it was published, with the year.
    """

    value: float
    source: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Multiplier:
    """A multiplier of fixed operand widths.

    It computes either an arbitrary truth table or the exact product of recoded operands.

    Attributes:
        name: Its name in the catalogue, or any other.
        weight_bits: Width of the weight operand: 2 to 12, with a truth table 2 to 8.
        activation_bits: Width of the activation operand, in the same range.
        activation_signed: Whether activations are signed.
        weight_signed: Whether weights are signed, as they are in all networks of `approximate`.
        lut: int32, shape (2**activation_bits, 2**weight_bits): the truth table.
        weight_recoding: int32, shape (2**weight_bits,): the value that is multiplied for each weight code.
        activation_recoding: int32, shape (2**activation_bits,): the value that is multiplied for each activation code;
            the value of the code itself if None.
        constrains_weights: Whether weights must be such that all their products are exact, so that networks have to be
            trained for it (alphabet sets). Failed memory cells can still bring about others.
        takes_any_weight: Whether it says what is multiplied for those others; if not, weights must not fail.
        weight_format: How its circuit takes signed weights: `twos-complement`, or `sign-magnitude` with the sign as the
            top bit.
        provenance: Where the design was published, with the year.
        relative_energy: Energy per product relative to the exact multiplier of the same widths.
        relative_area: Area relative to the exact multiplier of the same widths.

    Raises:
        ArgumentError: If a width is out of range, not exactly one of `lut` and `weight_recoding` is given, a table has
            the wrong shape or type, or `weight_format` is unknown.
    """

    name: str
    weight_bits: int
    activation_bits: int
    activation_signed: bool
    weight_signed: bool = True
    lut: Tensor | None = field(default=None, repr=False)
    weight_recoding: Tensor | None = field(default=None, repr=False)
    activation_recoding: Tensor | None = field(default=None, repr=False)
    constrains_weights: bool = False
    takes_any_weight: bool = True
    weight_format: str = "twos-complement"
    provenance: str = ""
    relative_energy: Figure | None = None
    relative_area: Figure | None = None

    def __post_init__(self) -> None:
        check_type("name", self.name, str, "text")
        if (self.lut is None) == (self.weight_recoding is None):
            raise ArgumentError(f"multiplier {self.name!r}: give exactly one of `lut` and `weight_recoding`")
        if self.lut is not None and self.activation_recoding is not None:
            raise ArgumentError(f"multiplier {self.name!r}: `activation_recoding` needs a `weight_recoding`")
        if self.weight_format not in WEIGHT_FORMATS:
            raise ArgumentError(
                f"multiplier {self.name!r}: `weight_format` must be one of {', '.join(WEIGHT_FORMATS)}; got "
                f"{self.weight_format!r}"
            )
        most = MAX_BITS if self.lut is None else MAX_TABLE_BITS
        for width in ("weight_bits", "activation_bits"):
            check_integer(width, getattr(self, width))
            if not MIN_BITS <= getattr(self, width) <= most:
                raise ArgumentError(
                    f"multiplier {self.name!r}: `{width}` must be between {MIN_BITS} and {most}, "
                    f"got {getattr(self, width)}"
                )
        for attribute, shape in (
            ("lut", (2**self.activation_bits, 2**self.weight_bits)),
            ("weight_recoding", (2**self.weight_bits,)),
            ("activation_recoding", (2**self.activation_bits,)),
        ):
            table = getattr(self, attribute)
            if table is not None:
                check_tensor(attribute, table)
            if table is not None and (table.shape != shape or table.dtype != torch.int32):
                raise ArgumentError(
                    f"multiplier {self.name!r}: `{attribute}` must be int32 of shape {shape}, "
                    f"got {table.dtype} of shape {tuple(table.shape)}"
                )
            if table is not None:  # a copy: values derived from it are cached
                object.__setattr__(self, attribute, table.detach().clone())

    def __deepcopy__(self, memo: object) -> Multiplier:
        return self  # it never changes

    def __getstate__(self) -> dict[str, object]:
        return {one.name: getattr(self, one.name) for one in fields(self)}  # without values derived from them

    @property
    def weight_values(self) -> Tensor:
        """The integer that each weight code stands for: int32, shape (2**weight_bits,)."""
        return code_values(self.weight_bits, self.weight_signed)

    @property
    def activation_values(self) -> Tensor:
        """The integer that each activation code stands for: int32, shape (2**activation_bits,)."""
        return code_values(self.activation_bits, self.activation_signed)

    def exact_table(self) -> Tensor:
        """The exact products of these operands: int32, shape (2**activation_bits, 2**weight_bits)."""
        return self.activation_values[:, None] * self.weight_values[None, :]

    def table(self) -> Tensor:
        """The whole truth table: int32, shape (2**activation_bits, 2**weight_bits)."""
        if self.lut is not None:
            return self.lut
        assert self.factors is not None
        return self.factors.table()

    def constrain(self, weight_codes: Tensor) -> Tensor:
        """Weight codes rounded to the nearest whose products are all exact; unchanged if any weight is allowed.

        Of two equally near, the smaller magnitude is taken.

        Args:
            weight_codes: Integer values (not indices) in any numeric type, any shape.
        """
        if not self.constrains_weights:
            return weight_codes
        index = weight_codes.to(torch.int64) & (2**self.weight_bits - 1)
        return self._allowed_weights[index].to(weight_codes.dtype)

    @cached_property
    def _allowed_weights(self) -> Tensor:
        """The weight that stands for each weight code: int32, shape (2**weight_bits,)."""
        values = self.weight_values
        exact = self.weight_recoding == values if self.lut is None else (self.lut == self.exact_table()).all(dim=0)
        low = values.min() + self.weight_signed  # sign and magnitude lack the most negative value
        allowed = values[exact & (values >= low)]
        allowed = allowed[allowed.abs().argsort(stable=True)]
        return allowed[(values[:, None] - allowed[None, :]).abs().argmin(dim=1)]  # argmin: the first of equals

    @cached_property
    def negates_zero(self) -> bool:
        """Whether the sign of a weight of zero matters, which sign and magnitude have: its products are not zero."""
        if not self.weight_signed or self.weight_format != "sign-magnitude":
            return False
        if self.lut is None:
            assert self.weight_recoding is not None
            return bool(self.weight_recoding[0])
        return bool(self.lut[:, 0].any())

    @cached_property
    def of_allowed_weights(self) -> Multiplier:
        """An equal multiplier for the weights that `constrain` gives, computed faster: their products are exact."""
        if not self.constrains_weights or self.lut is None:
            return self
        return replace(self, lut=None, weight_recoding=self._allowed_weights)

    def narrowed(self, *, weight_bits: int, activation_bits: int) -> Multiplier:
        """The same circuit with narrower operands, which leave its high bits at zero, or at the sign.

        Raises:
            ArgumentError: If they are wider than its own.
        """
        if weight_bits > self.weight_bits or activation_bits > self.activation_bits:
            raise ArgumentError(
                f"multiplier {self.name!r} is built for {self.weight_bits}-bit weights and {self.activation_bits}-bit "
                f"activations, and cannot take {weight_bits} and {activation_bits} bits"
            )
        weights = code_values(weight_bits, self.weight_signed).to(torch.int64) & (2**self.weight_bits - 1)
        activations = code_values(activation_bits, self.activation_signed).to(torch.int64)
        activations = activations & (2**self.activation_bits - 1)
        return replace(
            self,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            lut=None if self.lut is None else self.lut[activations[:, None], weights[None, :]],
            weight_recoding=None if self.weight_recoding is None else self.weight_recoding[weights],
            activation_recoding=None if self.activation_recoding is None else self.activation_recoding[activations],
            relative_energy=None,  # published figures hold for the published widths only
            relative_area=None,
        )

    def adapted(
        self, *, weight_bits: int, activation_bits: int, weight_signed: bool, activation_signed: bool
    ) -> Multiplier:
        """This multiplier for other operands, whose values it multiplies as its own circuit would.

        Narrower operands are extended. An unsigned multiplier multiplies the magnitudes of signed operands, and the
        product gets the combined sign; the magnitude of an 8-bit signed operand, 0 to 128, is an 8-bit unsigned
        operand. So it takes weights as sign and magnitude.

        Raises:
            ArgumentError: If it cannot hold every value of an operand.
        """
        wanted = (weight_bits, activation_bits, weight_signed, activation_signed)
        if wanted == (self.weight_bits, self.activation_bits, self.weight_signed, self.activation_signed):
            return self
        if self.constrains_weights:
            raise ArgumentError(
                f"multiplier {self.name!r} constrains its weights and cannot be adapted to other operands"
            )
        indices, negative = [], []
        for operand, bits, signed, own_bits, own_signed in (
            ("activations", activation_bits, activation_signed, self.activation_bits, self.activation_signed),
            ("weights", weight_bits, weight_signed, self.weight_bits, self.weight_signed),
        ):
            values = code_values(bits, signed)
            held = values if own_signed else values.abs()
            own = code_values(own_bits, own_signed)
            if held.min() < own.min() or held.max() > own.max():
                raise ArgumentError(
                    f"multiplier {self.name!r} takes {operand} in {own.min()}..{own.max()}"
                    f"{'' if own_signed else ' and their negatives'}, "
                    f"not {bits} bits {'signed' if signed else 'unsigned'} ({values.min()}..{values.max()}); "
                    f"at most {own_bits - (own_signed and not signed)} bits {'signed' if signed else 'unsigned'} fit"
                )
            indices.append(held.to(torch.int64) & (2**own_bits - 1))
            negative.append((values < 0) & (not own_signed))
        products = self.table()[indices[0][:, None], indices[1][None, :]]
        return replace(  # published figures hold for the published widths only
            self,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            weight_signed=weight_signed,
            activation_signed=activation_signed,
            relative_energy=None,
            relative_area=None,
            lut=torch.where(negative[0][:, None] != negative[1][None, :], -products, products),
            weight_format=self.weight_format if self.weight_signed else "sign-magnitude",
            weight_recoding=None,
            activation_recoding=None,
        )

    @cached_property
    def factors(self) -> Factors | None:
        """The fewest exact integer products whose sum is this multiplier, or None if it needs its table."""
        if self.lut is not None:
            return factorize(self.lut, self.exact_table())
        assert self.weight_recoding is not None
        activations = self.activation_values if self.activation_recoding is None else self.activation_recoding
        factors = Factors(activations[None, :], self.weight_recoding[None, :])
        return factors.fitted() if max(self.weight_bits, self.activation_bits) <= MAX_TABLE_BITS else factors

    @cached_property
    def row_tables(self) -> list[RowTable]:
        """The table as the native kernel reads it."""
        return row_tables(self.table())

    @cached_property
    def largest_product(self) -> int:
        """The largest magnitude in the table."""
        if self.lut is not None:
            return int(self.lut.to(torch.int64).abs().max())
        assert self.weight_recoding is not None
        activations = self.activation_values if self.activation_recoding is None else self.activation_recoding
        return int(activations.to(torch.int64).abs().max()) * int(self.weight_recoding.to(torch.int64).abs().max())

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of what the multiplier computes.

        Up to 8 bits it is the hash of the truth table, equal for equal behaviour whatever the name; above, the hash of
        the recodings.
        """
        content = hashlib.sha256()
        content.update(
            f"{self.activation_bits},{self.activation_signed},{self.weight_bits},{self.weight_signed},".encode()
        )
        if max(self.weight_bits, self.activation_bits) <= MAX_TABLE_BITS:
            tables = [self.table()]
        else:
            assert self.factors is not None
            tables = [self.factors.activation, self.factors.weight]
        for table in tables:
            content.update(table.contiguous().numpy().tobytes())
        return content.hexdigest()


def check_multiplier(name: str, value: object) -> None:
    """Reject anything but a multiplier.

    Raises:
        ArgumentError: If it is something else, such as its name.
    """
    hint = f"find it with approx.find_multiplier({value!r}, ...)" if isinstance(value, str) else ""
    check_type(name, value, Multiplier, "an approx.Multiplier", hint)
