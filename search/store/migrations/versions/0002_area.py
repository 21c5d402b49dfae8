"""The area of evaluations, and the bound on it that a search may have."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_INDEX = "evaluations_by_energy"
_COLUMNS = (
    *("task", "hardware", "effort", "version", "stopped", "energy_pj", "accuracy", "key", "seed"),
    "own_multipliers",
)


def upgrade() -> None:
    """Add the columns, and fill in the area of evaluations that were stored before."""
    op.add_column("searches", sa.Column("max_area", sa.Double))
    # SQLite adds a column that is never NULL only if it has a default.
    op.add_column("evaluations", sa.Column("area_mm2", sa.Double, nullable=False, server_default="0"))
    evaluations = sa.table("evaluations", sa.column("area_mm2", sa.Double), sa.column("content", sa.JSON))
    op.execute(sa.update(evaluations).values(area_mm2=evaluations.c.content["area_mm2"].as_float()))
    op.drop_index(_INDEX, "evaluations")
    op.create_index(_INDEX, "evaluations", [*_COLUMNS, "area_mm2"])


def downgrade() -> None:
    """Drop the columns."""
    op.drop_index(_INDEX, "evaluations")
    op.create_index(_INDEX, "evaluations", [*_COLUMNS])
    op.drop_column("evaluations", "area_mm2")
    op.drop_column("searches", "max_area")
