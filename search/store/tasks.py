"""The tasks of searches, so that another process knows what their results are of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from search.errors import UnknownNameError
from search.space.task import Task, find_task, task_names
from search.store.schema import Sessions
from search.store.tables import TaskRow, now


class Tasks:
    """The tasks of a database. A built-in data set with its own networks is known without being stored."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def record(self, task: Task) -> None:
        """Store a task; once for all searches of it."""
        with self._sessions.begin() as session:
            keep_task(session, task)

    def all(self) -> list[Task]:
        """Return the stored tasks, the newest first."""
        with self._sessions.begin() as session:
            rows = session.scalars(sa.select(TaskRow).order_by(TaskRow.created_at.desc(), TaskRow.identity))
            return [Task.from_dict(row.content) for row in rows]

    def find(self, identity: str) -> Task:
        """Return the task of an identity.

        Raises:
            UnknownNameError: If there is none.
        """
        with self._sessions.begin() as session:
            row = session.get(TaskRow, identity)
            return task_of_row(identity, None if row is None else row.content)


def keep_task(session: Session, task: Task) -> None:
    """Store a task, unless it is known without.

    What its identity leaves out is as it was given last: names of classes, and the file of the network's weights.
    """
    if task.identity in task_names():
        return
    row = session.get(TaskRow, task.identity)
    if row is None:
        session.add(TaskRow(identity=task.identity, content=task.to_dict(), created_at=now()))
        session.flush()
    else:
        row.content = task.to_dict()


def task_of_row(identity: str, content: Mapping[str, Any] | None) -> Task:
    """Return the task of an identity with its stored content; None for a built-in one."""
    if content is not None:
        return Task.from_dict(content)
    if identity in task_names():
        return find_task(identity)
    raise UnknownNameError(f"no task {identity!r} is stored")
