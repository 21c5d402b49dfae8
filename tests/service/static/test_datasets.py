"""Data sets on the page, in a browser: chosen, uploaded, deleted."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from search.content_hash import content_hash
from search.space.task import find_task, task_names, task_of
from search.store.database import Store
from search.store.setup import Setup
from service.database import Database
from service.image_uploads import ImageUploads
from service.keys import KeyStore, Scope
from tests.service.static.test_page import FAINT_TEXTS, FOCUSED, WIDER_THAN_THE_WINDOW, store_front, tab_to
from tests.service.test_datasets import put
from tests.support.browser import Browser
from tests.support.fakes import formula
from tests.support.serving import served
from tests.support.stored import HARDWARE
from tests.support.uploads import archive

ALERT = "document.getElementById('images-alert').textContent"
WORDS = "document.getElementById('upload-words').textContent"
CHOSEN = "document.getElementById('dataset').value"
CHOSEN_TEXT = "document.getElementById('dataset').selectedOptions[0].textContent"
LISTED = "[...document.querySelectorAll('#uploads b')].map((one) => one.textContent)"
GROUPS = """[...document.querySelectorAll('#dataset optgroup')].map((group) =>
  [group.label, ...[...group.querySelectorAll('option')].map((one) => one.textContent)])"""
BUSY = "document.getElementById('upload').getAttribute('aria-disabled') === 'true'"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    store_front(tmp_path / "results.db")
    with served(tmp_path / "results.db", image_dir=tmp_path / "images") as found:
        yield found


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Browser]:
    """The page with the panel open."""
    browser.visit("about:blank", width=1440)
    browser.complaints.clear()
    browser.requests.clear()
    opened(browser, address)
    yield browser
    assert [one for one in browser.complaints if "status of 4" not in one] == []


def opened(page: Browser, address: str, *, width: int = 1440, dark: bool = False) -> None:
    page.visit(address, width=width, dark=dark)
    page.wait_for(f"{CHOSEN} !== '' && document.querySelectorAll('#jobs li').length > 0")
    page.value("document.getElementById('images-open').click()")


def give(page: Browser, file: Path, name: str | None = None, classes: str = "") -> None:
    """Choose a file, a name and names of classes."""
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#upload-file")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])
    page.wait_for("document.getElementById('upload-file').files.length === 1")
    if name is not None:
        page.value(f"document.getElementById('upload-name').value = '{name}'")
    page.value(f"document.getElementById('upload-classes').value = '{classes}'")


def send(page: Browser) -> None:
    page.value("document.getElementById('upload').click()")
    page.wait_for(f"!({BUSY})")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "flowers of spring.npz"
    found.write_bytes(archive())
    return found


@pytest.mark.slow
def test_images_are_uploaded_chosen_and_searched_without_a_reload(page: Browser, file: Path) -> None:
    page.value("window.same = true")
    give(page, file, classes="rose, tulip , lily")
    assert page.value("document.getElementById('upload-name').value") == "flowers-of-spring"
    send(page)
    assert page.value(ALERT) == ""
    assert page.value(WORDS) == "flowers-of-spring is uploaded: 8x8 gray, 3 classes, 60 images."
    page.wait_for("!document.getElementById('empty').hidden")
    identity = page.value(CHOSEN)
    assert identity.startswith("flowers-of-spring@")
    assert page.value(CHOSEN_TEXT) == "flowers-of-spring: 8x8 gray, 3 classes, 60 images"
    assert f"dataset={identity.replace('@', '%40')}" in page.value("location.search")
    assert "No results for flowers-of-spring on" in page.value("document.getElementById('empty-words').textContent")
    assert "rose, tulip, lily" in page.value("document.getElementById('uploads').textContent")
    page.value("document.getElementById('start').click()")
    page.wait_for(
        "document.getElementById('live-heading').textContent.startsWith('Search: flowers-of-spring, within 2')"
    )
    assert page.value("window.same")


@pytest.mark.slow
def test_errors_are_shown_as_the_service_says_them(page: Browser, file: Path, tmp_path: Path) -> None:
    give(page, file, "digits")
    send(page)
    assert page.value(ALERT) == "'digits' is the name of a built-in data set; choose another name"
    broken = tmp_path / "broken.npz"
    broken.write_bytes(archive()[:900])
    give(page, broken, "flowers")
    send(page)
    assert page.value(ALERT).startswith("The file is a damaged archive")
    assert page.value("document.getElementById('upload-progress').hidden")
    give(page, file, "flowers", classes="one")
    send(page)
    assert page.value(ALERT).startswith("Class names must be one for each of the 3 classes")
    give(page, file, "flowers")
    send(page)
    assert page.value(ALERT) == ""
    assert page.value(LISTED) == ["flowers"]


@pytest.mark.slow
def test_deleting_takes_a_second_click_and_leaves_what_is_empty(page: Browser, file: Path) -> None:
    give(page, file, "flowers")
    send(page)
    button = "document.querySelector('#uploads [data-focus^=delete]')"
    page.value(f"{button}.focus()")
    page.press("Enter", 13)
    assert page.value(f"{button}.textContent") == "Delete for good"
    page.press("Tab", 9, shift=True)
    assert page.value(f"{button}.textContent") == "Delete"
    page.press("Tab", 9)
    page.press("Enter", 13)
    page.press("Enter", 13)
    page.wait_for(f"{WORDS} === 'flowers is deleted. Results with it are kept.'")
    page.wait_for(f"{LISTED}.length === 0 && {CHOSEN} === 'digits'")
    page.wait_for("!document.getElementById('results').hidden")
    page.wait_for(f"{FOCUSED} === 'images'")


@pytest.mark.slow
def test_an_upload_shows_that_it_is_under_way(page: Browser, address: str, tmp_path: Path) -> None:
    large = tmp_path / "large.npz"
    large.write_bytes(bytes(10**7))
    page.call(
        "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=10**6
    )
    give(page, large, "flowers")
    page.value("document.getElementById('upload').click()")
    page.wait_for(f"{WORDS} === 'Sending the images.'")
    assert page.value(BUSY)
    progress = "document.getElementById('upload-progress')"
    page.wait_for(f"0 < {progress}.value && {progress}.value < 1")
    page.value("document.getElementById('upload').click()")
    page.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    page.wait_for(f"{ALERT}.startsWith('The file is no .npz archive')")
    assert sum("v1/datasets?" in url for url in page.requests) == 1, "the second click sent nothing"


@pytest.mark.slow
def test_every_data_set_is_offered_with_its_size_and_classes(page: Browser, address: str, tmp_path: Path) -> None:
    with Database.open(f"sqlite:///{tmp_path / 'results.db'}") as opened_database:
        uploads = ImageUploads(opened_database)
        one, other = put(uploads, tmp_path), put(uploads, tmp_path, seed=1)
        gone = put(uploads, tmp_path, "gone")
        uploads.delete(gone.identity)
        with Store.open(opened_database.url, create=True) as store:
            task = replace(find_task("digits"), metric="balanced-accuracy")
            store.tasks.record(task)
    opened(page, address)
    groups = {label: options for label, *options in page.value(GROUPS)}
    assert [*groups] == ["Built in", "Uploaded", "Searched before"]
    assert len(groups["Built in"]) == len(task_names())
    assert groups["Built in"][0] == "digits: 8x8 gray, 10 classes, 1,797 images"
    assert set(groups["Uploaded"]) == {
        f"{found}: 8x8 gray, 3 classes, 60 images" for found in (one.identity, other.identity)
    }
    assert groups["Searched before"] == ["digits, balanced accuracy"]
    page.visit(f"{address}/?dataset=flowers", width=1440)
    page.wait_for(f"[{[one.identity, other.identity]}].flat().includes({CHOSEN})")


@pytest.mark.slow
def test_results_of_deleted_images_and_of_own_networks_are_shown(browser: Browser, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    with Database.open(f"sqlite:///{database}") as opened_database:
        uploads = ImageUploads(opened_database)
        flowers = put(uploads, tmp_path)
        with Store.open(opened_database.url, create=True) as store:
            plain = task_of(flowers)
            tasks = (plain, replace(plain, metric="balanced-accuracy"))
            for task in tasks:
                store.tasks.record(task)
                baseline = task.space.baseline()
                setup = Setup(task=task.identity, hardware=HARDWARE, effort="standard")
                store.evaluations.record(content_hash(task.identity), formula(baseline), setup, seed=0)
        uploads.delete(flowers.identity)
    with served(database) as address:
        for task, words in zip(tasks, ("flowers", "flowers, balanced accuracy"), strict=True):
            browser.visit(f"{address}/?dataset={task.identity}", width=1440)
            browser.wait_for("!document.getElementById('results').hidden")
            assert browser.value(CHOSEN) == task.identity
            assert browser.value(CHOSEN_TEXT) == words


@pytest.mark.slow
def test_the_panel_is_used_by_keyboard_and_fits_every_window(page: Browser, address: str, file: Path) -> None:
    give(page, file, "flowers")
    send(page)
    for width, dark in ((390, False), (768, True), (1440, False)):
        opened(page, address, width=width, dark=dark)
        page.wait_for(f"{LISTED}.length === 1")
        assert not page.value(WIDER_THAN_THE_WINDOW)
        assert page.value("document.getElementById('images-open').getAttribute('aria-expanded')") == "true"
        page.value("document.querySelector('#uploads [data-focus^=delete]').click()")
        assert page.value(FAINT_TEXTS) == []
        assert page.value(FOCUSED) == "images"
    for name in ("images-close", "upload-file", "upload-name", "upload-classes", "upload"):
        tab_to(page, f"{FOCUSED} === '{name}'", most=3)
    page.value("document.getElementById('images-close').focus()")
    page.press("Enter", 13)
    assert page.value(f"[document.getElementById('images').hidden, {FOCUSED}]") == [True, "images-open"]


@pytest.mark.slow
def test_uploads_of_others_are_offered_but_not_for_deletion(browser: Browser, tmp_path: Path) -> None:
    database = tmp_path / "results.db"
    with Database.open(f"sqlite:///{database}") as opened_database:
        secret = KeyStore(opened_database).create("anna", Scope.SUBMIT)
        dataset = put(ImageUploads(opened_database), tmp_path, client="ben")
    with served(database, keys_required=True) as address:
        browser.visit(address, width=1440)
        browser.wait_for("!document.getElementById('key-panel').hidden")
        browser.value(f"document.getElementById('key').value = '{secret}'")
        browser.value("document.querySelector('#key-form button').click()")
        browser.wait_for(f"{CHOSEN} === 'digits'")
        assert [dataset.identity] == browser.value(
            "[...document.querySelectorAll('#dataset option')].slice(-1).map((one) => one.value)"
        )
        assert browser.value(LISTED) == []
        file = tmp_path / "mine.npz"
        file.write_bytes(archive())
        browser.value("document.getElementById('images-open').click()")
        give(browser, file)
        send(browser)
        browser.wait_for(f"{LISTED}.length === 1")
        assert browser.value(LISTED) == ["mine"]
        browser.value("sessionStorage.clear()")
