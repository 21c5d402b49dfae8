from pathlib import Path

import pytest

from search.errors import UsageError
from search.locations import cache_limit_bytes, cache_location, printable, storage_url

DATABASE = "sqlite:////data/results.db"


def test_networks_are_kept_beside_the_database_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_location(None, DATABASE) == "/data/results.cache"
    assert cache_location(None, "postgresql://host/name").endswith("crosslayer/networks")
    monkeypatch.setenv("CROSSLAYER_CACHE", "s3://bucket/networks")
    assert cache_location(None, DATABASE) == "s3://bucket/networks"
    assert cache_location(Path("here"), DATABASE) == "here"


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ("10GB", 10**10),
        ("500MB", 5 * 10**8),
        ("500mb", 5 * 10**8),
        ("1.5 TB", 15 * 10**11),
        ("2GiB", 2**31),
        ("64k", 64000),
        ("7 B", 7),
        ("123", 123),
        (123, 123),
    ],
)
def test_sizes(given: str | int, limit: int) -> None:
    assert cache_limit_bytes(given) == limit


def test_the_limit_is_ten_gigabytes_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_limit_bytes() == 10**10
    monkeypatch.setenv("CROSSLAYER_CACHE_LIMIT", "1GB")
    assert cache_limit_bytes() == 10**9
    assert cache_limit_bytes("2GB") == 2 * 10**9


@pytest.mark.parametrize("given", ["", "much", "-1GB", "0", 0, "0.5", "10XB", "1e9", "nan", "10 G B", "1,5GB", "GB"])
def test_what_is_not_a_size_is_refused(given: str | int) -> None:
    with pytest.raises(UsageError, match="is not a size; give one such as 500MB or 10GB"):
        cache_limit_bytes(given)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("sftp://me:secret@host/x", "sftp://me:***@host/x"),
        ("ftp://me:se:cr@et@host/x", "ftp://me:***@host/x"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("/a/folder", "/a/folder"),
    ],
)
def test_passwords_are_not_printed(location: str, shown: str) -> None:
    assert printable(location) == shown


def test_storage_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage_url("results.db") == "sqlite:///results.db"
    assert storage_url("postgresql://me@host/db") == "postgresql://me@host/db"
    assert storage_url().endswith("crosslayer/crosslayer.db")
    monkeypatch.setenv("CROSSLAYER_STORAGE", "sqlite:///from-environment.db")
    assert storage_url() == "sqlite:///from-environment.db"
    with pytest.raises(UsageError, match="is not a database URL"):
        storage_url("http//://x")
