"""Searches and their evaluations, fresh runs, and the service's jobs, workers, keys and uploads."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    _create_results()
    _create_service()


def downgrade() -> None:
    """Drop the tables."""
    for table in ("idempotency_keys", "uploads", "client_keys", "workers", "job_events", "jobs"):
        op.drop_table(table)
    for table in ("confirmation_runs", "search_evaluations", "evaluations", "searches"):
        op.drop_table(table)


def _create_results() -> None:
    """Create the tables of searches, evaluations and fresh runs."""
    op.create_table(
        "searches",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("task", sa.String(500), nullable=False),
        sa.Column("hardware", sa.String(500), nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("budget", sa.Integer, nullable=False),
        sa.Column("population_size", sa.Integer, nullable=False),
        sa.Column("min_accuracy", sa.Double),
        sa.Column("max_accuracy_drop", sa.Double),
        sa.Column("multipliers", sa.JSON, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("space", sa.JSON, nullable=False),
        sa.Column("data_dir", sa.Text),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("finished_at", sa.DateTime),
    )
    op.create_table(
        "evaluations",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("task", sa.String(500), nullable=False),
        sa.Column("hardware", sa.String(500), nullable=False),
        sa.Column("effort", sa.String(20), nullable=False),
        sa.Column("stopped", sa.Boolean, nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("candidate_key", sa.String(64), nullable=False),
        sa.Column("own_multipliers", sa.String(1000)),
        sa.Column("accuracy", sa.Double, nullable=False),
        sa.Column("energy_pj", sa.Double, nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("test_accuracies", sa.JSON),
        sa.Column("created_at", sa.DateTime, nullable=False),
    )
    setup = ["task", "hardware", "effort", "version", "stopped"]
    op.create_index(
        "evaluations_by_energy", "evaluations", [*setup, "energy_pj", "accuracy", "key", "seed", "own_multipliers"]
    )
    op.create_index("evaluations_by_candidate", "evaluations", ["candidate_key", *setup, "key"])
    op.create_table(
        "search_evaluations",
        sa.Column("search_id", sa.Integer, sa.ForeignKey("searches.id"), primary_key=True),
        sa.Column("trial_number", sa.Integer, primary_key=True),
        sa.Column("evaluation_key", sa.String(64), sa.ForeignKey("evaluations.key")),
        sa.Column("error", sa.Text),
    )
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


def _create_service() -> None:
    """Create the tables of jobs, workers, keys and uploads."""
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
