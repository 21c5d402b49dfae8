import errno
import io
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from search.evaluation.cache import objects as stage_objects
from search.evaluation.cache.cache import Tensors, TrainingCache
from search.evaluation.cache.objects import CacheObjects
from tests.search.evaluation.cache.test_cache import KEY, assert_equal, computed, key_of, tensors_of
from tests.support.shared_files import shorten_leases


class Memory(MemoryFileSystem):  # type: ignore[misc]
    """Objects visible to one test, whose creation may fail."""

    cachable = False

    def __init__(self, refusal: Exception | None = None) -> None:
        super().__init__(global_store=False)
        self.pseudo_dirs = [""]
        self.refusal = refusal

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "xb" and self.refusal is not None and (self.refusal.args != ("exists",) or self.exists(path)):
            raise self.refusal
        return super()._open(path, mode, **options)

    def endings(self) -> list[str]:
        return sorted(path.partition(".")[2] for path in self.store)


def store_in(filesystem: AbstractFileSystem, limit_bytes: int | None = None) -> TrainingCache:
    store = TrainingCache("memory://place", limit_bytes=limit_bytes)
    store._place = CacheObjects(filesystem, "/stages")
    return store


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_leases(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("asynchronous", [False, True])
def test_of_several_threads_one_computes_and_nothing_else_is_left(asynchronous: bool) -> None:
    memory = Memory()
    memory.async_impl = asynchronous  # another way to create exclusively
    computations = []

    def ask() -> None:
        def compute() -> Tensors:
            computations.append(1)
            time.sleep(0.6)  # longer than a lease without heartbeats is valid
            return tensors_of(1)

        assert_equal(store_in(memory).get_or_compute(KEY, compute), tensors_of(1))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computations) == 1
    assert set(memory.endings()) == {"pt", "used"}


def test_a_lease_that_is_not_refreshed_is_taken_over() -> None:
    memory = Memory()
    lease = f"/stages/{key_of(1)[:2]}/{key_of(1)}.lease"
    memory.pipe_file(lease, b"of a worker that was killed")
    began = time.monotonic()
    assert computed(store_in(memory), 1)
    assert 0.4 < time.monotonic() - began < 5
    assert memory.endings() == ["pt"]


def test_a_holder_whose_lease_was_taken_over_leaves_the_new_one_alone() -> None:
    memory = Memory()
    place = CacheObjects(memory, "/stages")
    lease = f"/stages/{KEY[:2]}/{KEY}.lease"
    with place.claimed(KEY):
        memory.pipe_file(lease, b"another's")
        time.sleep(0.2)
        assert memory.cat_file(lease) == b"another's"
    assert memory.cat_file(lease) == b"another's"


@pytest.mark.parametrize("refusal", [NotImplementedError("xb"), ValueError("mode xb"), TypeError("mode")])
def test_a_driver_that_cannot_create_exclusively_still_caches_stages(refusal: Exception) -> None:
    memory = Memory(refusal)
    assert computed(store_in(memory), 1)
    assert not computed(store_in(memory), 1)
    assert memory.endings() == ["pt", "used"]


@pytest.mark.slow
@pytest.mark.parametrize("refusal", [OSError("exists"), RuntimeError("exists"), FileExistsError("exists")])
def test_a_failed_creation_means_a_lease_whatever_the_error(refusal: Exception) -> None:
    memory = Memory(refusal)
    place = CacheObjects(memory, "/stages")
    order = []

    def wait() -> None:
        with CacheObjects(memory, "/stages").claimed(KEY):
            order.append("second")

    with place.claimed(KEY):
        second = threading.Thread(target=wait)
        second.start()
        time.sleep(0.6)
        order.append("first")
    second.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("error", [RuntimeError("no route"), PermissionError(errno.EACCES, "no route")])
@pytest.mark.parametrize("method", ["cat_file", "pipe_file", "mv", "find"])
def test_whatever_a_driver_raises_costs_nothing_but_time(
    method: str, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    memory = Memory()
    store = store_in(memory)
    monkeypatch.setattr(memory, method, fail)
    assert computed(store, 1)
    assert computed(store, 2)
    assert caplog.text.count("no route") == 1
    assert "partial" not in " ".join(memory.endings())


def test_a_use_counts_for_eviction() -> None:
    memory = Memory()
    computed(store_in(memory), 9)
    (size,) = (kept.size_bytes for kept in CacheObjects(memory, "/stages").survey())
    CacheObjects(memory, "/stages").remove(key_of(9))
    for number in range(4):
        computed(store_in(memory), number)
        time.sleep(0.005)
    assert not computed(store_in(memory), 0)
    computed(store_in(memory, limit_bytes=4 * size), 4)
    left = {kept.key for kept in CacheObjects(memory, "/stages").survey()}
    assert left == {key_of(0), key_of(3), key_of(4)}


def test_uses_are_recorded_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    computed(store_in(memory), 1)
    store = store_in(memory)
    written = []
    write = memory.pipe_file

    def counted(path: str, content: bytes, **options: Any) -> None:
        written.append(path)
        write(path, content, **options)

    monkeypatch.setattr(memory, "pipe_file", counted)
    for _ in range(5):
        assert not computed(store, 1)
    assert len(written) == 1


def test_leftovers_of_killed_writers_are_removed() -> None:
    memory = Memory()
    computed(store_in(memory), 1)
    for name in ("ab-old.1.partial", "ab-new.2.partial", "ab-old.lease", "ab-new.lease", "ab-evicted.used"):
        memory.pipe_file(f"/stages/ab/{name}", b"")
        if "old" in name:
            memory.store[f"/stages/ab/{name}"].created -= timedelta(days=1)
    CacheObjects(memory, "/stages").survey()
    assert memory.endings() == ["2.partial", "lease", "pt"]


def test_listings_have_times_in_many_forms() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    for facts in (
        {"mtime": moment.timestamp(), "created": 0.0},
        {"LastModified": moment},
        {"updated": "2026-01-02T03:04:05Z"},
        {"modified": "not a time", "created": int(moment.timestamp())},
    ):
        assert stage_objects._written_s(facts) == moment.timestamp()
    assert stage_objects._written_s({"name": "x", "size": 1}) is None


def test_nobody_waits_for_a_worker_killed_after_it_wrote_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_objects, "_STALE_S", 600.0)
    memory = Memory()
    computed(store_in(memory), 1)
    memory.pipe_file(f"/stages/{key_of(1)[:2]}/{key_of(1)}.lease", b"of that worker")
    began = time.monotonic()
    with CacheObjects(memory, "/stages").claimed(key_of(1)):
        assert time.monotonic() - began < 60


def test_a_lease_that_another_worker_overwrote_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    create = memory.open
    lost: list[str] = []

    def lose_the_first(path: str, mode: str = "rb", **options: Any) -> Any:
        if mode != "xb" or lost:
            return create(path, mode, **options)
        lost.append(path)
        memory.pipe_file(path, b"another's")
        return io.BytesIO()

    monkeypatch.setattr(memory, "open", lose_the_first)
    began = time.monotonic()
    with CacheObjects(memory, "/stages").claimed(KEY):
        assert time.monotonic() - began > 0.4  # until the other worker's lease was stale
    assert len(lost) == 1
