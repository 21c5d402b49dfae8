"""Images that clients upload."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "uploaded_datasets",
        sa.Column("identity", sa.String(200), primary_key=True),
        sa.Column("about", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("deleted_at", sa.DateTime),
    )
    op.create_table(
        "uploaded_dataset_owners",
        sa.Column("identity", sa.String(200), sa.ForeignKey("uploaded_datasets.identity"), primary_key=True),
        sa.Column("client", sa.String(100), primary_key=True),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "uploaded_dataset_parts",
        sa.Column("identity", sa.String(200), sa.ForeignKey("uploaded_datasets.identity"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("uploaded_dataset_parts", "uploaded_dataset_owners", "uploaded_datasets"):
        op.drop_table(table)
