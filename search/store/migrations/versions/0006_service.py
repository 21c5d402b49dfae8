"""Jobs that are asked for over HTTP, who works on them, who may ask, and what they bring."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


_BY_ENERGY = "evaluations_by_energy"


def upgrade() -> None:
    """Add the service's tables, and all that a front is found by to the index by energy."""
    op.drop_index(_BY_ENERGY, "evaluations")
    op.add_column("evaluations", sa.Column("own_multipliers", sa.String(1000)))
    _note_own_multipliers()
    columns = ["task", "hardware", "effort", "version", "stopped", "energy_pj", "accuracy", "key", "seed"]
    op.create_index(_BY_ENERGY, "evaluations", [*columns, "own_multipliers"])
    op.create_table(
        "jobs",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("client", sa.String(100), nullable=False),
        sa.Column("question", sa.JSON, nullable=False),
        sa.Column("question_key", sa.String(64), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("budget", sa.Integer, nullable=False),
        sa.Column("evaluations", sa.Integer, nullable=False),
        sa.Column("search_name", sa.String(200)),
        sa.Column("confirmed", sa.Boolean),
        sa.Column("error", sa.Text),
        sa.Column("cancelling", sa.Boolean, nullable=False),
        sa.Column("worker", sa.String(200)),
        sa.Column("lease_until", sa.Double),
        sa.Column("fruitless", sa.Integer, nullable=False),
        sa.Column("last_event", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("started_at", sa.DateTime),
        sa.Column("ended_at", sa.DateTime),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_question_key", "jobs", ["question_key"])
    op.create_index("ix_jobs_state", "jobs", ["state"])
    op.create_table(
        "job_events",
        sa.Column("job", sa.Integer, sa.ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("version", sa.String(50), nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("seen_s", sa.Double, nullable=False),
    )
    op.create_table(
        "client_keys",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("scope", sa.String(10), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("revoked_at", sa.DateTime),
    )
    op.create_table(
        "uploads",
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("identity", sa.String(200), primary_key=True),
        sa.Column("about", sa.JSON, nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("client", sa.String(100), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("deleted_at", sa.DateTime),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("client", sa.String(100), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("job", sa.Integer, sa.ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )


def _note_own_multipliers() -> None:
    """Note which evaluations have multipliers that do not come along: these are called name@digest."""
    evaluations = sa.table(
        "evaluations", sa.column("key"), sa.column("content", sa.JSON), sa.column("own_multipliers", sa.String)
    )
    connection = op.get_bind()
    chosen = sa.select(evaluations.c.key, evaluations.c.content["candidate"])
    for key, candidate in connection.execute(chosen.where(sa.cast(evaluations.c.content, sa.Text).contains("@"))).all():
        names = [name for knob, name in candidate.items() if knob.startswith("multiplier") and "@" in (name or "")]
        if names:
            connection.execute(
                sa.update(evaluations)
                .where(evaluations.c.key == key)
                .values(own_multipliers=json.dumps(sorted({*names})))
            )


def downgrade() -> None:
    """Drop them."""
    for table in ("idempotency_keys", "uploads", "client_keys", "workers", "job_events", "jobs"):
        op.drop_table(table)
    op.drop_index(_BY_ENERGY, "evaluations")
    op.drop_column("evaluations", "own_multipliers")
    op.create_index(_BY_ENERGY, "evaluations", ["task", "hardware", "energy_pj"])
