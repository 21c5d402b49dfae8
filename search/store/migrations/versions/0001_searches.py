"""Searches, evaluations, and which evaluation answered which trial."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the three tables."""
    op.create_table(
        "searches",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("task", sa.String(50), nullable=False),
        sa.Column("hardware", sa.String(500), nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("budget", sa.Integer, nullable=False),
        sa.Column("population_size", sa.Integer, nullable=False),
        sa.Column("min_accuracy", sa.Double),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("finished_at", sa.DateTime),
    )
    op.create_table(
        "evaluations",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("task", sa.String(50), nullable=False),
        sa.Column("hardware", sa.String(500), nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("candidate_key", sa.String(64), nullable=False),
        sa.Column("accuracy", sa.Double, nullable=False),
        sa.Column("energy_pj", sa.Double, nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("test_accuracies", sa.JSON),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    op.create_index("evaluations_by_energy", "evaluations", ["task", "hardware", "energy_pj"])
    op.create_table(
        "search_evaluations",
        sa.Column("search_id", sa.Integer, sa.ForeignKey("searches.id"), primary_key=True),
        sa.Column("trial_number", sa.Integer, primary_key=True),
        sa.Column("evaluation_key", sa.String(64), sa.ForeignKey("evaluations.key")),
        sa.Column("error", sa.Text),
    )


def downgrade() -> None:
    """Drop the three tables."""
    op.drop_table("search_evaluations")
    op.drop_table("evaluations")
    op.drop_table("searches")
