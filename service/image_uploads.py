"""Images that clients upload, kept in SQL so that every service and worker can read them.

A data set is known by its identity, its name and the beginning of a digest of its images, so none is ever replaced. It
is kept once, however many clients upload it, until the last of them deletes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from search.errors import UsageError
from search.images.dataset import Dataset
from service.database import Database
from service.tables import DatasetOwnerRow, DatasetPartRow, DatasetRow, utc_now

MAX_DATASETS = 100
MAX_PER_CLIENT = 25
_UPLOAD_LOCK = 0x696D6773  # the PostgreSQL advisory lock of those who upload or delete


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedDataset:
    """A data set that clients uploaded.

    Attributes:
        dataset: What is known of it without its images.
        owners: The clients who uploaded it -> when they last did, in UTC.
    """

    dataset: Dataset
    owners: Mapping[str, datetime]


class ImageUploads:
    """The uploaded images in a results database.

    Args:
        database: The results database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def check_room(self, client: str) -> None:
        """Check that a client may upload one more data set.

        Raises:
            UsageError: If the maximum number is stored.
        """
        with self._database.transaction() as session:
            _check_room(session, client)

    def add(self, dataset: Dataset, parts: Iterable[bytes], *, client: str) -> None:
        """Store a data set, or note that a client uploaded one that is stored already.

        Args:
            dataset: The data set.
            parts: Its images; see `service.image_parts`.
            client: Name of the client who uploads it.

        Raises:
            UsageError: If it is stored with other names of classes, or the maximum number is stored.
        """
        with self._database.exclusive_transaction() as session:
            self._lock(session)
            row = session.get(DatasetRow, dataset.identity)
            if row is not None and row.deleted_at is None and Dataset.from_dict(row.about) != dataset:
                raise UsageError(
                    f"{dataset.identity!r} was uploaded already, with other names of classes; give the same ones, or "
                    "another name"
                )
            owner = session.get(DatasetOwnerRow, (dataset.identity, client))
            if owner is not None:
                owner.created_at = utc_now()
                return
            _check_room(session, client, new=row is None or row.deleted_at is not None)
            if row is None:
                row = DatasetRow(identity=dataset.identity, about={}, created_at=utc_now(), deleted_at=utc_now())
                session.add(row)
                session.flush()
            if row.deleted_at is not None:
                row.about, row.created_at, row.deleted_at = dataset.to_dict(), utc_now(), None
                for number, part in enumerate(parts):
                    values = {"identity": dataset.identity, "number": number, "content": part}
                    session.execute(sa.insert(DatasetPartRow).values(values))
            session.add(DatasetOwnerRow(identity=dataset.identity, client=client, created_at=utc_now()))

    def find(self, identity: str) -> UploadedDataset | None:
        """The data set with an identity; None if there is none, or it was deleted."""
        found = self._chosen(DatasetRow.identity == identity)
        return found[0] if found else None

    def all(self) -> list[UploadedDataset]:
        """All data sets that were not deleted, the newest first."""
        return self._chosen()

    def parts(self, dataset: Dataset) -> Iterator[bytes]:
        """The images of a data set, part by part; none if it was deleted."""
        number = 0
        while True:
            with self._database.transaction() as session:
                part = session.get(DatasetPartRow, (dataset.identity, number))
            if part is None:
                return
            yield part.content
            number += 1

    def delete(self, identity: str, *, client: str | None = None) -> None:
        """Delete a data set for a client, and its images if no other client uploaded it; for all clients by default."""
        with self._database.exclusive_transaction() as session:
            self._lock(session)
            owners = sa.delete(DatasetOwnerRow).where(DatasetOwnerRow.identity == identity)
            session.execute(owners if client is None else owners.where(DatasetOwnerRow.client == client))
            left = sa.select(DatasetOwnerRow.client).where(DatasetOwnerRow.identity == identity)
            if session.scalars(left).first() is None:
                session.execute(sa.delete(DatasetPartRow).where(DatasetPartRow.identity == identity))
                session.execute(
                    sa.update(DatasetRow).where(DatasetRow.identity == identity).values(about={}, deleted_at=utc_now())
                )

    def deleted(self) -> set[str]:
        """The identities of data sets that were deleted, and not uploaded again."""
        with self._database.transaction() as session:
            return {*session.scalars(sa.select(DatasetRow.identity).where(DatasetRow.deleted_at.is_not(None)))}

    def _lock(self, session: Session) -> None:
        """Let nobody else upload or delete until the transaction ends."""
        if self._database.engine.dialect.name == "postgresql":  # SQLite has one writer anyway
            session.execute(sa.select(sa.func.pg_advisory_xact_lock(_UPLOAD_LOCK)))

    def _chosen(self, *conditions: sa.ColumnElement[bool]) -> list[UploadedDataset]:
        chosen = (
            sa.select(DatasetRow, DatasetOwnerRow)
            .join(DatasetOwnerRow, DatasetOwnerRow.identity == DatasetRow.identity)
            .where(DatasetRow.deleted_at.is_(None), *conditions)
            .order_by(DatasetRow.created_at.desc(), DatasetRow.identity)
        )
        owners: dict[str, dict[str, datetime]] = {}
        about = {}
        with self._database.transaction() as session:
            for row, owner in session.execute(chosen):
                owners.setdefault(row.identity, {})[owner.client] = owner.created_at
                about[row.identity] = row.about
        return [
            UploadedDataset(dataset=Dataset.from_dict(about[identity]), owners=clients)
            for identity, clients in owners.items()
        ]


def _check_room(session: Session, client: str, *, new: bool = True) -> None:
    """Check that one more data set may be stored for a client.

    Args:
        session: A transaction.
        client: The client.
        new: Whether it is not stored for another client already.

    Raises:
        UsageError: If not.
    """
    kept = session.scalar(sa.select(sa.func.count()).where(DatasetRow.deleted_at.is_(None))) or 0
    own = session.scalar(sa.select(sa.func.count()).where(DatasetOwnerRow.client == client)) or 0
    if own >= MAX_PER_CLIENT:
        raise UsageError(f"{own} data sets of yours are stored, which is the maximum; delete one first")
    if new and kept >= MAX_DATASETS:
        raise UsageError(f"{kept} uploaded data sets are stored, which is the maximum; delete one of yours first")
