"""Runs migrations on the connection that `search.store.schema` hands over.

The version table has its own name because Optuna keeps its tables and its own Alembic version in the same
database.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table="crosslayer_version")
with context.begin_transaction():
    context.run_migrations()
