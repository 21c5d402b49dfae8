"""The folders show the architecture: no file lies beside the rooms, and tests mirror them."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("approx", "energy", "search", "service")

# What every room may use, and the loop itself; all else belongs to a room.
TOP_OF_SEARCH = {
    "__init__.py",
    "__main__.py",
    "content_hash.py",
    "defaults.py",
    "engine.py",
    "errors.py",
    "locations.py",
    "observer.py",
    "pareto.py",
}

# Tests of more than one module, by what they are about.
AREAS = {
    "approx/test_in_and_out.py": "what networks take, keep and return",
    "approx/test_networks_as_written.py": "networks as people write them",
    "approx/test_published.py": "figures of publications",
    "approx/test_torchvision.py": "networks of torchvision",
    "energy/gates/test_published_power.py": "figures of publications",
    "energy/gates/test_shipped_table.py": "the shipped table of costs",
    "energy/test_layered.py": "workloads whose layers differ",
    "energy/test_multiplications.py": "what a product costs",
    "energy/test_published.py": "figures of publications",
    "search/api/test_trained.py": "searches of networks that come trained",
    "search/evaluation/test_fresh_runs.py": "the images, chips and seeds of fresh runs",
    "search/executors/test_cluster.py": "a cluster of several machines",
    "search/images/test_named_and_placed.py": "what names and places mean, whatever was stored before",
    "search/test_surviving.py": "searches that are killed, on full disks, with networks that hang",
    "service/static/test_datasets.py": "data sets on the page in a browser",
    "service/static/test_page.py": "the page in a browser",
    "service/system/test_compose.py": "the services of the compose file",
    "service/system/test_documents.py": "what the documents say to type",
    "service/system/test_killing.py": "services and workers that are killed",
}


def test_search_has_no_other_file_at_its_top() -> None:
    assert {path.name for path in (ROOT / "search").glob("*.py")} == TOP_OF_SEARCH


@pytest.mark.parametrize("package", PACKAGES)
def test_tests_are_named_after_the_modules_of_their_rooms(package: str) -> None:
    strays = []
    for path in sorted((ROOT / "tests" / package).rglob("test_*.py")):
        relative = path.relative_to(ROOT / "tests")
        name = path.stem.removeprefix("test_")
        places = [ROOT / relative.parent / f"{prefix}{name}.py" for prefix in ("", "_")]
        if relative.as_posix() not in AREAS and not any(place.is_file() for place in places):
            strays.append(relative.as_posix())
    assert strays == []


def test_areas_are_tested() -> None:
    assert [name for name in AREAS if not (ROOT / "tests" / name).is_file()] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_has_tests(package: str) -> None:
    rooms = {path.parent.relative_to(ROOT) for path in (ROOT / package).rglob("*.py") if "migrations" not in path.parts}
    tested = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests" / package).rglob("test_*.py")}
    assert rooms - tested == set()


def test_what_tests_share_is_not_beside_them() -> None:
    shared = {"conftest.py", "__init__.py"}
    beside = [
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / "tests" / package).rglob("*.py")
        if not path.name.startswith("test_") and path.name not in shared
    ]
    assert beside == []
