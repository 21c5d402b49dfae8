"""Tasks that are not built in: images, networks and training of people's own."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the table. Results of custom networks are dropped: they do not say enough to be read as tasks."""
    op.create_table(
        "tasks",
        sa.Column("identity", sa.String(500), primary_key=True),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    custom = "task LIKE '%@%'"
    op.execute(f"DELETE FROM search_evaluations WHERE search_id IN (SELECT id FROM searches WHERE {custom})")  # noqa: S608
    for table in ("searches", "confirmation_runs", "evaluations"):
        op.execute(f"DELETE FROM {table} WHERE {custom}")  # noqa: S608


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("tasks")
