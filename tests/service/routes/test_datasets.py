"""Images over HTTP: uploaded, listed, asked about, deleted."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient

from search.images.library import ImageLibrary
from search.space.task import find_task, task_names
from service.database import Database
from service.datasets import Datasets
from service.image_uploads import ImageUploads
from service.keys import KeyStore, Scope
from tests.service.test_datasets import add, put
from tests.support.requests import ask, assert_problem
from tests.support.serving import served
from tests.support.stored import client_of, store_results
from tests.support.uploads import BINARY, archive, pictures, upload


@pytest.fixture
def images(tmp_path: Path) -> ImageLibrary:
    """The images of the service's machine."""
    return ImageLibrary(tmp_path / "images")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which uploads are unpacked."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def client(database: Path, images: ImageLibrary, temporary: Path) -> Iterator[TestClient]:
    """A client of a service without results, which leaves no temporary files."""
    with client_of(database, image_dir=images.folder) as client:
        yield client
    assert [*temporary.iterdir()] == []


def listed(client: TestClient) -> dict[str, Any]:
    return {one["identity"]: one for one in client.get("/v1/datasets").json()}


def test_uploaded_images_are_described_and_listed_beside_all_others(client: TestClient, images: ImageLibrary) -> None:
    add(images, "private", added=False)
    added = add(images, "ours")
    response = upload(client, class_names=["rose", "tulip", "lily"])
    assert response.status_code == 201, response.text
    found = response.json()
    assert found == {
        "name": "flowers",
        "identity": found["identity"],
        "title": "flowers, images of 3 classes, 8x8 gray",
        "image_shape": [1, 8, 8],
        "classes": 3,
        "class_names": ["rose", "tulip", "lily"],
        "counts": {"all": 60},
        "uploaded": True,
        "may_delete": True,
    }
    assert found["identity"].startswith("flowers@")
    every = listed(client)
    assert [*every] == [*task_names(), added.identity, found["identity"]]
    assert every[found["identity"]] == found
    assert (every[added.identity]["uploaded"], every[added.identity]["may_delete"]) == (False, False)
    digits = find_task("digits").dataset
    assert every["digits"]["counts"] == dict(digits.counts)
    assert "/home/somebody" not in client.get("/v1/datasets").text, "where images were read from is nobody's business"


def test_the_same_images_are_stored_once(client: TestClient) -> None:
    first, again = upload(client), upload(client)
    assert (again.status_code, again.json()) == (201, first.json())
    other = upload(client, archive(images=pictures(seed=1)[0], labels=pictures()[1])).json()
    assert other["name"] == "flowers"
    assert other["identity"] != first.json()["identity"]
    assert_problem(upload(client, class_names=["a", "b", "c"]), 422, "with other names of classes", "name")
    assert len(listed(client)) == len(task_names()) + 2


def test_a_question_keeps_the_images_that_its_name_meant(client: TestClient, database: Path) -> None:
    identity = upload(client).json()["identity"]
    asked = {"dataset": "flowers", "max_accuracy_drop": 0.02}
    job = client.post("/optimize", json=asked).json()
    assert job["request"]["dataset"] == identity
    assert client.post("/optimize", json={**asked, "dataset": identity}).json()["id"] == job["id"]
    newer = upload(client, archive(images=pictures(seed=1)[0], labels=pictures()[1])).json()["identity"]
    other = client.post("/optimize", json=asked).json()
    assert (other["request"]["dataset"], other["id"] == job["id"]) == (newer, False)
    assert client.get(job["links"]["self"]).json()["request"]["dataset"] == identity
    for path in (f"/v1/fronts/{identity}", f"/v1/techniques/{identity}"):
        assert client.get(path).json()["dataset"] == identity
    assert client.get("/v1/fronts/flowers").json()["dataset"] == newer
    candidate = find_task("digits").space.baseline().to_dict()
    energies = [ask(client, "/v1/energy", dataset=name, candidate=candidate).json() for name in ("flowers", "digits")]
    assert energies[0]["energy_pj"] < energies[1]["energy_pj"], "three classes instead of ten"


def test_a_bound_on_area_is_that_of_the_networks_for_the_images(client: TestClient) -> None:
    upload(client)
    answer = ask(client, dataset="flowers", max_accuracy_drop=0.02, max_area=1e-6)
    assert_problem(answer, 422, "no candidate of the space needs less than", "#/max_area")


@pytest.mark.parametrize("name", ["/etc/passwd", "../images", "flowers.npz", "nets:images", "a\0b", "rose"])
def test_clients_cannot_probe_the_files_of_the_service(client: TestClient, name: str) -> None:
    words = "GET /v1/datasets lists the known ones"
    for path in ("/optimize", "/v1/jobs"):
        assert_problem(ask(client, path, dataset=name, min_accuracy=0.9), 422, words, "#/dataset")
    assert_problem(ask(client, "/v1/energy", dataset=name, candidate={}), 422, words, "#/dataset")
    quoted = httpx2.QueryParams({"a": name}).__str__().removeprefix("a=")
    for path in ("fronts", "techniques"):
        assert_problem(client.get(f"/v1/{path}/{quoted}"), 404, words, "dataset")


@pytest.mark.parametrize("name", ["digits", "../flowers", "a\0b", "flöwers", "a b", "", "a@0123456789abcdef"])
def test_names_that_are_not_allowed(client: TestClient, name: str) -> None:
    assert_problem(upload(client, name=name), 422, name if name == "digits" else "letters, digits", "name")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"PK\3\4", "the file is a damaged archive"),
        (archive(flowers=pictures()[0]), "the file holds arrays called flowers; expected are"),
    ],
)
def test_what_is_no_archive_of_images_is_refused_in_words(client: TestClient, content: bytes, words: str) -> None:
    assert_problem(upload(client, content), 422, words, "#")
    assert len(listed(client)) == len(task_names())


def test_names_of_classes_are_refused_as_such(client: TestClient) -> None:
    assert_problem(upload(client, class_names=["a"]), 422, "one for each of the 3 classes", "class_names")
    assert_problem(upload(client, classes=["a"]), 422, "not permitted", "classes")


def test_uploads_are_limited_whatever_length_they_declare(database: Path, temporary: Path) -> None:
    content = archive()
    with client_of(database, max_upload_bytes=len(content) - 1) as client:

        def pieces() -> Iterator[bytes]:
            yield content[:1000]
            yield content[1000:]

        for body in (content, pieces()):
            assert_problem(upload(client, body), 413, f"at most {len(content) - 1:,} bytes")
        assert len(listed(client)) == len(task_names())
    with client_of(database, max_upload_bytes=len(content), max_body_bytes=10) as client:
        assert upload(client, content).status_code == 201
        assert upload(client, pieces()).status_code == 201
        assert_problem(ask(client, min_accuracy=0.9), 413, "at most 10 bytes")
    with client_of(database, max_unpacked_bytes=1000) as client:
        assert_problem(upload(client), 422, "bytes once it is decompressed; at most 1,000 are allowed", "#")
    assert [*temporary.iterdir()] == []


def test_a_page_of_another_site_cannot_upload(client: TestClient) -> None:
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", ""):
        headers = {"Content-Type": kind} if kind else {}
        response = client.post("/v1/datasets?name=flowers", content=archive(), headers=headers)
        assert_problem(response, 415, "the body must be application/octet-stream, got")
    assert client.post("/v1/energy", content=b"{}", headers=BINARY).status_code == 415


def test_an_upload_that_is_broken_off_leaves_nothing(database: Path, temporary: Path) -> None:
    with served(database) as address:
        url = urlsplit(address)
        with socket.create_connection((url.hostname or "", url.port or 0)) as connection:
            head = f"POST /v1/datasets?name=a HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: 100000\r\n"
            connection.sendall(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + archive()[:5000])
            until(lambda: [*temporary.iterdir()] != [])
        until(lambda: [*temporary.iterdir()] == [])
        assert len(httpx2.get(f"{address}/v1/datasets").json()) == len(task_names())


def until(happened: Any) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_few_clients_upload_at_a_time(database: Path) -> None:
    with client_of(database, max_uploads=0) as client:
        response = upload(client)
        assert_problem(response, 503, "0 clients are uploading images, which is the maximum; try again later")
        assert response.headers["retry-after"] == "30"


def test_a_disk_without_room_is_said_without_its_place(
    client: TestClient, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 0}))
    response = upload(client)
    assert_problem(response, 503, "the service cannot store images now; see its log")
    assert str(temporary) not in response.text


def test_images_are_deleted_once_no_job_needs_them_and_results_are_kept(
    client: TestClient, database: Path, images: ImageLibrary
) -> None:
    identity = upload(client).json()["identity"]
    job = ask(client, dataset="flowers", max_accuracy_drop=0.02).json()
    assert_problem(client.delete("/v1/datasets/flowers"), 409, f"job {job['id']} needs '{identity}'; cancel it first")
    with Database.open(f"sqlite:///{database}") as opened:
        services = client.app.state.services  # type: ignore[attr-defined]
        Datasets(ImageUploads(opened), services.store.tasks, images).provide(identity)
        services.store.tasks.record(services.datasets.task(identity))
    assert images.find(identity) is not None
    client.post(job["links"]["cancel"])
    assert client.delete("/v1/datasets/flowers").status_code == 204
    assert (images.find(identity), identity in listed(client)) == (None, False)
    assert_problem(client.delete(f"/v1/datasets/{identity}"), 404, "nobody uploaded", "name")
    assert_problem(client.get("/v1/fronts/flowers"), 404, "unknown dataset 'flowers'", "dataset")
    assert client.get(f"/v1/fronts/{identity}").json()["dataset"] == identity
    assert [one["identity"] for one in client.get("/v1/tasks").json()] == [identity]


def test_built_in_and_added_ones_cannot_be_deleted(client: TestClient, images: ImageLibrary) -> None:
    added = add(images, "ours")
    for name in ("digits", "ours", added.identity, "a%00b"):
        assert_problem(client.delete(f"/v1/datasets/{name}"), 404, "nobody uploaded a data set", "name")
    assert images.find("ours") is not None


def test_several_own_ones_of_a_name_are_deleted_by_their_identities(client: TestClient) -> None:
    identities = [upload(client).json()["identity"]]
    identities += [upload(client, archive(images=pictures(seed=1)[0], labels=pictures()[1])).json()["identity"]]
    assert_problem(client.delete("/v1/datasets/flowers"), 409, identities[0], "name")
    for identity in identities:
        assert client.delete(f"/v1/datasets/{identity}").status_code == 204


def test_clients_have_their_own_uploads(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Database.open(f"sqlite:///{database}") as opened:
        scopes = {"anna": Scope.SUBMIT, "ben": Scope.SUBMIT, "reader": Scope.READ, "root": Scope.ADMIN}
        keys = {name: KeyStore(opened).create(name, scope) for name, scope in scopes.items()}
    with client_of(database, keys_required=True, image_dir=tmp_path / "images") as client:

        def may_delete(name: str) -> list[bool]:
            found = client.get("/v1/datasets", headers={"Authorization": f"Bearer {keys[name]}"}).json()
            return [one["may_delete"] for one in found if one["uploaded"]]

        def delete(name: str) -> Any:
            return client.delete(f"/v1/datasets/{identity}", headers={"Authorization": f"Bearer {keys[name]}"})

        assert_problem(upload(client), 401, "a key is needed")
        assert_problem(upload(client, key=keys["reader"]), 403, "scope submit")
        identity = upload(client, key=keys["anna"]).json()["identity"]
        assert [may_delete(name) for name in keys] == [[True], [False], [False], [True]]
        assert_problem(delete("ben"), 403, "another client's")
        assert_problem(delete("reader"), 403, "scope submit")
        assert upload(client, key=keys["ben"]).json()["identity"] == identity
        client.post(
            "/optimize",
            json={"dataset": "flowers", "max_accuracy_drop": 0.02},
            headers={"Authorization": f"Bearer {keys['ben']}"},
        )
        assert delete("anna").status_code == 204, "ben's job keeps ben's upload"
        assert [may_delete(name) for name in ("anna", "ben")] == [[False], [True]]
        assert_problem(delete("ben"), 409, "needs")
        assert_problem(delete("root"), 409, "needs")
        monkeypatch.setattr("service.image_uploads.MAX_PER_CLIENT", 1)
        more = archive(images=pictures(seed=1)[0], labels=pictures()[1])
        refused = upload(client, more, "more", key=keys["ben"])
        assert_problem(refused, 422, "1 data sets of yours are stored, which is the maximum", "name")
        assert upload(client, more, "more", key=keys["anna"]).status_code == 201


def test_an_administrator_deletes_for_everybody(database: Path, tmp_path: Path) -> None:
    with Database.open(f"sqlite:///{database}") as opened:
        dataset = put(ImageUploads(opened), tmp_path, client="anna")
        put(ImageUploads(opened), tmp_path, client="ben")
        key = KeyStore(opened).create("root", Scope.ADMIN)
    with client_of(database, keys_required=True) as client:
        headers = {"Authorization": f"Bearer {key}"}
        assert client.delete(f"/v1/datasets/{dataset.identity}", headers=headers).status_code == 204
        found = client.get("/v1/datasets", headers=headers).json()
        assert dataset.identity not in {one["identity"] for one in found}


@pytest.mark.process
def test_the_process_that_answers_reads_images_without_torch(tmp_path: Path) -> None:
    (tmp_path / "flowers.npz").write_bytes(archive())
    store_results(tmp_path / "results.db")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from fastapi.testclient import TestClient\n"
        "from service.app import create_app\n"
        "from service.settings import Settings\n"
        f"settings = Settings(storage='sqlite:///{tmp_path / 'results.db'}')\n"
        "client = TestClient(create_app(settings), base_url='http://localhost')\n"
        f"content = Path('{tmp_path / 'flowers.npz'}').read_bytes()\n"
        "headers = {'Content-Type': 'application/octet-stream'}\n"
        "assert client.post('/v1/datasets?name=a', content=content, headers=headers).status_code == 201\n"
        "assert client.post('/optimize', json={'dataset': 'a', 'min_accuracy': 0.9}).status_code == 202\n"
        "assert client.get('/v1/fronts/a').status_code == client.get('/v1/datasets').status_code == 200\n"
        "print(*({'torch', 'torchvision', 'sklearn'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
