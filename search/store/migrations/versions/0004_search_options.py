"""The space that a search searches; earlier searches note none, as all had their release's own."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_COLUMNS = {"space": sa.JSON}  # of searches


def upgrade() -> None:
    """Add the columns."""
    for name, kind in _COLUMNS.items():
        op.add_column("searches", sa.Column(name, kind))


def downgrade() -> None:
    """Drop the columns; SQLite has the table copied for it."""
    with op.batch_alter_table("searches") as batch:
        for name in _COLUMNS:
            batch.drop_column(name)
