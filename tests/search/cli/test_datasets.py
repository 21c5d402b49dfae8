import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from search.cli.main import cli
from search.images.built_in import BUILT_IN
from search.images.library import ImageLibrary
from search.images.source import open_source
from search.locations import image_dir
from search.space.task import task_of
from search.store.database import Store
from tests.support.fakes import new_search
from tests.support.pictures import channels_last, pictures, write_folder
from tests.support.sources import shapes

SOURCES = {
    "first": shapes({"all": (48, 32, 16)}, image_shape=(3, 6, 7)),
    "second": shapes({"all": (20, 20, 20)}, seed=1),
    "held-out": shapes({"all": (6, 6, 6)}, seed=2, image_shape=(3, 6, 7)),
    "many": shapes({"train": tuple(range(3, 63)), "validation": (2,) * 60, "test": (2,) * 60}),
}


@pytest.fixture(autouse=True)
def _sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is opened beside files; pictures go to a folder of the test."""

    def opened(given: str, **how: Any) -> Any:
        return SOURCES[given] if given in SOURCES else open_source(given, **how)

    monkeypatch.setattr("search.images.lookup.open_source", opened)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["datasets", *arguments])


def shown(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_built_in_data_sets_are_listed_with_whether_they_are_here(tmp_path: Path) -> None:
    listed = {one["name"]: one for one in shown("--data-dir", str(tmp_path))}
    assert tuple(listed) == tuple(BUILT_IN)
    assert listed["digits"]["here"]
    assert not listed["mnist"]["here"]
    assert all(one["built_in"] and one["identity"] == name for name, one in listed.items())
    lines = run("--data-dir", str(tmp_path)).stdout.splitlines()
    (mnist,) = [line for line in lines if line.startswith("mnist")]
    told = "60,000 training, 10,000 test 10 28x28 gray built in not here, downloaded when used"
    assert " ".join(mnist.split()) == f"mnist {told}"


def test_added_images_are_listed_shown_and_removed() -> None:
    added = run("add", "mine", "first")
    assert added.exit_code == 0, added.output
    assert "96 in all; 3 classes (kind 0, kind 1, kind 2); 6x7 RGB" in added.stdout
    assert (
        "As searches use it: 54 training, 18 validation, 24 test; validation and test images are split off"
        in added.stdout
    )
    assert "Imbalanced: 9 to 27 training images of a class." in added.stdout
    assert added.stdout.endswith("Search it with: search run --dataset mine\n")

    (mine,) = [one for one in shown() if not one["built_in"]]
    assert (mine["name"], mine["images"], mine["image_shape"]) == ("mine", {"all": 96}, [3, 6, 7])
    assert mine["added"]
    assert mine["identity"] in run().stdout

    described = shown("show", "mine")
    assert described["used"] == {"train": 54, "validation": 18, "test": 24}
    assert described["imbalanced"]
    assert len(described["mean"]) == len(described["std"]) == 3
    assert described["class_counts"][2] == {"class": "kind 2", "train": 9, "validation": 3, "test": 4}
    assert Path("mine.png").read_bytes().startswith(b"\x89PNG")

    removed = run("remove", "mine")
    assert removed.stdout == f"Removed {mine['identity']}. Results with it are kept.\n"
    assert all(one["built_in"] for one in shown())
    assert run("show", "mine").exit_code == 2


def test_a_name_for_other_images_says_what_it_meant() -> None:
    first = shown("add", "mine", "first")
    second = run("add", "mine", "second")
    assert f"mine meant {first['identity']} until now, which keeps this identity and its results." in second.stdout
    assert "Balanced: 11 training images of each class." in second.stdout
    again = shown("add", "mine", "second")
    assert (again["known"], again["before"]) == (True, None)
    assert "was stored before" in run("add", "mine", "second").stdout
    assert f"mine means {first['identity']} now." in run("remove", "mine").stdout


def test_the_same_images_are_stored_once_in_whatever_form_they_come(tmp_path: Path) -> None:
    pixels, labels = pictures(24)
    write_folder(tmp_path / "photos", pixels, labels)
    np.savez(tmp_path / "photos.npz", images=channels_last(pixels), labels=labels)
    added = shown("add", "mine", "photos")
    assert (added["images"], added["image_shape"], added["known"]) == ({"all": 24}, [3, 5, 7], False)
    assert added["location"] == str(tmp_path / "photos")
    again = shown("add", "mine", "photos.npz")
    assert (again["identity"], again["known"]) == (added["identity"], True)
    small = shown("add", "small", "photos", "--image-size", "4x3")
    assert small["image_shape"] == [3, 4, 3]
    assert len([one for one in shown() if not one["built_in"]]) == 2


def test_images_that_cannot_be_used_are_named_and_nothing_is_kept(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", *pictures(24))
    (tmp_path / "photos" / "0" / "0000.png").write_bytes(b"no image")
    result = run("add", "mine", "photos")
    assert result.exit_code == 1
    assert "0000.png" in result.stderr
    assert result.stderr.count("\n") == 1
    assert all(one["built_in"] for one in shown())


def test_validation_images_of_their_own_are_used_whole() -> None:
    added = shown("add", "mine", "first", "--validation", "held-out")
    assert added["images"] == {"train": 96, "validation": 18}
    assert added["used"] == {"train": 96, "validation": 9, "test": 9}


@pytest.mark.slow
def test_a_data_set_is_shown_in_words_and_bars(tmp_path: Path) -> None:
    run("add", "mine", "first")
    text = run("show", "mine", "--picture", "samples.png").stdout
    assert (tmp_path / "samples.png").exists()
    described = shown("show", "mine")
    assert f"--mean {','.join(f'{one:.4g}' for one in described['mean'])} --std " in text
    assert "Always the most frequent class would be right for 50.0%; --metric balanced-accuracy" in text
    bars = {line.split()[1]: line.count("█") for line in text.splitlines() if line.startswith("kind")}
    assert bars["0"] == 3 * 16
    assert 0 < bars["2"] < bars["1"] < bars["0"]


@pytest.mark.slow
def test_of_many_classes_the_largest_and_the_smallest_are_shown() -> None:
    run("add", "mine", "many")
    lines = [line.split() for line in run("show", "mine").stdout.splitlines() if line.startswith("kind")]
    assert [int(line[1]) for line in lines] == [*range(59, 39, -1), *range(19, -1, -1)]
    assert [int(line[2]) for line in lines] == [*range(62, 42, -1), *range(22, 2, -1)]  # training images
    assert len(shown("show", "mine")["class_counts"]) == 60


def test_a_folder_that_is_given_before_the_command_holds_for_it(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte.gz").touch()
    for arguments in (("--data-dir", str(tmp_path), "show", "mnist"), ("show", "mnist", "--data-dir", str(tmp_path))):
        assert f"{raw / 'train-images-idx3-ubyte.gz'} is damaged" in run(*arguments).stderr


@pytest.mark.slow
def test_a_built_in_data_set_is_shown_too() -> None:
    text = run("show", "digits").stdout
    assert "Kept: built in" in text
    assert Path("digits.png").exists()


def test_searches_with_removed_images_are_named(tmp_path: Path) -> None:
    identity = shown("add", "mine", "first")["identity"]
    dataset = ImageLibrary(image_dir()).get(identity).dataset
    storage = f"sqlite:///{tmp_path / 'results.db'}"
    with Store.open(storage, create=True) as store:
        new_search(store, name="of-mine", task=task_of(dataset))
        new_search(store, name="of-digits")
    text = run("remove", identity, "--storage", storage).stdout
    assert "Searches with it: of-mine. To resume them, add the same images again: search datasets add mine " in text
    assert "of-digits" not in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["add", "digits", "first"], "NAME digits is the name of a built-in data set; choose another"),
        (["add", "a/b", "first"], "the NAME of a data set may have up to 60 letters"),
        (
            ["add", "mine", "first", "--validation", "second"],
            "--validation second has 3 classes (kind 0, kind 1, kind 2) and images of 6x7 gray",
        ),
        (["remove", "digits"], "digits is built in"),
        (["remove", "nobody"], "no data set 'nobody' is stored in"),
        (["show", "nobody"], "list them with: search datasets"),
        (["show", "digits", "--picture", "samples.jpg"], "--picture must end in .png"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_interrupt_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("search.report.progress.LineProgress.reading_images", interrupted)
    result = run("add", "mine", "first")
    assert (result.exit_code, result.stderr) == (130, "search: stopped; nothing was kept\n")
    assert list(image_dir().iterdir()) == []
