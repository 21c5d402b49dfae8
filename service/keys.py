"""Clients' keys, and what each allows.

A key is 32 random bytes, which cannot be guessed, so a plain SHA-256 protects it as well as a slow hash would.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

import sqlalchemy as sa

from search.errors import UnknownNameError, UsageError
from service.database import Database
from service.tables import KeyRow, utc_now

_PREFIX = "crosslayer_"  # so that scanners for leaked secrets can recognise it


class Scope(IntEnum):
    """What a key allows; each scope includes those before it."""

    READ = 1
    SUBMIT = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKey:
    """A key, without its secret.

    Attributes:
        name: Name of the client.
        scope: What the key allows.
        created_at: In UTC.
        revoked_at: In UTC; None while the key is valid.
    """

    name: str
    scope: Scope
    created_at: datetime
    revoked_at: datetime | None


class KeyStore:
    """The keys in a results database.

    Args:
        database: The results database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, scope: Scope) -> str:
        """Create a key and return its secret, which is not stored.

        Raises:
            UsageError: If the name is taken, or has characters other than letters, digits, '.', '_' and '-'.
        """
        if not re.fullmatch(r"[\w.-]{1,100}", name, re.ASCII):
            raise UsageError(f"the name of a key may have up to 100 letters, digits, '.', '_' and '-', got {name!r}")
        secret = _PREFIX + secrets.token_urlsafe(32)
        with self._database.transaction() as session:
            if session.get(KeyRow, name) is not None:
                raise UsageError(f"there is a key named {name!r}; choose another name")
            session.add(KeyRow(name=name, digest=_digest(secret), scope=scope.name.lower(), created_at=utc_now()))
        return secret

    def revoke(self, name: str) -> None:
        """Revoke a key.

        Raises:
            UnknownNameError: If there is none with this name.
        """
        with self._database.transaction() as session:
            row = session.get(KeyRow, name)
            if row is None:
                raise UnknownNameError(f"there is no key named {name!r}; list them with: search keys list")
            row.revoked_at = row.revoked_at or utc_now()

    def all(self) -> list[ClientKey]:
        """All keys, by name."""
        with self._database.transaction() as session:
            return [_key(row) for row in session.scalars(sa.select(KeyRow).order_by(KeyRow.name))]

    def of_secret(self, secret: str) -> ClientKey | None:
        """The valid key with this secret; None if there is none or it was revoked."""
        with self._database.transaction() as session:
            row = session.scalars(sa.select(KeyRow).where(KeyRow.digest == _digest(secret))).one_or_none()
            return None if row is None or row.revoked_at is not None else _key(row)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: KeyRow) -> ClientKey:
    return ClientKey(
        name=row.name, scope=Scope[row.scope.upper()], created_at=row.created_at, revoked_at=row.revoked_at
    )
