"""Room for the identity of a person's own network in the task of a search and of an evaluation."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Widen both columns; SQLite has each table copied for it."""
    _set_length(500)


def downgrade() -> None:
    """Make both columns as narrow as they were."""
    _set_length(50)


def _set_length(length: int) -> None:
    for table in ("searches", "evaluations"):
        with op.batch_alter_table(table) as batch:
            batch.alter_column("task", type_=sa.String(length), existing_nullable=False)
