"""How searches go about it, the effort and end of evaluations, and fresh runs that confirm candidates."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add columns and a table; what is stored was made with the effort that is now the standard one, to the end."""
    op.add_column("searches", sa.Column("settings", sa.JSON))
    op.add_column("evaluations", sa.Column("effort", sa.String(20), nullable=False, server_default="standard"))
    op.add_column("evaluations", sa.Column("stopped", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "confirmation_runs",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("run", sa.Integer, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("task", sa.String(500), nullable=False),
        sa.Column("hardware", sa.String(500), nullable=False),
        sa.Column("effort", sa.String(20), nullable=False),
        sa.Column("candidate_key", sa.String(64), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    op.create_index("confirmation_runs_by_candidate", "confirmation_runs", ["candidate_key"])


def downgrade() -> None:
    """Drop them; SQLite has the tables copied for it."""
    op.drop_table("confirmation_runs")
    with op.batch_alter_table("evaluations") as batch:
        batch.drop_column("stopped")
        batch.drop_column("effort")
    with op.batch_alter_table("searches") as batch:
        batch.drop_column("settings")
