"""The data sets that requests may name: built-in ones, those added on this machine, and those that clients uploaded.

What a name means may change; so questions and jobs keep the identity that it had when they were asked. A path is never
looked up, so that clients cannot probe the service's files.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches

from search.errors import DatasetMissingError, UnknownNameError, UsageError
from search.images.built_in import built_in_dataset
from search.images.dataset import Dataset
from search.images.library import ImageLibrary, checked_name
from search.space.task import Task, find_task, task_names, task_of
from search.store.tasks import Tasks
from service.image_parts import UPLOADED, store_parts
from service.image_uploads import ImageUploads, UploadedDataset

_NAME = re.compile(r"[a-z0-9][\w.-]*(@[0-9a-f]{16})?(/[0-9a-f]{16})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDataset:
    """A data set that can be searched.

    Attributes:
        dataset: What is known of it without its images.
        owners: The clients who uploaded it; none if it is built in or was added.
    """

    dataset: Dataset
    owners: frozenset[str] = frozenset()


class Datasets:
    """The data sets that a service or a worker knows.

    Args:
        uploads: Those that clients uploaded.
        tasks: The tasks of stored results, whose data sets may have been deleted since.
        library: Those that were added on this machine. Uploaded ones are put there when a search needs them.
    """

    def __init__(self, uploads: ImageUploads, tasks: Tasks, library: ImageLibrary) -> None:
        self._uploads = uploads
        self._tasks = tasks
        self._library = library

    def all(self) -> list[KnownDataset]:
        """All that can be searched: those built in, added and uploaded."""
        built_in = [KnownDataset(dataset=built_in_dataset(name)) for name in task_names()]
        uploaded = {one.dataset.identity: one for one in self._uploads.all()}
        added = [KnownDataset(dataset=one) for one in self._added() if one.identity not in uploaded]
        return [*built_in, *added, *map(_known, uploaded.values())]

    def named(self, name: str, *, client: str) -> Task:
        """Return the task that a name means to a client.

        A name means, in this order: a built-in data set, the one that was added last, the client's own newest upload,
        somebody else's upload. An identity means a data set, or the task of stored results.

        Raises:
            UnknownNameError: If there is none.
            UsageError: If other clients uploaded several data sets of this name.
        """
        if name in task_names():
            return find_task(name)
        if _NAME.fullmatch(name):
            if "@" in name or "/" in name:
                with suppress(UnknownNameError):
                    return self.task(name)
            elif (found := self._of_name(name, client)) is not None:
                return task_of(found)
        names = {one.dataset.name for one in self.all()}
        near = get_close_matches(name.lower(), names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownNameError(f"unknown dataset {name!r}; {hint}GET /v1/datasets lists the known ones")

    def task(self, identity: str) -> Task:
        """Return the task of an identity, whose images may be gone.

        Raises:
            UnknownNameError: If neither a data set nor a stored result has it.
        """
        if "@" in identity and "/" not in identity:
            stored = self._library.find(identity)
            if stored is not None:
                return task_of(stored.dataset)
            uploaded = self._uploads.find(identity)
            if uploaded is not None:
                return task_of(uploaded.dataset)
        return self._tasks.find(identity)

    def uploaded(self, name: str, *, client: str) -> UploadedDataset:
        """Return the uploaded data set that a client means by a name or an identity: an own one, or else another's.

        Raises:
            UnknownNameError: If nobody uploaded one.
            UsageError: If there are several.
        """
        named = [one for one in self._uploads.all() if name in (one.dataset.name, one.dataset.identity)]
        found = [one for one in named if client in one.owners] or named
        if not found:
            raise UnknownNameError(f"nobody uploaded a data set {name!r}")
        if len(found) > 1:
            raise _several(name, found)
        return found[0]

    def check_new(self, name: str, *, client: str) -> None:
        """Check that a client may upload a data set under a name.

        Raises:
            UsageError: If the name is not allowed or taken, or the maximum number is stored.
        """
        checked_name(name)
        if name in task_names():
            raise UsageError(f"{name!r} is the name of a built-in data set; choose another `name`")
        if any(one.name == name for one in self._added()):
            raise UsageError(f"the service has a data set {name!r} of its own; choose another `name`")
        self._uploads.check_room(client)

    def provide(self, identity: str) -> None:
        """Put the images of a task's data set into the library, unless they are there or are built in.

        Raises:
            DatasetMissingError: If they are gone.
            DatasetError: If they cannot be stored.
        """
        self.forget_deleted()
        identity = identity.partition("/")[0]
        if identity in task_names() or self._library.find(identity) is not None:
            return
        uploaded = self._uploads.find(identity)
        if uploaded is None:
            raise DatasetMissingError(
                f"the images of {identity} are gone: they are neither uploaded nor stored where the worker runs; "
                "upload or add them again, and resume this search"
            )
        store_parts(uploaded.dataset, self._uploads.parts(uploaded.dataset), self._library)

    def forget_deleted(self) -> None:
        """Remove from the library what was put there by `provide` and has been deleted since."""
        deleted = self._uploads.deleted()
        for stored in self._library.all():
            if stored.signature == UPLOADED and not stored.added and stored.dataset.identity in deleted:
                with suppress(UnknownNameError, OSError):  # another process was faster
                    self._library.remove(stored.dataset.identity)

    def _added(self) -> list[Dataset]:
        """Return what was added on this machine, of each name the newest first."""
        return [one.dataset for one in self._library.all() if one.added]

    def _of_name(self, name: str, client: str) -> Dataset | None:
        added = [one for one in self._added() if one.name == name]
        if added:
            return added[0]
        named = [one for one in self._uploads.all() if one.dataset.name == name]
        own = [one for one in named if client in one.owners]
        if own:
            return max(own, key=lambda one: one.owners[client]).dataset
        if len(named) > 1:
            raise _several(name, named)
        return named[0].dataset if named else None


def _known(uploaded: UploadedDataset) -> KnownDataset:
    return KnownDataset(dataset=uploaded.dataset, owners=frozenset(uploaded.owners))


def _several(name: str, found: list[UploadedDataset]) -> UsageError:
    identities = ", ".join(one.dataset.identity for one in found)
    return UsageError(f"several data sets are named {name!r}; name one of them in full: {identities}")
