"""Hardware and multipliers that clients upload, kept in SQL so that every service and worker can read them.

Each is known by its identity, which is its name and the beginning of a digest of its content, so none is ever replaced.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from energy import Hardware, hardware_names, load_hardware, parse_hardware
from energy.cost_table import CostKey, CostTable, MultiplierCost
from search.errors import UnknownNameError, UsageError
from search.multipliers.choice import doubts_of, multiplier_of_table
from search.multipliers.folder import Claim, MultiplierFolder
from search.multipliers.identity import is_imported, multiplier_identity
from service.database import Database
from service.tables import UploadRow, utc_now

MAX_UPLOADS = 200  # of each kind
_MAX_PER_CLIENT = 50  # of each kind
_HARDWARE, _MULTIPLIER = "hardware", "multiplier"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedMultiplier:
    """A multiplier that a client uploaded, without its table.

    Attributes:
        identity: Name of the multiplier in candidates.
        name: Name given by the client.
        signed: Whether both operands are signed.
        relative_energy: Energy relative to the exact multiplier, as stated by the client.
        relative_area: Area relative to the exact multiplier, as stated by the client.
        weight_bits: Width of its weight operand.
        activation_bits: Width of its activation operand.
        client: Name of the client who uploaded it.
        doubts: What looks wrong in its table; see `approx.doubts`.
    """

    identity: str
    name: str
    signed: bool
    relative_energy: float
    relative_area: float
    weight_bits: int
    activation_bits: int
    client: str
    doubts: tuple[str, ...]

    @property
    def source(self) -> str:
        """The source of its costs, in words."""
        return f"as stated by the uploader, {self.client}"

    def keep(self, table: Sequence[Sequence[int]], folder: MultiplierFolder) -> None:
        """Add the multiplier to the imported ones of a folder.

        Args:
            table: Products, indexed [activation code, weight code].
            folder: The folder.
        """
        folder.add(multiplier_of_table(self.name, table, signed=self.signed, source=self.client))
        folder.keep_claim(self.name, self._claim)

    @property
    def costs(self) -> Mapping[CostKey, MultiplierCost]:
        """Its costs in layers at all widths."""
        return self._claim.costs()

    @property
    def _claim(self) -> Claim:
        return Claim(
            relative_energy=self.relative_energy,
            relative_area=self.relative_area,
            source=self.source,
            weight_bits=self.weight_bits,
            activation_bits=self.activation_bits,
            weight_signed=self.signed,
            activation_signed=self.signed,
        )


class Uploads:
    """The uploads in a results database, beside built-in hardware and multipliers.

    Args:
        database: The results database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_hardware(self, text: str, *, client: str) -> Hardware:
        """Store a hardware file.

        Args:
            text: YAML.
            client: Name of the client who uploads it.

        Raises:
            energy.HardwareError: If it is malformed.
            UsageError: If its name is not allowed, or the maximum number of uploads is stored.
        """
        found = parse_hardware(text, name="the file")
        if not re.fullmatch(r"[\w.-]{1,80}", found.name, re.ASCII):
            raise UsageError(
                f"the name of hardware may have up to 80 letters, digits, '.', '_' and '-': {found.name!r}"
            )
        if found.identity not in hardware_names():
            self._add(_HARDWARE, found.identity, {}, {"yaml": text}, client)
        return found

    def hardware(self, name: str) -> Hardware:
        """The built-in hardware with this name, or the uploaded hardware with this identity.

        Raises:
            UnknownNameError: If there is none.
        """
        if name in hardware_names():
            return load_hardware(name)
        return _parsed(self.hardware_text(name))

    def hardware_text(self, identity: str) -> str:
        """The file of uploaded hardware.

        Raises:
            UnknownNameError: If there is none with this identity.
        """
        content = self._content(_HARDWARE, identity)
        if content is None:
            names = ", ".join(self.hardware_names())
            raise UnknownNameError(f"unknown hardware {identity!r}; choose one of {names}")
        text: str = content["yaml"]
        return text

    def hardware_names(self) -> list[str]:
        """Names of built-in hardware and identities of uploaded hardware."""
        return [*hardware_names(), *(row.identity for row in self._all(_HARDWARE))]

    def add_multiplier(
        self,
        name: str,
        table: Sequence[Sequence[int]],
        *,
        signed: bool,
        relative_energy: float,
        relative_area: float,
        client: str,
    ) -> UploadedMultiplier:
        """Store a multiplier.

        Args:
            name: Name given by the client.
            table: Products, indexed [activation code, weight code].
            signed: Whether both operands are signed.
            relative_energy: Energy relative to the exact multiplier of the same widths.
            relative_area: Area relative to the exact multiplier of the same widths.
            client: Name of the client who uploads it.

        Raises:
            UsageError: If the table is invalid, the name is taken or not allowed, or the maximum number of uploads is
                stored.
        """
        if name in CostTable().names:
            raise UsageError(f"{name!r} is the name of a built-in multiplier; choose another name")
        made = multiplier_of_table(name, table, signed=signed, source=client)
        about = {
            "name": name,
            "signed": signed,
            "relative_energy": relative_energy,
            "relative_area": relative_area,
            "weight_bits": made.weight_bits,
            "activation_bits": made.activation_bits,
            "doubts": doubts_of(made),
        }
        content = {"table": [list(row) for row in table]}
        return _multiplier(self._add(_MULTIPLIER, multiplier_identity(name, made.digest), about, content, client))

    def multiplier(self, identity: str) -> UploadedMultiplier:
        """The uploaded multiplier with this identity.

        Raises:
            UnknownNameError: If there is none.
        """
        row = self._find(_MULTIPLIER, identity)
        if row is None:
            raise UnknownNameError(f"unknown multiplier {identity!r}; GET /v1/multipliers lists the known ones")
        return _multiplier(row)

    def table(self, multiplier: UploadedMultiplier) -> list[list[int]]:
        """The products of a multiplier, indexed [activation code, weight code].

        Raises:
            UnknownNameError: If it was deleted.
        """
        content = self._content(_MULTIPLIER, multiplier.identity)
        if content is None:
            raise UnknownNameError(f"the multiplier {multiplier.identity!r} was deleted")
        table: list[list[int]] = content["table"]
        return table

    def costs(self, identities: Collection[str]) -> CostTable:
        """The costs of built-in multipliers and of those uploaded ones among `identities` that were not deleted."""
        found = (self._find(_MULTIPLIER, identity) for identity in identities if is_imported(identity))
        uploaded = [_multiplier(row) for row in found if row is not None]
        return CostTable({one.identity: one.costs for one in uploaded})

    def multipliers(self) -> list[UploadedMultiplier]:
        """All uploaded multipliers."""
        return [_multiplier(row) for row in self._all(_MULTIPLIER)]

    def unnamed_multipliers(self, named: Collection[str]) -> list[str]:
        """The identities of all uploaded multipliers, deleted ones too, except those named.

        Their costs are unverified, so answers and fronts leave them out unless a client names them.
        """
        chosen = sa.select(UploadRow.identity).where(UploadRow.kind == _MULTIPLIER)
        with self._database.transaction() as session:
            return [identity for identity in session.scalars(chosen) if identity not in named]

    def owner_of_hardware(self, identity: str) -> str | None:
        """Name of the client who uploaded hardware; None if nobody did."""
        row = self._find(_HARDWARE, identity)
        return None if row is None else row.client

    def delete_hardware(self, identity: str) -> None:
        """Delete uploaded hardware. Results of searches with it are kept."""
        self._delete(_HARDWARE, identity)

    def delete_multiplier(self, identity: str) -> None:
        """Delete an uploaded multiplier. Results of searches with it are kept."""
        self._delete(_MULTIPLIER, identity)

    def _add(self, kind: str, identity: str, about: dict[str, Any], content: dict[str, Any], client: str) -> UploadRow:
        with self._database.transaction() as session:
            row = session.get(UploadRow, (kind, identity))
            if row is not None:  # the identity covers what it computes, but not what it costs
                if row.about != about:
                    raise UsageError(f"{identity!r} was uploaded already, with other figures; choose another name")
                if row.deleted_at is None:
                    return row
                session.delete(row)
                session.flush()
            of_kind = sa.select(sa.func.count()).where(UploadRow.kind == kind, UploadRow.deleted_at.is_(None))
            kept = session.scalar(of_kind) or 0
            own = session.scalar(of_kind.where(UploadRow.client == client)) or 0
            if kept >= MAX_UPLOADS or own >= _MAX_PER_CLIENT:
                whose = "" if kept >= MAX_UPLOADS else " of yours"
                raise UsageError(f"{own if whose else kept} uploads of {kind}{whose} are stored, which is the maximum")
            row = UploadRow(
                kind=kind, identity=identity, about=about, content=content, client=client, created_at=utc_now()
            )
            session.add(row)
            return row

    def _find(self, kind: str, identity: str) -> UploadRow | None:
        if "\0" in identity:  # PostgreSQL rejects such text
            return None
        chosen = sa.select(UploadRow).where(*_present(kind), UploadRow.identity == identity)
        with self._database.transaction() as session:
            return session.scalars(chosen).one_or_none()

    def _content(self, kind: str, identity: str) -> dict[str, Any] | None:
        if "\0" in identity:
            return None
        chosen = sa.select(UploadRow.content).where(*_present(kind), UploadRow.identity == identity)
        with self._database.transaction() as session:
            found: dict[str, Any] | None = session.scalar(chosen)
            return found

    def _delete(self, kind: str, identity: str) -> None:
        """Delete the content of an upload. The row stays, as results made with it remain."""
        with self._database.transaction() as session:
            session.execute(
                sa.update(UploadRow)
                .where(*_present(kind), UploadRow.identity == identity)
                .values(deleted_at=utc_now(), content={})
            )

    def _all(self, kind: str) -> list[UploadRow]:
        with self._database.transaction() as session:
            return [*session.scalars(sa.select(UploadRow).where(*_present(kind)).order_by(UploadRow.identity))]


@lru_cache(maxsize=MAX_UPLOADS)
def _parsed(text: str) -> Hardware:
    return parse_hardware(text, name="the file")


def _present(kind: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions that match the uploads of a kind that were not deleted."""
    return UploadRow.kind == kind, UploadRow.deleted_at.is_(None)


def _multiplier(row: UploadRow) -> UploadedMultiplier:
    about = row.about
    return UploadedMultiplier(
        identity=row.identity,
        name=about["name"],
        signed=about["signed"],
        relative_energy=about["relative_energy"],
        relative_area=about["relative_area"],
        weight_bits=about["weight_bits"],
        activation_bits=about["activation_bits"],
        client=row.client,
        doubts=tuple(about["doubts"]),
    )
