"""The files of the web page."""

from pathlib import Path

from tests.support.stored import client_of


def test_only_the_files_of_the_page_are_served_and_cached_until_they_change(tmp_path: Path) -> None:
    with client_of(tmp_path / "results.db", keys_required=True) as client:
        found = client.get("/")
        assert found.status_code == 200
        assert found.headers["content-type"] == "text/html; charset=utf-8"
        assert found.headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in found.headers["content-security-policy"]
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["referrer-policy"] == "no-referrer"
        assert client.head("/").headers["etag"] == found.headers["etag"]
        for path, kind in (
            ("/", "text/html"),
            ("/static/page.js", "text/javascript"),
            ("/static/page.css", "text/css"),
        ):
            first = client.get(path)
            assert first.headers["content-type"].startswith(kind)
            again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
        for path in ("/static/none.js", "/static/..%2Fapp.py", "/static/%2Fetc%2Fpasswd", "/static/"):
            assert client.get(path).status_code == 404
        assert not {"/", "/static/{name}"} & client.get("/openapi.json").json()["paths"].keys()
