"""Uploaded images in both kinds of database."""

import threading

import pytest

from search.errors import UsageError
from search.images.dataset import Dataset
from service import image_uploads
from service.database import Database
from service.image_uploads import ImageUploads

PARTS = [b"one", b"two" * 1000, b"\0\xff"]


def dataset(digit: str = "0", *, name: str = "flowers", class_names: tuple[str, ...] = ("a", "b")) -> Dataset:
    return Dataset(
        name=name,
        digest=digit * 64,
        title="Flowers",
        image_shape=(3, 4, 5),
        class_names=class_names,
        counts={"train": 6, "test": 2},
    )


@pytest.fixture
def uploads(either_database: Database) -> ImageUploads:
    return ImageUploads(either_database)


def names(uploads: ImageUploads) -> dict[str, set[str]]:
    return {one.dataset.identity: set(one.owners) for one in uploads.all()}


def test_images_come_back_as_they_were(uploads: ImageUploads) -> None:
    uploads.add(dataset(), PARTS, client="anna")
    found = uploads.find(dataset().identity)
    assert found is not None
    assert found.dataset == dataset()
    assert [*uploads.parts(dataset())] == PARTS
    assert uploads.find(dataset("1").identity) is None
    assert [*uploads.parts(dataset("1"))] == []


def test_the_same_images_of_two_clients_stay_until_both_deleted_them(uploads: ImageUploads) -> None:
    identity = dataset().identity
    uploads.add(dataset(), PARTS, client="anna")
    uploads.add(dataset(), iter([b"not read"]), client="ben")
    uploads.add(dataset(), iter([b"not read"]), client="ben")
    assert names(uploads) == {identity: {"anna", "ben"}}
    uploads.delete(identity, client="carla")
    uploads.delete(identity, client="anna")
    assert (names(uploads), [*uploads.parts(dataset())]) == ({identity: {"ben"}}, PARTS)
    assert uploads.deleted() == set()
    uploads.delete(identity, client="ben")
    assert (names(uploads), [*uploads.parts(dataset())]) == ({}, [])
    assert (uploads.find(identity), uploads.deleted()) == (None, {identity})


def test_deleted_images_may_be_uploaded_again(uploads: ImageUploads) -> None:
    uploads.add(dataset(), PARTS, client="anna")
    uploads.add(dataset(), PARTS, client="ben")
    uploads.delete(dataset().identity)  # for all
    uploads.add(dataset(class_names=("x", "y")), PARTS[:2], client="carla")
    assert names(uploads) == {dataset().identity: {"carla"}}
    assert [*uploads.parts(dataset())] == PARTS[:2]
    assert uploads.deleted() == set()


def test_the_same_images_with_other_names_of_classes_are_refused(uploads: ImageUploads) -> None:
    uploads.add(dataset(), PARTS, client="anna")
    with pytest.raises(UsageError, match="was uploaded already, with other names of classes"):
        uploads.add(dataset(class_names=("x", "y")), PARTS, client="ben")
    assert names(uploads) == {dataset().identity: {"anna"}}


def test_what_is_interrupted_leaves_nothing(uploads: ImageUploads) -> None:
    def breaking() -> object:
        yield PARTS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        uploads.add(dataset(), breaking(), client="anna")  # type: ignore[arg-type]
    assert (names(uploads), [*uploads.parts(dataset())]) == ({}, [])
    uploads.add(dataset(), PARTS, client="anna")
    assert [*uploads.parts(dataset())] == PARTS


def test_the_number_of_data_sets_is_limited(uploads: ImageUploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_uploads, "MAX_PER_CLIENT", 2)
    monkeypatch.setattr(image_uploads, "MAX_DATASETS", 3)
    uploads.add(dataset("0"), PARTS, client="anna")
    uploads.add(dataset("1"), PARTS, client="anna")
    uploads.check_room("ben")
    too_many = "2 data sets of yours are stored, which is the maximum"
    with pytest.raises(UsageError, match=too_many):
        uploads.check_room("anna")
    with pytest.raises(UsageError, match=too_many):
        uploads.add(dataset("2"), PARTS, client="anna")
    uploads.add(dataset("1"), PARTS, client="anna")  # hers already
    uploads.add(dataset("2"), PARTS, client="ben")
    with pytest.raises(UsageError, match="3 uploaded data sets are stored, which is the maximum"):
        uploads.add(dataset("3"), PARTS, client="ben")
    uploads.add(dataset("1"), PARTS, client="ben")  # takes no more room
    uploads.delete(dataset("0").identity, client="anna")
    uploads.add(dataset("3"), PARTS, client="carla")


def test_two_who_upload_the_same_at_once_store_it_once(uploads: ImageUploads) -> None:
    failures: list[Exception] = []

    def add(client: str) -> None:
        try:
            uploads.add(dataset(), PARTS, client=client)
        except Exception as error:
            failures.append(error)

    clients = [f"client-{number}" for number in range(6)]
    threads = [threading.Thread(target=add, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert names(uploads) == {dataset().identity: set(clients)}
    assert [*uploads.parts(dataset())] == PARTS
