"""Clients' keys: who may ask, and for what.

A key is 32 random bytes, which nobody guesses, so a plain SHA-256 keeps it as secret as a slow hash would.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from search.errors import UnknownNameError, UsageError
from search.store.schema import storage_errors
from service.tables import KeyRow

_PREFIX = "crosslayer_"  # by which scanners for leaked secrets find it


class Scope(IntEnum):
    """What a key allows; each includes those before it."""

    READ = 1
    SUBMIT = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKey:
    """A key, without its secret.

    Attributes:
        name: Of the client.
        scope: What it allows.
        created_at: In UTC.
        revoked_at: In UTC; None while it is good.
    """

    name: str
    scope: Scope
    created_at: datetime
    revoked_at: datetime | None


class KeyStore:
    """The keys in a results database.

    Args:
        url: Of the database.
        engine: To it.
    """

    def __init__(self, url: str, engine: Engine) -> None:
        self._url = url
        self._engine = engine

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with storage_errors(self._url), Session(self._engine) as session, session.begin():
            yield session

    def create(self, name: str, scope: Scope) -> str:
        """Make a key; it is shown this once.

        Raises:
            UsageError: If the name is taken, or has characters other than letters, digits, '.', '_' and '-'.
        """
        if not re.fullmatch(r"[\w.-]{1,100}", name, re.ASCII):
            raise UsageError(f"the name of a key may have up to 100 letters, digits, '.', '_' and '-', got {name!r}")
        secret = _PREFIX + secrets.token_urlsafe(32)
        with self._session() as session:
            if session.get(KeyRow, name) is not None:
                raise UsageError(f"there is a key named {name!r}; choose another name")
            session.add(
                KeyRow(
                    name=name,
                    digest=_digest(secret),
                    scope=scope.name.lower(),
                    created_at=datetime.now(UTC).replace(tzinfo=None),
                )
            )
        return secret

    def revoke(self, name: str) -> None:
        """Make a key useless.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        with self._session() as session:
            row = session.get(KeyRow, name)
            if row is None:
                raise UnknownNameError(f"there is no key named {name!r}; list them with: search keys list")
            row.revoked_at = row.revoked_at or datetime.now(UTC).replace(tzinfo=None)

    def all(self) -> list[ClientKey]:
        """All keys, by name."""
        with self._session() as session:
            return [_key(row) for row in session.scalars(sa.select(KeyRow).order_by(KeyRow.name))]

    def of_secret(self, secret: str) -> ClientKey | None:
        """The key with this secret; None if there is none, or it was revoked."""
        with self._session() as session:
            row = session.scalars(sa.select(KeyRow).where(KeyRow.digest == _digest(secret))).one_or_none()
            return None if row is None or row.revoked_at is not None else _key(row)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: KeyRow) -> ClientKey:
    return ClientKey(
        name=row.name, scope=Scope[row.scope.upper()], created_at=row.created_at, revoked_at=row.revoked_at
    )
