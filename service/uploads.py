"""Hardware and multipliers that clients bring: kept in SQL, so that every service and worker has them.

Each is known by its identity, its name and the beginning of a digest of what it is, so that none is ever replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, sessionmaker

import energy
from energy import Hardware, hardware_names, load_hardware, parse_hardware
from energy.multiplier_cost import characterised_multipliers, relative_costs
from search.candidate import multiplier_identity
from search.errors import UnknownNameError, UsageError
from search.multiplier_choice import keep_multiplier, multiplier_of_table
from search.multiplier_costs import claimed_costs
from search.schema import storage_errors
from service.tables import UploadRow

MOST_UPLOADS = 200  # of each kind
_HARDWARE, _MULTIPLIER = "hardware", "multiplier"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedMultiplier:
    """A multiplier that a client brought.

    Attributes:
        identity: What candidates call it.
        name: Its name.
        table: Its products, indexed [activation code, weight code].
        signed: Whether both operands are signed.
        relative_energy: What the client says it costs over the exact one.
        relative_area: Likewise.
        client: Who brought it.
    """

    identity: str
    name: str
    table: Sequence[Sequence[int]]
    signed: bool
    relative_energy: float
    relative_area: float
    client: str

    def keep(self) -> None:
        """Make it one of this process's imported multipliers."""
        multiplier = multiplier_of_table(self.name, self.table, signed=self.signed, source=self.client)
        keep_multiplier(multiplier, relative_energy=self.relative_energy, relative_area=self.relative_area)

    def register_cost(self) -> None:
        """Make its cost known to the energy model of this process."""
        rows = claimed_costs(self.name, relative_energy=self.relative_energy, relative_area=self.relative_area)
        costs = relative_costs(rows, source=f"as {self.client} said when bringing it")
        energy.register_multiplier_cost(self.identity, costs[self.name])


class Uploads:
    """What clients brought, in a results database; and what comes along, beside it.

    Args:
        url: Of the database.
        engine: To it.
    """

    def __init__(self, url: str, engine: Engine) -> None:
        self._url = url
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    def add_hardware(self, text: str, *, client: str) -> Hardware:
        """Keep a hardware file.

        Args:
            text: YAML.
            client: Who brings it.

        Raises:
            energy.HardwareError: If it is malformed.
            UsageError: If its name is none for a file, or no more may be kept.
        """
        found = parse_hardware(text, name="the file")
        if not re.fullmatch(r"[\w.-]{1,80}", found.name, re.ASCII):
            raise UsageError(
                f"the name of hardware may have up to 80 letters, digits, '.', '_' and '-': {found.name!r}"
            )
        if found.identity not in hardware_names():
            self._add(_HARDWARE, found.identity, {"yaml": text}, client)
        return found

    def hardware(self, name: str) -> Hardware:
        """The hardware of a name that comes along, or of an identity that a client brought.

        Raises:
            UnknownNameError: If there is none.
        """
        if name in hardware_names():
            return load_hardware(name)
        return _parsed(self.hardware_text(name))

    def hardware_text(self, identity: str) -> str:
        """The file of hardware that a client brought.

        Raises:
            UnknownNameError: If there is none.
        """
        row = self._find(_HARDWARE, identity)
        if row is None:
            names = ", ".join(self.hardware_names())
            raise UnknownNameError(f"unknown hardware {identity!r}; choose one of {names}")
        text: str = row.content["yaml"]
        return text

    def hardware_names(self) -> list[str]:
        """Names of all."""
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
        """Keep a multiplier.

        Args:
            name: Of it.
            table: Its products, indexed [activation code, weight code].
            signed: Whether both operands are signed.
            relative_energy: Over that of the exact one of the same widths.
            relative_area: Likewise.
            client: Who brings it.

        Raises:
            UsageError: If it is no table of a multiplier, its name is taken or none for one, or no more may be kept.
        """
        if name in characterised_multipliers():
            raise UsageError(f"a multiplier named {name!r} comes along; choose another name")
        made = multiplier_of_table(name, table, signed=signed, source=client)
        content = {
            "name": name,
            "table": [list(row) for row in table],
            "signed": signed,
            "relative_energy": relative_energy,
            "relative_area": relative_area,
        }
        return _multiplier(self._add(_MULTIPLIER, multiplier_identity(name, made.digest), content, client))

    def multiplier(self, identity: str) -> UploadedMultiplier:
        """The multiplier of an identity.

        Raises:
            UnknownNameError: If nobody brought it.
        """
        row = self._find(_MULTIPLIER, identity)
        if row is None:
            raise UnknownNameError(f"unknown multiplier {identity!r}; GET /v1/multipliers lists those that are known")
        return _multiplier(row)

    def multipliers(self) -> list[UploadedMultiplier]:
        """All that clients brought."""
        return [_multiplier(row) for row in self._all(_MULTIPLIER)]

    def _add(self, kind: str, identity: str, content: dict[str, Any], client: str) -> UploadRow:
        with self._session() as session:
            row = session.get(UploadRow, (kind, identity))
            if row is not None:
                if row.content != content:
                    raise UsageError(f"{identity!r} is known already, with other figures; choose another name")
                return row
            kept = session.scalar(sa.select(sa.func.count()).where(UploadRow.kind == kind)) or 0
            if kept >= MOST_UPLOADS:
                raise UsageError(f"{kept} uploads of {kind} are kept, and no more may be")
            row = UploadRow(kind=kind, identity=identity, content=content, client=client, created_at=_now())
            session.add(row)
            return row

    def _find(self, kind: str, identity: str) -> UploadRow | None:
        with self._session() as session:
            return session.get(UploadRow, (kind, identity))

    def _all(self, kind: str) -> list[UploadRow]:
        with self._session() as session:
            return [*session.scalars(sa.select(UploadRow).where(UploadRow.kind == kind).order_by(UploadRow.identity))]

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with storage_errors(self._url), self._sessions.begin() as session:
            yield session


@lru_cache(maxsize=MOST_UPLOADS)
def _parsed(text: str) -> Hardware:
    return parse_hardware(text, name="the file")


def _multiplier(row: UploadRow) -> UploadedMultiplier:
    return UploadedMultiplier(identity=row.identity, client=row.client, **row.content)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
