import errno
import logging
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import fsspec
import pytest
import torch
from filelock import FileLock, Timeout
from fsspec.registry import known_implementations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.errors import UsageError
from search.evaluation.cache import cache as stages
from search.evaluation.cache.cache import Tensors, TrainingCache
from search.evaluation.cache.folder import CacheFolder
from tests.support.shared_files import shorten_leases

KEY = "ab" + "0" * 62
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["torch", "search.evaluation.cache.cache"]
)  # so that processes begin within milliseconds


def key_of(number: int) -> str:
    return f"{number:02x}" * 32


def tensors_of(number: int) -> Tensors:
    """Return the result of a stage by its key; about 5 kB as a file."""
    return {"weight": torch.full((32, 32), float(number)), "steps": torch.tensor(number)}


def assert_equal(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def computed(store: TrainingCache, number: int) -> bool:
    """Ask for a stage; return whether it had to be computed."""
    calls = []

    def compute() -> Tensors:
        calls.append(1)
        return tensors_of(number)

    assert_equal(store.get_or_compute(key_of(number), compute), tensors_of(number))
    return bool(calls)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def size_of_a_stage(folder: Path) -> int:
    computed(TrainingCache(folder), 255)
    (path,) = files(folder)
    return path.stat().st_size


@pytest.fixture(params=["folder", "file-url", "memory-url"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield {
        "folder": str(tmp_path / "stages"),
        "file-url": f"file://{tmp_path}/stages",
        "memory-url": f"memory://{tmp_path}/stages",
    }[request.param]
    filesystem = fsspec.filesystem("memory")
    if filesystem.exists(str(tmp_path)):
        filesystem.rm(str(tmp_path), recursive=True)


def test_a_stage_is_computed_once_and_cached(location: str) -> None:
    assert computed(TrainingCache(location), 1)
    assert not computed(TrainingCache(location), 1)
    assert computed(TrainingCache(location), 2)


def test_a_cache_may_be_sent_to_another_process(location: str) -> None:
    store = TrainingCache(location, limit_bytes=10**9)
    computed(store, 1)
    assert not computed(pickle.loads(pickle.dumps(store)), 1)  # noqa: S301


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> Tensors:
        raise ArithmeticError

    store = TrainingCache(tmp_path)
    with pytest.raises(ArithmeticError):
        store.get_or_compute(KEY, fail)
    assert files(tmp_path) == []
    assert store.get_or_compute(KEY, lambda: {"weight": torch.ones(1)})


def test_an_error_of_the_computation_is_not_mistaken_for_one_of_the_disk(tmp_path: Path) -> None:
    def fail() -> Tensors:
        raise OSError(errno.ENOSPC, "from within")

    with pytest.raises(OSError, match="from within"):
        TrainingCache(tmp_path).get_or_compute(KEY, fail)


# Damage


def test_a_change_of_any_byte_is_noticed(tmp_path: Path) -> None:
    store = TrainingCache(tmp_path)
    store.get_or_compute(KEY, lambda: {"weight": torch.arange(3.0)})
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        assert stages._decode(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]) is None, place
        assert stages._decode(whole[:place]) is None
    assert stages._decode(whole) is not None


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "longer"])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    store = TrainingCache(tmp_path)
    computed(store, 1)
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    middle = len(whole) // 2  # within a tensor, which the archive's checks do not cover
    flipped = whole[:middle] + bytes([whole[middle] ^ 16]) + whole[middle + 1 :]
    path.write_bytes({"truncated": whole[:100], "flipped": flipped, "empty": b"", "longer": whole + b"0"}[damage])
    assert computed(store, 1)
    assert "is damaged" in caplog.text
    assert path.read_bytes() == whole
    assert not computed(store, 1)


def test_a_damaged_file_is_removed_even_if_not_replaceable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TrainingCache(tmp_path)
    computed(store, 1)
    (path,) = files(tmp_path)
    path.write_bytes(b"no stage")
    fill_disk(monkeypatch)
    assert computed(store, 1)
    assert files(tmp_path) == []


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("exploded",)


def test_a_file_that_would_run_code_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bomb: Tensors = {"weight": Bomb()}  # type: ignore[dict-item]
    path = tmp_path / key_of(1)[:2] / f"{key_of(1)}.pt"
    path.parent.mkdir()
    path.write_bytes(stages._encode(bomb))
    assert computed(TrainingCache(tmp_path), 1)
    assert not Path("exploded").exists()


# Workers that want the same stage


@pytest.fixture(params=["folder", "objects"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place that several processes share."""
    scheme = {"folder": "", "objects": "shared://"}[request.param]
    return f"{scheme}{tmp_path}/stages"


def _slowly(location: str, log: Path, seconds: float) -> None:
    def compute() -> Tensors:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(seconds)
        return tensors_of(1)

    with pytest.MonkeyPatch.context() as patches:
        shorten_leases(patches)
        assert_equal(TrainingCache(location).get_or_compute(KEY, compute), tensors_of(1))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_of_several_processes_one_computes(shared: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    # A second is longer than a lease without heartbeats is valid.
    workers = [PROCESSES.Process(target=_slowly, args=(shared, log, 1)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len(log.read_text().splitlines()) == 1
    left = {path.suffix for path in files(tmp_path / "stages")}
    assert left == {".pt"} if "://" not in shared else {".pt"} <= left <= {".pt", ".used"}


@pytest.mark.slow
def test_another_process_takes_over_from_one_that_is_killed(shared: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = PROCESSES.Process(target=_slowly, args=(shared, log, 600))
    first.start()
    wait_until(lambda: log.exists() and bool(log.read_text()))
    second = PROCESSES.Process(target=_slowly, args=(shared, log, 0))
    second.start()
    second.join(timeout=1.5)
    assert second.exitcode is None  # it waits, or has not got there yet
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    second.join()
    assert second.exitcode == 0
    assert log.read_text().split() == [str(first.pid), str(second.pid)]


def test_a_lock_file_is_removed_while_the_lock_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the release, another process could have locked the file, and a third would create and lock a new one."""
    remove, held = Path.unlink, []

    def try_to_lock_and_remove(path: Path, missing_ok: bool = False) -> None:
        with pytest.raises(Timeout):
            FileLock(path, blocking=False).acquire()
        held.append(path.suffix)
        remove(path, missing_ok)

    with monkeypatch.context() as patches:
        patches.setattr(Path, "unlink", try_to_lock_and_remove)
        computed(TrainingCache(tmp_path), 1)
    assert held == [".lock"]


@pytest.mark.slow
def test_no_two_workers_ever_hold_the_claim_of_one_stage(tmp_path: Path) -> None:
    inside, most = 0, 0
    counting = threading.Lock()
    end = time.monotonic() + 2

    def enter() -> None:
        nonlocal inside, most
        place = CacheFolder(tmp_path)
        while time.monotonic() < end:
            with place.claimed(KEY):
                with counting:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.001)
                with counting:
                    inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert files(tmp_path) == []


# The limit


def set_age(folder: Path, number: int, seconds: float) -> None:
    (path,) = folder.glob(f"*/{key_of(number)}.pt")
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_the_least_recently_used_are_evicted_until_nine_tenths_are_left(tmp_path: Path) -> None:
    store = TrainingCache(tmp_path / "stages", limit_bytes=20 * size_of_a_stage(tmp_path / "measured"))
    for number in range(20):
        computed(store, number)
        set_age(tmp_path / "stages", number, 1000 - number)
    assert not computed(store, 0)  # now the most recently used
    assert len(files(tmp_path / "stages")) == 20
    computed(store, 20)
    left = {path.stem for path in files(tmp_path / "stages")}
    assert left == {key_of(number) for number in (0, *range(4, 21))}


def test_a_finished_network_is_found_by_its_key_alone(location: str) -> None:
    store = TrainingCache(location)
    assert not store.holds_finished(KEY)
    assert store.find_finished(KEY) is None
    store.keep_finished(KEY, tensors_of(1))
    found = TrainingCache(location).find_finished(KEY)
    assert found is not None
    assert_equal(found, tensors_of(1))
    assert store.holds_finished(KEY)
    assert store.get_or_compute(KEY, lambda: tensors_of(2))["steps"] == 2  # a stage of the same key is something else


def test_finished_networks_are_evicted_last_up_to_half_of_the_limit(tmp_path: Path) -> None:
    folder = tmp_path / "stages"
    store = TrainingCache(folder, limit_bytes=20 * size_of_a_stage(tmp_path / "measured"))
    for number in range(14):  # older than any stage
        store.keep_finished(key_of(number), tensors_of(number))
        (path,) = folder.glob(f"*/{key_of(number)}-finished.pt")
        os.utime(path, (number, number))
    for number in range(100, 106):
        computed(store, number)
        set_age(folder, number, 1000 - number)
    computed(store, 106)
    left = {path.stem for path in files(folder)}
    # 18 of 21 remain. Ten finished networks take half of the limit, so that four of them go like stages.
    assert left == {f"{key_of(number)}-finished" for number in range(3, 14)} | {key_of(n) for n in range(100, 107)}
    for number in range(107, 130):
        computed(store, number)
    finished = {path.stem for path in files(folder) if path.stem.endswith("-finished")}
    assert finished == {f"{key_of(number)}-finished" for number in range(4, 14)}


def test_a_stage_just_written_stays_even_if_a_clock_is_wrong(tmp_path: Path) -> None:
    store = TrainingCache(tmp_path / "stages", limit_bytes=3 * size_of_a_stage(tmp_path / "measured"))
    for number in range(3):
        computed(store, number)
        set_age(tmp_path / "stages", number, -1000)
    computed(store, 3)
    assert not computed(store, 3)


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_the_cache_stays_within_its_limit(tmp_path: Path, scheme: str) -> None:
    limit = 7 * size_of_a_stage(tmp_path / "measured")
    folder = f"{scheme}{tmp_path}/stages"
    store = TrainingCache(folder, limit_bytes=limit)
    for number in range(30):
        computed(store, number)
        kept = sum(stage.size_bytes for stage in store._place.survey())
        assert 0 < kept <= limit
        assert not computed(store, number)


def test_a_stage_larger_than_the_limit_is_not_cached(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    size = size_of_a_stage(tmp_path / "measured")
    store = TrainingCache(tmp_path / "stages", limit_bytes=size)
    assert computed(store, 1)
    assert computed(store, 1)
    assert files(tmp_path / "stages") == []
    assert caplog.text.count("is not cached: the limit is") == 1


def test_the_place_is_not_listed_at_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surveys = []
    survey = CacheFolder.survey

    def counted(place: CacheFolder) -> object:
        surveys.append(1)
        return survey(place)

    monkeypatch.setattr(CacheFolder, "survey", counted)
    store = TrainingCache(tmp_path / "stages", limit_bytes=1000 * size_of_a_stage(tmp_path / "measured"))
    surveys.clear()
    for number in range(100):
        computed(store, number)
    assert 1 <= len(surveys) <= 10  # of 1000 stages, 1 % is 10


def test_leftovers_of_killed_writers_are_removed(tmp_path: Path) -> None:
    shard = tmp_path / "ab"
    shard.mkdir()
    place = CacheFolder(tmp_path)
    claimed = "ab" + "1" * 62
    names = {"old.partial": f"{KEY}.1.partial", "new.partial": f"{KEY}.2.partial", "old.lock": f"{KEY}.lock"}
    for name in names.values():
        (shard / name).touch()
    with place.claimed(claimed):
        for name in (names["old.partial"], names["old.lock"], f"{claimed}.lock"):
            os.utime(shard / name, (0, 0))
        computed(TrainingCache(tmp_path), 1)
        assert {path.name for path in files(shard)} == {names["new.partial"], f"{claimed}.lock"}


def _ask(folder: Path, limit: int, seed: int, log: Path) -> None:
    """Ask for stages at random for two seconds, from a cache that holds a third of them."""
    store = TrainingCache(folder, limit_bytes=limit)
    generator = torch.Generator().manual_seed(seed)
    end = time.monotonic() + 2
    asked = missed = 0
    while time.monotonic() < end:
        missed += computed(store, int(torch.randint(12, (1,), generator=generator)))
        asked += 1
    with log.open("a") as file:
        file.write(f"{asked} {missed}\n")


@pytest.mark.slow
def test_eviction_is_harmless_to_readers(tmp_path: Path) -> None:
    limit = 5 * size_of_a_stage(tmp_path / "measured")
    log = tmp_path / "log"
    workers = [PROCESSES.Process(target=_ask, args=(tmp_path / "stages", limit, seed, log)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    for line in log.read_text().splitlines():
        asked, missed = map(int, line.split())
        assert 0 < missed < asked
    assert {path.suffix for path in files(tmp_path / "stages")} == {".pt"}
    assert sum(path.stat().st_size for path in files(tmp_path / "stages")) <= limit


# Places that cannot be written to


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_some(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", write_some)


def test_a_full_disk_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = TrainingCache(tmp_path)
    computed(store, 1)
    with monkeypatch.context() as patches:
        fill_disk(patches)
        for _ in range(2):
            assert computed(store, 2)
            assert computed(store, 3)
        assert not computed(store, 1)
    assert [path.stem for path in files(tmp_path)] == [key_of(1)]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"trained networks cannot be cached in {tmp_path} ([Errno 28] No space left" in caplog.text
    assert computed(store, 2)  # there is space again
    assert not computed(store, 2)


def test_a_folder_that_cannot_be_made_costs_only_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    store = TrainingCache(tmp_path / "file" / "stages")
    assert computed(store, 1)
    assert computed(store, 1)
    assert len(caplog.records) == 1


def test_an_unwritable_cache_is_reported_beforehand(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = TrainingCache(tmp_path / "stages")
    assert good.why_unwritable() is None
    assert files(tmp_path) == []
    (tmp_path / "file").touch()
    bad = TrainingCache(tmp_path / "file" / "stages")
    assert "cannot be cached" in (bad.why_unwritable() or "")
    assert computed(bad, 1)
    assert caplog.records == []


_FULL = """
import os, sys
from pathlib import Path
import torch
from search.evaluation.cache.cache import TrainingCache
store = TrainingCache(Path(sys.argv[1]))
for number, size in enumerate([1000, 60000, 1000]):
    key = f"{number:02x}" * 32
    found = store.get_or_compute(key, lambda: {"weight": torch.ones(size)})
    assert found["weight"].sum() == size
print(*sorted(os.path.relpath(path, sys.argv[1])[:2] + path.suffix for path in Path(sys.argv[1]).rglob("*.*")))
"""


def run_where_a_stage_does_not_fit(command: list[str], folder: Path, limit_files: bool) -> None:
    done = subprocess.run(
        [*command, sys.executable, "-c", _FULL, str(folder)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[4],
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))) if limit_files else None,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["00.pt", "02.pt"]
    assert done.stderr.count("trained networks cannot be cached") == 1


@pytest.mark.process
def test_a_file_size_limit_costs_nothing_but_time(tmp_path: Path) -> None:
    run_where_a_stage_does_not_fit([], tmp_path, limit_files=True)


@pytest.mark.process
def test_a_small_disk_that_is_full_costs_nothing_but_time(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    own_mounts = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=128k tmpfs {disk}"
    try:
        subprocess.run([*own_mounts, mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system lets nobody mount a disk of their own")
    run_where_a_stage_does_not_fit([*own_mounts, f'{mount} && exec "$@"', "sh"], disk, limit_files=False)


# Places


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nonsense://place", r"`cache` nonsense://place: unknown protocol nonsense://; give a folder or"),
        ("rare://u:secret@host/x", r"`cache` rare://u:\*\*\*@host/x: Install rarefs to access rare places \(rare://"),
        ("zip://x::file:///no/such.zip", r"`cache` zip://x::file:///no/such.zip cannot be opened: .*No such file"),
    ],
)
def test_a_place_that_cannot_be_opened_is_rejected(given: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = {"class": "rarefs.RareFileSystem", "err": "Install rarefs to access rare places"}
    monkeypatch.setitem(known_implementations, "rare", driver)
    with pytest.raises(UsageError, match=message):
        TrainingCache(given)


def test_a_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for location in (tmp_path / "file", f"file://{tmp_path}/file"):
        with pytest.raises(UsageError, match="is a file; give a folder or a URL"):
            TrainingCache(location)


# Everything at once

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 5), st.just(0)),
        st.tuples(st.sampled_from(["flip", "cut"]), st.integers(0, 5), st.integers(0, 10**6)),
        st.tuples(st.sampled_from(["remove", "other", "open"]), st.integers(0, 5), st.just(0)),
    ),
    min_size=3,
    max_size=30,
)
_places = count()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["", "memory://"])
@given(operations=OPERATIONS, stages_within=st.integers(1, 7))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_the_result_is_what_is_computed(
    tmp_path: Path, scheme: str, operations: list[tuple[str, int, int]], stages_within: int
) -> None:
    number = next(_places)
    limit = stages_within * 6000
    location = f"{scheme}{tmp_path}/{number}"

    def open_store() -> TrainingCache:
        return TrainingCache(location, limit_bytes=limit)

    store = open_store()
    for operation, stage, place in operations:
        content = store._place.read(key_of(stage)) or b""
        if operation == "ask":
            was_whole = stages._decode(content) is not None
            assert computed(store, stage) == (not was_whole)
        elif operation == "flip" and content:
            place %= len(content)
            damaged = content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
            store._place.write(key_of(stage), damaged)
        elif operation == "cut" and content:
            store._place.write(key_of(stage), content[: place % len(content)])
        elif operation == "remove":
            store._place.remove(key_of(stage))
        elif operation == "other":
            computed(open_store(), stage)  # by a worker that counts its own writes
        elif operation == "open":
            store = open_store()
        assert sum(kept.size_bytes for kept in store._place.survey()) <= limit
