"""Data sets and tasks: list them, upload images, delete uploads."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from search.errors import DatasetError, DatasetInvalidError, UnknownNameError, UsageError, in_words_of
from search.images.library import ImageLibrary
from service.datasets import KnownDataset
from service.dependencies import Caller, CallerDep, Services, ServicesDep, needs
from service.image_parts import parts_of
from service.keys import Scope
from service.limits import BINARY, StrictRoute
from service.npz_upload import store_npz
from service.problems import ProblemError, responses
from service.schemas import SHOWN_CLASSES, DatasetQuery, DatasetSchema, TaskSchema

_log = logging.getLogger(__name__)

_ARCHIVE = {"requestBody": {"required": True, "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}}

router = APIRouter(tags=["data sets"], dependencies=[Depends(needs(Scope.READ))], route_class=StrictRoute)


@router.get("/datasets", responses=responses(401, 403, 422, 503))
def list_datasets(services: ServicesDep, caller: CallerDep) -> list[DatasetSchema]:
    """The data sets that can be searched: those built in, those of the service, and those that clients uploaded."""
    return [_schema(one, caller) for one in services.datasets.all()]


@router.post(
    "/datasets",
    status_code=201,
    responses=responses(401, 403, 413, 415, 422, 503),
    openapi_extra=_ARCHIVE,
)
async def upload_dataset(
    request: Request, services: ServicesDep, caller: CallerDep, query: Annotated[DatasetQuery, Query()]
) -> DatasetSchema:
    """Upload images as one of NumPy's .npz archives; the response contains their identity.

    Its arrays are x_train, y_train, x_test and y_test, or train_images, train_labels, val_images and so on, or images
    and labels. Nothing in it is unpickled.
    """
    caller.needs(Scope.SUBMIT)
    await run_in_threadpool(_check_new, services, caller, query.name)
    services.uploading.check()
    with services.uploading.one(), _place() as place:
        file = place / "upload.npz"
        try:
            with file.open("wb") as opened:
                async for piece in request.stream():
                    opened.write(piece)
        except ClientDisconnect:
            raise ProblemError(400, "the upload ended before all of it was sent") from None
        except OSError as error:
            raise _no_room(error) from None
        return await run_sync(_store, services, caller, query, file, limiter=services.reading)


@router.delete("/datasets/{name}", status_code=204, responses=responses(401, 403, 404, 409, 422, 503))
def delete_dataset(services: ServicesDep, caller: CallerDep, name: str) -> Response:
    """Delete images that you uploaded, by their name or identity. Results with them are kept.

    Images that another client uploaded too remain.
    """
    caller.needs(Scope.SUBMIT)
    try:
        found = services.datasets.uploaded(name, client=caller.name)
    except UnknownNameError as error:
        raise ProblemError(404, str(error), pointer="name") from None
    except UsageError as error:
        raise ProblemError(409, str(error), pointer="name") from None
    identity, owners = found.dataset.identity, set(found.owners)
    own = caller.name in owners
    if not own and caller.scope < Scope.ADMIN:
        raise ProblemError(403, f"{identity!r} is another client's; deleting it requires a key with the scope admin")
    if owners <= {caller.name} or not own:
        for job in services.queue.under_way():
            if job.question.dataset.partition("/")[0] == identity:
                raise ProblemError(409, f"job {job.id} needs {identity!r}; cancel it first")
    services.image_uploads.delete(identity, client=caller.name if own else None)
    services.datasets.forget_deleted()
    return Response(status_code=204)


@router.get("/tasks", responses=responses(401, 403, 422, 503))
def list_tasks(services: ServicesDep) -> list[TaskSchema]:
    """The tasks of stored results, but for built-in data sets with built-in networks, the newest first.

    Requests may name them instead of a data set. A custom network is built where the worker runs.
    """
    return [
        TaskSchema(
            identity=task.identity,
            words=task.words,
            dataset=task.dataset.identity,
            network=None if task.network is None else task.network.path,
            train=task.train,
            metric=task.metric,
        )
        for task in services.store.tasks.all()
    ]


def _check_new(services: Services, caller: Caller, name: str) -> None:
    try:
        services.datasets.check_new(name, client=caller.name)
    except UsageError as error:
        raise ProblemError(422, str(error), pointer="name") from None


def _store(services: Services, caller: Caller, query: DatasetQuery, file: Path) -> DatasetSchema:
    """Store the images of an archive that was received."""
    library = ImageLibrary(file.parent / "images")  # the service itself needs them only until they are in the database
    try:
        dataset = store_npz(
            file,
            library,
            name=query.name,
            class_names=query.class_names,
            max_bytes=services.settings.max_unpacked_bytes,
        )
    except DatasetInvalidError as error:
        detail = in_words_of(str(error), lambda name: "the file" if name == "body" else name)
        pointer = "class_names" if "`class_names`" in str(error) and query.class_names else "#"
        raise ProblemError(422, detail[0].lower() + detail[1:], pointer=pointer) from None
    except DatasetError as error:
        raise _no_room(error) from None
    file.unlink()
    packed = file.with_name("packed")
    try:
        with packed.open("wb") as opened:  # before the transaction, in which others could not write to SQLite
            sizes = [opened.write(part) for part in parts_of(dataset, library)]
        with packed.open("rb") as opened:
            services.image_uploads.add(dataset, (opened.read(size) for size in sizes), client=caller.name)
    except OSError as error:
        raise _no_room(error) from None
    except UsageError as error:
        raise ProblemError(422, str(error), pointer="name") from None
    return _schema(KnownDataset(dataset=dataset, owners=frozenset([caller.name])), caller)


@contextmanager
def _place() -> Iterator[Path]:
    """A folder for one upload."""
    try:
        folder = TemporaryDirectory(prefix="crosslayer-upload-", ignore_cleanup_errors=True)
    except OSError as error:
        raise _no_room(error) from None
    with folder as name:
        yield Path(name)


def _no_room(error: OSError | DatasetError) -> ProblemError:
    """The problem that images cannot be stored; where and why is for the log alone."""
    _log.error("%s", error)
    return ProblemError(503, "the service cannot store images now; see its log", headers={"Retry-After": "30"})


def _schema(known: KnownDataset, caller: Caller) -> DatasetSchema:
    dataset = known.dataset
    mine = caller.scope >= Scope.ADMIN or (caller.scope >= Scope.SUBMIT and caller.name in known.owners)
    return DatasetSchema(
        name=dataset.name,
        identity=dataset.identity,
        title=dataset.title,
        image_shape=dataset.image_shape,
        classes=dataset.classes,
        class_names=[*dataset.class_names[:SHOWN_CLASSES]],
        counts=dict(dataset.counts),
        uploaded=bool(known.owners),
        may_delete=bool(known.owners) and mine,
    )
