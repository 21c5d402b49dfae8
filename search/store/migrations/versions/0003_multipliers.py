"""The multipliers among which a search chooses; none are noted of earlier searches."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("searches", sa.Column("multipliers", sa.JSON))


def downgrade() -> None:
    """Drop the column; SQLite has the table copied for it."""
    with op.batch_alter_table("searches") as batch:
        batch.drop_column("multipliers")
