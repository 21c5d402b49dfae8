"""What a question names, brought to where a worker searches: images, hardware and multipliers that clients uploaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from energy import hardware_names
from search.api.workplace import Workplace
from search.space.task import Task
from search.space.task_request import TaskRequest, rebuilt_task
from search.store.database import Store
from service.database import Database
from service.datasets import Datasets
from service.image_uploads import ImageUploads
from service.questions import Question
from service.uploads import Uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a search is made with.

    Attributes:
        task: The task.
        hardware: The name of built-in hardware, or the file of uploaded hardware.
        uploaded_hardware: The same file; None for built-in hardware.
        workplace: The workplace, with uploaded multipliers.
    """

    task: TaskRequest
    hardware: str
    uploaded_hardware: str | None
    workplace: Workplace


class InputFinder:
    """Finds what questions name.

    Args:
        database: The results database, which holds the uploads.
        workplace: Where evaluations are made.
    """

    def __init__(self, database: Database, workplace: Workplace) -> None:
        self._uploads = Uploads(database)
        tasks = Store(database.url, database.engine).tasks
        self._datasets = Datasets(ImageUploads(database), tasks, workplace.images.library)
        self._workplace = workplace

    @contextmanager
    def of(self, question: Question) -> Iterator[Inputs]:
        """Provide what a question names during the block; images stay for the next search of them.

        Raises:
            UsageError: If something was deleted, or a custom network is not what it was.
            DatasetError: If images are gone, or cannot be stored.
        """
        self._datasets.provide(question.dataset)
        with TemporaryDirectory() as folder:
            hardware, workplace = question.hardware, self._workplace
            if hardware not in hardware_names():
                file = Path(folder) / "hardware.yaml"
                file.write_text(self._uploads.hardware_text(hardware), encoding="utf-8")
                hardware = str(file)
            if question.uploaded_multipliers:
                workplace = replace(workplace, multiplier_dir=Path(folder) / "multipliers")
            for name in question.uploaded_multipliers:
                multiplier = self._uploads.multiplier(name)
                multiplier.keep(self._uploads.table(multiplier), workplace.multipliers)
            yield Inputs(
                task=_request(self._datasets.task(question.dataset)),
                hardware=hardware,
                uploaded_hardware=None if hardware == question.hardware else hardware,
                workplace=workplace,
            )


def _request(task: Task) -> TaskRequest:
    """The request for a task of stored results.

    Raises:
        UsageError: If its custom network cannot be built here, or is not what it was.
    """
    network = rebuilt_task(task).network
    return TaskRequest(
        dataset=task.dataset.identity,
        network=None if network is None else network.path,
        checkpoint=None if network is None else network.checkpoint,
        train=task.train,
        metric=task.metric,
        mean=task.mean or None,
        std=task.std or None,
        recipe=task.recipe.to_dict(),
        from_scratch=task.from_scratch,
    )
