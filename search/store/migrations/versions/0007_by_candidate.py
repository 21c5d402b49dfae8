"""Evaluations found by their candidate, as the baseline's is for every answer."""

from alembic import op

revision = "0007"
down_revision = "0006"


_BY_CANDIDATE = "evaluations_by_candidate"


def upgrade() -> None:
    """Add an index that holds all that they are found by."""
    columns = ["candidate_key", "task", "hardware", "effort", "version", "stopped", "key"]
    op.create_index(_BY_CANDIDATE, "evaluations", columns)


def downgrade() -> None:
    """Drop it."""
    op.drop_index(_BY_CANDIDATE, "evaluations")
