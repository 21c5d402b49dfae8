"""Hardware and multipliers that clients bring: kept in SQL, so that every service and worker has them.

Each is known by its identity, its name and the beginning of a digest of what it is, so that none is ever replaced.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
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
from energy.cost_table import CostTable, relative_costs
from search.errors import UnknownNameError, UsageError
from search.multipliers.choice import keep_multiplier, multiplier_of_table
from search.multipliers.costs import claimed_costs
from search.multipliers.identity import multiplier_identity
from search.store.schema import storage_errors
from service.tables import UploadRow

MOST_UPLOADS = 200  # of each kind
_MOST_OF_ONE = 50  # client, where there are several
_HARDWARE, _MULTIPLIER = "hardware", "multiplier"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedMultiplier:
    """What is known of a multiplier that a client brought, but for its table.

    Attributes:
        identity: What candidates call it.
        name: Its name.
        signed: Whether both operands are signed.
        relative_energy: What the client says it costs over the exact one.
        relative_area: Likewise.
        client: Who brought it.
    """

    identity: str
    name: str
    signed: bool
    relative_energy: float
    relative_area: float
    client: str

    def keep(self, table: Sequence[Sequence[int]]) -> None:
        """Make it one of this process's imported multipliers.

        Args:
            table: Its products, indexed [activation code, weight code].
        """
        multiplier = multiplier_of_table(self.name, table, signed=self.signed, source=self.client)
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
            self._add(_HARDWARE, found.identity, {}, {"yaml": text}, client)
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
        content = self._content(_HARDWARE, identity)
        if content is None:
            names = ", ".join(self.hardware_names())
            raise UnknownNameError(f"unknown hardware {identity!r}; choose one of {names}")
        text: str = content["yaml"]
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
        if name in CostTable().names:
            raise UsageError(f"a multiplier named {name!r} comes along; choose another name")
        made = multiplier_of_table(name, table, signed=signed, source=client)
        about = {"name": name, "signed": signed, "relative_energy": relative_energy, "relative_area": relative_area}
        content = {"table": [list(row) for row in table]}
        return _multiplier(self._add(_MULTIPLIER, multiplier_identity(name, made.digest), about, content, client))

    def multiplier(self, identity: str) -> UploadedMultiplier:
        """The multiplier of an identity.

        Raises:
            UnknownNameError: If nobody brought it.
        """
        row = self._find(_MULTIPLIER, identity)
        if row is None:
            raise UnknownNameError(f"unknown multiplier {identity!r}; GET /v1/multipliers lists those that are known")
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

    def multipliers(self) -> list[UploadedMultiplier]:
        """All that clients brought."""
        return [_multiplier(row) for row in self._all(_MULTIPLIER)]

    def unnamed_multipliers(self, named: Collection[str]) -> list[str]:
        """The identities of those that clients brought, deleted ones too, but for some: what they cost is a claim.

        Answers and fronts are made without them, unless a client names them.
        """
        chosen = sa.select(UploadRow.identity).where(UploadRow.kind == _MULTIPLIER)
        with self._session() as session:
            return [identity for identity in session.scalars(chosen) if identity not in named]

    def owner_of_hardware(self, identity: str) -> str | None:
        """The client who brought it; None if nobody did."""
        row = self._find(_HARDWARE, identity)
        return None if row is None else row.client

    def delete_hardware(self, identity: str) -> None:
        """Forget hardware that a client brought. What was searched on it is kept."""
        self._delete(_HARDWARE, identity)

    def delete_multiplier(self, identity: str) -> None:
        """Forget a multiplier that a client brought. What was searched with it is kept."""
        self._delete(_MULTIPLIER, identity)

    def _add(self, kind: str, identity: str, about: dict[str, Any], content: dict[str, Any], client: str) -> UploadRow:
        with self._session() as session:
            row = session.get(UploadRow, (kind, identity))
            if row is not None:  # whose identity says what it is, but not what it is claimed to cost
                if row.about != about:
                    raise UsageError(f"{identity!r} is known already, with other figures; choose another name")
                if row.deleted_at is None:
                    return row
                session.delete(row)
                session.flush()
            of_kind = sa.select(sa.func.count()).where(UploadRow.kind == kind, UploadRow.deleted_at.is_(None))
            kept = session.scalar(of_kind) or 0
            own = session.scalar(of_kind.where(UploadRow.client == client)) or 0
            if kept >= MOST_UPLOADS or own >= _MOST_OF_ONE:
                whose = "" if kept >= MOST_UPLOADS else " of yours"
                raise UsageError(f"{own if whose else kept} uploads of {kind}{whose} are kept, and no more may be")
            row = UploadRow(
                kind=kind, identity=identity, about=about, content=content, client=client, created_at=_now()
            )
            session.add(row)
            return row

    def _find(self, kind: str, identity: str) -> UploadRow | None:
        if "\0" in identity:  # which PostgreSQL refuses to look for
            return None
        chosen = sa.select(UploadRow).where(*_present(kind), UploadRow.identity == identity)
        with self._session() as session:
            return session.scalars(chosen).one_or_none()

    def _content(self, kind: str, identity: str) -> dict[str, Any] | None:
        if "\0" in identity:
            return None
        chosen = sa.select(UploadRow.content).where(*_present(kind), UploadRow.identity == identity)
        with self._session() as session:
            found: dict[str, Any] | None = session.scalar(chosen)
            return found

    def _delete(self, kind: str, identity: str) -> None:
        """Forget an upload, but not that there was one: results remain that were made with it."""
        with self._session() as session:
            session.execute(
                sa.update(UploadRow)
                .where(*_present(kind), UploadRow.identity == identity)
                .values(deleted_at=_now(), content={})
            )

    def _all(self, kind: str) -> list[UploadRow]:
        with self._session() as session:
            return [*session.scalars(sa.select(UploadRow).where(*_present(kind)).order_by(UploadRow.identity))]

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with storage_errors(self._url), self._sessions.begin() as session:
            yield session


@lru_cache(maxsize=MOST_UPLOADS)
def _parsed(text: str) -> Hardware:
    return parse_hardware(text, name="the file")


def _present(kind: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions on the uploads of a kind that were not deleted."""
    return UploadRow.kind == kind, UploadRow.deleted_at.is_(None)


def _multiplier(row: UploadRow) -> UploadedMultiplier:
    return UploadedMultiplier(identity=row.identity, client=row.client, **row.about)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
